"""First-stage search over keys: short forms of all rows, so that a large long-term memory is not scored row by row."""
