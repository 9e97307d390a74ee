"""A trace as a table for people. Knows traces only."""

from __future__ import annotations

import io
from typing import Final

from rich.console import Console
from rich.table import Table

from mplus.trace.trace import Passage, Trace, source_label

SHOWN: Final = 10
"""Passages in a table; ``Trace.passages`` has all."""
_TEXT_LENGTH: Final = 200
_WIDTH: Final = 120


def table_of(trace: Trace) -> Table:
    """The best passages; its caption says what else was read."""
    attention = trace.bos_attention is not None
    table = Table(title="Passages read", title_justify="left", caption=summary_of(trace), caption_justify="left", expand=False)
    table.add_column("#", justify="right")
    table.add_column("source", overflow="fold")
    table.add_column("tokens", justify="right")
    table.add_column("memory")
    table.add_column("score", justify="right")
    if attention:
        table.add_column("attention", justify="right")
    table.add_column("text", overflow="fold")
    for number, passage in enumerate(trace.passages[:SHOWN], 1):
        cells = [
            str(number),
            source_label(passage.source),
            f"{passage.start:,}-{passage.stop:,}",
            passage.place,
            _number(passage.score),
        ]
        table.add_row(*cells, *([_share(passage.attention)] if attention else []), short_text(passage))
    return table


def text_of(trace: Trace) -> str:
    """The table as plain text."""
    out = io.StringIO()
    Console(file=out, width=_WIDTH, color_system=None, markup=False, highlight=False).print(table_of(trace))
    return out.getvalue().rstrip()


def summary_of(trace: Trace) -> str:
    """One sentence: how much was retrieved, and from which sources."""
    chosen = sum(passage.tokens for passage in trace.retrieved)
    short = sum(passage.tokens for passage in trace.passages if not passage.retrieved)
    if not chosen:
        said = f"nothing was retrieved: all {short:,} tokens read are in short-term memory"
    else:
        parts = [f"{one.retrieved / chosen:.0%} {source_label(one.name)}" for one in trace.sources if one.retrieved]
        layers = " (by all layers together)" if trace.per_layer else ""
        said = f"retrieved {chosen:,} tokens{layers} in {len(trace.retrieved):,} passages: {', '.join(parts)}; {short:,} more in short-term memory"
    if (shares := trace.memory_attention) is not None:
        said += f"; memory got {shares:.0%} of all attention"
    return f"{said}; {trace.note}" if trace.note else said


def short_text(passage: Passage, length: int = _TEXT_LENGTH) -> str:
    """A passage's text on one line, its middle left out where it is long."""
    if passage.text is None:
        return "(no text kept)"
    line = " ".join("".join(sign if sign.isprintable() or sign.isspace() else "�" for sign in passage.text).split())
    if len(line) <= length:
        return line
    half = (length - 3) // 2
    return f"{line[:half]}...{line[-half:]}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"
