"""Task folder `efficiency`."""
