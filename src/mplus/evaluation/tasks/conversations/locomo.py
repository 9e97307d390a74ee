"""Files of LoCoMo (Maharana et al., 2024): a list of conversations, their sessions and questions. Knows no tokens."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from mplus.corpus.records import Record, kind_of, read_records
from mplus.errors import InputError
from mplus.evaluation.tasks.conversations.dialogue import Dialogue, DialogueQuestion, Session, Turn

CATEGORIES: Final = {1: "multi-hop", 2: "temporal", 3: "open-domain", 4: "single-hop", 5: "adversarial"}
"""Names of the numbers in the files (the paper lists the kinds in another order)."""

_NOT_ANSWERED: Final = "not mentioned"
_SESSION: Final = re.compile(r"session_(\d+)")
_TURN: Final = re.compile(r"D:?(\d+):(\d+)")
"""A turn in an evidence list; some entries hold several, some have a stray colon or a leading zero."""


def read_locomo(path: Path) -> Iterator[Dialogue]:
    """Conversations of a file.

    Raises:
        InputError: a record is not of this form (file, entry and field are named).
    """
    for record in read_records(path):
        name = record.text("sample_id")
        questions = record.records("qa")
        yield Dialogue(
            name=name,
            where=record.where,
            sessions=_sessions(record.inside("conversation")),
            asked=tuple(_question_of(one, f"{name}/{number}") for number, one in enumerate(questions)),
        )


def _sessions(record: Record) -> tuple[Session, ...]:
    """Sessions that took place, by their numbers; some files have dates of more."""
    numbers = sorted(int(found[1]) for key in record.data if (found := _SESSION.fullmatch(key)))
    made = []
    for number in numbers:
        turns = tuple(map(_turn, record.records(f"session_{number}", may_be_empty=True)))
        if turns:
            made.append(Session(record.text(f"session_{number}_date_time"), turns))
    if not made:
        raise InputError(f"{record.where} has no session; expected 'session_1', a list of turns, and more like it")
    return tuple(made)


def _turn(record: Record) -> Turn:
    caption = record.text("blip_caption", default="").strip()
    said = record.text("text", default="" if caption else None).strip()
    parts = [f"{record.text('speaker').strip()}:", *([said] if said else []), *([f"[image: {caption}]"] if caption else [])]
    return Turn(_key(record.text("dia_id")) or record.text("dia_id"), " ".join(parts))


def _question_of(record: Record, name: str) -> DialogueQuestion:
    category = record.data.get("category")
    if not isinstance(category, int) or isinstance(category, bool) or category not in CATEGORIES:
        got = category if isinstance(category, int) else kind_of(category)
        raise InputError(f"{record.where}: 'category' is {got}, expected one of {', '.join(map(str, CATEGORIES))}")
    unanswerable = CATEGORIES[category] == "adversarial"
    answer = _NOT_ANSWERED if unanswerable else record.text("answer")
    if CATEGORIES[category] == "open-domain":  # behind a semicolon stands why; the official scorer leaves that out
        answer = answer.split(";")[0].strip() or answer
    return DialogueQuestion(
        id=name,
        row=CATEGORIES[category],
        text=record.text("question"),
        answers=(answer,),
        evidence=_evidence(record),
        unanswerable=unanswerable,
    )


def _evidence(record: Record) -> tuple[str, ...]:
    """Keys of all turns an evidence list names, however it is written."""
    entries = record.data.get("evidence", [])
    if not isinstance(entries, list):
        raise InputError(f"{record.where}: 'evidence' is {kind_of(entries)}, expected a list of turns such as \"D1:2\"")
    for entry in entries:
        if not isinstance(entry, str):
            raise InputError(f"{record.where}: 'evidence' holds {kind_of(entry)}, expected turns such as \"D1:2\"")
    return tuple(_named(*found.groups()) for entry in entries for found in _TURN.finditer(entry))


def _key(text: str) -> str:
    found = _TURN.fullmatch(text.strip())
    return _named(*found.groups()) if found else ""


def _named(session: str, turn: str) -> str:
    return f"D{int(session)}:{int(turn)}"
