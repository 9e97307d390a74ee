"""Files of LongMemEval (Wu et al., 2025): a list of questions, each with sessions of its own. Knows no tokens."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from mplus.corpus.records import Record, kind_of, read_records
from mplus.errors import InputError
from mplus.evaluation.tasks.conversations.dialogue import Dialogue, DialogueQuestion, Session, Turn

_ABSTENTION: Final = "_abs"
_ROLES: Final = {"user": "User", "assistant": "Assistant"}
_DATE: Final = re.compile(r"\d{4}/\d\d/\d\d \(\w+\) \d\d:\d\d")


def read_longmemeval(path: Path) -> Iterator[Dialogue]:
    """Questions of a file with their sessions, oldest first.

    Raises:
        InputError: a record is not of this form (file, entry and field are named).
    """
    for record in read_records(path):
        sessions, evidence = _sessions(record)
        name = record.text("question_id")
        asked = DialogueQuestion(
            id=name,
            row=record.text("question_type"),
            text=f"(Asked on {record.text('question_date')}.) {record.text('question')}",
            query=record.text("question"),
            answers=(record.text("answer"),),
            evidence=evidence,
            unanswerable=name.endswith(_ABSTENTION),
        )
        yield Dialogue(name=name, where=record.where, sessions=sessions, asked=(asked,))


def _sessions(record: Record) -> tuple[tuple[Session, ...], tuple[str, ...]]:
    """Sessions, and keys of the turns that hold the answer: those that are marked, else all of the sessions that are."""
    dates, listed = record.entries("haystack_dates", may_be_empty=True), record.entries("haystack_sessions", may_be_empty=True)
    names = record.entries("haystack_session_ids", may_be_empty=True) if "haystack_session_ids" in record.data else []
    for field, values in (("haystack_dates", dates), ("haystack_session_ids", names)):
        if len(values) != len(listed) and (values or field == "haystack_dates"):
            raise InputError(f"{record.where}: '{field}' has {len(values)} entries, expected {len(listed)}, one per session")
    answering = (
        set(map(str, record.entries("answer_session_ids", may_be_empty=True)))
        if "answer_session_ids" in record.data
        else set[str]()
    )
    made, marked, inside = [], list[str](), list[str]()
    for number, session in enumerate(listed):
        turns = []
        for place, turn in enumerate(_turns(record, number, session)):
            if text := turn.text("content", default="").strip():
                turns.append(Turn(f"{number}:{place}", f"{_speaker(turn)}: {text}"))
                marked += [turns[-1].key] if turn.data.get("has_answer") is True else []
                inside += [turns[-1].key] if names and str(names[number]) in answering else []
        if turns:
            made.append(Session(_date(record, number, dates[number]), tuple(turns)))
    if not made:
        raise InputError(f"{record.where}: 'haystack_sessions' holds no turn; expected at least one session")
    if all(_DATE.fullmatch(session.date) for session in made):
        made.sort(key=lambda session: session.date)  # the file with evidence only is not in order
    return tuple(made), tuple(marked or inside)


def _turns(record: Record, number: int, session: Any) -> list[Record]:
    where = f"haystack_sessions[{number}]"
    if not isinstance(session, list):
        raise InputError(f"{record.where}: {where} is {kind_of(session)}, expected a list of turns")
    for place, turn in enumerate(session):
        if not isinstance(turn, dict):
            raise InputError(f"{record.where}: {where}[{place}] is {kind_of(turn)}, expected an object with role and content")
    return [Record(turn, f"{record.where} {where}[{place}]") for place, turn in enumerate(session)]


def _speaker(turn: Record) -> str:
    role = turn.text("role")
    return _ROLES.get(role, role.strip())


def _date(record: Record, number: int, value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        got = "empty" if value == "" else kind_of(value)
        raise InputError(f"{record.where}: haystack_dates[{number}] is {got}, expected a date such as 2023/05/20 (Sat) 02:21")
    return value.strip()
