"""The systems of one run on their common weights, made when first asked for. Keeps no times."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Final

from torch import Tensor
from transformers import PreTrainedModel

from benchmarks import systems
from benchmarks.cost_model import Shape
from benchmarks.machine import Limits, measure_limits
from benchmarks.models import open_size, plain_twin
from benchmarks.plan import Plan
from benchmarks.synthetic_memory import bytes_of, grow_long, random_ids, shortage
from benchmarks.systems import WithMemory
from mplus.model import MPlusModel

ROOM_TOKENS: Final = 100_000  # long-term places beyond the size measured, so that no timed write evicts


class DoesNotFit(Exception):
    """RAM does not hold what a part of the run measures; the fixture has a note of it."""


class Fixture:
    """Model and systems of one plan.

    Args:
        tell: takes a few words about what is measured now.
    """

    def __init__(self, plan: Plan, tell: Callable[[str], None]) -> None:
        self.plan, self.tell = plan, tell
        self.notes: list[str] = []
        self._texts = 0
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

    @property
    def dtype(self) -> str:
        """Number type of the weights, by name."""
        return str(self.model.dtype).removeprefix("torch.")

    @functools.cached_property
    def shape(self) -> Shape:
        """For the formulas."""
        return Shape.of(self.model)

    @functools.cached_property
    def limits(self) -> Limits:
        """What this machine can do at most, measured now."""
        self.tell("measuring the machine's limits")
        return measure_limits(
            self.shape, self.model.device, chunk=self.model.geometry.sizes.chunk_tokens, query=self.plan.query_tokens
        )

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
        missing = max(0, tokens - len(system.memory.long_term))
        if lacks := shortage(bytes_of(system.memory, missing)):
            self.note(f"{name} at {tokens:,} long-term tokens is left out: it {lacks}")
            return False
        grow_long(system.memory, tokens)
        return True

    def pair(self, tokens: int) -> dict[str, WithMemory]:
        """Ours and the literal procedure by name, both with `tokens` long-term tokens.

        Raises:
            DoesNotFit: RAM does not hold them.
        """
        both = {"ours": self.ours(), "literal": self.literal()}
        if not all(self.grow(system, tokens, name) for name, system in both.items()):
            raise DoesNotFit
        return both

    def query(self) -> Tensor:
        """A prompt nobody has asked before, [T]."""
        return self.text(self.plan.query_tokens)

    def text(self, tokens: int) -> Tensor:
        """Random text, [T]."""
        self._texts += 1
        return random_ids(tokens, self.model.vocabulary, 1000 + self._texts)

    def warm_first_token(self, system: WithMemory) -> float:
        """A first token when this memory was read just before: several memories in turns take each other's buffers away."""
        system.first_token(self.query())
        return system.first_token(self.query())
