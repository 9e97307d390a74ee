"""Objectives that recipes can name, and the losses they share. Knows banks, nothing of the training loop."""
