"""Task folder `needle`."""
