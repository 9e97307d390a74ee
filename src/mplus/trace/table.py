"""A trace as a table and as a sentence. Knows traces only."""

from __future__ import annotations

import io
from typing import Final, Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mplus.trace.trace import Passage, Trace, source_label

SHOWN: Final = 10
"""Passages in a table; ``Trace.passages`` has all."""
_TEXT_LENGTH: Final = 120
_WIDTH: Final = 120


def table_of(trace: Trace) -> Table:
    """The best passages; its caption says what else was read."""
    attention = trace.bos_attention is not None
    table = Table(title="Passages read", title_justify="left", caption=Text(summary_of(trace)), caption_justify="left")
    columns: list[tuple[str, Literal["left", "right"]]] = [("#", "right"), ("source", "left"), ("tokens", "right")]
    for heading, justify in (*columns, ("memory", "left"), ("score", "right")):
        table.add_column(heading, justify=justify, overflow="fold")
    if attention:
        table.add_column("attention", justify="right")
    table.add_column("text", overflow="fold")
    for number, passage in enumerate(trace.passages[:SHOWN], 1):
        cells = [
            str(number),
            printable(source_label(passage.source)),
            f"{passage.start:,}-{passage.stop:,}",
            passage.place,
            _number(passage.score),
            *([_share(passage.attention)] if attention else []),
            short_text(passage),
        ]
        table.add_row(*map(Text, cells))
    return table


def text_of(trace: Trace) -> str:
    """The table as plain text."""
    out = io.StringIO()
    Console(file=out, width=_WIDTH, color_system=None, highlight=False).print(table_of(trace))
    return out.getvalue().rstrip()


def summary_of(trace: Trace) -> str:
    """One sentence: how much was retrieved, and from which sources."""
    chosen = sum(passage.tokens for passage in trace.retrieved)
    short = sum(passage.tokens for passage in trace.passages if not passage.retrieved)
    if not chosen:
        said = f"nothing was retrieved: all {short:,} tokens read are in short-term memory"
    else:
        parts = [f"{one.retrieved / chosen:.0%} {printable(source_label(one.name))}" for one in trace.sources if one.retrieved]
        layers = " (all layers together)" if trace.per_layer else ""
        passages = f"{len(trace.retrieved):,} passage{'s' * (len(trace.retrieved) != 1)}"
        said = f"retrieved {chosen:,} tokens{layers} in {passages}: {', '.join(parts)}; {short:,} more in short-term memory"
    if (shares := trace.memory_attention) is not None:
        said += f"; memory got {shares:.0%} of all attention"
    return f"{said}; {trace.note}" if trace.note else said


def printable(text: str) -> str:
    """Text on one line, without what could steer a terminal."""
    return " ".join(
        "".join(sign if sign.isprintable() or sign.isspace() else "\N{REPLACEMENT CHARACTER}" for sign in text).split()
    )


def short_text(passage: Passage, length: int = _TEXT_LENGTH) -> str:
    """A passage's text on one line, its middle left out where it is long."""
    if passage.text is None:
        return "(no text kept)"
    line = printable(passage.text)
    if len(line) <= length:
        return line
    half = (length - 5) // 2
    return f"{line[:half]} ... {line[-half:]}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"
