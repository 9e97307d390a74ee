"""What is asked: each task makes scripts (a text and when which question is due). Knows tokenizers, no models."""
