"""Traces of the prompts of one call of ``generate``. Knows a reading, not how it is opened nor what it computes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from mplus.attach.attention_mass import AttentionMass
from mplus.attach.hooks import Hooks
from mplus.attach.read_pass import Reading
from mplus.errors import InputError
from mplus.inference.generation import Settings
from mplus.memory.memory import Memory
from mplus.trace.passages import trace_of
from mplus.trace.trace import Answer, Trace


class Tracing:
    """Collects a trace per prompt.

    Args:
        attention: also measure how much attention each passage gets while the answer is made.
    """

    def __init__(self, *, attention: bool) -> None:
        self.attention = attention
        self.traces: list[Trace] = []
        self._mass: AttentionMass | None = None

    @classmethod
    def wanted(cls, trace: Any, memory: Any) -> Tracing | None:
        """What a caller's ``trace`` asks for; None: nothing.

        Raises:
            InputError: it is of another kind, or there is no memory whose read could be traced.
        """
        if trace is None or trace is False:
            return None
        if trace is not True and trace != "attention":
            raise InputError(f"trace must be True, 'attention' or False, got {trace!r}")
        memories = memory if isinstance(memory, (list, tuple)) else [memory]
        if not memories or not all(isinstance(one, Memory) for one in memories):
            raise InputError("trace shows what was read of a memory, and none was given; give memory=..., or leave trace out")
        return cls(attention=trace == "attention")

    def install(self, hooks: Hooks, reading: Reading, settings: Settings) -> None:
        """Begin to measure attention, where that is wanted.

        Raises:
            InputError: the answer is made in a way that does not show which token attended.
        """
        if not self.attention:
            return
        config = settings.arguments["generation_config"]
        unfit = {
            "assistant_model": settings.arguments.get("assistant_model") is not None,
            "prompt_lookup_num_tokens": bool(config.prompt_lookup_num_tokens),
            "num_beams": (config.num_beams or 1) > 1,
            "use_cache=False": not settings.storing,
        }
        for name in [name for name, is_on in unfit.items() if is_on]:
            raise InputError(f"trace='attention' cannot be used with {name}; leave one of them out, or give trace=True")
        ends = config.eos_token_id
        self._mass = AttentionMass(reading.prefix_pass, [] if ends is None else ends if isinstance(ends, list) else [ends])
        self._mass.install(hooks)

    def take(self, reading: Reading) -> None:
        """Trace every prompt of a reading that has run; its memories have not changed since."""
        mean = None if self._mass is None else self._mass.mean()
        for row, (memory, retrieved) in enumerate(zip(reading.memories, reading.retrieved(), strict=True)):
            assert isinstance(memory, Memory)
            attention = None if mean is None else mean[row]
            self.traces.append(trace_of(memory, retrieved.layers, attention_LP=attention))

    def answers(self, texts: Sequence[str]) -> list[Answer]:
        """Answers with their traces; several of one prompt stand together and share its trace."""
        each = len(texts) // len(self.traces)
        return [Answer(text, self.traces[number // each]) for number, text in enumerate(texts)]


@contextmanager
def traced(tracing: Tracing | None, reading: Reading | None, settings: Settings) -> Iterator[None]:
    """Have the passes inside traced, where that is wanted and a memory is read."""
    if tracing is None or reading is None:
        yield
        return
    with Hooks() as hooks:
        tracing.install(hooks, reading, settings)
        yield
    tracing.take(reading)
