"""Conversations over many sessions, read from the first to the last, with questions at the end: LoCoMo and LongMemEval.

One stream per conversation. Each session is headed by its date, each turn is a paragraph; a question's distance is counted from the end of
the last turn that holds evidence for it. Knows tokens and files, no models.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final, Literal

from mplus.errors import InputError
from mplus.evaluation.adapters.dialogue import Asked, Dialogue
from mplus.evaluation.adapters.locomo import read_locomo
from mplus.evaluation.adapters.longmemeval import read_longmemeval
from mplus.evaluation.material import Material, Settings, Stream
from mplus.evaluation.script import Due, Question, Script, Span, Unit

log = logging.getLogger(__name__)

_READ: Final[dict[str, Callable[[Path], Iterator[Dialogue]]]] = {"locomo": read_locomo, "longmemeval": read_longmemeval}


class ConversationsSettings(Settings):
    """Settings of the task file.

    Attributes:
        form: of the files.
        rows: only these kinds of questions; empty: all.
    """

    form: Literal["locomo", "longmemeval"]
    rows: tuple[str, ...] = ()


def streams(settings: ConversationsSettings, material: Material) -> list[Stream]:
    """One stream per conversation about which something is asked."""
    counted: Counter[str] = Counter()
    made: dict[str, Stream] = {}
    placed = 0
    for file in material.files():
        for dialogue in _READ[settings.form](file):
            asked = [one for one in dialogue.asked if not settings.rows or one.row in settings.rows]
            asked = list(_within(asked, counted, material.limit))
            if not asked:
                continue
            if dialogue.name in made:
                raise InputError(
                    f"{dialogue.where}: there is another '{dialogue.name}' before it; expected each conversation once"
                )
            there = {turn.key for session in dialogue.sessions for turn in session.turns}
            placed += sum(not there.isdisjoint(one.evidence) for one in asked)
            script = partial(_script, material, dialogue, tuple(asked))
            made[dialogue.name] = Stream(name=dialogue.name, seed=material.seed, script=script)
    log.info(
        "%d of %d questions name a turn of their conversation as evidence; the others are about the whole",
        placed,
        counted.total(),
    )
    return list(made.values())


def _within(asked: list[Asked], counted: Counter[str], limit: int | None) -> Iterator[Asked]:
    """Questions as long as their row has fewer than allowed; counts them."""
    for one in asked:
        if limit is None or counted[one.row] < limit:
            counted[one.row] += 1
            yield one


def _script(material: Material, dialogue: Dialogue, asked: tuple[Asked, ...]) -> Script:
    """The conversation in chunks, everything asked behind its last turn."""
    units: list[Unit] = []
    spans: dict[str, Span] = {}
    position = 0
    for session in dialogue.sessions:
        for key, text in [("", f"Date: {session.date}"), *((turn.key, turn.text) for turn in session.turns)]:
            start = position
            added = material.units(text, starts_paragraph=bool(units))
            position += sum(len(unit.ids) for unit in added)
            units += added
            spans[key] = (start, position)
    del spans[""]
    due = []
    for one in asked:
        found = [spans[key] for key in one.evidence if key in spans]
        question = _question(material, dialogue.name, one, max(found, key=lambda span: span[1], default=(position, position)))
        due.append((position, Due(question, position - question.end)))
    return material.script([units], due)


def _question(material: Material, conversation: str, asked: Asked, span: Span) -> Question:
    return Question(
        id=asked.id,
        cluster=conversation,
        text=material.task.message(asked.text),
        query=asked.query or asked.text,
        answers=asked.answers,
        span=span,
        answer_span=span,
        row=asked.row,
        unanswerable=asked.unanswerable,
    )
