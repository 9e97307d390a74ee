"""Texts, files and a model for tests of the evaluation: every word tells where it comes from."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from mplus.evaluation.schedule.stream import EvalStream
from mplus.evaluation.systems.shared_context import SharedContext
from mplus.settings import Geometry

CHAT = "{% for m in messages %}{{ m['content'] }}{% endfor %}"


class Words:
    """A tokenizer of white-space words, for scripts; ids are the order in which words were first seen."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self.number: dict[str, int] = {}

    def __call__(self, text: str) -> list[int]:
        """Token ids."""
        found = []
        for word in text.split():
            if word not in self.number:
                self.number[word] = len(self.words)
                self.words.append(word)
            found.append(self.number[word])
        return found

    def text(self, ids: Sequence[int]) -> str:
        """Words of ids, one space between."""
        return " ".join(self.words[one] for one in ids)


def tokens_of(script: EvalStream) -> list[int]:
    """The whole text."""
    return [token for chunk in script.chunks for token in chunk]


def passage_text(article: int, paragraph: int) -> str:
    """Forty words in five sentences; the third has the paragraph's answers in it."""
    name = f"a{article}p{paragraph}"
    parts = [" ".join(f"{name}w{8 * sentence + word}" for word in range(7)) + f" {name}end{sentence}." for sentence in range(5)]
    parts[2] = f"The key of {name} is {name}key and {name}code too."
    return " ".join(part[:1].upper() + part[1:] for part in parts)


def squad_file(path: Path, articles: int = 8, paragraphs: int = 3, first: int = 0) -> Path:
    """SQuAD 2.0: two short questions, one long answer and one unanswerable question per paragraph."""
    data = []
    for article in range(first, first + articles):
        made = []
        for paragraph in range(paragraphs):
            text, name = passage_text(article, paragraph), f"a{article}p{paragraph}"
            start = text.index(f"{name}key")
            qas = [
                {"id": f"{name}-1", "question": "Which key?", "answers": [{"text": f"{name}key", "answer_start": start}]},
                {"id": f"{name}-2", "question": "Which code?", "answers": [{"text": f"{name}code", "answer_start": 0}]},
                {"id": f"{name}-3", "question": "All?", "answers": [{"text": text[start - 20 :], "answer_start": start - 20}]},
                {"id": f"{name}-4", "question": "Nothing?", "answers": [], "is_impossible": True},
            ]
            made.append({"context": text, "qas": qas})
        data.append({"title": f"Article_{article}", "paragraphs": made})
    path.write_text(json.dumps({"version": "v2.0", "data": data}), encoding="utf-8")
    return path


class FakeMemory:
    """Holds ids; without long-term memory the last few only."""

    def __init__(self, held: int | None) -> None:
        self.held = held
        self.ids: list[int] = []

    def update(self, written: list[int], *, source: str | None = None) -> None:
        """Take a chunk in."""
        self.ids += written
        if self.held is not None:
            self.ids = self.ids[-self.held :]

    def stats(self) -> Any:
        """Counts."""
        from types import SimpleNamespace

        return SimpleNamespace(ltm_tokens=0 if self.held is not None else max(0, len(self.ids) - 64))


class FakeModel:
    """Finds a question's paragraph in what it holds and reads the answer out; its questions end with the paragraph's name."""

    name, dtype = "fake", torch.float32

    def __init__(self) -> None:
        self.encode_text = Words()
        self.geometry = Geometry(
            new_tokens=32, chunk_tokens=32, stm_tokens=256, ltm_read_tokens=64, min_write_tokens=4, block_tokens=16
        )
        self.tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=_plain_tokenizer(), unk_token="<unk>", eos_token="<eos>", chat_template=CHAT
        )
        self.encoded = 0
        self.asked: list[list[str]] = []
        self.new_memories: list[dict[str, Any]] = []

    def new_memory(self, **changes: Any) -> FakeMemory:
        """A memory; ``ltm=False`` holds as many tokens as it has short-term ones."""
        self.new_memories.append(changes)
        return FakeMemory(None if changes.get("ltm", True) else int(changes["stm_tokens"]))

    def cut(self, text: str) -> list[list[int]]:
        """One chunk."""
        return [self.encode_text(text)]

    def encode(self, ids: list[int], memory: FakeMemory, *, source: str | None = None) -> list[int]:
        """What a memory takes in."""
        self.encoded += 1
        return ids

    def chat(self, messages: list[list[dict[str, str]]], *, memory: FakeMemory, **generate: Any) -> list[str]:
        """The first word held that ends as the question does."""
        self.asked.append([chat[0]["content"] for chat in messages])
        held = self.encode_text.text(memory.ids).split()
        wanted = [chat[0]["content"].split()[1].rstrip("?") for chat in messages]
        return [next((word for word in held if word.endswith(end)), "nothing") for end in wanted]

    @contextmanager
    def untouched(self) -> Iterator[Any]:
        """There is no plain model."""
        raise AssertionError("no test asks the fake's base")
        yield


def _plain_tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(models.WordLevel({"<unk>": 0, "<eos>": 1}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return tokenizer


def answer_from_window(
    hf_model: Any, tokenizer: Any, text: str, questions: Sequence[str], *, max_new_tokens: int = 10, group_questions: int = 48
) -> tuple[list[list[int]], int]:
    """Answers behind one shared context, some questions at a time, and how many tokens of the text they saw."""
    context = SharedContext(hf_model, tokenizer, text, questions, max_new_tokens=max_new_tokens)
    answers: list[list[int]] = []
    for start in range(0, len(questions), group_questions):
        answers += context.answer(hf_model, questions[start : start + group_questions])
    return answers, context.seen_tokens
