"""Task folder `consolidation`."""
