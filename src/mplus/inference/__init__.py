"""Writing and reading memory with one model: passes, prompts, generation. Knows no file format and no layer internals."""
