"""From seconds and bytes to ratios, spreads and targets. Knows the raw numbers of a run, nothing of how they came about.

Ratios of speeds are literal over ours (larger is better), ratios of bytes ours over literal (smaller is better). A part that was not
run leaves its ratios out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from benchmarks.ablation import ALL_ON
from benchmarks.machine import Limits
from benchmarks.plan import PAPER_LTM
from benchmarks.systems import OURS_ROW_TYPE
from benchmarks.timing import Spread, ratio

Raw = Mapping[str, Any]

TARGETS: Final[dict[str, tuple[str, float]]] = {
    "first_token": ("at least", 8.0),
    "decode": ("at least", 3.0),
    "ingest": ("at least", 1.2),
    "ingest_bf16": ("at least", 3.0),
    "memory_bytes": ("at most", 0.5),
    "memory_bytes_int8": ("at most", 0.27),
    "first_token_1m_over_10k": ("at most", 1.5),
    "decode_over_static": ("at least", 0.9),
}
"""What issue 5 asks for on two CPU cores at ``mid`` in float32; ``decode_over_static`` is ours against plain transformers."""

TIMED: Final = {
    "first_token_after_write": ("after_write", "seconds", "literal", "ours"),
    "decode": ("decode", "seconds", "literal", "ours"),
    "decode_over_static": ("decode", "seconds", "static", "ours"),
    "decode_over_growing": ("decode", "seconds", "growing", "ours"),
    "ingest": ("ingest", "seconds", "literal", "ours"),
    "ingest_bf16": ("ingest", "seconds", "literal", "ours_bf16"),
    "ingest_batch": ("ingest_batch", "seconds", "one_by_one", "together"),
    "save": ("save_load", "save_seconds", "literal", "ours"),
    "load": ("save_load", "load_seconds", "literal", "ours"),
}
"""Ratio to the part and table of its seconds, and the sides above and below the line."""


def spreads(raw: Raw) -> dict[str, Spread]:
    """Median and quartiles over rounds of every ratio that can be computed; of counted bytes all three are the same."""
    return dict(_ratios(raw))


def _ratios(raw: Raw) -> Iterator[tuple[str, Spread]]:
    first = raw.get("first_token", {"points": []})
    both = [point for point in first["points"] if "literal" in point["seconds"] and point["ltm_tokens"] <= PAPER_LTM]
    if both:
        yield "first_token", ratio(both[-1]["seconds"]["literal"], both[-1]["seconds"]["ours"])
    if growth := first.get("growth"):
        yield "first_token_1m_over_10k", ratio(growth["seconds"]["large"], growth["seconds"]["small"])
    for name, (part, table, above, below) in TIMED.items():
        if seconds := raw.get(part, {}).get(table):
            yield name, ratio(seconds[above], seconds[below])
    rows = raw.get("bytes", {}).get("per_token_and_layer", {})
    for name, kind in (("memory_bytes", OURS_ROW_TYPE), ("memory_bytes_int8", "int8")):
        if kind in rows:
            share = rows[kind]["total"] / rows["literal"]["total"]
            yield name, Spread(share, share, share)


def targets(measured: Mapping[str, Spread]) -> dict[str, dict[str, Any]]:
    """Each target that this run has a ratio for, and whether it is reached."""
    out = {}
    for name, (bound, value) in TARGETS.items():
        if name in measured:
            got = measured[name].median
            out[name] = {"bound": bound, "value": value, "reached": got >= value if bound == "at least" else got <= value}
    return out


def gains(part: Raw, limits: Limits, dtype: str) -> dict[str, dict[str, dict[str, float]]]:
    """Variant to figure to {measured, low, high, predicted}: seconds of the variant over those with everything on."""
    out: dict[str, dict[str, dict[str, float]]] = {}
    for figure, entry in part["figures"].items():
        weights = part["weight_bytes"] * entry["weight_passes"]
        expected = {
            name: limits.seconds(work["flops"], 2 * work["written_bytes"] + weights, dtype)
            for name, work in entry["work"].items()
        }
        for name, seconds in entry["seconds"].items():
            if name != ALL_ON:
                got, predicted = ratio(seconds, entry["seconds"][ALL_ON]), expected[name] / expected[ALL_ON]
                one = {"measured": got.median, "low": got.low, "high": got.high, "predicted": predicted}
                out.setdefault(name, {})[figure] = one
    return out
