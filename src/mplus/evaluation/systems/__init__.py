"""Systems that answer: memories, and plain models that get text in their prompt. Knows models, no task."""
