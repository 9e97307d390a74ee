"""The tables of `mplus bench`. Knows results, measures nothing."""

from __future__ import annotations

import io
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console

from benchmarks.profiling import Hotspots
from benchmarks.ratios import targets
from benchmarks.result import Result
from mplus.cli import terminal
from mplus.cli.sheet import Sheet


def show(result: Result, paths: list[Path]) -> None:
    """Everything the run found, a table each."""
    console = terminal.results()
    made = [
        _ratios(result), _first_token(result), _rates(result), _bytes(result), _peaks(result), _files(result), _shares(result),
        _gains(result),
    ]  # fmt: skip
    for one in made:
        if one is not None and one.row_count:
            console.print(one)
            console.print()
    for line in [*_circumstances(result), *result.notes, *paths]:
        terminal.say(line)


def show_hotspots(found: list[Hotspots]) -> str:
    """Print the profiles; returns them as text."""
    kept = io.StringIO()
    for console in (terminal.results(), Console(file=kept, width=120, highlight=False)):
        for one in found:
            title = (
                f"{one.path}, {one.system}: {1000 * one.wall_s:.0f} ms ({1000 * one.profiled_s:.0f} ms under the profiler, "
                f"{one.outside_share:.0%} in no operator)"
            )
            made = terminal.table("operator", "calls", "self ms", "share", title=title)
            for name, calls, seconds in one.operators:
                made.add_row(name, f"{calls:,}", f"{1000 * seconds:.1f}", f"{seconds / one.profiled_s:.1%}")
            console.print(made)
            console.print()
    return kept.getvalue()


def _ratios(result: Result) -> Sheet:
    made = terminal.table("ratio", "median", "quartiles", "target", "", title=f"{result.model}: ours and the literal procedure")
    found = result.spreads
    wanted = targets(found)
    for name, one in found.items():
        target = wanted.get(name)
        goal, mark = ("", "") if target is None else (f"{target['bound']} {target['value']:g}", "✓" if target["reached"] else "✗")
        made.add_row(name, f"{one.median:.3g}", f"{one.low:.3g} - {one.high:.3g}", goal, mark)
    return made


def _first_token(result: Result) -> Sheet:
    made = terminal.table("tokens behind the query", "ours", "literal", "full context", "text cached", title="First token, ms")
    for point in result.raw.get("first_token", {}).get("points", []):
        made.add_row(f"{point['ltm_tokens']:,} of memory", *_milliseconds(point["seconds"], "ours", "literal"), "", "")
    for point in result.raw.get("contexts", {}).get("points", []):
        made.add_row(f"{point['text_tokens']:,} of text", "", "", *_milliseconds(point["seconds"], "full", "cached"))
    if after := result.raw.get("after_write"):
        made.add_row(f"{after['ltm_tokens']:,}, just written to", *_milliseconds(after["seconds"], "ours", "literal"), "", "")
    return made


def _milliseconds(seconds: dict[str, list[float]], *names: str) -> list[str]:
    return [f"{1000 * median(seconds[name]):,.0f}" if name in seconds else "" for name in names]


def _rates(result: Result) -> Sheet:
    made = terminal.table("tokens per second", "", title="Decoding and reading")
    raw = result.raw
    if part := raw.get("decode"):
        for name, seconds in part["seconds"].items():
            made.add_row(f"decode behind {part['prefix_tokens']:,}, {name}", f"{part['new_tokens'] / median(seconds):,.1f}")
    for key in ("ingest", "ingest_batch"):
        if part := raw.get(key):
            what = "read" if key == "ingest" else f"read into {part['batch']} memories"
            for name, seconds in part["seconds"].items():
                made.add_row(f"{what}, {name.replace('_', ' ')}", f"{part['tokens'] / median(seconds):,.0f}")
    if part := raw.get("end_to_end"):
        made.add_row(f"read {part['text_tokens']:,} tokens end to end", f"{part['text_tokens'] / part['read_s']:,.0f}")
    return made


