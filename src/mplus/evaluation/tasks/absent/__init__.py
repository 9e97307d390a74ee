"""Task folder `absent`."""
