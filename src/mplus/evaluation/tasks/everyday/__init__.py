"""Task folder `everyday`."""