def _bytes(result: Result) -> Sheet | None:
    rows = result.raw.get("bytes", {}).get("per_token_and_layer")
    if not rows:
        return None
    made = terminal.table("row", "bytes", "of the literal", "fields", title="Bytes per memory token and layer")
    for name, fields in rows.items():
        parts = ", ".join(f"{field} {value:.4g}" for field, value in fields.items() if field != "total")
        made.add_row(name, f"{fields['total']:,.0f}", f"{fields['total'] / rows['literal']['total']:.3f}", parts)
    return made


def _peaks(result: Result) -> Sheet | None:
    part = result.raw.get("peaks")
    if not part:
        return None
    made = terminal.table("system", "tokens", "peak GB", "above the model, GB", "memory holds, GB", title=f"Peak {part['what']}")
    for one in part["figures"]:
        above, held = one["peak_bytes"] - one["opened_bytes"], one["held_bytes"]
        made.add_row(
            one["system"], f"{one['tokens']:,}", f"{one['peak_bytes'] / 1e9:.2f}", f"{above / 1e9:.2f}", f"{held / 1e9:.2f}"
        )
    return made


def _files(result: Result) -> Sheet | None:
    part = result.raw.get("save_load")
    if not part:
        return None
    made = terminal.table("memory", "save ms", "load ms", "MB", title=f"Files, {part['ltm_tokens']:,} long-term tokens")
    for name, size in part["directory_bytes"].items():
        times = [*_milliseconds(part["save_seconds"], name), *_milliseconds(part["load_seconds"], name)]
        made.add_row(name, *times, f"{size / 1e6:,.1f}")
    return made


def _shares(result: Result) -> Sheet | None:
    part = result.raw.get("counts")
    if not part:
        return None
    made = terminal.table(
        "path", "GFLOP", "written MB", "least MB", "limit ms", "measured ms", "share", title="Work and the machine's limit"
    )
    for system, paths in part["paths"].items():
        for path, one in paths.items():
            measured = [f"{1000 * one['measured_s']:,.1f}", f"{one['share']:.0%}"] if "share" in one else ["", ""]
            sizes = [f"{one['flops'] / 1e9:.2f}", f"{one['written_bytes'] / 1e6:.1f}", f"{one['least_bytes'] / 1e6:.1f}"]
            made.add_row(f"{path}, {system}", *sizes, f"{1000 * one['limit_s']:,.1f}", *measured)
    return made


def _gains(result: Result) -> Sheet | None:
    if not result.gains:
        return None
    figures: list[str] = list(next(iter(result.gains.values())))
    made = terminal.table("without", *figures, title="What each change gives: time without it over time with all (predicted)")
    for name, row in result.gains.items():
        cells = (row[figure] for figure in figures)
        made.add_row(name, *(f"{one['measured']:.2f} ({one['predicted']:.2f})" for one in cells))
    return made


def _circumstances(result: Result) -> list[str]:
    environment: dict[str, Any] = result.environment
    limits, hardware, auto = environment["limits"], environment["hardware"], environment["dtype_auto"]
    rates = ", ".join(f"{name} {rate / 1e9:,.0f}" for name, rate in limits["flops_per_s"].items())
    lines = [
        f"{hardware['gpu'] or hardware['processor']}, {hardware['threads']} threads; matrix products {rates} GFLOP/s, copying "
        f"{limits['copy_bytes_per_s'] / 1e9:.1f} GB/s (read and written)",
        f"dtype auto would be {auto['chosen']}: bfloat16 products run {auto['bfloat16_over_float32']} times as fast as float32 here",
    ]
    raw = result.raw
    if "ingest" in raw and "end_to_end" not in raw:
        rate = raw["ingest"]["tokens"] / median(raw["ingest"]["seconds"]["ours"])
        lines.append(f"reading 160,000 tokens would take about {160_000 / rate:,.0f} s; --end-to-end measures it")
    if part := raw.get("end_to_end"):
        lines.append(
            f"end to end: {part['text_tokens']:,} tokens read in {part['read_s']:.1f} s, {part['new_tokens']} tokens answered in "
            f"{part['answer_s']:.2f} s"
        )
    return lines
