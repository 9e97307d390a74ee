"""What training must never see: the names, values and wordings of the split ``held_out``. Knows no generator."""

from __future__ import annotations

import re
from functools import cache
from itertools import chain
from typing import Final

from mplus.corpus import names
from mplus.corpus.facts import RELATIONS
from mplus.corpus.values import WORDS

_NAME_TABLES: Final = (
    names.FIRST_NAMES,
    names.SURNAMES,
    names.PLACE_WORDS,
    names.BUILDINGS,
    names.CLUBS,
    names.TRADES,
    names.TITLE_ADJECTIVES,
    names.TITLE_NOUNS,
    names.PSEUDO_FIRST_NAMES,
    names.PSEUDO_SURNAMES,
)


@cache
def reserved_name_words() -> frozenset[str]:
    """Lower-case parts of held-out names; a phrase such as "Running Club" counts as a whole."""
    return frozenset(word.lower() for table in _NAME_TABLES for word in table["held_out"])


@cache
def reserved_values() -> frozenset[str]:
    """Lower-case held-out word values of all kinds."""
    return frozenset(value.lower() for lists in WORDS.values() for value in lists["held_out"])


@cache
def reserved_wordings() -> frozenset[str]:
    """Normal forms of the wordings that the held-out split alone uses."""
    return frozenset(chain.from_iterable((_bare(r.statements[-1]), _bare(r.questions[-1])) for r in RELATIONS))


def free_words(words: tuple[str, ...]) -> tuple[str, ...]:
    """Those that are no part of a held-out name."""
    return tuple(word for word in words if word.lower() not in reserved_name_words())


def free_values(values: tuple[str, ...]) -> tuple[str, ...]:
    """Those that are no held-out value, each once."""
    return tuple(dict.fromkeys(value for value in values if value.lower() not in reserved_values()))


def is_reserved_wording(text: str, subject: str, value: str) -> bool:
    """Whether a sentence about `subject` with `value` in it is worded as the held-out split words it."""
    return (
        _bare(text.replace(subject, "{s}").replace(value, "{v}") if value else text.replace(subject, "{s}"))
        in reserved_wordings()
    )


def _bare(wording: str) -> str:
    plain = re.sub(r"\{[aA]\}|\b(?:a|an)\b(?= \{)", "", wording).replace("{S}", "{s}").lower()
    return " ".join(re.sub(r"[^\w{}' ]", " ", plain).split())
