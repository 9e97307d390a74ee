"""What a relation is, and the short notation relations are written in. Knows nothing of facts or names.

The notation, one block per relation, blocks separated by blank lines::

    birthplace: city              the relation's name and the kind of its value
    + {s} was born in {v}.        a statement ({s} subject, {v} value, {a} its article)
    ? Where was {s} born?         a question, which asks for the value only

Capital letters ({S}, {A}) start a sentence. The last statement and the last question of each block are
reserved: facts to train on never use them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mplus.corpus.names import Split

_VOWELS = "aeiou"
_SPOKEN_AS_CONSONANT = ("uku", "eu", "uni")  # "a ukulele", "a eucalyptus"
_SPOKEN_AS_VOWEL = ("hourglass",)


@dataclass(frozen=True, kw_only=True)
class Relation:
    """One thing that can be said of subjects of some kinds, and asked."""

    name: str
    subjects: tuple[str, ...]  # kinds of subjects it is about
    value: str  # kind of its value
    statements: tuple[str, ...]
    questions: tuple[str, ...]

    def wordings(self, split: Split) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Statements and questions a split may use; ``train`` goes without the reserved last ones."""
        if split == "train":
            return self.statements[:-1], self.questions[:-1]
        return self.statements, self.questions


def about(subjects: Sequence[str], notation: str) -> tuple[Relation, ...]:
    """Read relations written in the notation above."""
    blocks = ("\n".join(line.strip() for line in notation.splitlines())).strip().split("\n\n")
    return tuple(_relation(tuple(subjects), block.splitlines()) for block in blocks)


def _relation(subjects: tuple[str, ...], lines: list[str]) -> Relation:
    name, value = lines[0].split(": ")
    wordings = {sign: tuple(line[2:] for line in lines[1:] if line.startswith(sign + " ")) for sign in "+?"}
    assert sum(map(len, wordings.values())) == len(lines) - 1, f"relation {name}: a line is neither statement nor question"
    return Relation(name=name, subjects=subjects, value=value, statements=wordings["+"], questions=wordings["?"])


def worded(wording: str, subject: str, value: str = "") -> str:
    """A wording with subject and value put in, articles and capitals right."""
    capital, before = subject[:1].upper() + subject[1:], article(value)
    return wording.format(s=subject, S=capital, v=value, a=before, A=before.capitalize())


def article(value: str) -> str:
    """What stands before a value that can be counted: "a" or "an", by its sound."""
    return "an" if _starts_with_vowel_sound(value) else "a"


def _starts_with_vowel_sound(word: str) -> bool:
    if word.startswith(_SPOKEN_AS_VOWEL):
        return True
    return word[:1].lower() in _VOWELS and not word.startswith(_SPOKEN_AS_CONSONANT) if word else False
