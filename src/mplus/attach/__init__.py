"""The only room that knows how a transformers decoder works inside: families, cache, adapters, read, write."""
