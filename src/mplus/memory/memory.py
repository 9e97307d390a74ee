"""A memory: everything one user, conversation or corpus has written. Knows a model only as an ``Encoder``.

Legend: L layers, N short-term tokens, K new tokens per write, G drop groups, n tokens.
Time is counted in memory tokens written: ``now``; the age of a token is ``now - 1 - birth``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator
from os import PathLike
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor

from mplus.errors import EmptyTextError, InputError
from mplus.memory import budget, drops
from mplus.memory.arguments import Text, checked_seed, checked_source, checked_text, runs
from mplus.memory.encoder import Encoder, WritingModel
from mplus.memory.ledger import Chunk, Ledger
from mplus.memory.long_term import LongTerm
from mplus.memory.row_codec import check_row_types
from mplus.memory.rows import EncodedChunk
from mplus.memory.short_term import ShortTerm
from mplus.memory.state import MemoryState, PendingText, StateAttribute, ordinary_tensors
from mplus.memory.stats import MemoryStats
from mplus.memory.stores.disk import storage_at
from mplus.memory.stores.protocol import Storage
from mplus.runtime.turns import TurnLock
from mplus.settings import Geometry, MemoryFormat
from mplus.text.prompts import SEPARATOR, check_ids

__all__ = ["Encoder", "Memory", "MemoryStats"]

log = logging.getLogger(__name__)
Progress = Callable[[int], None]
IN_USE = (
    "this memory is being written or read by the call that called back (a streamer, processor or progress function); "
    "change it when that call has returned, or change a fork"
)


class Memory:
    """Short-term pool, long-term store, counters, random state and source ledger of one reader.

    Made by ``model.new_memory()``. A read never changes it; ``write`` and ``update`` do, whole or not at all. Threads may share it:
    a write waits for reads and other writes to end. Attributes that lie in the state are in ``MemoryState``.
    """

    short_term = StateAttribute[ShortTerm]()
    long_term = StateAttribute[LongTerm]()
    generator = StateAttribute[torch.Generator]()
    ledger = StateAttribute[Ledger]()
    tail = StateAttribute[Tensor | None]()
    now = StateAttribute[int]()
    tokens_read = StateAttribute[int]()
    pending = StateAttribute[PendingText]()
    initialised = StateAttribute[bool]()

    def __init__(
        self,
        encoder: Encoder,
        geometry: Geometry,
        memory_format: MemoryFormat,
        seed: int,
        *,
        initialised: bool = True,
        store: Storage | str | Path = "ram",
    ) -> None:
        self.turn = TurnLock(IN_USE)
        self.stored: dict[str, tuple[int, int]] = {}
        """Data files of the states this memory was opened from or saved as, with device and inode of their directories."""
        self.retriever: Any = None
        """The retriever of this memory in place of the model's (``mplus.retrieval``), as in an ablation; not stored."""
        self.encoder = encoder
        self.geometry = geometry
        self.format: MemoryFormat = memory_format
        self.seed = checked_seed(seed)
        self.layout = encoder.layout(memory_format, geometry)
        self.initialised_at_start = initialised
        check_row_types(self.layout, geometry)  # before a directory is made
        self.storage = storage_at(store)
        self._start()

    def _start(self) -> None:
        """Begin with the state of a new memory."""
        with ordinary_tensors():
            groups = self.layout.layers if self.geometry.write.drop == "per_layer" else 1
            self._state = MemoryState(
                short_term=ShortTerm(self.layout, self.geometry.sizes.stm_tokens, groups),
                long_term=LongTerm(self.layout, self.geometry, self.storage),
                generator=torch.Generator().manual_seed(self.seed),
                initialised=self.initialised_at_start,
            )
            initial = self.encoder.initial_rows(self) if self.initialised else None
            if initial is not None:
                rows, self.tail = initial
                count = next(iter(rows.values())).shape[1]
                oldest_first = torch.arange(count - 1, -1, -1)
                ages = oldest_first if self.geometry.quirks.stm_ages == "since_written" else torch.zeros(count, dtype=torch.int64)
                self.short_term.append(rows, -1 - ages)
            for group, (rows, ages, frequency) in enumerate(self.encoder.initial_longterm(self) or []):
                self.long_term.restore(group, rows, -1 - ages, frequency)

    def __repr__(self) -> str:
        held = self._state
        long_term = (
            f"LTM {len(held.long_term):,} of {self.geometry.sizes.ltm_capacity:,}" if self.geometry.sizes.ltm else "no LTM"
        )
        names = [name or "(no name)" for name in held.ledger.tokens_by_source()]
        shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        return (
            f"Memory(model {self.encoder.name!r}, {held.tokens_read + self.pending_tokens:,} tokens read, "
            f"STM {len(held.short_term):,} of {self.geometry.sizes.stm_tokens:,}, {long_term}, sources: {shown or 'none'})"
        )

    # -- writing ---------------------------------------------------------------------------------------------------

    def write(self, text: Text, source: str | PathLike[str] | None = None, progress: Progress | None = None) -> int:
        """Read a text into memory.

        Long text is cut at paragraph or sentence ends. What is shorter than the model's minimum waits in ``pending``
        and stands as plain text before the next prompt until more text joins it. A text of another source than the one before
        begins a new paragraph; token ids are taken as they are. Each chunk is taken in whole or not at all: after an error or
        Ctrl-C the chunks before it are in memory and the one at hand waits in ``pending``.

        Args:
            text: a string, or token ids [T].
            source: name the text is remembered under.
            progress: called with the text tokens done so far.

        Returns:
            text tokens taken in, the pending ones included.

        Raises:
            EmptyTextError: there is no token in `text`.
            InputError: `text` or `source` is of another type, or has tokens that this model does not know; nothing changed.
            ReentryError: called by a streamer, processor or progress function of a call that uses this memory or its model.
            CapacityError: what a pass needs cannot be allocated; nothing is lost.
        """
        self.encoder.refuse_reentry()
        with self.turn.held():
            steps = self.steps(text, source, progress)
            try:
                ids = next(steps)
                while True:
                    ids = steps.send(self.encoder.encode(ids, self))
            except StopIteration as end:
                return int(end.value)

    def steps(
        self, text: Text, source: str | PathLike[str] | None = None, progress: Progress | None = None
    ) -> Generator[list[int], EncodedChunk, int]:
        """What ``write`` does, one chunk at a time: gives the ids of a chunk and wants back what a write pass made of them.

        The text of a chunk waits in ``pending`` until its rows are taken in. It ends with the text tokens taken in. The caller
        holds ``turn``.

        Raises:
            EmptyTextError, InputError: see ``write``; raised here, before anything changes.
        """
        name = checked_source(source)
        pieces, ends_in_space = self._pieces(checked_text(text), name)
        if not any(pieces):
            raise EmptyTextError("nothing to write: the text is empty; give text with at least one word")
        return self._stepping(pieces, name, progress, ends_in_space)

    def _stepping(
        self, pieces: list[list[int]], source: str | None, progress: Progress | None, ends_in_space: bool | None
    ) -> Generator[list[int], EncodedChunk, int]:
        done = 0
        for ids in pieces:
            self.pending = [*self.pending, (source, ids)]
            self._state.ends_in_space = ends_in_space
            if self.pending_tokens >= self.geometry.sizes.min_write_tokens:
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

    def update(self, written: EncodedChunk, dropped: Tensor | None = None, *, keep_dropped: bool = True) -> None:
        """Take a write pass in: drop random old tokens, hand them to long-term memory, append the new ones.

        Args:
            written: from ``model.encode``.
            dropped: [G, k] ranks to drop instead of random ones (0 = oldest); [L, k] is accepted for G = 1 when rows agree.
            keep_dropped: False discards what is dropped, as if there were no long-term memory.
        """
        with self.turn.held():
            self._update(written, dropped, keep_dropped, ((None, written.text_tokens),), self.pending)

    def _update(
        self,
        written: EncodedChunk,
        dropped: Tensor | None,
        keep_dropped: bool,
        sources: tuple[tuple[str | None, int], ...],
        pending: PendingText,
    ) -> None:
        """Take a write pass in; `pending` waits afterwards."""
        missing = sorted(set(self.layout.fields) - set(written.rows))
        if missing:
            raise InputError(
                f"this chunk was written for a memory of another form (it lacks {', '.join(missing)}); encode it with this memory"
            )
        with ordinary_tensors():
            if written.initial:
                written = self._tiled(written)
            state = self._state.staged()
            self._reserve(state, written.tokens, dropped)
            ranks = self._leaving(state.short_term, state.generator, written, dropped, keep_dropped)
            count = written.tokens
            births = torch.arange(state.now, state.now + count)
            if self.geometry.quirks.stm_ages == "frozen":
                state.short_term.births = state.short_term.births + count
            state.now += count
            if ranks.shape[1]:
                rows, dropped_births = state.short_term.remove(ranks)
                if self.geometry.sizes.ltm and keep_dropped:
                    state.long_term.append(rows, dropped_births)
            state.short_term.append(written.rows, births)
            if written.hidden is not None:
                older = [] if state.tail is None else [state.tail]
                state.tail = torch.cat([*older, written.hidden], 1)[:, -self.geometry.sizes.new_tokens :]
            state.initialised = True
            state.tokens_read += written.text_tokens
            state.ledger.add(Chunk(int(births[0]), count, sources))
            state.pending = pending
        self._take(state)
        log.debug("wrote %d tokens: STM %d, LTM %d", written.text_tokens, len(self.short_term), len(self.long_term))

    def _take(self, state: MemoryState) -> None:
        """Be `state` from now on: the one step that a change of this memory consists of."""
        self._state = state
        state.short_term.free_kept()

    def _make_room(self, new_tokens: int) -> None:
        """Have room for `new_tokens` more before a pass is spent on them."""
        with ordinary_tensors():
            state = self._state.staged()
            self._reserve(state, new_tokens)
        self._take(state)

    def _reserve(self, state: MemoryState, new_tokens: int, dropped: Tensor | None = None) -> None:
        """Have room for what `new_tokens` more may drop: what was taken from short-term memory must never be refused."""
        short_term = state.short_term
        with budget.explain_out_of_memory(
            lambda free: budget.MemoryBudget.of(self.layout, self.geometry, kv_numbers=0).for_memory(free), self.layout.device
        ):
            short_term.reserve(new_tokens)
        excess = max(0, len(short_term) + new_tokens - short_term.capacity_tokens)
        rows = (excess and excess + self.geometry.drop_span - 1) if dropped is None else dropped.shape[-1]
        state.long_term.reserve(rows if self.geometry.sizes.ltm else 0)

    def _leaving(
        self, short_term: ShortTerm, generator: torch.Generator, written: EncodedChunk, dropped: Tensor | None, keep_dropped: bool
    ) -> Tensor:
        """Ranks [G, k] that make room for a write pass; whatever is wrong with it is found here, before anything changes."""
        if dropped is None:
            ranks = drops.choose(short_term, self.geometry, generator, written.tokens)
        else:
            finds_blocks = keep_dropped and self.geometry.sizes.reads_ltm and self.geometry.read.is_shared
            ranks = drops.checked_ranks(short_term, dropped, self.geometry.read.block_tokens if finds_blocks else 1)
        places = short_term.capacity_tokens - len(short_term) + ranks.shape[1]
        if written.tokens > places:
            raise InputError(
                f"{written.tokens} new tokens do not fit into the {places} places that are or become free; drop more"
            )
        return ranks

    def _tiled(self, written: EncodedChunk) -> EncodedChunk:
        """The published first write: its m rows are copied until they fill the pool, the rest taken from their end."""
        count, size = written.tokens, self.geometry.sizes.stm_tokens
        rest = size % count
        index = torch.cat([torch.arange(count).repeat(size // count), torch.arange(count - rest, count)])
        rows = {name: value[:, index.to(value.device)] for name, value in written.rows.items()}
        hidden = None if written.hidden is None else written.hidden[:, index.to(written.hidden.device)]
        return EncodedChunk(rows, written.text_tokens, hidden=hidden)

    def _pieces(self, text: str | list[int], source: str | None) -> tuple[list[list[int]], bool | None]:
        """Chunks of token ids that this model knows, and whether the text ends in white space."""
        if isinstance(text, str):
            pieces = self.encoder.cut(SEPARATOR + text if self._needs_separator(text, source) else text)
            ends_in_space = text[-1:].isspace()
        else:
            size, ends_in_space = self.geometry.sizes.chunk_tokens, None
            pieces = [text[start : start + size] for start in range(0, len(text), size)]
        check_ids((token for piece in pieces for token in piece), self.encoder.vocabulary)
        return pieces, ends_in_space

    def _needs_separator(self, text: str, source: str | None) -> bool:
        """Whether a text would be glued to one of another source (unnamed texts are sources of their own each)."""
        state = self._state
        if state.is_empty or text[:1].isspace() or state.ends_in_space:
            return False
        newest = [name for name, _ in state.pending[-1:]] or state.ledger.newest_source
        last = newest[0] if newest else None
        return source is None or source != last

    def _write_pending(self) -> Generator[list[int], EncodedChunk, None]:
        """Write all that waits: one chunk, or equal ones if it is too long for one (a short rest would only wait again).

        What is not taken in yet goes on waiting, so nothing of what was read is lost when a pass fails.
        """
        labelled = [(source, token) for source, ids in self.pending for token in ids]
        chunks = -(-len(labelled) // self.geometry.sizes.chunk_tokens)
        size = -(-len(labelled) // chunks)
        for start in range(0, len(labelled), size):
            part, rest = labelled[start : start + size], labelled[start + size :]
            self._make_room(self.geometry.sizes.new_tokens)
            written = yield [token for _, token in part]
            sources = tuple((name, len(ids)) for name, ids in runs(part))
            self._update(written, None, True, sources, runs(rest))

    # -- value semantics -------------------------------------------------------------------------------------------

    def fork(self) -> Memory:
        """A copy to write on; this one is never changed by it, nor it by this one."""
        twin = Memory.__new__(Memory)
        with self.turn.held_or_mine(), ordinary_tensors():
            twin.__dict__.update(self.__dict__)
            twin.turn = TurnLock(IN_USE)
            twin._state, twin.stored = self._state.fork(), dict(self.stored)
        return twin

    def __copy__(self) -> Memory:
        return self.fork()

    def __deepcopy__(self, memo: dict[int, Any]) -> Memory:
        return self.fork()

    def __reduce__(self) -> NoReturn:
        raise InputError(
            "a memory is not pickled, because its model would go along; use memory.save(DIR) and Memory.load(DIR, model)"
        )

    def clear(self) -> None:
        """Forget everything; the memory is again as ``model.new_memory(seed=...)`` made it."""
        self.encoder.refuse_reentry()
        with self.turn.held():
            before = self._state
            try:
                self._start()
            except BaseException:
                self._state = before
                raise
            before.long_term.close()

    def stats(self) -> MemoryStats:
        """Counts and sizes."""
        with self.turn.held_or_mine():
            return self._stats()

    def _stats(self) -> MemoryStats:
        pool_bytes = self.layout.bytes_per_token * len(self.short_term)
        tail_bytes = 0 if self.tail is None else self.tail.numel() * self.tail.element_size()
        return MemoryStats(
            tokens_read=self.tokens_read,
            chunks=len(self.ledger.chunks),
            pending_tokens=self.pending_tokens,
            stm_tokens=len(self.short_term),
            stm_capacity=self.geometry.sizes.stm_tokens,
            ltm_tokens=len(self.long_term),
            ltm_capacity=self.geometry.sizes.ltm_capacity if self.geometry.sizes.ltm else 0,
            size_bytes=pool_bytes + tail_bytes + self.long_term.size_bytes,
            memory_format=self.format,
            sources=self.ledger.tokens_by_source(),
        )

    def ages(self, births: Tensor) -> Tensor:
        """Age in memory tokens written since, of tokens born at `births`."""
        return self.now - 1 - births

    # -- files -----------------------------------------------------------------------------------------------------

    def save(self, directory: str | Path, *, overwrite: bool = False) -> None:
        """Store this memory in a directory, atomically: a crash leaves the previous state.

        Args:
            overwrite: replace also another memory, or what somebody else stored there since this one was opened from or saved to it.

        Raises:
            SnapshotError: the directory holds something else or a newer state, or cannot be written; what was there is unchanged.
        """
        from mplus.memory import snapshot

        with self.turn.held_or_mine():
            snapshot.save(self, directory, overwrite=overwrite)

    @staticmethod
    def load(
        directory: str | Path, model: WritingModel, *, store: Storage | str | Path | None = None, check_rows: bool = False
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
        with ordinary_tensors():
            return snapshot.load(directory, model.writer, store, check_rows=check_rows)
