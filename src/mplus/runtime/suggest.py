"""The nearest known name for one that a person mistyped. Knows no list of names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(name: str, known: Iterable[str], *, cutoff: float = 0.5) -> str | None:
    """The nearest known name, if one is near.

    Args:
        cutoff: likeness that counts as near, from 0 (anything) to 1 (the same).
    """
    return next(iter(difflib.get_close_matches(name, list(known), n=1, cutoff=cutoff)), None)


def did_you_mean(name: str, known: Iterable[str], *, otherwise: str = "", cutoff: float = 0.5) -> str:
    """``did you mean 'x'?`` for the nearest known name, or `otherwise` where none is near."""
    near = nearest(name, known, cutoff=cutoff)
    return otherwise if near is None else f"did you mean {near!r}?"


def hint_before(name: str, known: Iterable[str], *, cutoff: float = 0.5) -> str:
    """``did_you_mean`` with a space behind it, to stand before the rest of a sentence; nothing where no name is near."""
    hint = did_you_mean(name, known, cutoff=cutoff)
    return f"{hint} " if hint else ""
