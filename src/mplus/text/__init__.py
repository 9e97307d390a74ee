"""Text around the model: files, writing systems, chunks, prompts, chat templates, what of a prompt searches. Knows no memory."""
