"""The systems of one run on their common weights, made when first asked for. Keeps no times."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel

from benchmarks import systems
from benchmarks.cost_model import Shape
from benchmarks.filling import bytes_of, grow_long, random_ids, shortage
from benchmarks.machine import Limits, measure_limits
from benchmarks.models import open_size, plain_twin
from benchmarks.plan import Plan
from benchmarks.systems import WithMemory
from mplus.model import MPlusModel

ROOM_TOKENS = 100_000  # long-term places beyond the size measured, so that no timed write evicts


class Stage:
    """Model and systems of one plan.

    Args:
        tell: told in a few words what is measured.
    """

    def __init__(self, plan: Plan, tell: Callable[[str], None]) -> None:
        self.plan, self.tell = plan, tell
        self.notes: list[str] = []
        self._drawn = 0
        tell(f"opening {plan.model}")
        self.model: MPlusModel = open_size(plan.model, dtype=plan.dtype, layers=plan.layers)

    def note(self, sentence: str) -> None:
        """Keep one sentence about what was left out, for table and file."""
        self.notes.append(sentence)
        self.tell(sentence)

    @property
    def capacity(self) -> int:
        """Long-term capacity of every memory of the run."""
        return max(self.plan.ltm) + ROOM_TOKENS

    @functools.cached_property
    def shape(self) -> Shape:
        """For the formulas."""
        return Shape.of(self.model)

    @functools.cached_property
    def limits(self) -> Limits:
        """What this machine can do at most, measured now."""
        self.tell("measuring the machine's limits")
        return measure_limits(self.shape, self.model.device, chunk=self.model.geometry.chunk_tokens, query=self.plan.query_tokens)

    @functools.cached_property
    def plain(self) -> PreTrainedModel:
        """The bare decoder on the same weights."""
        return plain_twin(self.model)

    def ours(self, **choices: Any) -> WithMemory:
        """Our way with an empty long-term memory."""
        return systems.ours(self.model, self.capacity, **choices)

    def literal(self) -> WithMemory:
        """The published procedure with an empty long-term memory."""
        return systems.literal(self.model, self.capacity)

    def grow(self, system: WithMemory, tokens: int, name: str) -> bool:
        """Fill long-term memory up to `tokens`; False, with a note, where RAM does not hold that."""
        missing = max(0, tokens - len(system.memory.longterm))
        if lacks := shortage(bytes_of(system.memory, missing)):
            self.note(f"{name} at {tokens:,} long-term tokens is left out: it {lacks}")
            return False
        grow_long(system.memory, tokens)
        return True

    def pair(self, tokens: int) -> tuple[WithMemory, WithMemory] | None:
        """Ours and the literal one, both with `tokens` long-term tokens; None where RAM does not hold them."""
        mine, paper = self.ours(), self.literal()
        return (mine, paper) if self.grow(mine, tokens, "ours") and self.grow(paper, tokens, "literal") else None

    def query(self) -> Tensor:
        """A prompt nobody has asked before, [T]."""
        return self.text(self.plan.query_tokens)

    def text(self, tokens: int) -> Tensor:
        """Random text, [T]."""
        self._drawn += 1
        return random_ids(tokens, self.model.vocabulary, 1000 + self._drawn)
