"""Memories of a server on disk: records, journals, the index of ids, and which memories are open. Knows no web framework."""
