"""Long-term memory: what short-term memory dropped, and who is forgotten when. Knows nothing about models.

Whoever reads rows or search keys asks here, never a store: only here are they real numbers, whatever they are kept as.

Legend: G groups (L layers where each finds its own tokens, 1 where they read the same ones), M rows of a group.
Rows not yet merged (the published drop cache) stand at the end of the same store: index >= ``merged``.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from mplus.index.first_stage import FirstStageIndex
from mplus.index.int8_keys import Int8Keys
from mplus.index.pca_sketch import PcaSketch
from mplus.memory import budget
from mplus.memory.row_codec import SCALE, RowCodec
from mplus.memory.rows import RowLayout, Rows
from mplus.memory.stores.protocol import Storage, Store
from mplus.memory.stores.ram import RamStorage
from mplus.settings import Geometry

KEEP_ABOVE = 0.01  # published: a row stays while its recall frequency minus the decay exceeds this


class LongTerm:
    """One store per group, the number types of its rows, and the rule by which rows are forgotten.

    Args:
        storage: where the rows live; RAM by default.

    Raises:
        GeometryError: rows of this layout cannot be kept in the number type the geometry asks for.
    """

    def __init__(self, layout: RowLayout, geometry: Geometry, storage: Storage | None = None) -> None:
        self.layout = layout
        self.geometry = geometry
        self.storage = storage or RamStorage()
        self.groups = groups = layout.layers if self._per_layer else 1
        self.codec = RowCodec(layout, geometry)
        self.block = 1 if self._per_layer else geometry.read.block_tokens
        self.stores: list[Store] = [self.storage.new_store(self.codec.fields, self.block) for _ in range(groups)]
        self.waiting = [0] * groups  # rows of each group that no merge has taken in yet
        self.writes_since_merge = 0
        self.indexes: list[FirstStageIndex] = [self._empty_index() for _ in range(groups)]
        self.stored_index: dict[int, dict[str, Tensor]] = {}
        """States of indexes that were read from a file, until the rows are indexed again."""
        self.cache: dict[str, object] = {}
        """Values derived from all rows, by name; emptied by every change."""

    def __len__(self) -> int:
        return max((len(store) for store in self.stores), default=0)

    @property
    def smallest(self) -> int:
        """Rows of the group that holds fewest."""
        return min((len(store) for store in self.stores), default=0)

    def merged(self, group: int) -> int:
        """Rows of a group that a merge has taken in (all of them unless eviction is `countdown`)."""
        return len(self.stores[group]) - self.waiting[group]

    def is_indexed(self, group: int) -> bool:
        """Whether a group is so large that not every row is scored; see ``Geometry.search``."""
        geometry = self.geometry
        allowed = geometry.read.search == "auto" and geometry.quirks.eviction == "oldest" and geometry.sizes.reads_ltm
        return allowed and len(self.stores[group]) >= self.indexes[group].exact_below

    def index_of(self, group: int) -> FirstStageIndex | None:
        """The first-stage index of a group's rows, all but the newest; None where every row is to be scored.

        A store that was opened from files is indexed here, at its first search; later rows are when they are taken in.
        """
        if not self.is_indexed(group):
            return None
        self._restore_index(group)
        index = self.indexes[group]
        if len(self.stores[group]) - len(index) >= index.group_rows:
            index.refresh(self.search_parts(group, len(index)))
        return index

    def reserve(self, rows: int = 0) -> None:
        """Make room, so that taking `rows` rows next cannot fail for want of it.

        Raises:
            StoreError: there is no room on disk; the rows held are as before.
            CapacityError: there is no room in RAM; the rows held are as before.
        """
        with budget.explain_out_of_memory(lambda free: self._no_room(rows, free), torch.device("cpu")):
            for store in self.stores:
                store.reserve(rows)

    def close(self) -> None:
        """Let go of all rows and of the files that hold them."""
        for store in self.stores:
            store.close()
        self.indexes = [self._empty_index() for _ in self.stores]
        self.stored_index.clear()
        self.cache.clear()

    def index_state(self) -> dict[str, Tensor]:
        """What a search follows from beside the rows held, to be stored with them: small tensors by name."""
        states = {group: index.state() for group, index in enumerate(self.indexes)} | self.stored_index
        return {f"index.{group}.{name}": value for group, state in states.items() for name, value in state.items()}

    def restore_index(self, tensors: dict[str, Tensor]) -> None:
        """Take ``index_state`` out of the tensors of a file, after the rows; the rows are indexed at the first search."""
        for group in range(self.groups):
            prefix = f"index.{group}."
            state = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
            if state:
                self.indexes[group].check(state, len(self.stores[group]), torch.Size(self.layout.fields["search"]).numel())
                self.stored_index[group] = state

    def _restore_index(self, group: int) -> None:
        state = self.stored_index.get(group)
        if state is not None:
            self.indexes[group].restore(state, self.search_parts(group))
            del self.stored_index[group]

    def append(self, dropped: Rows, births: Tensor) -> None:
        """Add what one write dropped: fields [L or 1, k, ...], births [G or 1, k]; then forget by the policy.

        Raises:
            StoreError, CapacityError: there is no room, see ``reserve``; nothing was added.
        """
        births = births.expand(self.groups, -1)
        self.reserve(births.shape[1])
        self.cache.clear()
        for group, store in enumerate(self.stores):
            rows = {name: self._of_group(name, value, group) for name, value in dropped.items()}
            rows["birth"] = births[group]
            if self.geometry.quirks.eviction == "countdown":
                rows["frequency"] = torch.full(
                    (births.shape[1],), self.geometry.quirks.initial_recall_frequency, dtype=torch.float32
                )
                self.waiting[group] += births.shape[1]
            store.append(self.codec.encode(rows))
        if self.geometry.quirks.eviction == "countdown":
            self._count_down()
        else:
            for group, store in enumerate(self.stores):
                excess = max(0, len(store) - self.geometry.sizes.ltm_capacity)
                forgotten = -(-excess // self.block) * self.block  # whole blocks, so that every block stays aligned
                self._restore_index(group)
                store.evict_oldest(forgotten)
                self.indexes[group].forget(forgotten)
                self.index_of(group)  # now, a group at a time, rather than all at once when a prompt waits

    def gather(self, group: int, index: Tensor, fields: tuple[str, ...], device: torch.device | None = None) -> Rows:
        """Fields [k, ...] of the rows at `index` [k], in the layout's number type.

        Args:
            device: where they are wanted; rows travel there as they are stored and become real numbers there. The CPU by default.
        """
        stored = self.stores[group].gather(index, self.codec.stored_names(fields))
        if device is not None:
            stored = {name: value.to(device, non_blocking=True) for name, value in stored.items()}
        return self.codec.decode(stored, fields)

    def search_parts(self, group: int, begin: int = 0) -> Iterator[Tensor]:
        """Search keys of all rows from `begin` on as real numbers, in consecutive pieces [m, F] of which only one is decoded at a time."""
        store, scaled = self.stores[group], self.codec.has_scale("search")
        scales = store.parts("search" + SCALE) if scaled else None
        for keys in store.parts("search"):
            scale = None if scales is None else next(scales)
            skip, begin = min(begin, keys.shape[0]), max(0, begin - keys.shape[0])
            if skip < keys.shape[0]:
                yield keys[skip:] if scale is None else self.codec.decode_search(keys[skip:], scale[skip:])

    def column(self, group: int, field: str) -> Tensor:
        """One field of all rows [M, ...] as real numbers, at once: for a look at small memories, not for a search."""
        store = self.stores[group]
        return self.codec.decode({name: store.column(name) for name in self.codec.stored_names((field,))}, (field,))[field]

    def restore(self, group: int, rows: Rows, births: Tensor, frequency: Tensor | None = None, *, waiting: int = 0) -> None:
        """Fill an empty group with rows [M, ...] read from a file."""
        columns = self.codec.encode(rows)
        columns["birth"] = births
        if self.geometry.quirks.eviction == "countdown":
            columns["frequency"] = (
                frequency
                if frequency is not None
                else torch.full(births.shape, self.geometry.quirks.initial_recall_frequency, dtype=torch.float32)
            )
        self.cache.clear()
        if births.shape[0]:
            with budget.explain_out_of_memory(lambda free: self._no_room(births.shape[0], free), torch.device("cpu")):
                self.stores[group].append(columns)
        self.waiting[group] = waiting

    def fork(self) -> LongTerm:
        """A copy that shares nothing that can change."""
        twin = LongTerm(self.layout, self.geometry, self.storage)
        twin.stores = [store.fork() for store in self.stores]
        twin.indexes = [index.fork() for index in self.indexes]
        twin.stored_index = dict(self.stored_index)
        twin.waiting = list(self.waiting)
        twin.writes_since_merge = self.writes_since_merge
        return twin

    def staged(self) -> LongTerm:
        """A copy to change next; only one of the two is used afterwards."""
        twin = LongTerm.__new__(LongTerm)
        twin.__dict__.update(self.__dict__)
        twin.stores = [store.staged() for store in self.stores]
        twin.indexes = [index.staged() for index in self.indexes]
        twin.stored_index = dict(self.stored_index)
        twin.waiting, twin.cache = list(self.waiting), {}
        return twin

    @property
    def size_bytes(self) -> int:
        """Bytes of all rows held."""
        return sum(store.size_bytes for store in self.stores)

    def _count_down(self) -> None:
        self.writes_since_merge += 1
        if self.writes_since_merge < self.geometry.quirks.merge_every_writes:
            return
        decay, floor = self.geometry.quirks.recall_decay, self.geometry.sizes.ltm_read_tokens
        for group, store in enumerate(self.stores):
            left = store.column("frequency") - decay
            keep = left > KEEP_ABOVE
            if int(keep.sum()) > floor:  # published: otherwise nothing is removed and nothing counts down
                store.set_column("frequency", left)
                if not bool(keep.all()):
                    store.keep(keep)
            self.waiting[group] = 0
        self.writes_since_merge = 0

    def _no_room(self, rows: int, free: int | None) -> str:
        own = budget.MemoryBudget.of(self.layout, self.geometry, kv_numbers=0)  # what a prompt reads is not asked here
        return own.for_longterm(len(self), rows, free)

    def _empty_index(self) -> FirstStageIndex:
        return Int8Keys() if self._per_layer else PcaSketch(self.block)

    @property
    def _per_layer(self) -> bool:
        return not self.geometry.read.is_shared

    def _is_common(self, name: str) -> bool:
        return name == "search" and self.layout.search_groups == 1

    def _of_group(self, name: str, value: Tensor, group: int) -> Tensor:
        if self._per_layer:
            return value[group]
        return value[0] if self._is_common(name) else value.transpose(0, 1)
