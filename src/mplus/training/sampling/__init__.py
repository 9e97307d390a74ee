"""Training samples and the memory tokens that each sees. Knows token ids, no models."""
