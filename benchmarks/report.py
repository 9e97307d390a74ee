"""The tables of a run. Knows results, measures nothing."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console

from benchmarks.profiling import PathProfile
from benchmarks.ratios import targets
from benchmarks.result import Result
from mplus.cli import terminal
from mplus.cli.sheet import Sheet


def show(result: Result, paths: list[Path]) -> None:
    """Print everything the run measured, a table each."""
    console, raw = terminal.results(), result.raw
    tables = [
        _ratios(result), _first_token(raw), _rates(raw), _bytes(raw), _peaks(raw), _files(raw), _roofline(raw), _gains(result),
    ]  # fmt: skip
    for one in tables:
        if one is not None and one.row_count:
            console.print(one)
            console.print()
    for line in [*_environment(result), *result.notes, *paths]:
        terminal.say(line)


def show_profiles(profiles: list[PathProfile]) -> str:
    """Print the profiles; returns them as text."""
    kept = io.StringIO()
    for console in (terminal.results(), Console(file=kept, width=120, highlight=False)):
        for one in profiles:
            title = (
                f"{one.path}, {one.system}: {1000 * one.wall_s:.0f} ms ({1000 * one.profiled_s:.0f} ms under the profiler, "
                f"{one.outside_share:.0%} in no operator)"
            )
            table = terminal.table("operator", "calls", "self ms", "share", title=title)
            for name, calls, seconds in one.operators:
                table.add_row(name, f"{calls:,}", f"{1000 * seconds:.1f}", f"{seconds / one.profiled_s:.1%}")
            console.print(table)
            console.print()
    return kept.getvalue()


def _ratios(result: Result) -> Sheet:
    table = terminal.table("ratio", "median", "quartiles", "target", "", title=f"{result.model}: ours and the literal procedure")
    wanted = targets(result.spreads)
    for name, one in result.spreads.items():
        target = wanted.get(name)
        goal, mark = ("", "") if target is None else (f"{target['bound']} {target['value']:g}", "✓" if target["reached"] else "✗")
        table.add_row(name, f"{one.median:.3g}", f"{one.low:.3g} - {one.high:.3g}", goal, mark)
    return table


def _first_token(raw: dict[str, Any]) -> Sheet:
    table = terminal.table("tokens behind the query", "ours", "literal", "full context", "text cached", title="First token, ms")
    sides = ("ours", "literal", "full", "cached")
    for point in raw.get("first_token", {}).get("points", []):
        table.add_row(f"{point['ltm_tokens']:,} of memory", *_milliseconds(point["seconds"], *sides))
    for point in raw.get("contexts", {}).get("points", []):
        table.add_row(f"{point['text_tokens']:,} of text", *_milliseconds(point["seconds"], *sides))
    if after := raw.get("after_write"):
        table.add_row(f"{after['ltm_tokens']:,}, just written to", *_milliseconds(after["seconds"], *sides))
    return table


def _milliseconds(seconds: dict[str, list[float]], *names: str) -> list[str]:
    return [f"{1000 * median(seconds[name]):,.0f}" if name in seconds else "" for name in names]


def _rates(raw: dict[str, Any]) -> Sheet:
    table = terminal.table("tokens per second", "", title="Decoding and reading")
    if part := raw.get("decode"):
        for name, seconds in part["seconds"].items():
            table.add_row(f"decode behind {part['prefix_tokens']:,}, {name}", f"{part['new_tokens'] / median(seconds):,.1f}")
    for key in ("ingest", "ingest_batch"):
        if part := raw.get(key):
            what = "read" if key == "ingest" else f"read into {part['batch']} memories"
            for name, seconds in part["seconds"].items():
                table.add_row(f"{what}, {name.replace('_', ' ')}", f"{part['tokens'] / median(seconds):,.0f}")
    if part := raw.get("end_to_end"):
        table.add_row(f"read {part['text_tokens']:,} tokens end to end", f"{part['text_tokens'] / part['read_s']:,.0f}")
    return table


def _bytes(raw: dict[str, Any]) -> Sheet:
    table = terminal.table("row", "bytes", "of the literal", "fields", title="Bytes per memory token and layer")
    rows = raw.get("bytes", {}).get("per_token_and_layer", {})
    for name, fields in rows.items():
        parts = ", ".join(f"{field} {value:.4g}" for field, value in fields.items() if field != "total")
        table.add_row(name, f"{fields['total']:,.0f}", f"{fields['total'] / rows['literal']['total']:.3f}", parts)
    return table


def _peaks(raw: dict[str, Any]) -> Sheet | None:
    if not (part := raw.get("peaks")):
        return None
    table = terminal.table("system", "tokens", "peak GB", "above the model, GB", "memory holds, GB", title=f"Peak {part['what']}")
    for one in part["figures"]:
        sizes = (one["peak_bytes"], one["peak_bytes"] - one["opened_bytes"], one["held_bytes"])
        table.add_row(one["system"], f"{one['tokens']:,}", *(f"{size / 1e9:.2f}" for size in sizes))
    return table


def _files(raw: dict[str, Any]) -> Sheet | None:
    if not (part := raw.get("save_load")):
        return None
    table = terminal.table("memory", "save ms", "load ms", "MB", title=f"Files, {part['ltm_tokens']:,} long-term tokens")
    for name, size in part["directory_bytes"].items():
        times = [*_milliseconds(part["save_seconds"], name), *_milliseconds(part["load_seconds"], name)]
        table.add_row(name, *times, f"{size / 1e6:,.1f}")
    return table


def _roofline(raw: dict[str, Any]) -> Sheet:
    headings = ("path", "GFLOP", "written MB", "least MB", "limit ms", "measured ms", "share")
    table = terminal.table(*headings, title="Work and the machine's limit")
    for system, paths in raw.get("counts", {}).get("paths", {}).items():
        for path, one in paths.items():
            measured = [f"{1000 * one['measured_s']:,.1f}", f"{one['share']:.0%}"] if "share" in one else ["", ""]
            sizes = [f"{one['flops'] / 1e9:.2f}", f"{one['written_bytes'] / 1e6:.1f}", f"{one['least_bytes'] / 1e6:.1f}"]
            table.add_row(f"{path}, {system}", *sizes, f"{1000 * one['limit_s']:,.1f}", *measured)
    return table


def _gains(result: Result) -> Sheet | None:
    if not (gains := result.gains):
        return None
    figures: list[str] = list(next(iter(gains.values())))
    table = terminal.table("without", *figures, title="What each change gives: time without it over time with all (predicted)")
    for name, row in gains.items():
        table.add_row(name, *(f"{row[figure]['measured']:.2f} ({row[figure]['predicted']:.2f})" for figure in figures))
    return table


def _environment(result: Result) -> Iterator[str]:
    environment, raw = result.environment, result.raw
    limits, hardware, auto = environment["limits"], environment["hardware"], environment["dtype_auto"]
    rates = ", ".join(f"{name} {rate / 1e9:,.0f}" for name, rate in limits["flops_per_s"].items())
    yield (
        f"{hardware['gpu'] or hardware['processor']}, {hardware['threads']} threads; matrix products {rates} GFLOP/s, copying "
        f"{limits['copy_bytes_per_s'] / 1e9:.1f} GB/s (read and written)"
    )
    yield f"dtype auto would be {auto['chosen']}: bfloat16 products run {auto['bfloat16_over_float32']} times as fast as float32 here"
    if part := raw.get("end_to_end"):
        yield (
            f"end to end: {part['text_tokens']:,} tokens read in {part['read_s']:.1f} s, {part['new_tokens']} tokens answered in "
            f"{part['answer_s']:.2f} s"
        )
    elif part := raw.get("ingest"):
        rate = part["tokens"] / median(part["seconds"]["ours"])
        yield f"reading 160,000 tokens would take about {160_000 / rate:,.0f} s; --end-to-end measures it"
