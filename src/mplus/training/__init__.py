"""Teaching a base model to find and to read its memory."""
