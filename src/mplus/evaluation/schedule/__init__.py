"""Streams of text with questions at positions, and the pass that reads one and asks on the way. Knows no model."""
