"""Passages with questions from files: SQuAD JSON, JSONL of contexts, Natural Questions with gold passages, plain text.

Knows files, nothing of tokens or models.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from mplus.corpus.records import json_lines, kind_of, parquet_rows
from mplus.errors import InputError
from mplus.text.files import parsed, read_text

PassageForm = Literal["squad", "context", "natural_questions", "text"]
MAX_ANSWER_TOKENS: Final[dict[PassageForm, int]] = {"squad": 3, "context": 3, "natural_questions": 4, "text": 0}
"""Longest answer that is asked for, as in the paper (section 4.3: SQuAD 3, Natural Questions 4)."""


@dataclass(frozen=True, kw_only=True)
class PassageQuestion:
    """A question with every answer its file gives; ``answer_start`` is a character position, where the file has it."""

    id: str
    text: str
    answers: tuple[str, ...]
    answer_start: int | None = None


@dataclass(frozen=True, kw_only=True)
class Passage:
    """A text of one article, with the questions about it (none where it only serves to distract)."""

    article: str
    text: str
    questions: tuple[PassageQuestion, ...] = ()


@dataclass(frozen=True)
class PassageFile:
    """All passages of one file, in its order; ``unanswerable`` are questions without an answer, which nobody asks."""

    path: str
    form: PassageForm
    passages: list[Passage]
    unanswerable: tuple[str, ...] = ()


def read_passages(path: str | Path) -> PassageFile:
    """Read a file; which form it has is seen from its content.

    Forms: SQuAD 1.1 or 2.0 (unanswerable questions are left out); JSONL with context, question and answers (a title names the
    article, else each context is one), or a parquet file of these; JSONL with question, answers and ctxs (title, text, isgold); any other UTF-8 text.

    Raises:
        InputError: no such file, or a field is missing, empty or of the wrong type (file, line and field are named).
    """
    unanswerable: list[str] = []
    if Path(path).suffix.lower() == ".parquet":
        passages = _contexts(str(path), list(enumerate(parquet_rows(Path(path)))), unanswerable)
        return PassageFile(str(path), "context", passages, tuple(unanswerable))
    text = read_text(path)
    name, start = str(path), text.lstrip()[:1]
    if start == "{" and (whole := _as_json(text)) is not None and "data" in whole:
        return PassageFile(name, "squad", list(_squad(name, whole["data"], unanswerable)), tuple(unanswerable))
    if start == "{":
        lines = list(json_lines(name, text))
        if any("ctxs" in record for _, record in lines):
            return PassageFile(name, "natural_questions", _natural_questions(name, lines))
        return PassageFile(name, "context", _contexts(name, lines, unanswerable), tuple(unanswerable))
    if Path(path).suffix.lower() in (".json", ".jsonl"):
        found = "a JSON list" if start == "[" else f"not JSON: it starts with {start!r}"
        raise InputError(f"'{name}' is {found}; expected SQuAD's form or one JSON object a line")
    article = Path(path).stem
    return PassageFile(name, "text", [Passage(article=article, text=part) for part in re.split(r"\n\s*\n", text) if part.strip()])


def article_key(title: str) -> str:
    """A title as it is compared: files write the same one with spaces or underscores."""
    return " ".join(title.replace("_", " ").lower().split())


def _as_json(text: str) -> dict[str, Any] | None:
    try:
        whole = parsed(text)
    except ValueError:
        return None
    return whole if isinstance(whole, dict) else None


def _squad(name: str, data: Any, unanswerable: list[str]) -> Iterator[Passage]:
    field = _field_of(name)
    if not isinstance(data, list):
        raise InputError(f"'{name}': data is {kind_of(data)}, expected a list of articles as in SQuAD")
    for a, article in enumerate(data):
        title = field(article, "title", str, f"data[{a}]")
        for p, paragraph in enumerate(field(article, "paragraphs", list, f"data[{a}]")):
            at = f"data[{a}].paragraphs[{p}]"
            context = field(paragraph, "context", str, at)
            asked = []
            for q, qa in enumerate(field(paragraph, "qas", list, at)):
                if (one := _squad_question(field, qa, f"{at}.qas[{q}]")) is not None:
                    asked.append(one)
                else:
                    unanswerable.append(str(qa.get("id", f"{at}.qas[{q}]")))
            yield Passage(article=title, text=context, questions=tuple(asked))


def _squad_question(field: Callable[..., Any], qa: Any, at: str) -> PassageQuestion | None:
    question = field(qa, "question", str, at)
    if qa.get("is_impossible"):
        return None
    answers = field(qa, "answers", list, at)
    texts = tuple(dict.fromkeys(field(one, "text", str, f"{at}.answers[{n}]") for n, one in enumerate(answers)))
    start = answers[0].get("answer_start")
    return PassageQuestion(
        id=str(qa.get("id", at)), text=question, answers=texts, answer_start=start if isinstance(start, int) else None
    )


def _contexts(name: str, lines: list[tuple[int, dict[str, Any]]], unanswerable: list[str]) -> list[Passage]:
    field = _field_of(name)
    asked: dict[tuple[str, str], list[PassageQuestion]] = {}
    for number, record in lines:
        at = f"line {number}"
        context, question = field(record, "context", str, at), field(record, "question", str, at)
        title = str(record.get("title") or context)
        there = asked.setdefault((title, context), [])
        given = record.get("answers")
        start: Any = None
        if isinstance(given, dict):  # as the data sets of the hub have it
            if given.get("text") == []:  # SQuAD 2.0: not answerable
                unanswerable.append(str(record.get("id", at)))
                continue
            start = next(iter(given.get("answer_start") or []), None)
        answers = _answers(field, record, at)
        name = str(record.get("id", number))
        there.append(
            PassageQuestion(id=name, text=question, answers=answers, answer_start=start if isinstance(start, int) else None)
        )
    return [Passage(article=title, text=context, questions=tuple(ones)) for (title, context), ones in asked.items()]


def _natural_questions(name: str, lines: list[tuple[int, dict[str, Any]]]) -> list[Passage]:
    """The gold passage of every line, with its question."""
    field = _field_of(name)
    asked: dict[tuple[str, str], list[PassageQuestion]] = {}
    for number, record in lines:
        at = f"line {number}"
        question, answers = field(record, "question", str, at), _answers(field, record, at)
        found, gold = field(record, "ctxs", list, at), 0
        for c, one in enumerate(found):
            key = field(one, "title", str, f"{at} ctxs[{c}]"), field(one, "text", str, f"{at} ctxs[{c}]")
            asked.setdefault(key, [])
            if one.get("isgold", len(found) == 1):
                gold += 1
                name = str(number) if gold == 1 else f"{number}, passage {gold}"
                asked[key].append(PassageQuestion(id=name, text=question, answers=answers))
    return [Passage(article=title, text=text, questions=tuple(ones)) for (title, text), ones in asked.items()]


def _answers(field: Callable[..., Any], record: Any, at: str) -> tuple[str, ...]:
    given = record.get("answers")
    if isinstance(given, dict):  # as the data sets of the hub have it
        record = {"answers": given.get("text")}
    answers = field(record, "answers", list, at)
    wrong = next((one for one in answers if not isinstance(one, str) or not one.strip()), None)
    if wrong is not None:
        field({"answers": wrong}, "answers", str, at)
    return tuple(dict.fromkeys(answers))


def _field_of(name: str) -> Callable[..., Any]:
    """A function that takes a field out of a record and tells where it is missing, empty or of the wrong type."""

    def field(record: Any, key: str, kind: type, at: str) -> Any:
        if not isinstance(record, dict):
            raise InputError(f"'{name}' {at} is {kind_of(record)}, expected an object with '{key}'")
        if key not in record:
            present = ", ".join(sorted(map(str, record))) or "none"
            raise InputError(f"'{name}' {at} has no field '{key}'; its fields are: {present}")
        value = record[key]
        if not isinstance(value, kind):
            raise InputError(f"'{name}' {at}: '{key}' is {kind_of(value)}, expected {'text' if kind is str else 'a list'}")
        if key != "qas" and not (value.strip() if isinstance(value, str) else value):
            raise InputError(f"'{name}' {at}: '{key}' is empty; expected at least one {'word' if kind is str else 'entry'}")
        return value

    return field
