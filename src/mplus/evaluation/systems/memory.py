"""Systems that answer from a memory. Knows memories, no task.

Several memories of one model share a reader, so that each chunk is encoded once.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from mplus.evaluation.protocol import MemoryModel
from mplus.evaluation.schedule.stream import ScheduledQuestion
from mplus.evaluation.systems.clock import Clock
from mplus.evaluation.systems.protocol import GREEDY, Response, as_chat
from mplus.evaluation.systems.retrieval_recall import ChunkBirths, RetrievalRecall, can_trace, reads
from mplus.text.search_query import last_user_messages


@dataclass
class MemorySystem:
    """Answers from a memory."""

    name: str
    model: MemoryModel
    memory: Any
    births: ChunkBirths = field(default_factory=ChunkBirths)

    def wants(self, due: ScheduledQuestion, max_new_tokens: int) -> bool:
        return True

    def answer(self, due: Sequence[ScheduledQuestion], max_new_tokens: int, *, clock: Clock | None = None) -> list[Response]:
        return _asked(self.model, self.memory, self.births, due, max_new_tokens, clock)

    def likelihood(self, due: Sequence[ScheduledQuestion]) -> list[Response]:
        return _likely(self.model, self.memory, due)

    def size_bytes(self, due: ScheduledQuestion) -> int:
        return _bytes_of(self.memory)


@dataclass
class OtherReading:
    """Answers from another system's memory as one with these reading rules would, which holds the same."""

    name: str
    of: MemorySystem
    geometry: Any

    def wants(self, due: ScheduledQuestion, max_new_tokens: int) -> bool:
        return True

    def answer(self, due: Sequence[ScheduledQuestion], max_new_tokens: int, *, clock: Clock | None = None) -> list[Response]:
        return _asked(self.of.model, self._seen(), self.of.births, due, max_new_tokens, clock)

    def likelihood(self, due: Sequence[ScheduledQuestion]) -> list[Response]:
        return _likely(self.of.model, self._seen(), due)

    def size_bytes(self, due: ScheduledQuestion) -> int:
        return _bytes_of(self.of.memory)

    def _seen(self) -> Any:
        seen = copy.copy(self.of.memory)  # pool and stores are shared: a reading changes neither
        seen.geometry = self.geometry
        return seen


@dataclass
class MemoryReader:
    """Writes into all memories of one model, encoding every chunk once."""

    model: MemoryModel
    systems: list[MemorySystem]

    def read(self, ids: list[int], start: int) -> None:
        written = self.model.encode(ids, self.systems[0].memory)
        for system in self.systems:
            before = getattr(system.memory, "now", start)
            system.memory.update(written)
            system.births.note(start, start + len(ids), before, getattr(system.memory, "now", start + len(ids)))


def _asked(
    model: MemoryModel,
    memory: Any,
    births: ChunkBirths,
    due: Sequence[ScheduledQuestion],
    max_new_tokens: int,
    clock: Clock | None,
) -> list[Response]:
    """Answers from a memory, with what each reading drew where that can be told."""
    chats = [as_chat(one.question.text) for one in due]
    tracing = can_trace(memory)
    drawn: list[Any] = []
    kwargs: dict[str, Any] = {"retrieved": drawn} if tracing else {}
    queries = [one.question.query for one in due]
    if any(queries) and model.geometry.retrieval == "shared":  # else tokens of the prompt search
        alone = [as_chat(query or one.question.text) for query, one in zip(queries, due, strict=True)]
        kwargs["query"] = last_user_messages(model.tokenizer, alone)
    if clock is not None:
        kwargs |= {"min_new_tokens": max_new_tokens, "streamer": clock}
    texts = model.chat(chats, memory=memory, max_new_tokens=max_new_tokens, **GREEDY, **kwargs)
    read: list[RetrievalRecall | None] = [None] * len(due)
    if tracing:
        read = reads(memory, births, [one.question for one in due], drawn)
    held = int(memory.stats().ltm_tokens)
    return [Response(text.strip(), held, one) for text, one in zip(texts, read, strict=True)]


def _likely(model: Any, memory: Any, due: Sequence[ScheduledQuestion]) -> list[Response]:
    """Likelihood of continuations; what is read is chosen by the text before them only."""
    encode = model.tokenizer
    before = [encode(one.question.text, add_special_tokens=False)["input_ids"] for one in due]
    kwargs: dict[str, Any] = {}
    if any(one.question.query for one in due) and model.geometry.retrieval == "shared":
        kwargs["query"] = [one.question.query or one.question.text for one in due]
    found = model.log_likelihood(before, [list(one.question.continuation) for one in due], memory=memory, **kwargs)
    held = int(memory.stats().ltm_tokens)
    return [Response(ltm_tokens=held, nats=-float(one.sum()), tokens=len(one)) for one in found]


def _bytes_of(memory: Any) -> int:
    return int(memory.stats().size_bytes)
