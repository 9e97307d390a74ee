"""Task folder `chains`."""
