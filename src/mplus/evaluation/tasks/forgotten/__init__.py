"""Task folder `forgotten`."""
