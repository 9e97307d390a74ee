"""Questions as a person asks them about the documents of a folder, all in one memory. Knows files and tokens, no model."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import regex

from mplus.corpus.records import Record, read_records
from mplus.errors import InputError
from mplus.evaluation.schedule.stream import EvalStream, Question, ScheduledQuestion, SourceStart, Span, Unit, units_of
from mplus.evaluation.tasks.context import Settings, StreamSource, TaskContext, located
from mplus.text.files import read_text

QUESTIONS: Final = "questions.jsonl"
DOCUMENTS: Final = "documents"
ABSENT: Final = ("not in doc", "in no document", "absent")
"""Kinds of questions that no document answers."""

_LONGEST_PASSAGE_TOKENS: Final = 3000
_BY_A_PERSON: Final = "'right' is null, so a person has to read the answer"


class EverydaySettings(Settings):
    """There is nothing to set."""


@dataclass(frozen=True)
class Document:
    """A document as it is written.

    Attributes:
        sentences: with the place of each in the whole text.
    """

    name: str
    text: str
    tokens: int
    units: list[Unit]
    sentences: list[tuple[str, Span]]


def streams(settings: EverydaySettings, context: TaskContext) -> list[StreamSource]:
    """One stream: all documents, and every question at its end."""
    folder = _folder(context)
    documents = _documents(context, folder / DOCUMENTS)
    end = sum(document.tokens for document in documents.values())
    asked, counted = list[Question](), Counter[str]()
    for number, record in enumerate(read_records(folder / QUESTIONS)):
        kind, name = record.text("kind"), f"line {number + 1}"
        if record.data.get("right") is None and not _is_absent(record, kind):
            context.left_out.add(_BY_A_PERSON, name)
        elif context.limit is not None and counted[kind] >= context.limit:
            context.beyond_limit([name])
        else:
            counted[kind] += 1
            asked.append(_question(context, record, name, kind, documents))
    if not asked:
        return []
    asked.sort(key=lambda one: list(counted).index(one.row))  # rows in the order of the file
    starts, position = dict[int, SourceStart](), 0
    for document in documents.values():
        starts[position] = SourceStart(document.name)
        position += document.tokens
    units = [unit for document in documents.values() for unit in document.units]
    script: EvalStream = context.script([units], [(end, ScheduledQuestion(one, 0)) for one in asked], starts)
    return [StreamSource(name=folder.resolve().name, seed=context.seed, script=script)]


def _folder(context: TaskContext) -> Path:
    """The folder that was given, else ours.

    Raises:
        InputError: it is not of this form.
    """
    if len(context.data) > 1:
        raise InputError(f"task '{context.task.task}' asks about one folder, got {len(context.data)}; give --data once")
    if context.data:
        folder = context.data[0]
    elif context.task.source is not None:
        folder = located(context.task.source, context.task)[0]
    else:
        raise InputError(f"task '{context.task.task}' brings no data; give a folder with --data FOLDER")
    if not (folder / QUESTIONS).is_file() or not (folder / DOCUMENTS).is_dir():
        raise InputError(f"'{folder}' has no {QUESTIONS} beside a folder {DOCUMENTS}; give a folder that has both")
    return folder


def _documents(context: TaskContext, folder: Path) -> dict[str, Document]:
    files = sorted(file for file in folder.iterdir() if file.is_file() and not file.name.startswith("."))
    if not files:
        raise InputError(f"'{folder}' holds no document; put text files there")
    found, position = dict[str, Document](), 0
    for file in files:
        text = read_text(file)
        units, sentences = list[Unit](), list[tuple[str, Span]]()
        begins = position
        for sentence, unit in units_of(text, context.encode, starts_paragraph=bool(found)):
            units.append(unit)
            sentences.append((sentence, (position, position + len(unit.ids))))
            position += len(unit.ids)
        found[file.name] = Document(file.name, text.strip(), position - begins, units, sentences)
    return found


def _is_absent(record: Record, kind: str) -> bool:
    return kind in ABSENT or not record.data.get("document")


def _question(context: TaskContext, record: Record, name: str, kind: str, documents: dict[str, Document]) -> Question:
    named = record.data.get("document") or []
    if not isinstance(named, list) or (unknown := [one for one in named if one not in documents]):
        got = repr(unknown[0]) if isinstance(named, list) else repr(named)
        raise InputError(
            f"{record.where}: 'document' is {got:.60}, expected a list of files in {DOCUMENTS}: {', '.join(documents)}"
        )
    about = [documents[one] for one in named]
    passage = "\n\n".join(one.text for one in about) if sum(one.tokens for one in about) <= _LONGEST_PASSAGE_TOKENS else ""
    if _is_absent(record, kind):
        more = {"row": kind, "passage": passage, "unanswerable": True}
        return context.question(name, record.text("question"), (), (0, 0), **more)
    right = record.text("right")
    try:
        pattern = regex.compile(right, regex.I | regex.S)
    except regex.error as error:
        raise InputError(f"{record.where}: 'right' is no regular expression ({error}); correct {right!r:.60}") from None
    places = (place for one in about for sentence, place in one.sentences if pattern.search(sentence))
    return context.question(name, record.text("question"), (right,), next(places, (0, 0)), row=kind, passage=passage)
