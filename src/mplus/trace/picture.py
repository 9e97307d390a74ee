"""A picture of a trace: where in its source each passage stands, and the best passages. Knows traces only."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, Final

from mplus.runtime.atomic import replace_files
from mplus.runtime.extras import figure_of
from mplus.trace.table import printable, short_text
from mplus.trace.trace import Trace, source_label

_SOURCES: Final = 8
_PASSAGES: Final = 10
_RETRIEVED, _SHORT_TERM, _INK = "#0b6e4f", "#b8c4d6", "#333333"
_SCORE, _ATTENTION = "#a9d6c5", "#f2b5a7"
_LABEL_LENGTH: Final = 76


def draw(trace: Trace, path: str | Path) -> None:
    """Write a PNG with a track per source above and a bar per passage below.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    tracks, bars = len(trace.sources[:_SOURCES]), len(trace.passages[:_PASSAGES])
    figure = figure_of(figsize=(10, 2.2 + 0.32 * (tracks + bars)), dpi=150, layout="constrained")
    above, below = figure.subplots(2, 1, height_ratios=[max(tracks, 2), max(bars, 2)])
    _draw_tracks(above, trace)
    _draw_bars(below, trace)
    for axes in (above, below):
        axes.tick_params(colors=_INK, length=3)
        for side in ("top", "right", "left"):
            axes.spines[side].set_visible(False)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # a box in its place is enough
        replace_files({Path(path): lambda aside: figure.savefig(aside, format="png")})


def _draw_tracks(axes: Any, trace: Trace) -> None:
    """A line per source along its tokens, with what was read of it."""
    shown = trace.sources[:_SOURCES]
    for row, source in enumerate(shown):
        own = [passage for passage in trace.passages if passage.source == source.name]
        axes.plot([0, max(passage.stop for passage in own)], [row, row], color="#dddddd", linewidth=1, zorder=0)
        for colour, chosen, height in ((_SHORT_TERM, False, 0.4), (_RETRIEVED, True, 0.7)):
            spans = [(passage.start, passage.stop - passage.start) for passage in own if passage.retrieved is chosen]
            axes.broken_barh(spans, (row - height / 2, height), facecolors=colour, label=None if row else _name(chosen))
    axes.set_yticks(range(len(shown)), [_cut(source_label(source.name), 28) for source in shown])
    axes.invert_yaxis()
    axes.set_xlabel("token of the source", color=_INK)
    axes.set_title("What was read of each source", loc="left", fontsize=11, color=_INK)
    if shown:
        axes.legend(loc="upper right", bbox_to_anchor=(1, 1.25), ncols=2, frameon=False, fontsize=8)


def _draw_bars(axes: Any, trace: Trace) -> None:
    """Attention of the best passages where it was measured, else their scores; text and score beside."""
    best, measured = trace.passages[:_PASSAGES], trace.bos_attention is not None
    values = [(passage.attention if measured else passage.score) or 0.0 for passage in best]
    axes.barh(range(len(best)), values, color=_ATTENTION if measured else _SCORE, height=0.6)
    labels = [f"{number}. {_cut(passage.label, 30)}" for number, passage in enumerate(best, 1)]
    axes.set_yticks(range(len(best)), labels)
    for row, passage in enumerate(best):
        score = "" if passage.score is None else f"{passage.score:.2f}  "
        text = f"{score}{short_text(passage, _LABEL_LENGTH)}"
        axes.annotate(_plain(text), (0.01, row), xycoords=("axes fraction", "data"), va="center", fontsize=7, color=_INK)
    axes.invert_yaxis()
    axes.set_xlabel("share of all attention" if measured else "score", color=_INK)
    axes.set_title("Passages, best score first", loc="left", fontsize=11, color=_INK)


def _name(retrieved: bool) -> str:
    return "retrieved" if retrieved else "short-term memory"


def _cut(text: str, length: int) -> str:
    text = printable(text)
    return _plain(text if len(text) <= length else f"...{text[3 - length :]}")


def _plain(text: str) -> str:
    """Text that matplotlib does not take for a formula."""
    return text.replace("$", r"\$")
