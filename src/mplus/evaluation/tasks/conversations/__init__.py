"""Task folder `conversations`."""
