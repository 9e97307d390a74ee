"""What a memory is made of: short-term pool, long-term store, sources, files. Knows torch, not transformers."""
