"""Roofline utilisation: work of the three hot paths beside the machine's limits. Times nothing itself."""

from __future__ import annotations

from statistics import median
from typing import Any

from benchmarks.fixture import Fixture
from benchmarks.systems import WithMemory
from benchmarks.work import work_of


def roofline(fixture: Fixture, raw: dict[str, Any]) -> dict[str, Any]:
    """Operations, written bytes and the least bytes of a first token, a decoded token and a written chunk, for both systems.

    Operations and written bytes are counted while the real act runs. ``limit_s`` is operations and least bytes at the measured
    limits, without overlap; ``share`` is that over the measured median.
    """
    tokens = fixture.plan.working_ltm
    both = fixture.pair(tokens)
    fixture.tell("counting operations and bytes of the hot paths")
    counted = {name: _paths(fixture, system, tokens) for name, system in both.items()}
    for name, paths in counted.items():
        for path, entry in paths.items():
            entry["limit_s"] = fixture.limits.seconds(entry["flops"], entry["least_bytes"], fixture.dtype)
            measured = _measured(raw, path, name, tokens)
            if measured is not None:
                entry["measured_s"], entry["share"] = measured, entry["limit_s"] / measured
    return {"ltm_tokens": tokens, "paths": counted}


def _paths(fixture: Fixture, system: WithMemory, held: int) -> dict[str, dict[str, Any]]:
    shape, geometry, memory = fixture.shape, fixture.model.geometry, system.memory
    short, retrieved = len(memory.short_term), min(held, geometry.sizes.ltm_read_tokens)
    seen, chunk = 1 + short + retrieved + fixture.plan.query_tokens, geometry.sizes.chunk_tokens
    system.first_token(fixture.query())  # what is kept between reads is at hand, as in the timed turns
    read = work_of(lambda: system.first_token(fixture.query()))
    more = work_of(lambda: system.decode(fixture.query(), 1))
    write = work_of(lambda: system.write(fixture.text(chunk)))
    fields = memory.codec.fields
    itemsize = fields["search"][1].itemsize if "search" in fields else 0
    least = {
        "first_token": shape.least_read_bytes(short=short, retrieved=retrieved, held=held, search_itemsize=itemsize),
        "decode": shape.least_decode_bytes(seen),
        "ingest": shape.least_write_bytes(geometry.sizes.new_tokens),
    }
    counted = {
        "first_token": (read.flops, read.written_bytes),
        "decode": (more.flops - read.flops, more.written_bytes - read.written_bytes),
        "ingest": (write.flops, write.written_bytes),
    }
    return {
        name: {"flops": flops, "written_bytes": written, "least_bytes": least[name]} for name, (flops, written) in counted.items()
    }


def _measured(raw: dict[str, Any], path: str, name: str, tokens: int) -> float | None:
    """Median seconds of one act, from what the run has measured."""
    if path == "first_token":
        points = raw.get("first_token", {}).get("points", [])
        here = [point["seconds"].get(name) for point in points if point["ltm_tokens"] == tokens]
        return float(median(here[0])) if here and here[0] else None
    part = raw.get(path)
    if not part:
        return None
    units = part["new_tokens"] if path == "decode" else part["chunks"]
    return float(median(part["seconds"][name])) / int(units)
