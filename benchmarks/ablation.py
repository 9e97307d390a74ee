"""What each way to save time gives: everything on, against one thing off, measured and predicted. Knows no particular switch.

The prediction counts operations and written bytes of both (``work``) and divides by the machine's measured limits: what is written
was read before, so a written byte moves two; the weights are read once.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from benchmarks.fixture import Stage
from benchmarks.reference import DIFFERENCES
from benchmarks.systems import WithMemory
from benchmarks.timing import interleaved
from benchmarks.work import Work, work_of

ALL_ON = "all on"


def switches(stage: Stage) -> dict[str, Any] | None:
    """Seconds of every figure for every variant, and its counted work."""
    tokens = stage.plan.working_ltm
    base, hidden = stage.ours(), stage.ours(memory_format="hidden")
    if not (stage.grow(base, tokens, "ours") and stage.grow(hidden, tokens, "ours in hidden format")):
        return None
    variants = {ALL_ON: base}
    for part in DIFFERENCES:
        variants[f"{part} off"] = WithMemory(stage.model, base.memory, (part,))
    variants["memory_format hidden"] = hidden
    found: dict[str, Any] = {"ltm_tokens": tokens, "weight_bytes": stage.shape.weight_bytes, "figures": {}}
    prompt: dict[str, Work] = {}
    for figure, act in _acts(stage).items():
        stage.tell(f"what each change gives: {figure}")
        writes = figure == "ingest"
        own = {name: system.with_memory(system.memory.fork()) for name, system in variants.items()} if writes else variants
        sides = {name: partial(act, system) for name, system in own.items()}
        seconds = interleaved(sides, stage.plan.rounds)
        if figure == "first_token":
            work = {name: _work_when_warm(stage, system) for name, system in own.items()}
        else:
            work = {name: work_of(partial(act, system)) for name, system in own.items()}
        passes = stage.plan.new_tokens if figure == "decode" else 1
        counted = {name: _counted(one, prompt[name] if figure == "decode" else None) for name, one in work.items()}
        found["figures"][figure] = {"seconds": seconds, "work": counted, "weight_passes": passes}
        prompt = work if figure == "first_token" else prompt
    return found


def warm_first_token(stage: Stage, system: WithMemory) -> float:
    """A first token when this memory was read just before: several memories in turns take each other's buffers away."""
    system.first_token(stage.query())
    return system.first_token(stage.query())


def _acts(stage: Stage) -> dict[str, Callable[[WithMemory], float]]:
    chunk = stage.model.geometry.chunk_tokens
    return {
        "first_token": partial(warm_first_token, stage),
        "decode": lambda system: system.decode(stage.query(), stage.plan.new_tokens),
        "ingest": lambda system: system.write(stage.text(chunk)),
    }


def _work_when_warm(stage: Stage, system: WithMemory) -> Work:
    system.first_token(stage.query())
    return work_of(lambda: system.first_token(stage.query()))


def _counted(work: Work, prompt: Work | None) -> dict[str, int]:
    """Plain numbers; `prompt` is the pass of the prompt, whose time is not in the seconds of decoding."""
    less = (0, 0, 0) if prompt is None else (prompt.flops, prompt.written_bytes, prompt.calls)
    return {"flops": work.flops - less[0], "written_bytes": work.written_bytes - less[1], "operators": work.calls - less[2]}
