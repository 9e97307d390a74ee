"""Task folder `turns`."""
