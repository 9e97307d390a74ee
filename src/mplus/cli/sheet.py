"""Tables that fit a terminal: side by side where they fit, else one block a row. Knows nothing of what they hold."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

_GAP = 2
_LEAST_TEXT = 16
"""Columns of characters below which wrapped text cannot be read."""


class Sheet:
    """A table. Columns of text may wrap between words, columns of numbers never do.

    Args:
        headings: of the columns.
        text_columns: numbers of those that hold text; the others stand to the right.
        shown: makes a cell's text fit for a terminal.
        bold_names: no headings; the first column is bold.
    """

    def __init__(
        self,
        headings: Iterable[str],
        *,
        title: str | None = None,
        text_columns: tuple[int, ...] = (0,),
        shown: Callable[[object], str] = str,
        bold_names: bool = False,
    ) -> None:
        self.headings = list(headings)
        self.title = title
        self.text_columns = text_columns
        self.rows: list[list[str]] = []
        self._shown = shown
        self._bold_names = bold_names

    @property
    def row_count(self) -> int:
        """How many rows it has."""
        return len(self.rows)

    def add_row(self, *cells: str) -> None:
        """One more row; cells are literal text."""
        self.rows.append([self._shown(cell) for cell in cells])

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self.title is not None:
            yield Text(self.title, style="bold")
        if self._natural() <= options.max_width:
            yield self._table(tight=False)
        elif self._bold_names or self._least() <= options.max_width:
            yield self._table(tight=True)
        else:
            yield from self._blocks()

    def _table(self, *, tight: bool) -> Table:
        made = Table(box=None, pad_edge=False, header_style="bold", show_header=not self._bold_names)
        for number, heading in enumerate(self.headings):
            text = number in self.text_columns
            made.add_column(
                Text(heading if text or not tight else "\n".join(heading.split())),
                justify="left" if text else "right",
                overflow="fold",
                no_wrap=tight and not text,
                style="bold" if self._bold_names and number == 0 else "",
            )
        for row in self.rows:
            made.add_row(*map(Text, row))
        return made

    def _columns(self) -> list[list[str]]:
        return [[row[number] for row in self.rows if number < len(row)] for number in range(len(self.headings))]

    def _natural(self) -> int:
        """Width with nothing wrapped."""
        return _sum(_widest([heading, *cells]) for heading, cells in zip(self.headings, self._columns(), strict=True))

    def _least(self) -> int:
        """Width where text and headings wrap between words and numbers stay whole."""
        return _sum(
            min(_LEAST_TEXT, _widest(cells)) if number in self.text_columns else _widest([*cells, *heading.split()])
            for number, (heading, cells) in enumerate(zip(self.headings, self._columns(), strict=True))
        )

    def _blocks(self) -> Iterable[Text]:
        """One row after the other: its name, then a line for each other cell."""
        for row in self.rows:
            yield Text(row[0], style="bold", overflow="fold")
            for heading, cell in zip(self.headings[1:], row[1:], strict=False):
                if cell:
                    yield Text(f"  {heading}: {cell}" if heading else f"  {cell}", overflow="fold")


def _widest(texts: Iterable[str]) -> int:
    return max((Text(line).cell_len for text in texts for line in text.split("\n")), default=0)


def _sum(widths: Iterable[int]) -> int:
    parts = list(widths)
    return sum(parts) + _GAP * (len(parts) - 1)
