"""Systems that answer from a memory. Knows memories, no task.

Several memories of one model share a reader, so that each chunk is encoded once.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

from mplus.evaluation.schedule.stream import ScheduledQuestion, SourceStart
from mplus.evaluation.scoring.retrieval_recall import ChunkBirths, RetrievalRecall, can_trace, reads
from mplus.evaluation.systems.clock import TokenClock
from mplus.evaluation.systems.protocol import GREEDY, MemoryModel, Response, as_chat
from mplus.memory.memory import Memory
from mplus.text.search_query import last_user_messages


@dataclass
class MemorySystem:
    """Answers from a memory.

    Args:
        geometry: reading rules other than the memory's own; the memory holds the same under both.
        retriever: with `geometry`: what searches in place of the model's retriever.
        rounds: how often a prompt searches.
    """

    name: str
    model: MemoryModel
    memory: Any
    births: ChunkBirths = field(default_factory=ChunkBirths)
    geometry: Any = None
    retriever: Any = None
    rounds: int = 1
    batch_in_order: int = 8

    def reading_as(self, name: str, geometry: Any, retriever: Any = None, *, rounds: int = 1) -> MemorySystem:
        """Another system that answers from this memory by other reading rules."""
        return replace(self, name=name, geometry=geometry, retriever=retriever, rounds=rounds)

    def wants(self, due: ScheduledQuestion, max_new_tokens: int) -> bool:
        return True

    def answer(self, due: Sequence[ScheduledQuestion], max_new_tokens: int, *, clock: TokenClock | None = None) -> list[Response]:
        """Answers from the memory, with what each reading drew where that can be told."""
        memory, chats = self._readable(), [one.question.chat for one in due]
        retrieved: list[Any] = []
        kwargs: dict[str, Any] = {"retrieved": retrieved} if can_trace(memory) else {}
        if self._has_queries(due):  # else tokens of the prompt search
            alone = [as_chat(one.question.query or one.question.text) for one in due]
            kwargs["query"] = last_user_messages(self.model.tokenizer, alone)
        if self.rounds > 1:
            kwargs["rounds"] = self.rounds
        if clock is not None:
            kwargs |= {"min_new_tokens": max_new_tokens, "streamer": clock}
        if getattr(self.model, "calibration", None) is not None and clock is None:
            kwargs["confidence"] = True
        said = self.model.chat(chats, memory=memory, max_new_tokens=max_new_tokens, **GREEDY, **kwargs)
        texts = [one if isinstance(one, str) else one.text for one in said]
        confidences = [None if isinstance(one, str) else one.confidence for one in said]
        recall: list[RetrievalRecall | None] = [None] * len(due)
        if can_trace(memory):
            recall = reads(memory, self.births, [one.question for one in due], retrieved)
        held = int(memory.stats().ltm_tokens)
        return [
            Response(text.strip(), held, one, confidence=confidence)
            for text, one, confidence in zip(texts, recall, confidences, strict=True)
        ]

    def reading(self, due: Sequence[ScheduledQuestion]) -> list[Response]:
        """Read for each question and answer with one token."""
        return self.answer(due, 1)

    def likelihood(self, due: Sequence[ScheduledQuestion]) -> list[Response]:
        """Likelihood of continuations; what is read is chosen by the text before them only."""
        memory, model = self._readable(), cast(Any, self.model)
        before = [model.tokenizer(one.question.text, add_special_tokens=False)["input_ids"] for one in due]
        kwargs: dict[str, Any] = {} if self.rounds == 1 else {"rounds": self.rounds}
        if self._has_queries(due):
            kwargs["query"] = [one.question.query or one.question.text for one in due]
        scores = model.log_likelihood(before, [list(one.question.continuation) for one in due], memory=memory, **kwargs)
        held = int(memory.stats().ltm_tokens)
        return [Response(ltm_tokens=held, nats=-float(one.sum()), tokens=len(one)) for one in scores]

    def size_bytes(self, due: ScheduledQuestion) -> int:
        return int(self.memory.stats().size_bytes)

    def _has_queries(self, due: Sequence[ScheduledQuestion]) -> bool:
        if any(one.question.before for one in due):
            return False  # in a conversation the model itself chooses what to search with
        return any(one.question.query for one in due) and self.model.geometry.read.is_shared

    def _readable(self) -> Any:
        if self.geometry is None:
            return self.memory
        view = copy.copy(self.memory)  # short-term memory and stores are shared: a reading changes neither
        view.geometry, view.retriever = self.geometry, self.retriever
        return view


def _tokens_per_row(memory: Any) -> int:
    return memory.geometry.sizes.tokens_per_row if isinstance(memory, Memory) else 1


@dataclass
class MemoryReader:
    """Writes into all memories of one model, encoding every chunk once for each number of text tokens that a row stands for.

    Args:
        serves: names of all systems that answer from these memories.
        source_tokens: text tokens of one source; None: all of it is one, and a chunk sees the newest tokens of the memory.
    """

    model: MemoryModel
    systems: list[MemorySystem]
    serves: set[str] = field(default_factory=set)
    source_tokens: int | None = None

    def read(self, ids: list[int], start: int, source: SourceStart | None = None) -> None:
        if source is None:
            source = SourceStart(f"part {start // self.source_tokens}") if self.source_tokens is not None else None
        name = None if source is None else source.name
        said = {} if source is None or source.at is None else {"at": source.at}
        written: dict[int, Any] = {}
        for system in self.systems:
            before, tokens = getattr(system.memory, "now", start), _tokens_per_row(system.memory)
            if tokens not in written:
                written[tokens] = self.model.encode(ids, system.memory, source=name)
            system.memory.update(written[tokens], source=name, **said)
            system.births.note(start, start + len(ids), before, getattr(system.memory, "now", start + len(ids)))

    def forget(self, sources: Sequence[str]) -> None:
        for system in self.systems:
            system.memory.forget(list(sources))
