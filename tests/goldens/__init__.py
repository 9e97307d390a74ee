"""Recorded outputs of the whole system, compared before and after a change that must not move them."""
