"""How a task's data become texts with questions between them; one file per form of data. Knows tokenizers, no models."""
