"""Encoded chunks kept between steps, and the rows of one step. Knows models, no loss."""
