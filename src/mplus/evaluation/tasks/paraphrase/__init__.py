"""Task folder `paraphrase`."""
