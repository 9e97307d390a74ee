"""Samples on disk, and what they add up to: summaries, tables, pictures, comparisons of runs. Knows no model."""
