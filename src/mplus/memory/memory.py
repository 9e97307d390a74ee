"""A memory: everything one user, conversation or corpus has written. Knows a model only as an ``Encoder``.

Legend: L layers, N short-term tokens, K new tokens per write, G drop groups, n tokens.
Time is counted in memory tokens written: ``now``; the age of a token is ``now - 1 - birth``.
"""

from __future__ import annotations

import logging
import time
import weakref
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import torch
from torch import Tensor

from mplus.errors import EmptyTextError, InputError
from mplus.memory import budget, drops, rewriting
from mplus.memory.arguments import Text, checked_seed, checked_source, checked_text, runs
from mplus.memory.encoder import Encoder, WritingModel
from mplus.memory.ledger import Chunk, Ledger, SourceInfo, content_key, digest_of, packed
from mplus.memory.log import Extent, RowLog
from mplus.memory.long_term import LongTerm, index_slab
from mplus.memory.placement import Placement
from mplus.memory.reports import ForgetReport, MergeReport
from mplus.memory.row_codec import RowCodec, check_row_types
from mplus.memory.rows import ChunkToEncode, EncodedChunk, Rows, rows_key
from mplus.memory.selection import ReadScope, Time, Where, chosen, seconds_of
from mplus.memory.short_term import ShortTerm
from mplus.memory.source_writing import ReadyChunk, SourceWriting
from mplus.memory.sources import source_infos
from mplus.memory.state import MemoryState, PendingText, ordinary_tensors
from mplus.memory.stats import MemoryStats
from mplus.memory.stores.disk import DiskStorage, storage_at
from mplus.runtime.turns import TurnLock, in_order
from mplus.settings import Geometry, MemoryFormat
from mplus.text.prompts import SEPARATOR, check_ids

if TYPE_CHECKING:
    from mplus.memory.encrypted_snapshot import EncryptedFiles
    from mplus.memory.keys import Keys
    from mplus.memory.read_only import ReadOnlyMemory

__all__ = ["Encoder", "Memory", "MemoryStats"]

log = logging.getLogger(__name__)
Progress = Callable[[int], None]
IN_USE = (
    "this memory is being written or read by the call that called back (a streamer, processor or progress function); "
    "change it when that call has returned, or change a fork"
)
_living: weakref.WeakSet[Memory] = weakref.WeakSet()
"""All memories of this process."""


