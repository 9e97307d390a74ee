"""Long-term memory: rows of the log that left short-term memory, and how they are searched. Knows nothing about models.

Legend: Q groups (L layers where each finds its own tokens, 1 where they read the same ones), M rows of a group, k rows of one call.
Everything here but the numbers of the rows is a cache: it follows from the log and the placement.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from mplus.index.first_stage import FirstStageIndex
from mplus.index.int8_keys import Int8Keys
from mplus.index.pca_sketch import PcaSketch
from mplus.memory.log import RowLog
from mplus.memory.placement import LongGroup
from mplus.memory.row_codec import RowCodec
from mplus.memory.rows import RowLayout, Rows
from mplus.settings import Geometry

PIECE_ROWS = 16_384
"""Search keys that are fetched together."""
KEPT_KEYS_BYTES = 256 << 20
"""Search keys of a group that are kept between reads; of a larger memory a first-stage index is, and keys are fetched where asked for."""


class LongTerm:
    """A view of the log: the long-term rows of each group, with their indexes."""

    def __init__(
        self,
        layout: RowLayout,
        geometry: Geometry,
        codec: RowCodec,
        log: RowLog,
        groups: tuple[LongGroup, ...],
        indexes: list[FirstStageIndex] | None = None,
    ) -> None:
        self.layout, self.geometry, self.codec = layout, geometry, codec
        self.log, self._groups = log, groups
        self.block = geometry.read.block_tokens if geometry.read.is_shared else 1
        self.indexes = indexes or [empty_index(geometry) for _ in groups]
        self.cache: dict[str, object] = {}
        """Values derived from all rows, by name; a changed memory has another view."""
        self._kept: list[dict[int, Tensor]] = [{} for _ in groups]

    def __len__(self) -> int:
        return max((len(group) for group in self._groups), default=0)

    @property
    def groups(self) -> int:
        """Q."""
        return len(self._groups)

    @property
    def smallest(self) -> int:
        """Rows of the group that holds fewest."""
        return min((len(group) for group in self._groups), default=0)

    def tokens(self, group: int) -> int:
        """M of a group."""
        return len(self._groups[group])

    def rows(self, group: int) -> Tensor:
        """[M] numbers in the log, in the order in which the tokens left short-term memory."""
        return self._groups[group].rows

    def births(self, group: int) -> Tensor:
        """[M] births, in the order in which the tokens left short-term memory."""
        return self._groups[group].births

    def frequencies(self, group: int) -> Tensor | None:
        """[M] recall frequencies, where eviction counts them down."""
        return self._groups[group].frequency

    def merged(self, group: int) -> int:
        """Rows of a group that a merge has taken in (all of them unless eviction is `countdown`)."""
        return self._groups[group].merged

    @property
    def waiting(self) -> list[int]:
        """Rows of each group that no merge has taken in yet."""
        return [group.waiting for group in self._groups]

    # -- rows ------------------------------------------------------------------------------------------------------

    def gather(self, group: int, index: Tensor, fields: tuple[str, ...], device: torch.device | None = None) -> Rows:
        """Fields [k, ...] of the rows at `index` [k], in the layout's number type.

        Args:
            device: where they are wanted; rows travel there as they are stored and become real numbers there. The CPU by default.
        """
        return self._decoded(group, self._groups[group].rows[index.cpu()], fields, device)

    def column(self, group: int, field: str) -> Tensor:
        """One field of all rows [M, ...] as real numbers, at once: for a look at small memories, not for a search."""
        return self._decoded(group, self._groups[group].rows, (field,), None)[field]

    def _decoded(self, group: int, rows: Tensor, fields: tuple[str, ...], device: torch.device | None) -> Rows:
        layer = None if self.geometry.read.is_shared else group
        stored = self.log.gather(rows, self.codec.stored_names(fields), layer=layer)
        if device is not None:
            stored = {name: value.to(device, non_blocking=True) for name, value in stored.items()}
        return self.codec.decode(stored, fields)

    # -- search ----------------------------------------------------------------------------------------------------

    def search_parts(self, group: int, begin: int = 0) -> Iterator[Tensor]:
        """Search keys of all rows from `begin` on as real numbers, in consecutive pieces [m, F] of which only one is made at a time."""
        rows, kept = self._groups[group].rows, self._kept[group]
        keeps = not begin and len(rows) * self._key_bytes <= KEPT_KEYS_BYTES
        for start in range(begin, len(rows), PIECE_ROWS):
            part = kept.get(start) if not begin else None
            if part is None or part.shape[0] != min(PIECE_ROWS, len(rows) - start):
                part = self._decoded(group, rows[start : start + PIECE_ROWS], ("search",), None)["search"]
            if keeps:
                kept[start] = part
            yield part

    @property
    def _key_bytes(self) -> int:
        return torch.Size(self.layout.fields["search"]).numel() * self.layout.dtype.itemsize

    def is_indexed(self, group: int) -> bool:
        """Whether a group is so large that not every row is scored; see ``Geometry.search``."""
        return may_be_indexed(self.geometry) and len(self._groups[group]) >= self.indexes[group].exact_below

    def index_of(self, group: int) -> FirstStageIndex | None:
        """The first-stage index of a group's rows, all but the newest; None where every row is to be scored.

        Rows that came since are indexed now; those of a memory that was opened from files, all at once.
        """
        if not self.is_indexed(group):
            return None
        index, held = self.indexes[group], self._groups[group]
        if not len(index) and held.skipped:  # an index begins where a slab did, with rows that are forgotten by now
            index.refresh(self._keys_of(group, held.all_rows.values))
            index.forget(held.skipped)
        if len(held) - len(index) >= index.group_rows:
            index.refresh(self._keys_of(group, held.rows[len(index) :]))
        return index

    def _keys_of(self, group: int, rows: Tensor) -> Iterator[Tensor]:
        for start in range(0, len(rows), PIECE_ROWS):
            yield self._decoded(group, rows[start : start + PIECE_ROWS], ("search",), None)["search"]

    def followed_by(self, log: RowLog, groups: tuple[LongGroup, ...]) -> LongTerm:
        """The view after a write, with what is still true of this one's caches.

        Its indexes take in what came and let go of what was forgotten; only one of the two views is used afterwards.
        """
        twin = LongTerm(self.layout, self.geometry, self.codec, log, groups, [index.staged() for index in self.indexes])
        for number, (before, after) in enumerate(zip(self._groups, groups, strict=True)):
            forgotten = after.forgotten - before.forgotten
            if forgotten:
                twin.indexes[number].forget(forgotten)
            elif self.geometry.quirks.eviction == "oldest":
                twin._kept[number] = dict(self._kept[number])
            twin.index_of(number)  # now, a group at a time, rather than all at once when a prompt waits
        return twin

    def fork(self) -> LongTerm:
        """The same view with indexes of its own."""
        return LongTerm(self.layout, self.geometry, self.codec, self.log, self._groups, [index.fork() for index in self.indexes])

    @property
    def size_bytes(self) -> int:
        """Bytes of all rows held here."""
        row = sum(torch.Size(shape).numel() * dtype.itemsize for shape, dtype in self.codec.fields.values())
        return sum(len(group) for group in self._groups) * row // (1 if self.geometry.read.is_shared else self.layout.layers)


def may_be_indexed(geometry: Geometry) -> bool:
    """Tell whether a memory of these settings has a first-stage index once it is large."""
    return geometry.read.search == "auto" and geometry.quirks.eviction == "oldest" and geometry.sizes.reads_ltm


def empty_index(geometry: Geometry) -> FirstStageIndex:
    """The kind of index that a memory of these settings has."""
    if not geometry.read.is_shared:
        return Int8Keys()
    return PcaSketch(geometry.read.block_tokens, keys_per_row=geometry.sizes.tokens_per_row)


def index_slab(geometry: Geometry) -> int:
    """Rows back to a multiple of which forgotten ones are kept, so that an index can be made again; 1 where there will be none."""
    index = empty_index(geometry)
    indexed = may_be_indexed(geometry) and geometry.sizes.ltm_capacity >= index.exact_below
    return index.slab_capacity_rows if indexed else 1
