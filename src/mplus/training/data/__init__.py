"""What documents to train on are made of: running text, facts, passages, conversations. Knows a tokenizer and files, no model."""
