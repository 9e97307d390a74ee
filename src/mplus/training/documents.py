"""Chunks to be written and questions about them: generated facts in running text, passages with questions.

Knows a tokenizer and files, no model. Legend: T tokens of a chunk.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mplus.corpus.facts import Fact, FactMaker
from mplus.corpus.text import sentences
from mplus.errors import InputError

BOOKS = ("pride_and_prejudice", "moby_dick", "frankenstein")
DOCUMENTED_PACKAGES = (
    "torch",
    "transformers",
    "numpy",
    "peft",
    "matplotlib",
)  # docstrings; the demo reads the standard library's
DOCSTRING_CHARACTERS = 1_500_000
LONGEST_ANSWER = 60  # characters
BEFORE_ANSWER, AFTER_ANSWER = 24, 8  # tokens around an answer that count as the right place (RECIPE section 4)


@dataclass(frozen=True)
class Question:
    """Asked about one chunk. `span`: first and one-past-last token of the right place in it."""

    text: str
    answer: str
    span: tuple[int, int]
    is_fact: bool


@dataclass(frozen=True)
class Document:
    """One chunk of exactly T tokens and what can be asked about it."""

    ids: list[int]
    questions: list[Question]


class DocumentMaker:
    """Endless fresh chunks.

    Args:
        data: directory of ``shared/data`` form (books, squad, squadshifts, natural_questions).
        fact_share: share of chunks that carry generated facts; the rest carry a passage with questions.
    """

    def __init__(self, tokenizer: Any, data: Path, tokens: int, *, seed: int, fact_share: float = 0.6) -> None:
        if not data.is_dir():
            raise InputError(
                f"training data directory {data} does not exist; give --data with books, squad and squadshifts in it"
            )
        self.tokenizer, self.tokens, self.fact_share = tokenizer, tokens, fact_share
        self.random = random.Random(seed)
        self.running = self._running_text(data)
        self.passages = self._passages(data)
        self._facts: list[Fact] = []

    def make(self, count: int) -> list[Document]:
        """`count` new chunks; facts of one call share names and relations."""
        maker = FactMaker(self.random.randrange(1 << 30), "train", facts_per_subject=self.random.choice([1.5, 3.0, 5.0]))
        self._facts = maker.make(6 * count)
        self.random.shuffle(self._facts)
        return [self._with_facts() if self.random.random() < self.fact_share else self._with_passage() for _ in range(count)]

    def _with_facts(self) -> Document:
        facts = [self._facts.pop() for _ in range(self.random.randint(1, 6))]
        parts = [self._ids(" " + fact.statement) for fact in facts]
        room = self.tokens - sum(map(len, parts))
        filler = self._filler(room)
        cuts = sorted(self.random.randint(0, len(filler)) for _ in parts)
        ids: list[int] = []
        questions = []
        done = 0
        for cut, part, fact in zip(cuts, parts, facts, strict=True):
            for sentence in filler[done:cut]:
                ids += sentence
            done = cut
            questions.append(Question(fact.question, fact.value, (len(ids), len(ids) + len(part)), True))
            ids += part
        for sentence in filler[done:]:
            ids += sentence
        return Document(ids, questions)

    def _with_passage(self) -> Document:
        while True:
            passage, asked = self.random.choice(self.passages)
            own = self._ids(" " + passage)
            if len(own) <= self.tokens - 8:
                break
        filler = self._filler(self.tokens - len(own))
        cut = self.random.randint(0, len(filler))
        before = [token for sentence in filler[:cut] for token in sentence]
        ids = before + own + [token for sentence in filler[cut:] for token in sentence]
        first, last = len(before), len(before) + len(own)
        questions = []
        for text, answer in self.random.sample(asked, min(4, len(asked))):
            wanted = self._ids(" " + answer)
            at = next((spot for spot in range(first, last - len(wanted) + 1) if ids[spot : spot + len(wanted)] == wanted), None)
            if at is not None:
                span = (max(first, at - BEFORE_ANSWER), min(last, at + len(wanted) + AFTER_ANSWER))
                questions.append(Question(text, answer, span, False))
        return Document(ids, questions) if questions else self._with_passage()

    def _filler(self, room: int) -> list[list[int]]:
        """Consecutive sentences of exactly `room` tokens together; the last one may be cut."""
        text = self.random.choice(self.running)
        at = self.random.randrange(len(text))
        out: list[list[int]] = []
        while room > 0:
            sentence = text[at % len(text)][:room]
            out.append(sentence)
            room -= len(sentence)
            at += 1
        return out

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def _running_text(self, data: Path) -> list[list[list[int]]]:
        texts = [(data / "haystack" / "books" / f"{book}.txt").read_text(encoding="utf-8") for book in BOOKS]
        texts.append(docstrings(DOCUMENTED_PACKAGES, DOCSTRING_CHARACTERS))
        out = []
        for text in texts:
            parts = [part for part in sentences(text) if part.strip()]
            out.append([ids for ids in self.tokenizer(parts, add_special_tokens=False)["input_ids"] if ids])
        return out

    def _passages(self, data: Path) -> list[tuple[str, list[tuple[str, str]]]]:
        found = []
        for name in ("squadshifts/new_wiki_v1.0.json", "squad/train-v1.1-slice.json"):
            for article in json.loads((data / name).read_text(encoding="utf-8"))["data"]:
                for paragraph in article["paragraphs"]:
                    asked = [(qa["question"], qa["answers"][0]["text"]) for qa in paragraph["qas"] if qa["answers"]]
                    found.append((paragraph["context"], asked))
        for line in (data / "natural_questions" / "nq-open-oracle-part.jsonl").read_text(encoding="utf-8").splitlines():
            item = json.loads(line)
            for context in item["ctxs"][:1]:
                asked = [
                    (item["question"].capitalize() + "?", answer) for answer in item["answers"] if answer in context["text"]
                ][:1]
                found.append((context["text"], asked))
        short = [(text, [pair for pair in asked if len(pair[1]) <= LONGEST_ANSWER]) for text, asked in found]
        return [(text, asked) for text, asked in short if asked]


def docstrings(packages: tuple[str, ...], characters: int) -> str:
    """Documentation of installed packages, read from source without importing them."""
    pieces: list[str] = []
    for package in packages:
        spec = importlib.util.find_spec(package)
        root = Path(spec.origin).parent if spec is not None and spec.origin else None
        size = 0
        for path in sorted(root.rglob("*.py")) if root is not None else []:
            if size > characters / len(packages):
                break
            try:
                tree = ast.parse(path.read_text(encoding="utf-8"))
            except (SyntaxError, UnicodeDecodeError, ValueError):
                continue
            for node in ast.walk(tree):
                if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
                    text = ast.get_docstring(node)
                    if text and len(text) > 200:
                        pieces.append(text)
                        size += len(text)
    return "\n\n".join(pieces)
