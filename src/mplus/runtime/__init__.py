"""Small machinery with one place each. Knows nothing of memories and models."""