class Memory:
    """What one reader has read: a log of encoded sources, and where each of its tokens is.

    Made by ``model.new_memory()``. A read never changes it; ``write``, ``update``, ``forget``, ``replace`` and ``merge`` do, whole or not
    at all. Threads may share it: a write waits for reads and other writes to end. All of it that changes is one ``MemoryState``.
    """

    def __init__(
        self,
        encoder: Encoder,
        geometry: Geometry,
        memory_format: MemoryFormat,
        seed: int,
        *,
        initialised: bool = True,
        store: DiskStorage | str | Path = "ram",
    ) -> None:
        self.turn = TurnLock(IN_USE)
        self.stored: dict[str, tuple[int, int]] = {}
        """Data files of the states this memory was opened from or saved as, with device and inode of their directories."""
        self.keys: Keys | None = None
        """Keys of the home that its sources are encrypted with when it is saved; None stores them as they are."""
        self.encrypted: dict[tuple[int, int], EncryptedFiles] = {}
        """Files of its sources in directories that it was opened from or saved to, by device and inode."""
        self.retriever: Any = None
        """The retriever of this memory in place of the model's (``mplus.retrieval``), as in an ablation; not stored."""
        self.encoder = encoder
        self.geometry = geometry
        self.format: MemoryFormat = memory_format
        self.seed = checked_seed(seed)
        self.layout = encoder.layout(memory_format, geometry)
        self.initialised_at_start = initialised
        check_row_types(self.layout, geometry)  # before a directory is made
        self.codec = RowCodec(self.layout, geometry)
        self.storage = storage_at(store)
        self.slab = index_slab(geometry)
        self._state = replace(self.empty_state(), initialised=initialised)
        self._state = self._new_state()
        _living.add(self)

    def _new_state(self) -> MemoryState:
        """The state of a new memory."""
        with ordinary_tensors():
            state = replace(self.empty_state(), initialised=self.initialised_at_start)
            initial = self.encoder.initial_rows(self) if self.initialised_at_start else None
            if initial is None:
                return state
            rows, tail = initial
            count = next(iter(rows.values())).shape[1]
            oldest_first = torch.arange(count - 1, -1, -1, device="cpu")
            ages = oldest_first if self.geometry.quirks.stm_ages == "since_written" else oldest_first * 0
            long = [(rows, -1 - ages, frequency, 0) for rows, ages, frequency in self.encoder.initial_longterm(self) or []]
            births = (-1 - ages).expand(state.placement.groups, -1)
            return rewriting.with_rows(self, replace(state, tail=tail), rows, births, long)

    def empty_state(self) -> MemoryState:
        """A state without any row, whose rows will lie where this memory keeps them."""
        row_log = RowLog(self.codec.fields, storage=self.storage)
        placement = Placement.new(self.geometry, self.layout.layers, self.seed)
        return MemoryState(
            log=row_log,
            placement=placement,
            short_term=ShortTerm(self.layout, self.geometry.sizes.stm_tokens, placement.groups),
            long_term=LongTerm(self.layout, self.geometry, self.codec, row_log, placement.long),
        )

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

    # -- what it holds ---------------------------------------------------------------------------------------------

    @property
    def state(self) -> MemoryState:
        """Everything it holds, as a value that never changes."""
        return self._state

    @property
    def short_term(self) -> ShortTerm:
        """Rows of short-term memory where the model computes."""
        return self._state.short_term

    @property
    def long_term(self) -> LongTerm:
        """Rows of long-term memory, and their search."""
        return self._state.long_term

    @property
    def placement(self) -> Placement:
        """Where each memory token is."""
        return self._state.placement

    @property
    def ledger(self) -> Ledger:
        """What was written, from where, when."""
        return self._state.ledger

    @property
    def tail(self) -> Tensor | None:
        """[L, <=K, D] hidden states of the newest tokens, where rows do not hold them."""
        return self._state.tail

    @property
    def initialised(self) -> bool:
        """False before the first write of a published MemoryLLM without a pool."""
        return self._state.initialised

    @property
    def now(self) -> int:
        """Memory tokens written."""
        return self._state.placement.now

    @property
    def tokens_read(self) -> int:
        """Text tokens written, the pending ones not included."""
        return self._state.tokens_read

    @property
    def pending(self) -> PendingText:
        """Text that waits for more text, with the names of its sources."""
        return self._state.pending

    @property
    def pending_tokens(self) -> int:
        """Text tokens waiting for more text."""
        return self._state.pending_tokens

    @property
    def pending_ids(self) -> list[int]:
        """The waiting text tokens in order."""
        return [token for _, ids in self.pending for token in ids]

    def sources(self) -> list[SourceInfo]:
        """All sources in the order of their first write, with where their memory tokens are."""
        with self.turn.held_or_mine():
            return source_infos(self._state)

    def ids(self, source: str) -> list[int]:
        """Token ids of a source in the order of writing.

        Raises:
            InputError: there is no such source, or a memory of before did not keep them.
        """
        with self.turn.held_or_mine():
            (name,) = chosen(source_infos(self._state), source, None)
            ids = self.ledger.ids_by_source().get(name or None, None)
            waiting = [token for label, tokens in self.pending if (label or "") == name for token in tokens]
        if ids is None and not waiting:
            raise InputError(
                f"the token ids of {name!r} were not kept by the version that wrote this memory; write the source again"
            )
        return [*(token for piece in ids or () for token in piece), *waiting]

    def text(self, source: str) -> str:
        """The text of a source, from its token ids.

        Raises:
            InputError: see ``ids``; or the model was opened without a tokenizer.
        """
        return self.encoder.decode(self.ids(source)).removeprefix(SEPARATOR)

    def digest(self, text: Text, *, special_tokens: bool = False) -> str:
        """What ``SourceInfo.digest`` would be of a new source with this text.

        Raises:
            EmptyTextError, InputError: see ``write``.
        """
        whole = checked_text(text)
        if isinstance(whole, str):
            begins = "" if whole[:1].isspace() or self.geometry.write.context == "memory" else SEPARATOR
            pieces = self.encoder.cut(begins + whole, special_tokens=special_tokens)
            return digest_of(pieces)
        return digest_of([whole])

    @property
    def notes(self) -> Mapping[str, Mapping[str, Any]]:
        """What was noted of sources, by name."""
        return self._state.notes

    def note(self, source: str, note: Mapping[str, Any]) -> None:
        """Note something of a source, as JSON; it is stored with the memory and goes when the source is forgotten or replaced.

        Raises:
            InputError: there is no such source.
        """
        with self.turn.held():
            chosen(source_infos(self._state), source, None)
            self.become(replace(self._state, notes={**self._state.notes, source: note}))

    def read_only(
        self, sources: str | Sequence[str] | None = None, *, before: Time | None = None, after: Time | None = None
    ) -> ReadOnlyMemory:
        """This memory restricted to some writes, to be read wherever a memory is; later writes within the scope show too.

        Where forgetting is exact (``forget``) and every row within the scope is still held, a read of it is, bit for bit, that of the
        memory that was only given these writes: what stands in short-term memory, what is retrieved, the answer. A later write of a
        source was encoded behind the earlier ones of it, so `after` shows rows that have seen what lies before it; places in a source, as
        in a trace, count from its first write that shows. Elsewhere rows stay
        where they are in the whole memory: nothing outside is read, but short-term memory may hold less. No row of the log is copied.

        Args:
            sources: a name, or a pattern as file names are matched (``notes/*``), or several.
            before: writes before this time (``at`` of ``write``): seconds since 1970 or a datetime.
            after: writes at or after this time.

        Raises:
            InputError: no source has that name, a time is none, or nothing was written in that span.
        """
        from mplus.memory.read_only import ReadOnlyMemory

        scope = ReadScope.of(sources, before, after)
        scope.check(self.sources())
        return ReadOnlyMemory(self, scope)

    def check_changeable(self) -> None:
        """Refuse a change where this is only a view of a memory; see ``read_only``."""

    # -- writing ---------------------------------------------------------------------------------------------------

    def write(
        self,
        text: Text,
        source: str | PathLike[str] | None = None,
        *,
        at: Time | None = None,
        share: bool = True,
        special_tokens: bool = False,
        progress: Progress | None = None,
    ) -> int:
        """Read a text into memory.

        Long text is cut at paragraph or sentence ends. With ``write_context="source"`` each chunk sees the newest K tokens of its own
        source and nothing waits; a source begins with an empty line. With ``"memory"`` it sees the newest K of all; what is shorter
        than the model's minimum waits in ``pending`` and stands as plain text before the next prompt until more text joins it; a text
        of another source than the one before begins a new paragraph. Token ids are taken as they are. Each chunk is taken in whole or
        not at all: after an error or Ctrl-C the chunks before it are in memory.

        Args:
            text: a string, or token ids [T].
            source: name the text is remembered under.
            at: when it was said, seconds since 1970 or a datetime; default: now.
            share: take the rows of a chunk that a memory of this process already holds behind the same text; False encodes it anew.
            special_tokens: take special tokens that are spelled out in a text as such; else they are plain text.
            progress: called with the text tokens done so far.

        Returns:
            text tokens taken in, the pending ones included.

        Raises:
            EmptyTextError: there is no token in `text`.
            InputError: `text`, `source` or `at` is of another type, or has tokens that this model does not know; nothing changed.
            ReentryError: called by a streamer, processor or progress function of a call that uses this memory or its model.
            CapacityError: what a pass needs cannot be allocated; nothing is lost.
        """
        self.check_changeable()
        self.encoder.refuse_reentry()
        with self.turn.held():
            return self._run(self.steps(text, source, progress, at=at, share=share, special_tokens=special_tokens))

    def _run(self, steps: Generator[ChunkToEncode, EncodedChunk, int]) -> int:
        """Take steps one by one, a write pass each."""
        try:
            wanted = next(steps)
            while True:
                wanted = steps.send(self.encoder.encode(wanted.ids, self, tail=wanted.tail))
        except StopIteration as end:
            return int(end.value)

    def steps(
        self,
        text: Text,
        source: str | PathLike[str] | None = None,
        progress: Progress | None = None,
        *,
        at: Time | None = None,
        share: bool = True,
        special_tokens: bool = False,
    ) -> Generator[ChunkToEncode, EncodedChunk, int]:
        """What ``write`` does, one chunk at a time: gives a chunk and wants back what a write pass made of it.

        It ends with the text tokens taken in. The caller holds ``turn``.

        Raises:
            EmptyTextError, InputError: see ``write``; raised here, before anything changes.
        """
        if self._is_by_source:
            return self._source_steps(self.writing(text, source, at=at, share=share, special_tokens=special_tokens), progress)
        pieces, name, when = self._checked(text, source, at, special_tokens)
        ends_in_space = text[-1:].isspace() if isinstance(text, str) else None
        return self._stepping(pieces, name, when, progress, ends_in_space)

    def writing(
        self,
        text: Text,
        source: str | PathLike[str] | None,
        *,
        at: Time | None = None,
        share: bool = True,
        special_tokens: bool = False,
    ) -> SourceWriting:
        """A text on its way into this memory, whose chunks may be encoded beside those of other sources (``write_context="source"``).

        Raises:
            EmptyTextError, InputError: see ``write``.
        """
        return SourceWriting(self, *self._checked(text, source, at, special_tokens), share=share)

    def _checked(
        self, text: Text, source: str | PathLike[str] | None, at: Time | None, special_tokens: bool
    ) -> tuple[list[list[int]], str | None, float]:
        """Chunks of a text, the name of its source and its time; whatever is wrong with them is found before anything changes."""
        self.check_changeable()
        name, when = checked_source(source), time.time() if at is None else seconds_of(at)
        pieces = self._pieces(checked_text(text), name, special_tokens)
        if not any(pieces):
            raise EmptyTextError("nothing to write: the text is empty; give text with at least one word")
        return pieces, name, when

    def _source_steps(self, writing: SourceWriting, progress: Progress | None) -> Generator[ChunkToEncode, EncodedChunk, int]:
        done = 0
        while not writing.is_done:
            wanted = writing.wanted()
            for ready in writing.take_ready():
                self.take(ready)
                done += len(ready.ids)
                if progress is not None:
                    progress(done)
            if wanted is not None:
                self.make_room(self.geometry.sizes.new_tokens)
                writing.give((yield wanted))
        return done

    def _stepping(
        self, pieces: list[list[int]], source: str | None, at: float, progress: Progress | None, ends_in_space: bool | None
    ) -> Generator[ChunkToEncode, EncodedChunk, int]:
        done = 0
        for ids in pieces:
            pending = (*self.pending, (source, tuple(ids)))
            self._state = replace(self._state, pending=pending, ends_in_space=ends_in_space)
            if self.pending_tokens >= self.geometry.sizes.min_write_tokens:
                yield from self._write_pending(at)
            done += len(ids)
            if progress is not None:
                progress(done)
        return done

    def _write_pending(self, at: float) -> Generator[ChunkToEncode, EncodedChunk, None]:
        """Write all that waits: one chunk, or equal ones if it is too long for one (a short rest would only wait again).

        What is not taken in yet goes on waiting, so nothing of what was read is lost when a pass fails.
        """
        labelled = [(source, token) for source, ids in self.pending for token in ids]
        chunks = -(-len(labelled) // self.geometry.sizes.chunk_tokens)
        size = -(-len(labelled) // chunks)
        for start in range(0, len(labelled), size):
            part, rest = labelled[start : start + size], labelled[start + size :]
            self.make_room(self.geometry.sizes.new_tokens)
            ids = [token for _, token in part]
            written = yield ChunkToEncode(ids, None)
            sources = tuple((name, len(own)) for name, own in runs(part))
            pending = tuple((name, tuple(own)) for name, own in runs(rest))
            self._update(written, Chunk(0, 0, sources, packed(ids), at), pending=pending)

    def update(
        self,
        written: EncodedChunk,
        dropped: Tensor | None = None,
        *,
        keep_dropped: bool = True,
        source: str | None = None,
        at: Time | None = None,
    ) -> None:
        """Take a write pass in: drop random old tokens, append the new ones.

        Args:
            written: from ``model.encode``.
            dropped: [G, k] ranks to drop instead of random ones (0 = oldest); [L, k] is accepted for G = 1 when rows agree.
            keep_dropped: False discards what is dropped, as if there were no long-term memory.
            source, at: as for ``write``.
        """
        when = time.time() if at is None else seconds_of(at)
        name, ids = checked_source(source), written.ids
        with self.turn.held():
            before = self.ledger.key_of(name)
            key, by_hand = "", dropped is not None or not keep_dropped
            if self._is_by_source:
                is_next = ids is not None and written.behind == before
                key = content_key(before, ids) if ids is not None and is_next else rows_key(written.rows)
                by_hand |= not is_next
            chunk = Chunk(0, 0, ((name, written.text_tokens),), None if ids is None else packed(ids), when, key, by_hand=by_hand)
            self._update(written, chunk, dropped, keep_dropped)

    def take(self, ready: ReadyChunk) -> None:
        """Take in the next chunk of a source; the caller holds ``turn``."""
        self.make_room(self.geometry.sizes.new_tokens)
        chunk = Chunk(0, 0, ((ready.source, len(ready.ids)),), packed(ready.ids), ready.at, ready.key)
        self._update(ready.written, chunk, extent=ready.extent)

    def _update(
        self,
        written: EncodedChunk,
        chunk: Chunk,
        dropped: Tensor | None = None,
        keep_dropped: bool = True,
        *,
        extent: Extent | None = None,
        **also: Any,
    ) -> None:
        """Take a write pass in.

        Args:
            extent: where its rows lie already; None: they are new.
            also: fields of the state that change with it.
        """
        missing = sorted(set(self.layout.fields) - set(written.rows))
        if missing:
            raise InputError(
                f"this chunk was written for a memory of another form (it lacks {', '.join(missing)}); encode it with this memory"
            )
        stands_for = self.geometry.sizes.tokens_per_row
        is_other = stands_for > 1 and written.tokens != -(-written.text_tokens // stands_for)
        if is_other or any(written.rows[name].shape[2:] != shape for name, shape in self.layout.fields.items()):
            raise InputError(
                "this chunk was written for a memory of another form (other tokens_per_row or another model); encode it with this memory"
            )
        with ordinary_tensors():
            if written.initial:
                written = self._tiled(written)
            state = self._reserved(self._state, written.tokens)
            placement, ranks = self._placed(state, written, dropped, keep_dropped)
            row_log, place = state.log.appended(self.codec.stored(written.rows)) if extent is None else state.log.linked(extent)
            row_log = self._trimmed(row_log, state.placement, placement)
            short_term = state.short_term.staged()
            if ranks.shape[1]:
                short_term.remove(ranks)
            short_term.append(self.codec.rounded(written.rows) if extent is None else written.rows)
            chunk = chunk._replace(first=place.row, rows=written.tokens)
            after = replace(
                state,
                log=row_log,
                placement=placement,
                short_term=short_term,
                long_term=state.long_term.followed_by(row_log, placement.long),
                ledger=state.ledger.with_chunk(chunk),
                recent=state.with_recent(chunk.source, place, self.geometry.sizes.new_tokens) if self._is_by_source else (),
                tokens_read=state.tokens_read + written.text_tokens,
                initialised=True,
                **self._tails(state, written, chunk.source),
                **also,
            )
        self.become(after)
        if chunk.key and self._is_by_source:
            self.encoder.shared_rows(self).note(chunk.key, place)
        log.debug("wrote %d tokens: STM %d, LTM %d", written.text_tokens, len(self.short_term), len(self.long_term))

    def _tails(self, state: MemoryState, written: EncodedChunk, source: str | None) -> dict[str, Any]:
        """Hidden states of the newest tokens, where a later chunk needs them and rows do not hold them."""
        if written.hidden is None:
            return {}
        count = self.geometry.sizes.new_tokens
        if not self._is_by_source:
            older = [] if state.tail is None else [state.tail]
            return {"tail": torch.cat([*older, written.hidden], 1)[:, -count:]}
        if self.format == "hidden":
            return {}
        older = [state.tails[source]] if source in state.tails else []
        return {"tails": {**state.tails, source: torch.cat([*older, written.hidden], 1)[:, -count:]}}

    @property
    def _is_by_source(self) -> bool:
        return self.geometry.write.context == "source"

    def become(self, state: MemoryState) -> None:
        """Be `state` from now on: the one step that a change of this memory consists of."""
        self._state = state
        state.short_term.free_kept()

    def make_room(self, new_tokens: int) -> None:
        """Reserve room for `new_tokens` more before a pass is spent on them."""
        with ordinary_tensors():
            state = self._reserved(self._state, new_tokens)
        self.become(state)

    def _reserved(self, state: MemoryState, new_tokens: int) -> MemoryState:
        """`state` with room for `new_tokens` more: what a pass has computed must never be refused."""
        short_term = state.short_term.staged()
        with budget.explain_out_of_memory(
            lambda free: budget.MemoryBudget.of(self.layout, self.geometry, kv_numbers=0).for_memory(free), self.layout.device
        ):
            short_term.reserve(new_tokens)
        own = budget.MemoryBudget.of(self.layout, self.geometry, kv_numbers=0)  # what a prompt reads is not asked here
        with budget.explain_out_of_memory(lambda free: own.for_longterm(len(state.log), new_tokens, free), torch.device("cpu")):
            row_log = state.log.reserved(new_tokens)
        if row_log is state.log:
            return replace(state, short_term=short_term)
        self._note_moved(state.log, row_log)
        long_term = state.long_term.followed_by(row_log, state.placement.long)
        recent = state.recent if row_log.extents is state.log.extents else ()  # what lies in a file now is not kept in RAM too
        return replace(state, log=row_log, long_term=long_term, short_term=short_term, recent=recent)

    def note_chunks(self) -> None:
        """Let other memories of the process take the rows of this one's chunks, as after opening it."""
        shared = self.encoder.shared_rows(self)
        for chunk in self.ledger.chunks if self._is_by_source else ():
            place = self._state.log.extent_of(chunk.first, chunk.rows) if chunk.key else None
            if place is not None:
                shared.note(chunk.key, place)

    def _note_moved(self, before: RowLog, after: RowLog) -> None:
        """Say where the rows of chunks lie that went to a segment."""
        known = {id(extent.piece) for extent in before.extents}
        for extent in after.extents:
            if id(extent.piece) not in known and self._is_by_source:
                for chunk in self.ledger.chunks_between(extent.row, extent.stop):
                    place = after.extent_of(chunk.first, chunk.rows)
                    if chunk.key and place is not None:
                        self.encoder.shared_rows(self).note(chunk.key, place)

    def _placed(
        self, state: MemoryState, written: EncodedChunk, dropped: Tensor | None, keep_dropped: bool
    ) -> tuple[Placement, Tensor]:
        """The placement after a write, and the ranks [G, k] that leave for it; whatever is wrong with these is found before anything changes."""
        placement, geometry = state.placement, self.geometry
        if dropped is None:
            ranks, generator = placement.leaving(geometry, written.tokens)
            placement = replace(placement, generator=generator)
        else:
            finds_blocks = keep_dropped and geometry.sizes.reads_ltm and geometry.read.is_shared
            ranks = drops.checked_ranks(placement.births, dropped, geometry.read.block_tokens if finds_blocks else 1)
        places = geometry.sizes.stm_tokens - len(placement) + ranks.shape[1]
        if written.tokens > places:
            raise InputError(
                f"{written.tokens} new tokens do not fit into the {places} places that are or become free; drop more"
            )
        after = placement.written(geometry, state.log.end, written.tokens, ranks, keep_dropped=keep_dropped, slab=self.slab)
        return after, ranks

    def _trimmed(self, row_log: RowLog, before: Placement, after: Placement) -> RowLog:
        """The log without rows at its front that are nowhere any more."""
        aged = any(new.forgotten != old.forgotten for new, old in zip(after.long, before.long, strict=True))
        if aged or not self.geometry.sizes.ltm or self.geometry.quirks.eviction == "countdown":
            first = after.first_row
            return row_log if first is None else row_log.trimmed(first)
        return row_log

    def _tiled(self, written: EncodedChunk) -> EncodedChunk:
        """The published first write: its m rows are copied until they fill the pool, the rest taken from their end."""
        count, size = written.tokens, self.geometry.sizes.stm_tokens
        rest = size % count
        index = torch.arange(count, device="cpu").repeat(size // count + 1)[: size - rest]
        index = torch.cat([index, torch.arange(count - rest, count, device="cpu")])
        rows = {name: value[:, index.to(value.device)] for name, value in written.rows.items()}
        hidden = None if written.hidden is None else written.hidden[:, index.to(written.hidden.device)]
        return EncodedChunk(rows, written.text_tokens, hidden=hidden, ids=written.ids)

    def _pieces(self, text: str | list[int], source: str | None, special_tokens: bool) -> list[list[int]]:
        """Chunks of token ids that this model knows."""
        if isinstance(text, str):
            text_here = SEPARATOR + text if self._needs_separator(text, source) else text
            pieces = self.encoder.cut(text_here, special_tokens=special_tokens)
        else:
            size = self.geometry.sizes.chunk_tokens
            pieces = [text[start : start + size] for start in range(0, len(text), size)]
        check_ids((token for piece in pieces for token in piece), self.encoder.vocabulary)
        return pieces

    def _needs_separator(self, text: str, source: str | None) -> bool:
        """Whether a text would be glued to one of another source (unnamed texts are sources of their own each)."""
        state = self._state
        if text[:1].isspace():
            return False
        if self._is_by_source:  # a source begins a paragraph whatever was written before it: its rows depend on nothing else
            return source is None or not any(True for _ in state.ledger.newest_of(source))
        if state.is_empty or state.ends_in_space:
            return False
        newest = [name for name, _ in state.pending[-1:]] or state.ledger.newest_source
        last = newest[0] if newest else None
        return source is None or source != last

    # -- forgetting, correcting, merging ---------------------------------------------------------------------------

    def forget(self, source: str | Sequence[str] | None = None, *, where: Where | None = None) -> ForgetReport:
        """Forget sources: their rows, token ids, spans and search keys go, and everything that followed from them.

        With ``write_context="source"`` the memory is afterwards, bit for bit, the one that never read them: the placement is replayed
        without them, which takes no model pass but for rows of other sources that had been forgotten by age and come back (these are
        encoded again from their token ids). With ``"memory"`` the rows are taken out and the report says that it is not exact.
        On disk the bytes are gone after the next save and ``mplus compact``.

        Args:
            source: a name, or several; '' is text without a name.
            where: a choice by name pattern or time instead.

        Raises:
            InputError: there is no such source; nothing changed.
        """
        self.check_changeable()
        self.encoder.refuse_reentry()
        with self.turn.held(), ordinary_tensors():
            names = chosen(source_infos(self._state), source, where)
            state, report = rewriting.without_sources(self, self._state, names, _others(self))
            self.become(state)
            return report

    def replace(self, source: str, text: Text, *, at: Time | None = None, special_tokens: bool = False) -> ForgetReport:
        """Forget a source and write it anew, in one step: whole or not at all.

        Raises:
            EmptyTextError, InputError: see ``write`` and ``forget``; nothing changed.
        """
        self.check_changeable()
        self.encoder.refuse_reentry()
        with self.turn.held():
            twin = self.fork()
            with ordinary_tensors():
                names = chosen(source_infos(self._state), source, None)
                state, report = rewriting.without_sources(twin, twin._state, names, _others(self, twin))
            twin.become(state)
            twin.write(text, source or None, at=at, special_tokens=special_tokens)
            self.become(twin._state)
        return report

    def merge(self, other: Memory, *, prefix: str = "") -> MergeReport:
        """Take in the sources of another memory, by the time of their writes: the result equals the memory that read both.

        What both have from a common past counts once.

        Args:
            prefix: put before the names of the other memory's sources.

        Raises:
            InputError: the memories are not of one model and one kind, both have different texts under one name, or one was written with
                ``write_context="memory"``; nothing changed.
        """
        if not isinstance(other, Memory):
            raise InputError(f"merge takes a Memory, got {type(other).__name__}; a stored one is opened with Memory.load")
        if other is self:
            raise InputError("a memory cannot be merged with itself")
        self.check_changeable()
        self.encoder.refuse_reentry()
        with in_order([self.turn, other.turn]), ordinary_tensors():
            state, report = rewriting.merged(self, other, prefix)
            self.become(state)
            return report

    def newest_rows(self, source: str | None) -> Rows:
        """Rows [L, <=K, ...] of the newest tokens of a source, oldest first; encoded again where they are forgotten by age."""
        extents = self._state.newest_extents(source, self.geometry.sizes.new_tokens)
        return rewriting.newest_rows_again(self, self._state, source) if extents is None else self.rows_of(extents)

    def rows_of(self, extents: Sequence[Extent]) -> Rows:
        """Rows [L, n, ...] that lie in some extents, where the model computes."""
        if not extents:
            return self.layout.empty(0)
        stored = self._state.log.columns_of(extents)
        return {
            name: value.to(self.layout.device) for name, value in self.codec.of_log(stored, tuple(self.layout.fields)).items()
        }

    # -- value semantics -------------------------------------------------------------------------------------------

    def fork(self) -> Memory:
        """A copy to write on; this one is never changed by it, nor it by this one. Rows are shared."""
        twin = Memory.__new__(Memory)
        with self.turn.held_or_mine(), ordinary_tensors():
            twin.__dict__.update(self.__dict__)
            twin.turn = TurnLock(IN_USE)
            twin._state, twin.stored = self._state.fork(), dict(self.stored)
        _living.add(twin)
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
        self.check_changeable()
        self.encoder.refuse_reentry()
        with self.turn.held():
            self.become(self._new_state())

    def stats(self) -> MemoryStats:
        """Counts and sizes."""
        with self.turn.held_or_mine():
            return self._stats()

    def _stats(self) -> MemoryStats:
        state = self._state
        pool_bytes = self.layout.bytes_per_token * len(self.short_term)
        tails = [*([] if state.tail is None else [state.tail]), *state.tails.values()]
        tail_bytes = sum(tail.numel() * tail.element_size() for tail in tails)
        return MemoryStats(
            tokens_read=self.tokens_read,
            chunks=len(self.ledger),
            pending_tokens=self.pending_tokens,
            stm_tokens=len(self.short_term),
            stm_capacity=self.geometry.sizes.stm_tokens,
            ltm_tokens=len(self.long_term),
            ltm_capacity=self.geometry.sizes.ltm_capacity if self.geometry.sizes.ltm else 0,
            size_bytes=pool_bytes + tail_bytes + state.log.size_bytes,
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
        directory: str | Path,
        model: WritingModel,
        *,
        store: DiskStorage | str | Path | None = None,
        check_rows: bool = False,
        keys: Keys | None = None,
    ) -> Memory:
        """Open a stored memory.

        Args:
            store: where its long-term rows live from now on: "ram", or a directory for more than RAM holds (`directory`
                itself goes on in place). None leaves rows that were saved as segments where they are, whatever their size,
                and keeps new ones in RAM.
            check_rows: compare every segment with its SHA-256, which reads all of them; else only their sizes are checked.
            keys: of an encrypted memory; None takes those in ``mplus.memory.keys.default_directory()``. Sources whose key was
                destroyed are forgotten, as if they had never been read.

        Raises:
            SnapshotError: missing, damaged or of an unknown version.
            StoreError: `store` is in use, full, read-only or something else.
            WrongModelError: written by another model.
        """
        from mplus.memory import snapshot

        if isinstance(model, (str, Path)):
            raise InputError(f"Memory.load needs a loaded model, got {model!r}; open it with MPlusModel.from_pretrained first")
        with ordinary_tensors(on_cpu=True):
            return snapshot.load(directory, model.writer, store, check_rows=check_rows, keys=keys)


def _others(*own: Memory) -> list[Memory]:
    """All memories of this process but some."""
    while True:
        try:
            return [memory for memory in list(_living) if not any(memory is one for one in own)]
        except RuntimeError:  # one was made or ended in another thread; no lock, which an interrupt could leave held
            continue
