"""Ablation: the product against itself with one part of the published procedure, measured and predicted. Knows no particular part.

The prediction counts operations and written bytes of both (``work``) and divides by the machine's measured limits: what is written
was read before, so a written byte moves two; the weights are read once.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

from benchmarks.fixture import DoesNotFit, Fixture
from benchmarks.reference import DIFFERENCES
from benchmarks.systems import WithMemory
from benchmarks.timing import interleaved
from benchmarks.work import Work, work_of

ALL_ON: Final = "all on"


def ablation(fixture: Fixture) -> dict[str, Any]:
    """Seconds of every figure for every variant, and its counted work."""
    tokens = fixture.plan.working_ltm
    base, hidden = fixture.ours(), fixture.ours(memory_format="hidden")
    if not (fixture.grow(base, tokens, "ours") and fixture.grow(hidden, tokens, "ours in hidden format")):
        raise DoesNotFit
    variants = {ALL_ON: base}
    variants |= {f"{name} off": WithMemory(fixture.model, base.memory, (name,)) for name in DIFFERENCES}
    variants["memory_format hidden"] = hidden
    figures: dict[str, Any] = {}
    first: dict[str, Work] = {}
    for figure, act in _acts(fixture).items():
        fixture.tell(f"what each change gives: {figure}")
        forks = figure == "ingest"
        own = {name: system.with_memory(system.memory.fork()) for name, system in variants.items()} if forks else variants
        seconds = interleaved({name: partial(act, system) for name, system in own.items()}, fixture.plan.rounds)
        if figure == "first_token":
            work = first = {name: _work_when_warm(fixture, system) for name, system in own.items()}
        else:
            work = {name: work_of(partial(act, system)) for name, system in own.items()}
        decoding = figure == "decode"  # whose seconds are without the pass of the prompt
        counted = {name: _counted(one, first[name] if decoding else None) for name, one in work.items()}
        figures[figure] = {"seconds": seconds, "work": counted, "weight_passes": fixture.plan.new_tokens if decoding else 1}
    return {"ltm_tokens": tokens, "weight_bytes": fixture.shape.weight_bytes, "figures": figures}


def _acts(fixture: Fixture) -> dict[str, Callable[[WithMemory], float]]:
    chunk = fixture.model.geometry.sizes.chunk_tokens
    return {
        "first_token": fixture.warm_first_token,
        "decode": lambda system: system.decode(fixture.query(), fixture.plan.new_tokens),
        "ingest": lambda system: system.write(fixture.text(chunk)),
    }


def _work_when_warm(fixture: Fixture, system: WithMemory) -> Work:
    system.first_token(fixture.query())
    return work_of(lambda: system.first_token(fixture.query()))


def _counted(work: Work, prompt: Work | None) -> dict[str, int]:
    less = (0, 0, 0) if prompt is None else (prompt.flops, prompt.written_bytes, prompt.calls)
    return {"flops": work.flops - less[0], "written_bytes": work.written_bytes - less[1], "operators": work.calls - less[2]}
