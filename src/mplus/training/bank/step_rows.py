"""Memory tokens of one training step by column: the bank's, and those the step encodes itself. Knows samples, no losses.

Legend: B samples, T tokens of a chunk, L layers, V searched layers, n memory tokens of a chunk.

Columns: first those of the bank, then the step's own rows without gradient (both stay where they are kept, perhaps off the
accelerator, and only what is read is copied), then the step's own rows with gradient.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mplus.memory.rows import Rows
from mplus.training.bank.chunk_encoder import without_states
from mplus.training.bank.memory_bank import MemoryBank
from mplus.training.sampling.memory_view import MemoryView, Write
from mplus.training.sampling.samples import Sample


@dataclass(frozen=True)
class OwnChunk:
    """One chunk of one sample: its rows, whether they carry gradient, and where they stand among those of their kind."""

    rows: int
    live: bool
    first: int


class StepRows:
    """Rows to read in one step.

    Args:
        own: per sample its chunks in order.
        still, live: fields [L or V, rows, ...] of all own chunks without and with gradient, in parts.
        searched: layers a retriever searches in.
    """

    def __init__(
        self,
        bank: MemoryBank,
        searched: tuple[int, ...],
        own: Sequence[Sequence[OwnChunk]] = (),
        still: Sequence[Rows] = (),
        live: Sequence[Rows] = (),
    ) -> None:
        self.bank, self.searched, self.own = bank, searched, own
        self.device = bank.encoder.model.device
        self.parts = [bank.fields, _joined(still), _joined(live)]
        sizes = [0 if part is None else next(iter(part.values())).shape[1] for part in self.parts]
        self.firsts = [0, sizes[0], sizes[0] + sizes[1], sum(sizes)]

    def states(self, place: int, columns: Tensor) -> Tensor:
        """Normalised states [..., D] of rows, as the `place`-th searched layer's attention sees them, without gradient."""
        encoder = self.bank.encoder
        if encoder.state_layers:
            rows, index = self.gather(place, columns, ("states",))
            return rows["states"][index]
        layer = self.searched[place]
        rows, index = self.gather(layer, columns)
        with torch.no_grad():
            return encoder.model.parts.decoder.normed(layer, rows["hidden"])[index]

    def gather(self, layer: int, columns: Tensor, names: Sequence[str] = ()) -> tuple[Rows, Tensor]:
        """Rows of one layer, each once, and where those of `columns` stand among them.

        Args:
            layer: of the decoder; of ``states`` the place among those stored.
            columns: [...] columns; may repeat.
            names: fields; all but ``states`` unless given.

        Returns:
            fields [u, ...] on the model's device, and [...] indices into them.
        """
        wanted, place = columns.unique(return_inverse=True)
        rows: dict[str, list[Tensor]] = {name: [] for name in names or without_states(self.bank.fields)}
        for part, first, last in zip(self.parts, self.firsts[:-1], self.firsts[1:], strict=True):
            index = wanted[(wanted >= first) & (wanted < last)] - first
            if index.numel() and part is not None:
                for name, found in rows.items():
                    value = part[name][layer]
                    found.append(value.index_select(0, index.to(value.device)).to(self.device))
        empty = {name: self.bank.fields[name][layer][:0].to(self.device) for name in rows}
        return {name: torch.cat(found or [empty[name]]) for name, found in rows.items()}, place.to(self.device)

    def writes(self, row: int) -> list[Write]:
        """The own writes of a sample."""
        return [Write(own.rows, self._first(own), right=True) for own in self.own[row]]

    def columns(self, row: int, sample: Sample) -> list[tuple[int, int]]:
        """First column and count of every chunk a sample asks about."""
        rows = self.bank.rows_per_chunk
        return [(self._first(own), own.rows) for own in self.own[row]] or [(place * rows, rows) for place in sample.target_places]

    def narrowed(self, view: MemoryView, sample: Sample, row: int) -> MemoryView:
        """Only the rows of the answer are right, where it is known which they are (input tap: a row is a place in the text)."""
        geometry = self.bank.encoder.model.geometry
        if sample.span is None or geometry.write.tap != "input" or not self.own[row]:
            return view
        last = self.own[row][-1]
        kept = torch.tensor(geometry.sizes.kept_positions(len(sample.chunks[-1])))
        first_row = int(torch.searchsorted(kept, sample.span[0]))
        last_row = min(int(torch.searchsorted(kept, sample.span[1] - 1)), last.rows - 1)
        return replace(view, right=self._first(last) + torch.arange(first_row, last_row + 1))

    def _first(self, own: OwnChunk) -> int:
        return self.firsts[2 if own.live else 1] + own.first


def encode_samples(
    bank: MemoryBank,
    samples: Sequence[Sample],
    searched: tuple[int, ...],
    *,
    grad: bool,
    checkpointed: tuple[int, ...] = (),
) -> StepRows:
    """Encode every sample's chunks, round by round, those of equal form together.

    A sample's first chunk sees what was written just before it, if anything was, as in a stream; every later one the one before.

    Args:
        grad: whether ``Sample.live`` chunks keep their graph.
        checkpointed: layers that keep only their input for the backward pass.
    """
    encoder = bank.encoder
    own: list[list[OwnChunk]] = [[] for _ in samples]
    kept: dict[bool, list[Rows]] = {True: [], False: []}
    before = [_just_before(bank, sample) for sample in samples]
    counts = {True: 0, False: 0}
    for number in range(max((len(sample.chunks) for sample in samples), default=0)):
        forms: dict[tuple[int, int, bool], list[int]] = defaultdict(list)
        for row, sample in enumerate(samples):
            if number < len(sample.chunks):
                live = grad and torch.is_grad_enabled() and number >= len(sample.chunks) - sample.live
                forms[len(sample.chunks[number]), _tokens(before[row]), live].append(row)
        for (_, _, live), rows in sorted(forms.items()):
            ids = torch.tensor([samples[row].chunks[number] for row in rows], device=encoder.model.device)
            with torch.set_grad_enabled(live):
                fields = encoder.encode(ids, _stacked([before[row] for row in rows]), grad=live, checkpointed=checkpointed)
            for place, row in enumerate(rows):
                one = {name: value[place] for name, value in fields.items()}
                count = _tokens(one)
                kept[live].append(one if live else {name: value.to(bank.device) for name, value in one.items()})
                own[row].append(OwnChunk(count, live, counts[live]))
                counts[live] += count
                before[row] = {name: value.detach() for name, value in without_states(one).items()}
    return StepRows(bank, searched, own, kept[False], kept[True])


def _just_before(bank: MemoryBank, sample: Sample) -> Rows | None:
    """The write before a sample's own ones, [L, n, ...]."""
    if not sample.past or not sample.others or not sample.chunks:
        return None
    rows = bank.rows_per_chunk
    place = sample.others[sample.age % len(sample.others)]
    return {name: value[:, place * rows : (place + 1) * rows] for name, value in without_states(bank.fields).items()}


def _tokens(rows: Rows | None) -> int:
    return 0 if rows is None else next(iter(rows.values())).shape[1]


def _stacked(parts: list[Rows | None]) -> Rows | None:
    known = [part for part in parts if part is not None]
    return {name: torch.stack([part[name] for part in known]) for name in known[0]} if known else None


def _joined(parts: Sequence[Rows]) -> Rows | None:
    return {name: torch.cat([part[name] for part in parts], 1) for name in parts[0]} if parts else None
