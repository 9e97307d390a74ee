"""Writing the own text of a step's samples, and the columns it lands on. Knows samples and scribes, no losses.

Legend: B samples, T tokens of a chunk, L layers, V searched layers, n memory tokens of a chunk.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace

import torch

from mplus.memory.rows import Rows
from mplus.settings import Geometry
from mplus.training.bank.memory_bank import ChunkEncoder, MemoryBank
from mplus.training.bank.step_table import StepTable
from mplus.training.sampling.memory_view import MemoryView, Write
from mplus.training.sampling.samples import Sample


@dataclass
class Own:
    """One chunk of one sample: its rows, whether they carry gradient, and where they stand among those of their kind."""

    rows: int
    live: bool
    first: int


@dataclass
class StepRows:
    """Everything a step wrote.

    Attributes:
        own: per sample its chunks in order.
        still, live: fields [L or V, rows, ...] of all chunks without and with gradient, in parts.
    """

    geometry: Geometry
    own: list[list[Own]]
    still: list[Rows] = field(default_factory=list)
    live: list[Rows] = field(default_factory=list)
    first_still: int = 0
    first_live: int = 0

    def table(self, older: MemoryBank, device: torch.device) -> StepTable:
        """All rows of the step by column."""
        table = StepTable(older, _joined(self.still), _joined(self.live), device)
        self.first_still, self.first_live = table.first_still, table.first_live
        return table

    def writes(self, row: int) -> list[Write]:
        """The own writes of a sample; call after ``table``."""
        return [Write(own.rows, self._first(own), right=True) for own in self.own[row]]

    def columns(self, row: int, sample: Sample, rows_per_chunk: int) -> list[tuple[int, int]]:
        """First column and count of every chunk a sample asks about."""
        own = [(self._first(own), own.rows) for own in self.own[row]]
        return own or [(place * rows_per_chunk, rows_per_chunk) for place in sample.asked]

    def narrowed(self, view: MemoryView, sample: Sample, row: int) -> MemoryView:
        """Only the rows of the answer are right, where it is known which they are (input tap: a row is a place in the text)."""
        if sample.span is None or self.geometry.write_tap != "input" or not self.own[row]:
            return view
        last = self.own[row][-1]
        kept = torch.tensor(self.geometry.kept_positions(len(sample.chunks[-1])))
        first_row = int(torch.searchsorted(kept, sample.span[0]))
        last_row = min(int(torch.searchsorted(kept, sample.span[1] - 1)), last.rows - 1)
        return replace(view, right=self._first(last) + torch.arange(first_row, last_row + 1))

    def _first(self, own: Own) -> int:
        return (self.first_live if own.live else self.first_still) + own.first


def write_samples(
    scribe: ChunkEncoder, older: MemoryBank, samples: tuple[Sample, ...], *, grad: bool, recompute: tuple[int, ...] = ()
) -> StepRows:
    """Write every sample's chunks, round by round, those of equal form together.

    A sample's first chunk sees what was written just before it, if anything was, as in a stream; every later one the one before.

    Args:
        grad: whether ``Sample.live`` chunks keep their graph.
        recompute: layers that keep only their input for the backward pass.
    """
    out = StepRows(scribe.model.geometry, [[] for _ in samples])
    before: list[Rows | None] = [_just_before(older, sample) for sample in samples]
    counts = {True: 0, False: 0}
    for number in range(max((len(sample.chunks) for sample in samples), default=0)):
        forms: dict[tuple[int, int, bool], list[int]] = defaultdict(list)
        for row, sample in enumerate(samples):
            if number < len(sample.chunks):
                live = grad and torch.is_grad_enabled() and number >= len(sample.chunks) - sample.live
                forms[len(sample.chunks[number]), _tokens(before[row]), live].append(row)
        for (_, _, live), rows in sorted(forms.items()):
            tails = [before[row] for row in rows]
            joined = None if tails[0] is None else _stacked(tails)
            ids = torch.tensor([samples[row].chunks[number] for row in rows], device=scribe.model.device)
            with torch.set_grad_enabled(live):
                fields = scribe.write(ids, scribe.tail(joined), grad=live, recompute=recompute)
            for place, row in enumerate(rows):
                one = {name: value[place] for name, value in fields.items()}
                count = next(iter(one.values())).shape[1]
                (out.live if live else out.still).append(
                    one if live else {name: value.to(older.device) for name, value in one.items()}
                )
                out.own[row].append(Own(count, live, counts[live]))
                counts[live] += count
                before[row] = {name: value.detach() for name, value in one.items() if name != "states"}
    return out


def _just_before(older: MemoryBank, sample: Sample) -> Rows | None:
    """The write before a sample's own ones, [L, n, ...]."""
    if not sample.past or not sample.others or not sample.chunks:
        return None
    rows = older.rows_per_chunk
    place = sample.others[sample.age % len(sample.others)]
    return {name: value[:, place * rows : (place + 1) * rows] for name, value in older.fields.items() if name != "states"}


def _tokens(rows: Rows | None) -> int:
    return 0 if rows is None else next(iter(rows.values())).shape[1]


def _stacked(parts: list[Rows | None]) -> Rows:
    known = [part for part in parts if part is not None]
    return {name: torch.stack([part[name] for part in known]) for name in known[0]}


def _joined(parts: list[Rows]) -> Rows | None:
    return {name: torch.cat([part[name] for part in parts], 1) for name in parts[0]} if parts else None
