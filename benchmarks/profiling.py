"""Where the time of the three hot paths goes, by torch's profiler: operators by self time, and the share no operator has.

The profiler slows small operators down, so shares are for finding what to change; times come from the other parts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.fixture import Stage
from benchmarks.systems import WithMemory
from benchmarks.timing import timed

TOP = 15


@dataclass(frozen=True, kw_only=True)
class Hotspots:
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

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "path": self.path,
            "system": self.system,
            "wall_s": self.wall_s,
            "profiled_s": self.profiled_s,
            "outside_share": self.outside_share,
            "operators": [list(one) for one in self.operators],
        }


def hotspots(stage: Stage) -> list[Hotspots]:
    """First token, decoding and writing, ours and the literal procedure."""
    tokens = stage.plan.working_ltm
    if (both := stage.pair(tokens)) is None:
        return []
    chunk = stage.model.geometry.chunk_tokens
    acts: dict[str, Callable[[WithMemory], Any]] = {
        "first token": lambda system: system.first_token(stage.query()),
        "decode (prompt and new tokens)": lambda system: system.decode(stage.query(), stage.plan.new_tokens),
        "write of one chunk": lambda system: system.write(stage.text(chunk)),
    }
    found = []
    for path, act in acts.items():
        for name, system in zip(("ours", "literal"), both, strict=True):
            stage.tell(f"profile: {path}, {name}")
            found.append(_profiled(path, name, partial(act, system)))
    return found


def _profiled(path: str, system: str, act: Callable[[], Any]) -> Hotspots:
    act()
    wall_s = timed(act)
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])]
    with profile(activities=activities) as profiler:
        profiled_s = timed(act)
    rows = [(one.key, int(one.count), one.self_cpu_time_total / 1e6) for one in profiler.key_averages()]
    rows.sort(key=lambda row: -row[2])
    inside = sum(row[2] for row in rows)
    return Hotspots(
        path=path,
        system=system,
        wall_s=wall_s,
        profiled_s=profiled_s,
        operators=rows[:TOP],
        outside_share=max(0.0, 1 - inside / profiled_s),
    )
