"""Where every memory token is: short-term, long-term or gone. Knows numbers of rows and their births, never the rows.

A pure function of the seed, the sizes and the sequence of writes: it can be replayed without a model pass.

Legend: G drop groups, Q long-term groups (L layers where each finds its own tokens, else 1), n short-term tokens, M long-term tokens of a
group, k tokens that leave. Rows not yet merged (the published drop cache) stand at the end of their group.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from mplus.memory import drops
from mplus.memory.columns import Column
from mplus.settings import Geometry

KEEP_ABOVE = 0.01  # published: a row stays while its recall frequency minus the decay exceeds this


@dataclass(frozen=True)
class LongGroup:
    """Long-term tokens of one group in the order in which they came.

    Attributes:
        all_rows, all_births: numbers in the log and births, those of `skipped` tokens included.
        skipped: tokens at the front that were forgotten by age; their rows are kept because an index was fitted to them.
        forgotten: tokens that were ever forgotten by age.
        frequency: [M] recall frequencies (``countdown``), else None.
        waiting: tokens that no merge has taken in yet.
    """

    all_rows: Column = field(default_factory=Column)
    all_births: Column = field(default_factory=Column)
    skipped: int = 0
    forgotten: int = 0
    frequency: Tensor | None = None
    waiting: int = 0

    def __len__(self) -> int:
        return len(self.all_rows) - self.skipped

    @property
    def rows(self) -> Tensor:
        """[M] numbers in the log, oldest first."""
        return self.all_rows.values[self.skipped :]

    @property
    def births(self) -> Tensor:
        """[M] births."""
        return self.all_births.values[self.skipped :]

    @property
    def merged(self) -> int:
        """Tokens that a merge has taken in (all of them unless eviction is `countdown`)."""
        return len(self) - self.waiting

    def with_more(self, rows: Tensor, births: Tensor, frequency: float | None) -> LongGroup:
        """This group with tokens [k] behind its last one."""
        more = replace(self, all_rows=self.all_rows.appended(rows), all_births=self.all_births.appended(births))
        if frequency is None:
            return more
        before = torch.empty(0, device="cpu") if self.frequency is None else self.frequency
        fresh = torch.full((rows.shape[0],), frequency, dtype=torch.float32, device="cpu")
        return replace(more, frequency=torch.cat([before, fresh]), waiting=self.waiting + rows.shape[0])

    def without_oldest(self, count: int, slab: int) -> LongGroup:
        """This group without its first `count` tokens; rows are kept back to a multiple of `slab`, where an index begins."""
        forgotten = self.forgotten + count
        skipped = forgotten % slab
        gone = self.skipped + count - skipped
        if gone < 0:  # the front was cut shorter before
            gone, skipped = 0, self.skipped + count
        return replace(
            self,
            all_rows=self.all_rows.without_first(gone),
            all_births=self.all_births.without_first(gone),
            skipped=skipped,
            forgotten=forgotten,
        )

    def keeping(self, mask: Tensor) -> LongGroup:
        """This group with the tokens where `mask` [M] is True."""
        frequency = None if self.frequency is None else self.frequency[mask]
        waits = int(mask[len(mask) - self.waiting :].sum()) if self.waiting else 0
        return LongGroup(Column(self.rows[mask]), Column(self.births[mask]), 0, 0, frequency, waits)


@dataclass(frozen=True)
class Placement:
    """Which rows are short-term and which long-term.

    Attributes:
        rows, births: [G, n] of short-term tokens, oldest first.
        long: Q groups.
        generator: state of the generator of random drops.
        now: memory tokens written; the age of a token is ``now - 1 - birth``.
        writes_since_merge: see ``PublishedQuirks.merge_every_writes``.
    """

    rows: Tensor
    births: Tensor
    long: tuple[LongGroup, ...]
    generator: Tensor
    now: int = 0
    writes_since_merge: int = 0

    @classmethod
    def new(cls, geometry: Geometry, layers: int, seed: int) -> Placement:
        """Nothing is anywhere yet."""
        groups = layers if geometry.write.drop == "per_layer" else 1
        none = torch.empty(groups, 0, dtype=torch.int64, device="cpu")
        long = tuple(LongGroup() for _ in range(1 if geometry.read.is_shared else layers))
        return cls(none, none, long, torch.Generator().manual_seed(seed).get_state())

    def __len__(self) -> int:
        return self.rows.shape[1]

    @property
    def groups(self) -> int:
        """G."""
        return self.rows.shape[0]

    def leaving(self, geometry: Geometry, new_tokens: int) -> tuple[Tensor, Tensor]:
        """Ranks [G, k] that make room for `new_tokens` more, and the generator's state afterwards."""
        generator = torch.Generator()
        generator.set_state(self.generator)
        return drops.choose(self.births, geometry, generator, new_tokens), generator.get_state()

    def written(
        self,
        geometry: Geometry,
        first_row: int,
        count: int,
        ranks: Tensor | None = None,
        *,
        keep_dropped: bool = True,
        slab: int = 1,
    ) -> Placement:
        """The placement after a write of `count` rows from `first_row` on.

        Args:
            ranks: [G, k] that leave; None draws them.
            keep_dropped: False discards what leaves, as if there were no long-term memory.
            slab: see ``LongGroup.without_oldest``.
        """
        state = self.generator
        if ranks is None:
            ranks, state = self.leaving(geometry, count)
        births = self.births + count if geometry.quirks.stm_ages == "frozen" else self.births
        long, since = self.long, self.writes_since_merge
        if ranks.shape[1]:
            if geometry.sizes.ltm and keep_dropped:
                long, since = self._dropped(geometry, self.rows.gather(1, ranks), births.gather(1, ranks), slab)
            keep = torch.ones_like(self.rows, dtype=torch.bool).scatter_(1, ranks, False)
            left = len(self) - ranks.shape[1]
            rows, births = self.rows[keep].view(self.groups, left), births[keep].view(self.groups, left)
        else:
            rows = self.rows
        steps = torch.arange(count, device="cpu")
        return Placement(
            torch.cat([rows, (first_row + steps).expand(self.groups, -1)], 1),
            torch.cat([births, (self.now + steps).expand(self.groups, -1)], 1),
            long,
            state,
            self.now + count,
            since,
        )

    def replayed(self, geometry: Geometry, counts: Iterable[int], *, slab: int = 1) -> Placement:
        """The placement after writes of so many rows each, numbered one by one."""
        placement = self
        for count in counts:
            placement = placement.written(geometry, placement.now, count, slab=slab)
        return placement

    def without(self, gone: Tensor) -> Placement:
        """This placement without rows by number [k]; everything else stays where it is."""
        stays = ~torch.isin(self.rows, gone)
        if bool(
            (stays.sum(1) != stays[0].sum()).any()
        ):  # layers lose different numbers of tokens: the oldest of the others go along
            least = int(stays.sum(1).min())
            stays &= stays.flip(1).cumsum(1).flip(1) <= least
        left = int(stays[0].sum())
        long = tuple(group.keeping(~torch.isin(group.rows, gone)) for group in self.long)
        return replace(
            self, rows=self.rows[stays].view(self.groups, left), births=self.births[stays].view(self.groups, left), long=long
        )

    def all_rows(self) -> Iterator[Tensor]:
        """Numbers of all rows that must be held, in pieces."""
        yield self.rows.flatten()
        for group in self.long:
            yield group.all_rows.values

    @property
    def first_row(self) -> int | None:
        """The smallest number of a row that must be held; None where there is none."""
        return min((int(rows.min()) for rows in self.all_rows() if rows.numel()), default=None)

    def _dropped(self, geometry: Geometry, rows: Tensor, births: Tensor, slab: int) -> tuple[tuple[LongGroup, ...], int]:
        """Long-term groups with what short-term memory dropped [G, k], after forgetting by the policy."""
        counts_down = geometry.quirks.eviction == "countdown"
        frequency = geometry.quirks.initial_recall_frequency if counts_down else None
        groups = len(self.long)
        pairs = zip(self.long, rows.expand(groups, -1), births.expand(groups, -1), strict=True)
        long = tuple(group.with_more(row, birth, frequency) for group, row, birth in pairs)
        if counts_down:
            return self._counted_down(long, geometry)
        block = geometry.read.block_tokens if geometry.read.is_shared else 1
        out = []
        for group in long:
            excess = max(0, len(group) - geometry.sizes.ltm_capacity)
            gone = -(-excess // block) * block  # whole blocks, so that every block stays aligned
            out.append(group.without_oldest(gone, slab) if gone else group)
        return tuple(out), self.writes_since_merge

    def _counted_down(self, long: tuple[LongGroup, ...], geometry: Geometry) -> tuple[tuple[LongGroup, ...], int]:
        if self.writes_since_merge + 1 < geometry.quirks.merge_every_writes:
            return long, self.writes_since_merge + 1
        out = []
        for group in long:
            assert group.frequency is not None
            left = group.frequency - geometry.quirks.recall_decay
            keep = left > KEEP_ABOVE
            if int(keep.sum()) > geometry.sizes.ltm_read_tokens:  # published: else nothing is removed and nothing counts down
                group = replace(group, frequency=left)
                group = group if bool(keep.all()) else group.keeping(keep)
            out.append(replace(group, waiting=0))
        return tuple(out), 0
