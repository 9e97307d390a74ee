"""Task folder `facts`."""
