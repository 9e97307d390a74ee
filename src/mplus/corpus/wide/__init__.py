"""Facts to train on, wide: names without end, hundreds of values of a kind, thousands of wordings. Knows neither torch nor models.

The published streams draw from ``corpus.facts`` with split ``held_out``; nothing in here appears there.
"""
