"""Task folder `ruler`."""
