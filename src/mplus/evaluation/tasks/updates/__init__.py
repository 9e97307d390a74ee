"""Task folder `updates`."""
