"""Whole documents with questions at their end: LongBench, InfiniteBench, NarrativeQA, SQuALITY, or any file of that kind.

Records of one context are one stream: it is read once and everything about it is asked. Knows tokens and files, no models.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated

from pydantic import Field

from mplus.corpus.records import Record, read_records
from mplus.errors import InputError
from mplus.evaluation.schedule.distances import short
from mplus.evaluation.schedule.stream import EvalStream
from mplus.evaluation.tasks.context import DocumentQuestion, Settings, StreamSource, TaskContext
from mplus.text.tokenised import repaired


class DocumentsSettings(Settings):
    """Settings of the task file.

    Attributes:
        context, question, answers, id, options: names of these fields; ``options`` may be absent from the data.
        questions: field that lists the questions of a context; None: a record is a question.
        nested_answers: field of each entry of ``answers`` that holds the text.
        subset: field whose value is the table's row; None: the name of the file.
        truncate: tokens of context at most, the middle left out; several: a row for each.
        repair: put apostrophes back that the data lost ("mother s").
        per_document: questions about one context at most.
        subsets: only these rows.
    """

    context: str = "context"
    question: str = "question"
    answers: str = "answers"
    id: str = "id"
    options: str | None = None
    questions: str | None = None
    nested_answers: str | None = None
    subset: str | None = None
    subsets: tuple[str, ...] = ()
    truncate: tuple[Annotated[int, Field(ge=1)], ...] = ()
    repair: bool = False
    per_document: int | None = Field(default=None, ge=1)


def streams(settings: DocumentsSettings, task_context: TaskContext) -> list[StreamSource]:
    """One stream per context and length."""
    by_context: dict[str, list[DocumentQuestion]] = {}
    counted: dict[str, int] = {}
    for file in task_context.files():
        for record in read_records(file):
            for context, asked in _questions_of(settings, record, file):
                if settings.subsets and asked.row not in settings.subsets:
                    task_context.left_out.add("of another subset (subsets)", asked.id)
                    continue
                there = by_context.get(context, [])
                if settings.per_document is not None and len(there) >= settings.per_document:
                    task_context.left_out.add(f"more than {settings.per_document} about one document (per_document)", asked.id)
                    continue
                if task_context.limit is not None and counted.get(asked.row, 0) >= task_context.limit:
                    task_context.beyond_limit([asked.id])
                    continue
                counted[asked.row] = counted.get(asked.row, 0) + 1
                by_context.setdefault(context, []).append(asked)
    if not by_context and settings.subsets:
        raise InputError(f"task '{task_context.task.task}': the data have no {' or '.join(settings.subsets)}; check subsets")
    made = []
    for number, (context, questions) in enumerate(by_context.items()):
        for tokens in settings.truncate or (None,):
            name = f"document {number}" + (f" {tokens}" if tokens else "")
            make = partial(_script, task_context, f"document {number}", context, questions, tokens)
            made.append(StreamSource(name=name, seed=task_context.seed, script=make))
    return made


def _script(task_context: TaskContext, name: str, document: str, asked: list[DocumentQuestion], tokens: int | None) -> EvalStream:
    rows = [replace(one, row=f"{one.row} {short(tokens)}") for one in asked] if tokens else asked
    return task_context.questions_at_end(name, document, rows, tokens=tokens)


def _questions_of(settings: DocumentsSettings, record: Record, file: Path) -> Iterator[tuple[str, DocumentQuestion]]:
    context = record.text(settings.context)
    row = record.text(settings.subset) if settings.subset else file.stem
    entries = [record] if settings.questions is None else record.records(settings.questions)
    for number, entry in enumerate(entries):
        found = _answers(settings, entry)
        options = entry.texts(settings.options) if settings.options and settings.options in entry.data else ()
        text = entry.text(settings.question)
        if settings.repair:
            context, text, found = repaired(context), repaired(text), tuple(map(repaired, found))
        name = str(entry.data.get(settings.id, record.data.get(settings.id, "")) or record.where.rsplit(" ", 1)[-1])
        unique = name if settings.id in entry.data and len(entries) == 1 else f"{name}/{number}"
        yield context, DocumentQuestion(id=unique, row=row, text=text, answers=found, options=options)


def _answers(settings: DocumentsSettings, entry: Record) -> tuple[str, ...]:
    if settings.nested_answers is None:
        return entry.texts(settings.answers)
    return tuple(dict.fromkeys(one.text(settings.nested_answers) for one in entry.records(settings.answers)))
