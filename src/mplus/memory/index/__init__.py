"""Summaries of search keys, so that a large long-term store is not scored row by row."""
