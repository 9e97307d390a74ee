"""Where the time of the three hot paths goes, by torch's profiler: operators by self time, and the share no operator has.

The profiler slows small operators down, so shares are for finding what to change; times come from the other parts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.fixture import Fixture
from benchmarks.systems import WithMemory
from benchmarks.timing import timed

TOP: Final = 15


@dataclass(frozen=True)
class PathProfile:
    """One hot path of one system.

    Attributes:
        wall_s: without the profiler; profiled_s: with it.
        operators: (name, calls, seconds of its own), the longest first.
        outside_share: part of the profiled time that no operator has: Python, and the profiler's own cost.
    """

    path: str
    system: str
    wall_s: float
    profiled_s: float
    operators: list[tuple[str, int, float]]
    outside_share: float


def profiles(fixture: Fixture) -> list[PathProfile]:
    """First token, decoding and writing, ours and the literal procedure.

    Raises:
        DoesNotFit: RAM does not hold the memories.
    """
    both, chunk = fixture.pair(fixture.plan.working_ltm), fixture.model.geometry.sizes.chunk_tokens
    acts: dict[str, Callable[[WithMemory], Any]] = {
        "first token": lambda system: system.first_token(fixture.query()),
        "decode (prompt and new tokens)": lambda system: system.decode(fixture.query(), fixture.plan.new_tokens),
        "write of one chunk": lambda system: system.write(fixture.text(chunk)),
    }
    out = []
    for path, act in acts.items():
        for name, system in both.items():
            fixture.tell(f"profile: {path}, {name}")
            out.append(_profiled(path, name, partial(act, system)))
    return out


def _profiled(path: str, system: str, act: Callable[[], Any]) -> PathProfile:
    act()
    wall_s = timed(act)
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])]
    with profile(activities=activities) as profiler:
        profiled_s = timed(act)
    rows = [(one.key, int(one.count), one.self_cpu_time_total / 1e6) for one in profiler.key_averages()]
    rows.sort(key=lambda row: -row[2])
    outside = max(0.0, 1 - sum(row[2] for row in rows) / profiled_s)
    return PathProfile(path, system, wall_s, profiled_s, rows[:TOP], outside)
