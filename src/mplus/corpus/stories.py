"""Stories of bAbI: facts in order, and questions with the facts they need. Knows a file's form, no tokens and no model."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mplus.errors import InputError
from mplus.text.files import read_text

_LINE: Final = re.compile(r"(\d+) (.+)")


@dataclass(frozen=True, kw_only=True)
class Story:
    """A question with what was told before it.

    Attributes:
        number: of the question in its file.
        supports: which of the facts it needs.
    """

    number: int
    facts: tuple[str, ...]
    supports: tuple[int, ...]
    question: str
    answer: str


def read_stories(path: Path) -> list[Story]:
    """All questions of a file in bAbI's form.

    Raises:
        InputError: a line is in another form (file and line are named), or there is no question.
    """
    found: list[Story] = []
    facts: dict[int, str] = {}
    for at, line in enumerate(read_text(path).split("\n"), 1):
        if not line.strip():
            continue
        match = _LINE.fullmatch(line.strip())
        if match is None:
            raise InputError(
                f"'{path}' line {at} has no number; expected bAbI's form: a number, then a fact, or a question with tabs"
            )
        number, text = int(match[1]), match[2]
        if number == 1:
            facts = {}
        if "\t" not in text:
            facts[number] = text.strip()
            continue
        question, answer, *rest = (part.strip() for part in text.split("\t"))
        told = list(facts)
        needed = [int(one) for one in " ".join(rest).split() if one.isdigit()]
        supports = tuple(sorted(told.index(one) for one in needed if one in facts))
        if not supports or not answer:
            raise InputError(f"'{path}' line {at} has a question without an answer, or without a supporting fact told before it")
        story = Story(number=len(found), facts=tuple(facts.values()), supports=supports, question=question, answer=answer)
        found.append(story)
    if not found:
        raise InputError(
            f"'{path}' has no question; expected bAbI's form, a question's line with tabs before answer and supporting facts"
        )
    return found
