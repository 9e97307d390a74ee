"""A short text about many things, which stands for any text where one is needed. Knows no tokenizer."""

from typing import Final

NEUTRAL: Final = (
    "The harbour town had two markets. Every Tuesday the fishermen sold their catch before sunrise, and by nine o'clock only the "
    "bakers were still calling out prices. A function returns the value of its last expression unless a statement says otherwise; "
    "the caller must check the type of the argument. In 1912 the railway reached the valley, and the population grew from four "
    "hundred to nearly three thousand within ten years. Water boils at a lower temperature on a mountain because the pressure of "
    "the air is lower there. 'I did not expect you so early,' she said, and put the letter back into the drawer."
)
"""Never changed: centred search keys and rows of memories that were written depend on it."""
