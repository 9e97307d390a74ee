"""A training run: recipe, loop, log, checkpoints. Knows objectives by their interface, no model internals."""
