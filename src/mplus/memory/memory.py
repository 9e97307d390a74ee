"""A memory: everything one user, conversation or corpus has written. Knows a model only as a ``Host``.

Legend: L layers, N short-term tokens, K new tokens per write, G drop groups, n tokens.
Time is counted in memory tokens written: ``now``; the age of a token is ``now - 1 - birth``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from mplus.config import Geometry, MemoryFormat
from mplus.errors import EmptyTextError, InputError
from mplus.memory import drops, room
from mplus.memory.ledger import Chunk, Ledger
from mplus.memory.longterm import LongTerm
from mplus.memory.pool import Pool
from mplus.memory.quantised import check_row_types
from mplus.memory.rows import RowLayout, Rows, Written
from mplus.memory.stores.disk import storage_at
from mplus.memory.stores.protocol import Storage

log = logging.getLogger(__name__)
Progress = Callable[[int], None]


class Host(Protocol):
    """What a memory needs of the model that reads and writes it."""

    @property
    def fingerprint(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def vocabulary(self) -> int: ...
    def layout(self, memory_format: MemoryFormat, geometry: Geometry) -> RowLayout: ...
    def encode(self, ids: Sequence[int] | Tensor, memory: Memory) -> Written: ...
    def tokenize(self, text: str) -> list[int]: ...
    def cut_ids(self, text: str) -> list[list[int]]: ...
    def initial_rows(self, memory: Memory) -> tuple[Rows, Tensor | None] | None: ...
    def initial_longterm(self, memory: Memory) -> list[tuple[Rows, Tensor, Tensor | None]] | None: ...


@dataclass(frozen=True, kw_only=True)
class MemoryStats:
    """Counts of a memory; sizes in bytes."""

    tokens_read: int
    chunks: int
    pending_tokens: int
    stm_tokens: int
    stm_capacity: int
    ltm_tokens: int
    ltm_capacity: int
    size_bytes: int
    memory_format: str
    sources: dict[str, int] = field(default_factory=dict)


class Memory:
    """Short-term pool, long-term store, counters, random state and source ledger of one reader.

    Made by ``model.new_memory()``. A read never changes it; ``write`` and ``update`` do.
    """

    def __init__(
        self,
        host: Host,
        geometry: Geometry,
        memory_format: MemoryFormat,
        seed: int,
        *,
        initialised: bool = True,
        store: Storage | str | Path = "ram",
    ) -> None:
        self.host = host
        self.geometry = geometry
        self.format: MemoryFormat = memory_format
        self.seed = seed
        self.layout = host.layout(memory_format, geometry)
        self.initialised_at_start = initialised
        check_row_types(self.layout, geometry)  # before a directory is made
        self.storage = storage_at(store)
        self._reset()

    def _reset(self) -> None:
        groups = self.layout.layers if self.geometry.drop == "per_layer" else 1
        self.generator = torch.Generator().manual_seed(self.seed)
        self.pool = Pool(self.layout, self.geometry.stm_tokens, groups)
        self.longterm = LongTerm(self.layout, self.geometry, self.storage)
        self.tail: Tensor | None = None  # [L, <=K, D] hidden states of the newest tokens, where the pool does not hold them
        self.now = 0
        self.tokens_read = 0
        self.ledger = Ledger()
        self.pending: list[tuple[str | None, list[int]]] = []
        self.initialised = self.initialised_at_start
        initial = self.host.initial_rows(self) if self.initialised else None
        if initial is not None:
            rows, self.tail = initial
            count = next(iter(rows.values())).shape[1]
            oldest_first = torch.arange(count - 1, -1, -1)
            ages = oldest_first if self.geometry.stm_ages == "since_written" else torch.zeros(count, dtype=torch.int64)
            self.pool.append(rows, -1 - ages)
        for group, (rows, ages, frequency) in enumerate(self.host.initial_longterm(self) or []):
            self.longterm.restore(group, rows, -1 - ages, frequency)

    # -- writing ---------------------------------------------------------------------------------------------------

    def write(self, text: str | Sequence[int] | Tensor, source: str | None = None, progress: Progress | None = None) -> int:
        """Read a text into memory.

        Long text is cut at paragraph or sentence ends. What is shorter than the model's minimum waits in ``pending``
        and stands as plain text before the next prompt until more text joins it.

        Args:
            text: a string, or token ids [T].
            source: name the text is remembered under.
            progress: called with the text tokens done so far.

        Returns:
            text tokens taken in, the pending ones included.

        Raises:
            EmptyTextError: there is no token in `text`.
        """
        steps = self.steps(text, source, progress)
        try:
            ids = next(steps)
            while True:
                try:
                    written = self.host.encode(ids, self)
                except BaseException as error:
                    steps.throw(error)
                    raise
                ids = steps.send(written)
        except StopIteration as end:
            return int(end.value)

    def steps(
        self, text: str | Sequence[int] | Tensor, source: str | None = None, progress: Progress | None = None
    ) -> Generator[list[int], Written, int]:
        """What ``write`` does, one chunk at a time: gives the ids of a chunk and wants back what a write pass made of them.

        Whoever drives it passes on with ``throw`` what went wrong in between; the text of that chunk then waits in ``pending``.
        It ends with the text tokens taken in.

        Raises:
            EmptyTextError: there is no token in `text`; raised here, before anything changes.
        """
        pieces = self._pieces(text)
        if not any(pieces):
            raise EmptyTextError("nothing to write: the text is empty; give text with at least one word")
        return self._stepping(pieces, source, progress)

    def _stepping(
        self, pieces: list[list[int]], source: str | None, progress: Progress | None
    ) -> Generator[list[int], Written, int]:
        done = 0
        for ids in pieces:
            self.pending.append((source, ids))
            if self.pending_tokens >= self.geometry.min_write_tokens:
                yield from self._write_pending()
            done += len(ids)
            if progress is not None:
                progress(done)
        return done

    @property
    def pending_tokens(self) -> int:
        """Text tokens waiting for more text."""
        return sum(len(ids) for _, ids in self.pending)

    @property
    def pending_ids(self) -> list[int]:
        """The waiting text tokens in order."""
        return [token for _, ids in self.pending for token in ids]

    def update(self, written: Written, dropped: Tensor | None = None, *, keep_dropped: bool = True) -> None:
        """Take a write pass in: drop random old tokens, hand them to long-term memory, append the new ones.

        Args:
            written: from ``model.encode``.
            dropped: [G, k] ranks to drop instead of random ones (0 = oldest); [L, k] is accepted for G = 1 when rows agree.
            keep_dropped: False discards what is dropped, as if there were no long-term memory.
        """
        self._update(written, dropped, keep_dropped, ((None, written.text_tokens),))

    def _update(
        self, written: Written, dropped: Tensor | None, keep_dropped: bool, sources: tuple[tuple[str | None, int], ...]
    ) -> None:
        missing = sorted(set(self.layout.fields) - set(written.rows))
        if missing:
            raise InputError(
                f"this chunk was written for a memory of another form (it lacks {', '.join(missing)}); encode it with this memory"
            )
        if written.initial:
            written = self._tiled(written)
        self._make_room(written.tokens, dropped)
        ranks = self._leaving(written, dropped, keep_dropped)
        self.initialised = True
        count = written.tokens
        births = torch.arange(self.now, self.now + count)
        if self.geometry.stm_ages == "frozen":
            self.pool.births += count
        self.now += count
        if ranks.shape[1]:
            rows, dropped_births = self.pool.remove(ranks)
            if self.geometry.ltm and keep_dropped:
                self.longterm.take(rows, dropped_births)
        self.pool.append(written.rows, births)
        if written.hidden is not None:
            older = [] if self.tail is None else [self.tail]
            self.tail = torch.cat([*older, written.hidden], 1)[:, -self.geometry.new_tokens :]
        self.tokens_read += written.text_tokens
        self.ledger.add(Chunk(int(births[0]), count, sources))
        log.debug("wrote %d tokens: STM %d, LTM %d", written.text_tokens, len(self.pool), len(self.longterm))

    def _make_room(self, new_tokens: int, dropped: Tensor | None = None) -> None:
        """Have room for what `new_tokens` more may drop: what was taken from short-term memory must never be refused."""
        with room.told(lambda free: room.Room.of(self.layout, self.geometry, kv_numbers=0).for_memory(free), self.layout.device):
            self.pool.reserve(new_tokens)
        excess = max(0, len(self.pool) + new_tokens - self.pool.capacity_tokens)
        rows = (excess and excess + self.geometry.drop_span - 1) if dropped is None else dropped.shape[-1]
        self.longterm.settle(rows if self.geometry.ltm else 0)

    def _leaving(self, written: Written, dropped: Tensor | None, keep_dropped: bool) -> Tensor:
        """Ranks [G, k] that make room for a write pass; whatever is wrong with it is found here, before anything changes."""
        if dropped is None:
            ranks = drops.choose(self.pool, self.geometry, self.generator, written.tokens)
        else:
            finds_blocks = keep_dropped and self.geometry.reads_ltm and self.geometry.retrieval == "shared"
            ranks = drops.given(self.pool, dropped, self.geometry.block_tokens if finds_blocks else 1)
        places = self.pool.capacity_tokens - len(self.pool) + ranks.shape[1]
        if written.tokens > places:
            raise InputError(
                f"{written.tokens} new tokens do not fit into the {places} places that are or become free; drop more"
            )
        return ranks

    def _tiled(self, written: Written) -> Written:
        """The published first write: its m rows are copied until they fill the pool, the rest taken from their end."""
        count, size = written.tokens, self.geometry.stm_tokens
        rest = size % count
        index = torch.cat([torch.arange(count).repeat(size // count), torch.arange(count - rest, count)])
        rows = {name: value[:, index.to(value.device)] for name, value in written.rows.items()}
        hidden = None if written.hidden is None else written.hidden[:, index.to(written.hidden.device)]
        return Written(rows, written.text_tokens, hidden=hidden)

    def _pieces(self, text: str | Sequence[int] | Tensor) -> list[list[int]]:
        if isinstance(text, str):
            return self.host.cut_ids(text)
        ids = text.flatten().tolist() if isinstance(text, Tensor) else [int(token) for token in text]
        wrong = next((token for token in ids if not 0 <= token < self.host.vocabulary), None)
        if wrong is not None:
            raise InputError(
                f"token id {wrong} is not of this model, whose ids are 0..{self.host.vocabulary - 1}; use its tokenizer"
            )
        size = self.geometry.chunk_tokens
        return [ids[start : start + size] for start in range(0, len(ids), size)]

    def _write_pending(self) -> Generator[list[int], Written, None]:
        """Write all that waits: one chunk, or equal ones if it is too long for one (a short rest would only wait again)."""
        waiting, self.pending = self.pending, []
        labelled = [(source, token) for source, ids in waiting for token in ids]
        chunks = -(-len(labelled) // self.geometry.chunk_tokens)
        size = -(-len(labelled) // chunks)
        for start in range(0, len(labelled), size):
            part = labelled[start : start + size]
            sources = tuple((name, len(list(run))) for name, run in groupby(part, key=lambda pair: pair[0]))
            try:
                self._make_room(self.geometry.new_tokens)
                written = yield [token for _, token in part]
            except BaseException:  # nothing of what was read may be lost: it waits again
                self.pending = [(source, [token]) for source, token in labelled[start:]]
                raise
            self._update(written, None, True, sources)

    # -- value semantics -------------------------------------------------------------------------------------------

    def fork(self) -> Memory:
        """A copy to write on; this one is never changed by it, nor it by this one."""
        twin = Memory.__new__(Memory)
        twin.host, twin.geometry, twin.format, twin.seed, twin.layout = (
            self.host,
            self.geometry,
            self.format,
            self.seed,
            self.layout,
        )
        twin.initialised_at_start, twin.storage = self.initialised_at_start, self.storage
        twin.generator = torch.Generator()
        twin.generator.set_state(self.generator.get_state())
        twin.pool, twin.longterm, twin.ledger = self.pool.clone(), self.longterm.fork(), self.ledger.clone()
        twin.tail = None if self.tail is None else self.tail.clone()
        twin.now, twin.tokens_read, twin.initialised = self.now, self.tokens_read, self.initialised
        twin.pending = [(source, list(ids)) for source, ids in self.pending]
        return twin

    def clear(self) -> None:
        """Forget everything; the memory is again as ``model.new_memory(seed=...)`` made it."""
        self.longterm.close()
        self._reset()

    def stats(self) -> MemoryStats:
        """Counts and sizes."""
        pool_bytes = self.layout.bytes_per_token * len(self.pool)
        tail_bytes = 0 if self.tail is None else self.tail.numel() * self.tail.element_size()
        return MemoryStats(
            tokens_read=self.tokens_read,
            chunks=len(self.ledger.chunks),
            pending_tokens=self.pending_tokens,
            stm_tokens=len(self.pool),
            stm_capacity=self.geometry.stm_tokens,
            ltm_tokens=len(self.longterm),
            ltm_capacity=self.geometry.ltm_capacity if self.geometry.ltm else 0,
            size_bytes=pool_bytes + tail_bytes + self.longterm.size_bytes,
            memory_format=self.format,
            sources=self.ledger.tokens_by_source(),
        )

    def ages(self, births: Tensor) -> Tensor:
        """Age in memory tokens written since, of tokens born at `births`."""
        return self.now - 1 - births

    # -- files -----------------------------------------------------------------------------------------------------

    def save(self, directory: str | Path) -> None:
        """Store this memory in a directory, atomically: a crash leaves the previous state."""
        from mplus.memory import snapshot

        snapshot.save(self, Path(directory))

    @staticmethod
    def load(
        directory: str | Path, model: Host, *, store: Storage | str | Path | None = None, check_rows: bool = False
    ) -> Memory:
        """Open a stored memory.

        Args:
            store: where its long-term rows live from now on: "ram", or a directory for more than RAM holds (`directory`
                itself goes on in place). None leaves rows that were saved as segments where they are, whatever their size,
                and keeps new ones in RAM.
            check_rows: compare every segment with its SHA-256, which reads all of them; else only their sizes are checked.

        Raises:
            SnapshotError: missing, damaged or of an unknown version.
            StoreError: `store` is in use, full, read-only or something else.
            WrongModelError: written by another model.
        """
        from mplus.memory import snapshot

        if isinstance(model, (str, Path)):
            raise InputError(f"Memory.load needs a loaded model, got {model!r}; open it with MPlusModel.from_pretrained first")
        return snapshot.load(Path(directory), model, store, check_rows=check_rows)
