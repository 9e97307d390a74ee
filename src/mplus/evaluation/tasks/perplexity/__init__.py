"""Task folder `perplexity`."""
