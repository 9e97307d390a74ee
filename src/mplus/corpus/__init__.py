"""Text to read: generated facts, running English, and streams with facts planted in them. Knows neither torch nor models."""
