"""Small machinery that every room may use: files nobody vouches for. Knows nothing of models and memories."""
