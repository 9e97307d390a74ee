"""One run from plan to result: the parts in order, each once. Knows no numbers."""

from __future__ import annotations

import contextlib
import datetime
import gc
import os
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any, Final

from benchmarks import memory, speed
from benchmarks.ablation import ablation
from benchmarks.fixture import DoesNotFit, Fixture
from benchmarks.plan import Plan
from benchmarks.result import Result
from benchmarks.roofline import roofline
from mplus.runtime.dtypes import resolve_dtype
from mplus.runtime.environment import environment_of

_PARTS: Final[dict[str, Callable[[Fixture], Any]]] = {
    "bytes": memory.token_bytes,
    "first_token": speed.first_token,
    "after_write": speed.after_write,
    "decode": speed.decode,
    "ingest": speed.ingest,
    "ingest_batch": speed.ingest_batch,
    "switches": ablation,
    "contexts": speed.contexts,
    "save_load": memory.save_load,
    "peaks": memory.peaks,
}
_TIMING_VARIABLES = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "MALLOC_MMAP_MAX_", "MALLOC_TRIM_THRESHOLD_")


def run(plan: Plan, tell: Callable[[str], None] = lambda _: None) -> Result:
    """Measure what the plan says.

    Args:
        tell: takes a few words about what is being measured.
    """
    started = time.perf_counter()
    fixture = Fixture(plan, tell)
    raw: dict[str, Any] = {}
    seconds: dict[str, float] = {}
    for name, measure in _PARTS.items():
        if name in plan.parts:
            seconds[name] = _run_part(raw, name, partial(measure, fixture))
    if "counts" in plan.parts:
        seconds["counts"] = _run_part(raw, "counts", lambda: roofline(fixture, raw))
    if plan.end_to_end:
        seconds["end_to_end"] = _run_part(raw, "end_to_end", lambda: speed.end_to_end(fixture))
    environment = _environment(fixture)
    environment["seconds"] = {"all": round(time.perf_counter() - started, 1), **seconds}
    return Result(model=fixture.model.name, kind=plan.kind, raw=raw, environment=environment, notes=fixture.notes)


def _run_part(raw: dict[str, Any], name: str, measure: Callable[[], Any]) -> float:
    started = time.perf_counter()
    with contextlib.suppress(DoesNotFit):
        raw[name] = measure()
    gc.collect()
    return round(time.perf_counter() - started, 1)


def _environment(fixture: Fixture) -> dict[str, Any]:
    versions, hardware = environment_of(fixture.model.dtype)
    rates = fixture.limits.flops_per_s
    chosen = str(resolve_dtype("auto", fixture.model.device)).removeprefix("torch.")
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": versions,
        "hardware": hardware,
        "variables": {name: os.environ[name] for name in _TIMING_VARIABLES if name in os.environ},
        "limits": asdict(fixture.limits),
        "dtype_auto": {"chosen": chosen, "bfloat16_over_float32": round(rates["bfloat16"] / rates["float32"], 2)},
        "shape": asdict(fixture.shape),
        "plan": asdict(fixture.plan),
        "geometry": fixture.model.geometry.flat(),
    }
