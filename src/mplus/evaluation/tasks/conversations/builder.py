"""Conversations over many sessions, read from the first to the last, with questions at the end: LoCoMo and LongMemEval.

One stream per conversation. Each session is headed by its date, each turn is a paragraph; a question's distance is counted from the end of
the last turn that holds evidence for it. Knows tokens and files, no models.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final, Literal

from mplus.errors import InputError
from mplus.evaluation.schedule.stream import EvalStream, Question, ScheduledQuestion, Span, Unit
from mplus.evaluation.tasks.context import Settings, StreamSource, TaskContext
from mplus.evaluation.tasks.conversations.dialogue import Dialogue, DialogueQuestion
from mplus.evaluation.tasks.conversations.locomo import read_locomo
from mplus.evaluation.tasks.conversations.longmemeval import read_longmemeval

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


def streams(settings: ConversationsSettings, context: TaskContext) -> list[StreamSource]:
    """One stream per conversation about which something is asked."""
    found: dict[str, Dialogue] = {}
    for file in context.files():
        for dialogue in _READ[settings.form](file):
            if dialogue.name in found:
                raise InputError(
                    f"{dialogue.where}: there is another '{dialogue.name}' before it; expected each conversation once"
                )
            asked = tuple(one for one in dialogue.asked if not settings.rows or one.row in settings.rows)
            context.left_out.take("of another kind (rows)", [one.id for one in dialogue.asked if one not in asked])
            found[dialogue.name] = replace(dialogue, asked=asked)
    made, placed, total = list[StreamSource](), 0, 0
    for dialogue in _within(list(found.values()), context):
        there = {turn.key for session in dialogue.sessions for turn in session.turns}
        placed += sum(not there.isdisjoint(one.evidence) for one in dialogue.asked)
        total += len(dialogue.asked)
        made.append(StreamSource(name=dialogue.name, seed=context.seed, script=partial(_script, context, dialogue)))
    log.info("%d of %d questions name a turn of their conversation as evidence; nobody knows what the others need", placed, total)
    return made


def _within(dialogues: Sequence[Dialogue], context: TaskContext) -> list[Dialogue]:
    """Conversations about which something is asked, so many questions of a row at most: the first of each, then the second of each, ..."""
    turns: dict[str, list[tuple[int, int, str]]] = {}  # by row: how many of it the conversation had before, which one, question
    for place, dialogue in enumerate(dialogues):
        before = Counter[str]()
        for one in dialogue.asked:
            turns.setdefault(one.row, []).append((before[one.row], place, one.id))
            before[one.row] += 1
    kept = {(place, name) for listed in turns.values() for _, place, name in sorted(listed)[: context.limit]}
    context.beyond_limit(
        [one.id for place, dialogue in enumerate(dialogues) for one in dialogue.asked if (place, one.id) not in kept]
    )
    chosen = [
        replace(dialogue, asked=tuple(one for one in dialogue.asked if (place, one.id) in kept))
        for place, dialogue in enumerate(dialogues)
    ]
    return [dialogue for dialogue in chosen if dialogue.asked]


def _script(context: TaskContext, dialogue: Dialogue) -> EvalStream:
    """The conversation in chunks, everything asked behind its last turn."""
    units: list[Unit] = []
    spans: dict[str, Span] = {}
    position = 0
    for session in dialogue.sessions:
        for key, text in [("", f"Date: {session.date}"), *((turn.key, turn.text) for turn in session.turns)]:
            start = position
            added = context.units(text, starts_paragraph=bool(units))
            position += sum(len(unit.ids) for unit in added)
            units += added
            spans[key] = (start, position)
    del spans[""]
    due = []
    for one in dialogue.asked:
        found = [spans[key] for key in one.evidence if key in spans]
        question = _question(context, dialogue.name, one, max(found, key=lambda span: span[1], default=(position, position)))
        due.append((position, ScheduledQuestion(question, position - question.end)))
    return context.script([units], due)


def _question(context: TaskContext, conversation: str, asked: DialogueQuestion, span: Span) -> Question:
    more = {"query": asked.query or asked.text, "row": asked.row, "unanswerable": asked.unanswerable}
    return context.question(asked.id, asked.text, asked.answers, span, cluster=conversation, **more)
