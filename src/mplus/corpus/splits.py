"""Which published passages train and which measure, by their title alone. Knows nothing of files, models or training."""

from __future__ import annotations

import hashlib
from typing import Final, Literal

_DEV_PERCENT: Final = 10


def percentile(title: str, purpose: str) -> int:
    """0 to 99, spread evenly over titles, the same on every machine; underscores count as spaces and case does not count."""
    name = " ".join(title.replace("_", " ").casefold().split())
    return int.from_bytes(hashlib.sha256(f"mplus {purpose} {name}".encode()).digest()[:8], "big") % 100


def is_dev(title: str) -> bool:
    """Tell whether an article of the training passages is kept back (a tenth), to measure training with."""
    return percentile(title, "dev") < _DEV_PERCENT


def nq_split(title: str) -> Literal["train", "eval"]:
    """The half of NaturalQuestions that an article belongs to: ``eval`` measures and never trains."""
    return "train" if percentile(title, "nq") < 50 else "eval"
