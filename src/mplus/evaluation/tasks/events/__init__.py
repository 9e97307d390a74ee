"""Task folder `events`."""
