"""One run from plan to result: the parts in order, each once. Knows no numbers."""

from __future__ import annotations

import datetime
import gc
import os
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any, Final

from benchmarks import memory, speed
from benchmarks.ablation import switches
from benchmarks.fixture import Stage
from benchmarks.plan import Plan
from benchmarks.result import Result
from benchmarks.roofline import counts
from mplus.circumstances import circumstances
from mplus.dtypes import resolve_dtype

_PARTS: Final[dict[str, Callable[[Stage], Any]]] = {
    "bytes": memory.token_bytes,
    "first_token": speed.first_token,
    "after_write": speed.after_write,
    "decode": speed.decode,
    "ingest": speed.ingest,
    "ingest_batch": speed.ingest_batch,
    "switches": switches,
    "contexts": speed.contexts,
    "save_load": memory.save_load,
    "peaks": memory.peaks,
}
_TIMING_VARIABLES = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "MALLOC_MMAP_MAX_", "MALLOC_TRIM_THRESHOLD_")


def run(plan: Plan, tell: Callable[[str], None] = lambda _: None) -> Result:
    """Measure what the plan says.

    Args:
        tell: told in a few words what is being measured.
    """
    started = time.perf_counter()
    stage = Stage(plan, tell)
    raw: dict[str, Any] = {}
    seconds: dict[str, float] = {}
    for name, measure in _PARTS.items():
        if name in plan.parts:
            seconds[name] = _run_part(raw, name, partial(measure, stage))
    if "counts" in plan.parts:
        seconds["counts"] = _run_part(raw, "counts", lambda: counts(stage, raw))
    if plan.end_to_end:
        seconds["end_to_end"] = _run_part(raw, "end_to_end", lambda: speed.end_to_end(stage))
    environment = _environment(stage)
    environment["seconds"] = {"all": round(time.perf_counter() - started, 1), **seconds}
    return Result(model=stage.model.name, kind=plan.kind, raw=raw, environment=environment, notes=stage.notes)


def _run_part(raw: dict[str, Any], name: str, measure: Callable[[], Any]) -> float:
    started = time.perf_counter()
    found = measure()
    if found is not None:
        raw[name] = found
    gc.collect()
    return round(time.perf_counter() - started, 1)


def _environment(stage: Stage) -> dict[str, Any]:
    versions, hardware = circumstances(stage.model.dtype)
    rates = stage.limits.flops_per_s
    chosen = str(resolve_dtype("auto", stage.model.device)).removeprefix("torch.")
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": versions,
        "hardware": hardware,
        "variables": {name: os.environ[name] for name in _TIMING_VARIABLES if name in os.environ},
        "limits": stage.limits.to_json(),
        "dtype_auto": {"chosen": chosen, "bfloat16_over_float32": round(rates["bfloat16"] / rates["float32"], 2)},
        "shape": asdict(stage.shape),
        "plan": stage.plan.to_json(),
        "geometry": stage.model.geometry.flat(),
    }
