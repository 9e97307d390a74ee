"""Task folder `retention`."""
