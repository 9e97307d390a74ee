"""A picture of a stored memory: how full it is, how old its tokens are, whose they are. Knows its manifest and tables, no model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from mplus.cli.terminal import shown
from mplus.errors import InputError, SnapshotError
from mplus.memory.ledger import SourceInfo
from mplus.memory.manifest import OLD_FORMATS, read_manifest
from mplus.memory.stored import StoredMemory
from mplus.runtime.atomic import replace_files
from mplus.runtime.extras import figure_of

KINDS: Final = (".png", ".svg", ".pdf")
_COLOURS: Final = {"short-term": "#0b6e4f", "long-term": "#5b6c8f", "evicted": "#c9ccd1"}
_INK: Final = "#333333"
_BINS: Final = 40
_MOST_SOURCES: Final = 12
_LONGEST_NAME: Final = 28


def check_picture(path: Path) -> None:
    """Refuse a file that no picture can be written to, before anything is drawn.

    Raises:
        InputError: another kind, a directory, or a place that is not there.
    """
    if path.suffix.lower() not in KINDS:
        raise InputError(f"'{path}' names no picture; end it in {', '.join(KINDS)}")
    if path.is_dir() or not path.parent.is_dir():
        raise InputError(f"'{path}' cannot be written: {'it is a directory' if path.is_dir() else 'its directory is not there'}")


def draw_memory(stored: StoredMemory, name: str, path: Path) -> None:
    """Write a picture of a memory, whole or not at all.

    Raises:
        MissingExtraError: matplotlib is not installed.
        SnapshotError: an old format, which does not say where its tokens are; or it is damaged.
    """
    short, long = _ages(stored)
    figure = figure_of(figsize=(9, 6.4), dpi=150, layout="constrained")
    grid = figure.add_gridspec(2, 2, height_ratios=(1, 1.5), width_ratios=(1, 1.3))
    figure.suptitle(
        _plain(f"{name}: {stored.tokens_read:,} tokens of {len(stored.sources):,} sources"), x=0.01, ha="left", color=_INK
    )
    _draw_occupancy(figure.add_subplot(grid[0, 0]), stored)
    _draw_ages(figure.add_subplot(grid[0, 1]), short, long)
    _draw_sources(figure.add_subplot(grid[1, :]), stored.sources)
    figure.legend(
        handles=[_swatch(figure, place) for place in _COLOURS],
        loc="outside lower center",
        ncols=len(_COLOURS),
        frameon=False,
        fontsize=9,
    )
    kind = path.suffix.lower().removeprefix(".")
    replace_files({path: lambda aside: figure.savefig(aside, format=kind)})


def _swatch(figure: Any, place: str) -> Any:
    from matplotlib.patches import Patch

    return Patch(color=_COLOURS[place], label=place)


def _draw_occupancy(axes: Any, stored: StoredMemory) -> None:
    """Shares of the places that are taken."""
    rows = [("short-term", stored.stm_tokens, stored.stm_capacity), ("long-term", stored.ltm_tokens, stored.ltm_capacity)]
    shares = [tokens / capacity if capacity else 0.0 for _, tokens, capacity in rows]
    for at, ((place, _, _), share) in enumerate(zip(rows, shares, strict=True)):
        axes.barh(at, 1.0, color="#eeeeee", height=0.55)
        axes.barh(at, share, color=_COLOURS[place], height=0.55)
    _bare(axes, "occupancy, memory tokens")
    axes.set_xlim(0, 1)
    axes.set_xticks([])
    labels = [
        f"{place}: {share:.0%}\n{tokens:,} of {capacity:,}" for (place, tokens, capacity), share in zip(rows, shares, strict=True)
    ]
    axes.set_yticks(range(len(rows)), labels)
    axes.invert_yaxis()


def _draw_ages(axes: Any, short: list[list[int]], long: list[list[int]]) -> None:
    """How many tokens of each age there are; groups count as their mean."""
    held = {"short-term": short, "long-term": long}
    values = [[age for ages in groups for age in ages] for groups in held.values()]
    weights = [[1 / max(1, len(groups))] * len(ages) for groups, ages in zip(held.values(), values, strict=True)]
    if any(values):
        axes.hist(values, bins=_BINS, weights=weights, stacked=True, color=[_COLOURS[place] for place in held])
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    _bare(axes, "ages, in memory tokens written since")


def _draw_sources(axes: Any, sources: list[SourceInfo]) -> None:
    """The largest sources, and where their tokens are."""
    largest = sorted(sources, key=lambda one: one.short_term + one.long_term + one.evicted, reverse=True)
    rows = [(_plain(one.name or "(no name)"), (one.short_term, one.long_term, one.evicted)) for one in largest[:_MOST_SOURCES]]
    if rest := largest[_MOST_SOURCES:]:
        sums = tuple(sum(getattr(one, field) for one in rest) for field in ("short_term", "long_term", "evicted"))
        rows.append((f"{len(rest):,} others", sums))
    for at, (_, counts) in enumerate(rows):
        left = 0
        for place, tokens in zip(_COLOURS, counts, strict=True):
            axes.barh(at, tokens, left=left, color=_COLOURS[place], height=0.7)
            left += tokens
    axes.set_yticks(range(len(rows)), [name for name, _ in rows])
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.invert_yaxis()
    _bare(axes, "sources, in memory tokens")


def _bare(axes: Any, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=10, color=_INK)
    axes.tick_params(labelsize=8, colors=_INK, length=0)
    axes.spines[:].set_visible(False)


def _plain(text: str) -> str:
    """A name that no formula, line break or length spoils."""
    text = " ".join(shown(text).split()).replace("$", r"\$")
    return text if len(text) <= _LONGEST_NAME * 3 else text[: _LONGEST_NAME * 3 - 1] + "…"


def _ages(stored: StoredMemory) -> tuple[list[list[int]], list[list[int]]]:
    """Ages of the short-term tokens of each drop group, and of the long-term tokens of each group.

    Raises:
        SnapshotError: they are not stored, or do not fit the manifest.
    """
    from mplus.memory.ledger_tables import tables_in

    manifest = read_manifest(stored.path)
    if manifest["format"] in OLD_FORMATS:
        raise SnapshotError(
            f"the memory {stored.path} has the older format {manifest['format']}, which does not say where its tokens are; "
            "write to it once, then draw it"
        )
    try:
        tables: Mapping[str, Any] = tables_in(stored.path / manifest["data"]["file"])
        long = [tables[f"long.{number}.births"][entry["skipped"] :] for number, entry in enumerate(manifest["long"])]
        newest = manifest["now"] - 1
        return (newest - tables["short.births"]).tolist(), [(newest - births).tolist() for births in long]
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise SnapshotError(
            f"memory {stored.path} is damaged ({type(error).__name__}: {error}); restore it from a backup"
        ) from None
