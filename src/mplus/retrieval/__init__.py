"""Retrieval of long-term tokens: scores, choice and layout of what a prompt reads. Knows memories, nothing of a transformers decoder."""
