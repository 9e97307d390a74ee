"""What answers: memories, the plain window, and the plain model with the passage in its prompt. Knows no task.

A ``Reader`` is told every chunk, a ``System`` answers what is due; several memories of one model share a reader, so that each
chunk is encoded once.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import torch

from mplus.errors import InputError
from mplus.evaluation.found import Births, Read, can_trace, reads
from mplus.evaluation.protocol import RemembersText
from mplus.evaluation.script import Due
from mplus.evaluation.window import answer_from_window

SYSTEMS: Final = ("mplus", "memoryllm", "window", "passage")
"""All there are: the memory, the memory without long-term part at the same read budget, and two plain ones."""

_WINDOW_CHARACTERS_PER_POSITION: Final = 12  # more text than fits, so that the window is full whatever the tokenizer


@dataclass(frozen=True)
class Given:
    """An answer, and how a memory stood when it was given."""

    text: str
    ltm_tokens: int = 0
    read: Read | None = None


class Reader(Protocol):
    """Takes the text in."""

    def read(self, ids: list[int], start: int) -> None:
        """The next chunk, which begins at position ``start`` of the text."""


class System(Protocol):
    """Answers questions; being asked changes nothing."""

    @property
    def name(self) -> str: ...
    def wants(self, due: Due) -> bool:
        """Whether this question at this distance is one for this system."""

    def answer(self, due: Sequence[Due], max_new_tokens: int) -> list[Given]:
        """Greedy answers."""


@dataclass
class MemorySystem:
    """Answers from a memory."""

    name: str
    model: RemembersText
    memory: Any
    births: Births = field(default_factory=Births)

    def wants(self, due: Due) -> bool:
        return True

    def answer(self, due: Sequence[Due], max_new_tokens: int) -> list[Given]:
        return _asked(self.model, self.memory, self.births, due, max_new_tokens)


@dataclass
class OtherReading:
    """Answers from another system's memory as one with these reading rules would, which holds the same."""

    name: str
    of: MemorySystem
    geometry: Any

    def wants(self, due: Due) -> bool:
        return True

    def answer(self, due: Sequence[Due], max_new_tokens: int) -> list[Given]:
        seen = copy.copy(self.of.memory)  # pool and stores are shared: a reading changes neither
        seen.geometry = self.geometry
        return _asked(self.of.model, seen, self.of.births, due, max_new_tokens)


@dataclass
class MemoryReader:
    """Writes into all memories of one model, encoding every chunk once."""

    model: RemembersText
    systems: list[MemorySystem]

    def read(self, ids: list[int], start: int) -> None:
        written = self.model.encode(ids, self.systems[0].memory)
        for system in self.systems:
            before = getattr(system.memory, "now", start)
            system.memory.update(written)
            system.births.note(start, start + len(ids), before, getattr(system.memory, "now", start + len(ids)))


@dataclass
class WindowSystem:
    """The untouched base with the end of the text in its own window; also its own reader. Slow: it reads the window every time."""

    model: RemembersText
    name: str = "window"
    ids: list[int] = field(default_factory=list)

    def read(self, ids: list[int], start: int) -> None:
        self.ids += ids

    def wants(self, due: Due) -> bool:
        return True

    def answer(self, due: Sequence[Due], max_new_tokens: int) -> list[Given]:
        questions = [one.question.text for one in due]
        with self.model.untouched() as hf_model:
            positions = int(hf_model.config.get_text_config().max_position_embeddings)
            text = str(self.model.tokenizer.decode(self.ids[-positions:]))
            text = text[-_WINDOW_CHARACTERS_PER_POSITION * positions :]
            answers, _ = answer_from_window(hf_model, self.model.tokenizer, text, questions, max_new_tokens=max_new_tokens)
        return [Given(str(self.model.tokenizer.decode(ids, skip_special_tokens=True)).strip()) for ids in answers]


@dataclass
class PassageSystem:
    """A plain model that gets the passage in its prompt, a blank line before the question; asked at the smallest distance only.

    Args:
        hf_model: e.g. the base fine-tuned on such questions; None: the untouched base.
    """

    model: RemembersText
    distance: int
    hf_model: Any = None
    name: str = "passage"

    def wants(self, due: Due) -> bool:
        return due.distance == self.distance

    def answer(self, due: Sequence[Due], max_new_tokens: int) -> list[Given]:
        tokenizer = self.model.tokenizer
        prompts = [_templated(tokenizer, _chat(f"{one.question.passage}\n\n{one.question.text}")) for one in due]
        rows = [tokenizer(prompt, add_special_tokens=False)["input_ids"] for prompt in prompts]
        if self.hf_model is not None:
            return _generated(self.hf_model, tokenizer, rows, max_new_tokens)
        with self.model.untouched() as hf_model:
            return _generated(hf_model, tokenizer, rows, max_new_tokens)


def _asked(model: RemembersText, memory: Any, births: Births, due: Sequence[Due], max_new_tokens: int) -> list[Given]:
    """Answers from a memory, with what each reading drew where that can be told."""
    chats = [_chat(one.question.text) for one in due]
    tracing = can_trace(memory)
    drawn: list[Any] = []
    kwargs: dict[str, Any] = {"retrieved": drawn} if tracing else {}
    texts = model.chat(chats, memory=memory, max_new_tokens=max_new_tokens, do_sample=False, **kwargs)
    read: list[Read] | list[None] = [None] * len(due)
    if tracing:
        read = reads(memory, births, [one.question for one in due], drawn)
    held = int(memory.stats().ltm_tokens)
    return [Given(text.strip(), held, one) for text, one in zip(texts, read, strict=True)]


def _generated(hf_model: Any, tokenizer: Any, rows: list[list[int]], max_new_tokens: int) -> list[Given]:
    width = max(map(len, rows))
    positions = int(hf_model.config.get_text_config().max_position_embeddings)
    if width + max_new_tokens > positions:
        raise InputError(f"a passage with its question has {width} tokens, the model has {positions} positions; shorten it")
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id or 0
    ids = torch.tensor([[pad] * (width - len(row)) + row for row in rows], device=hf_model.device)
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=hf_model.device)
    with torch.inference_mode():
        out = hf_model.generate(ids, attention_mask=mask, max_new_tokens=max_new_tokens, do_sample=False, pad_token_id=pad)
    return [Given(text.strip()) for text in tokenizer.batch_decode(out[:, width:], skip_special_tokens=True)]


def _chat(question: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": question}]


def _templated(tokenizer: Any, chat: list[dict[str, str]]) -> str:
    return str(tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True))
