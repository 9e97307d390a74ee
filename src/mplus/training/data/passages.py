"""Published passages with questions whose answers stand in them, apart by title into training and dev. Knows files, no tokenizer."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from mplus.corpus.passages import article_key
from mplus.corpus.passages import read_passages as read_file
from mplus.corpus.records import json_lines
from mplus.corpus.splits import is_dev, nq_split
from mplus.errors import InputError
from mplus.text.files import read_text
from mplus.text.tokenised import repaired
from mplus.text.writing_systems import place_of
from mplus.training.data.document import Kind

Part = Literal["train", "dev"]
LONGEST_ANSWER: Final = 60  # characters
LONGEST_REQUEST: Final = 400
_SQUAD_FILES: Final = ("squadshifts/new_wiki_v1.0.json", "squad/train-v1.1-slice.json")
_MEASURING_FILES: Final = ("squad/dev-v2.0-part.json", "squad/xquad-en-dev-v1.1-part.json")
_NQ_FILE: Final = "natural_questions/nq-open-oracle-part.jsonl"
_DOLLY_FILE: Final = "instructions/dolly-15k-cut5000.jsonl"
_BOOLQ_FILE: Final = "boolq/dev-part.jsonl"
_NARRATIVE_FILE: Final = "narrativeqa/valid.jsonl"  # test.jsonl measures


@dataclass(frozen=True)
class Passage:
    """Text and questions as (question, answer, character where the answer starts; None: the whole text tells it)."""

    title: str
    text: str
    asked: tuple[tuple[str, str, int | None], ...]
    kind: Kind


def read_passages(data: Path, part: Part) -> list[Passage]:
    """All passages of one part of the training files; articles that measure elsewhere are in neither.

    Args:
        data: directory of ``shared/data`` form; dolly and NaturalQuestions may be missing, the SQuAD files not.

    Raises:
        InputError: a SQuAD file is missing, or a file is damaged.
    """
    found = [*_squad(data), *_natural_questions(data), *_dolly(data)]
    wanted = (passage for passage in found if is_dev(passage.title) == (part == "dev"))
    short = (Passage(p.title, p.text, tuple(one for one in p.asked if 0 < len(one[1]) <= LONGEST_ANSWER), p.kind) for p in wanted)
    return [passage for passage in short if passage.asked]


def read_articles(data: Path, part: Part) -> dict[Kind, list[list[Passage]]]:
    """Passages by their source, those of one article together, yes/no questions of search (BoolQ) among them.

    Args:
        data: as for ``read_passages``; BoolQ may be missing.

    Raises:
        InputError: as ``read_passages``.
    """
    boolq = (passage for passage in _boolq(data) if is_dev(passage.title) == (part == "dev"))
    found: dict[Kind, dict[str, list[Passage]]] = {}
    for passage in [*read_passages(data, part), *boolq]:
        found.setdefault(passage.kind, {}).setdefault(article_key(passage.title), []).append(passage)
    return {kind: list(articles.values()) for kind, articles in found.items()}


def read_summaries(data: Path) -> list[Passage]:
    """Summaries of books and films with the questions whose answer stands in them once; none if the file is missing.

    Articles of the half of NaturalQuestions that measures are left out: summaries are Wikipedia's too.
    """
    found = []
    for item in _lines(data / _NARRATIVE_FILE):
        if nq_split(item["wiki_title"]) != "train":
            continue
        text = repaired(item["summary"].strip())
        asked = tuple(one for qa in item["qas"] if (one := _once(text, qa)) is not None)
        if asked:
            found.append(Passage(item["wiki_title"], text, asked, "narrative"))
    return found


def _once(text: str, qa: dict[str, Any]) -> tuple[str, str, int] | None:
    """A question with the answer that stands in a text exactly once, as it is written there."""
    for answer in map(repaired, qa["answers"]):
        bare = re.sub(r"^(the|an?) ", "", answer.strip().rstrip("."), flags=re.IGNORECASE)
        places = list(re.finditer(rf"\b{re.escape(bare)}\b", text, re.IGNORECASE)) if 0 < len(bare) <= LONGEST_ANSWER else []
        if len(places) == 1:
            question = repaired(qa["question"].strip())
            question = question.lower() if question.isupper() else question
            return question[:1].upper() + question[1:], places[0][0], places[0].start()
    return None


def read_small_talk(data: Path) -> list[tuple[str, str]]:
    """Short requests and replies of the training part that need no context; none if the file is missing."""
    return [(request, reply) for request, reply in read_instructions(data) if len(request) <= 160 and len(reply) <= 400]


def read_instructions(data: Path) -> list[tuple[str, str]]:
    """Requests and replies of the training part that need no context, of any length a chat has; none if the file is missing."""
    pairs = ((item["instruction"].strip(), item["response"].strip(), item) for item in _lines(data / _DOLLY_FILE))
    return [
        (request, reply)
        for request, reply, item in pairs
        if not item["context"].strip() and len(request) <= LONGEST_REQUEST and reply and not is_dev(_dolly_title(item))
    ]


def _squad(data: Path) -> Iterator[Passage]:
    measuring = _measuring(data)
    for name in _SQUAD_FILES:
        if not (data / name).is_file():
            raise InputError(f"training data directory {data} lacks {name}; give the directory that holds it")
        for passage in read_file(data / name).passages:
            if article_key(passage.article) not in measuring:
                text = passage.text
                found = ((one.text.strip(), one.answers[0], one.answer_start) for one in passage.questions)
                right = tuple((q, a, at) for q, a, at in found if at is not None and text[at : at + len(a)] == a)
                yield Passage(passage.article, text, right, "passage")


def _natural_questions(data: Path) -> Iterator[Passage]:
    for item in _lines(data / _NQ_FILE):
        for context in item["ctxs"][:1]:
            if nq_split(context["title"]) != "train":
                continue
            text = context["text"]
            question = _as_asked(item["question"])
            found = ((answer, place_of(text, answer)) for answer in item["answers"])
            asked = [(question, answer, at) for answer, at in found if at is not None]
            yield Passage(context["title"], text, tuple(asked[:1]), "nq")


def _boolq(data: Path) -> Iterator[Passage]:
    """Yes/no questions of a search engine with the passage that tells; articles that measure are left out."""
    measuring = _measuring(data)
    for item in _lines(data / _BOOLQ_FILE):
        if nq_split(item["title"]) == "train" and article_key(item["title"]) not in measuring:
            answer = "Yes" if item["answer"] == "True" else "No"
            yield Passage(item["title"], item["passage"].strip(), ((_as_asked(item["question"]), answer, None),), "boolq")


def _as_asked(query: str) -> str:
    """Write what was typed into a search engine as a question."""
    question = query.strip().removesuffix("?")
    return question[:1].upper() + question[1:] + "?"


def _measuring(data: Path) -> set[str]:
    """Articles of the SQuAD files that measure."""
    there = [data / name for name in _MEASURING_FILES if (data / name).is_file()]
    return {article_key(passage.article) for path in there for passage in read_file(path).passages}


def _dolly(data: Path) -> Iterator[Passage]:
    for item in _lines(data / _DOLLY_FILE):
        text, answer = item["context"].strip(), item["response"].strip().rstrip(".")
        at = place_of(text, answer)
        if at is not None and len(answer) <= LONGEST_ANSWER and len(text) > 4 * len(answer):
            yield Passage(_dolly_title(item), text, ((item["instruction"].strip(), answer, at),), "dolly")


def _dolly_title(item: dict[str, Any]) -> str:
    return f"dolly {item['id']}"


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    if path.is_file():
        yield from (record for _, record in json_lines(path, read_text(path, may_be_empty=True)))
