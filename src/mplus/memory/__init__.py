"""A memory: short-term rows, long-term store, sources, files. Knows torch, not transformers."""
