"""What a memory is, seen from outside: counts, waiting text, ledger, what it answers and how it goes on. Changes no memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from mplus import Memory, MPlusModel
from tests.abuse.models import ids

PROMPT, MORE = ids(5, 901), ids(8, 902)


@dataclass(frozen=True)
class State:
    """Of one memory.

    Attributes:
        facts: what must be equal.
        logits: of one prompt, [T, V].
        later: of the same prompt after more text was written into a fork.
    """

    facts: dict[str, Any]
    logits: Tensor
    later: Tensor


def state_of(memory: Memory, model: MPlusModel) -> State:
    """What `memory` is now."""
    stats = asdict(memory.stats())
    del stats["size_bytes"]
    waiting = [(source, int(token)) for source, tokens in memory.pending for token in tokens]
    facts = {
        **stats,
        "pending": waiting,
        "seed": memory.seed,
        "now": memory.now,
        "format": memory.format,
        "chunks written": [tuple(chunk._replace(at=None)) for chunk in memory.ledger.chunks],
    }
    twin = memory.fork()
    logits, facts["retrieved"] = read(model, memory)
    twin.write(MORE)
    later, facts["retrieved later"] = read(model, twin)
    return State(facts, logits, later)


def read(model: MPlusModel, memory: Memory) -> tuple[Tensor, list[list[int]]]:
    """Logits of the prompt, and the ages of what was retrieved, per layer."""
    output = model(torch.tensor([PROMPT]), memory=memory, return_retrieved=True)
    found = output.retrieved[0].layers if output.retrieved else []
    return output.logits[0], [sorted(layer.ages.tolist()) for layer in found]


def difference(got: State, expected: State) -> str | None:
    """The first thing in which they differ, in words; None where they are the same."""
    for name, value in expected.facts.items():
        if got.facts.get(name) != value:
            return f"{name} is {str(got.facts.get(name))[:90]}, expected {str(value)[:90]}"
    for name, one, other in (("logits", got.logits, expected.logits), ("logits later", got.later, expected.later)):
        if not torch.allclose(one, other, atol=1e-3, rtol=1e-3):
            return f"{name} differ by {float((one - other).abs().max()):.3g}"
    return None


def which(got: State, candidates: Sequence[State]) -> int | None:
    """Number of the first candidate that is the same; None where none is."""
    return next((number for number, one in enumerate(candidates) if difference(got, one) is None), None)


class Course:
    """A text that is written in chunks, and all states on the way, from a twin that nothing attacks.

    Args:
        start: the memory before; nothing waits in it.
        text: token ids, whole chunks.
    """

    def __init__(self, model: MPlusModel, start: Memory, text: list[int], source: str = "a") -> None:
        self.model, self.text, self.source = model, text, source
        self.before = start.stats().tokens_read
        size = start.geometry.sizes.chunk_tokens
        twin = start.fork()
        self.memories = {0: start.fork()}
        for at in range(0, len(text), size):
            twin.write(text[at : at + size], source=source)
            self.memories[twin.stats().tokens_read - self.before] = twin.fork()
        assert len(text) in self.memories, "the text is not whole chunks"
        self.more = ids(size, 903)  # a whole chunk, so that text that waited is cut as it would have been
        twin.write(self.more, source=source)
        self.end = state_of(twin, model)

    @property
    def states(self) -> list[State]:
        """Before the text, and after each chunk."""
        return [state_of(memory, self.model) for memory in self.memories.values()]

    def fault(self, memory: Memory) -> str | None:
        """What is wrong with a memory that was interrupted somewhere in the text; None if nothing is."""
        stats = memory.stats()
        done = stats.tokens_read - self.before
        waiting = [int(token) for _, tokens in memory.pending for token in tokens]
        if done not in self.memories:
            return f"half a chunk: {done} tokens count as written"
        if waiting != self.text[done : done + len(waiting)]:
            return f"lost text: {done} tokens written, what waits is not what comes next"
        expected = self.memories[done].stats()
        for name in ("stm_tokens", "ltm_tokens", "chunks", "sources"):
            if getattr(stats, name) != getattr(expected, name):
                return f"half a chunk: {name} is {getattr(stats, name)}, expected {getattr(expected, name)} after {done} tokens"
        if not waiting and (found := difference(state_of(memory, self.model), state_of(self.memories[done], self.model))):
            return f"another state: after {done} tokens {found}"
        twin = memory.fork()
        twin.write(self.text[done + len(waiting) :] + self.more, source=self.source)
        found = difference(state_of(twin, self.model), self.end)
        return found and f"goes on otherwise: {found}"
