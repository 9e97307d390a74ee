"""How fast this machine can be at all: matrix products at a model's shapes, and copying. Knows nothing of memories.

A processor's data sheet does not say what a shared virtual core gives; so the limits are measured in the run they are compared with.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import Final

import torch

from benchmarks.cost_model import Shape
from benchmarks.timing import timed

COPY_BYTES: Final = 128 * 2**20
TURNS: Final = 7


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Measured limits.

    Attributes:
        flops_per_s: number type to operations per second of [chunk, D] x [D, F].
        query_flops_per_s: the same at the query's length; a short matrix cannot reach the rate of a long one.
        copy_bytes_per_s: bytes read plus bytes written.
    """

    flops_per_s: dict[str, float]
    query_flops_per_s: dict[str, float]
    copy_bytes_per_s: float

    def seconds(self, flops: float, moved_bytes: float, dtype: str) -> float:
        """Time of work that neither overlaps computing with moving nor wastes any."""
        return flops / self.flops_per_s[dtype] + moved_bytes / self.copy_bytes_per_s


def measure_limits(shape: Shape, device: torch.device, *, chunk: int = 512, query: int = 32) -> Limits:
    """Rates at the shapes of a model's feed-forward part."""
    long, short = (
        {name: _matmul_rate(rows, shape.width, shape.inner, getattr(torch, name), device) for name in ("float32", "bfloat16")}
        for rows in (chunk, query)
    )
    source = torch.ones(COPY_BYTES // 4, device=device)
    target = torch.empty_like(source)
    seconds = [timed(lambda: target.copy_(source)) for _ in range(TURNS)][1:]
    return Limits(flops_per_s=long, query_flops_per_s=short, copy_bytes_per_s=2 * COPY_BYTES / median(seconds))


def _matmul_rate(rows: int, width: int, inner: int, kind: torch.dtype, device: torch.device) -> float:
    left, right = torch.ones(rows, width, dtype=kind, device=device), torch.ones(width, inner, dtype=kind, device=device)
    flops = 2 * rows * width * inner
    repeats = max(1, int(4e8 // flops))

    def act() -> None:
        for _ in range(repeats):
            left @ right

    return repeats * flops / median([timed(act) for _ in range(TURNS)][1:])
