"""States made of other states: without some sources, with those of another memory, or of rows by rank. Runs passes only to encode again.

Legend: L layers, G drop groups, Q long-term groups, n short-term tokens, M long-term tokens of a group.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mplus.errors import InputError
from mplus.memory.ledger import Chunk, Ledger, packed
from mplus.memory.log import Extent, RowLog, Slab, joined
from mplus.memory.long_term import LongTerm
from mplus.memory.placement import LongGroup, Placement
from mplus.memory.reports import BY_HAND, INEXACT_CONTEXT, ForgetReport, MergeReport
from mplus.memory.rows import EncodedChunk, Rows
from mplus.memory.selection import ReadScope
from mplus.memory.short_term import ShortTerm
from mplus.memory.source_writing import followed
from mplus.memory.sources import counts_by_source, parts_of
from mplus.memory.state import MemoryState

if TYPE_CHECKING:
    from mplus.memory.memory import Memory


Goes = Callable[[Chunk, str | None], bool]
"""Tells whether the text of a source in a chunk goes; asked with an empty chunk about what waits, whose time is not known."""


@dataclass(frozen=True)
class _Piece:
    """A chunk of the state to be made, and the log that may hold its rows."""

    chunk: Chunk
    log: RowLog


# -- forgetting ----------------------------------------------------------------------------------------------------


def without_sources(
    memory: Memory, state: MemoryState, names: Sequence[str], others: Sequence[Memory]
) -> tuple[MemoryState, ForgetReport]:
    """The state without some sources, and what went.

    Args:
        others: memories that may hold some of the same rows.
    """
    gone = {name or None for name in names}
    reason = _inexact(memory, state)
    counts = counts_by_source(state, [name or None for name in names])
    tokens = state.ledger.tokens_by_source()
    waiting = sum(len(ids) for name, ids in state.pending if name in gone)
    keys = {chunk.key for chunk in state.ledger.chunks if chunk.key and chunk.is_of(gone)}
    shared_with = [repr(other) for other in others if keys and _has_some(other, keys)]
    again, beside = 0, 0
    if reason:
        after, beside = _taken_out(memory, state, gone)
    else:
        pieces = [_Piece(chunk, state.log) for chunk in state.ledger.chunks if not chunk.is_of(gone)]
        after, again = _assembled(memory, state, pieces)
        after = replace(after, tails={name: tail for name, tail in state.tails.items() if name not in gone})
    after = replace(after, notes={name: note for name, note in state.notes.items() if name not in names})
    if not shared_with:
        for key in keys:
            memory.encoder.shared_rows(memory).forget(key)
    report = ForgetReport(
        sources=list(names),
        tokens=sum(tokens.get(name, 0) for name in names) + waiting,
        short_term=sum(count[0] for count in counts),
        long_term=sum(count[1] for count in counts),
        evicted=sum(count[2] for count in counts),
        pending=waiting,
        beside=beside,
        rows_reencoded=again,
        segments_freed=len(_pieces(state.log) - _pieces(after.log)),
        shared_with=shared_with,
        exact=not reason,
        reason=reason,
    )
    return after, report


def _inexact(memory: Memory, state: MemoryState) -> str:
    """Why forgetting cannot be exact; "" where it is."""
    if memory.geometry.write.context != "source":
        return INEXACT_CONTEXT
    if any(chunk.by_hand for chunk in state.ledger.chunks):
        return BY_HAND
    return ""


def _has_some(other: Memory, keys: set[str]) -> bool:
    return any(chunk.key in keys for chunk in other.ledger.chunks)


def _pieces(log: RowLog) -> set[int]:
    return {id(extent.piece) for extent in log.extents}


def _taken_out(memory: Memory, state: MemoryState, gone: set[str | None]) -> tuple[MemoryState, int]:
    """The state with the rows of some sources taken out and all others where they are; and how many rows of others went along.

    Layers that read the same blocks lose whole blocks: of one that is cut in two, the neighbours' rows go too.
    """
    after, beside = _in_place(memory, state, lambda chunk, name: name in gone)
    return replace(after, log=after.log.compacted()), beside


def _in_place(memory: Memory, state: MemoryState, goes: Goes) -> tuple[MemoryState, int]:
    """The state without some parts of chunks and with all other rows where they are, none of them copied."""
    spans = [
        (begin, stop)
        for chunk in state.ledger.chunks
        for name, begin, stop in parts_of(chunk)
        if goes(chunk, name) and stop > begin
    ]
    own = sum(stop - begin for begin, stop in spans)
    block = memory.geometry.read.block_tokens if memory.geometry.read.is_shared else 1
    wide = [(begin // block * block, min(-(-stop // block) * block, state.log.end)) for begin, stop in spans]
    rows = (
        torch.cat([torch.arange(begin, stop, device="cpu") for begin, stop in wide]).unique()
        if wide
        else torch.empty(0, dtype=torch.int64, device="cpu")
    )
    held = state.log.holds(rows)
    placement = state.placement.without(rows)
    log = state.log.without((begin, stop - begin) for begin, stop in wide)
    chunks = [kept for chunk in state.ledger.chunks if (kept := _without_parts(chunk, goes)) is not None]
    after = _made(memory, state, log, placement, Ledger(chunks))
    tokens = sum(count for chunk in chunks for _, count in chunk.sources)
    waits = Chunk(0, 0, ())
    pending = tuple((name, ids) for name, ids in state.pending if not goes(waits, name))
    tails = {name: tail for name, tail in state.tails.items() if not goes(waits, name)}
    tail = None if spans else state.tail  # which of its columns are whose is not kept
    return replace(after, tokens_read=tokens, pending=pending, tail=tail, tails=tails, recent=()), max(0, int(held.sum()) - own)


def _without_parts(chunk: Chunk, goes: Goes) -> Chunk | None:
    """A chunk without the text of some sources; None where nothing is left."""
    if not any(goes(chunk, name) for name, _ in chunk.sources):
        return chunk
    at, ids, sources = 0, list[int](), list[tuple[str | None, int]]()
    for name, count in chunk.sources:
        if not goes(chunk, name):
            sources.append((name, count))
            ids += chunk.ids[at : at + count] if chunk.ids is not None else []
        at += count
    first = next((begin for name, begin, _ in parts_of(chunk) if not goes(chunk, name)), chunk.first)
    rows = sum(stop - begin for name, begin, stop in parts_of(chunk) if not goes(chunk, name))
    known = None if chunk.ids is None else packed(ids)
    return chunk._replace(first=first, rows=rows, sources=tuple(sources), ids=known, key="") if sources else None


# -- showing a part ------------------------------------------------------------------------------------------------


def within(memory: Memory, state: MemoryState, scope: ReadScope) -> MemoryState:
    """The state as a read within a scope sees it; nothing is encoded, and no row of the log is copied.

    Where forgetting is exact and all rows are held it is the state after these writes alone. Else rows stay where they are.
    """
    notes = {name: note for name, note in state.notes.items() if scope.shows_source(name)}
    chunks = [chunk for chunk in state.ledger.chunks if scope.shows(chunk.source, chunk.at)]
    extents = [list(state.log.extents_of(chunk.first, chunk.rows)) for chunk in chunks]
    held = all(sum(part.rows for part in parts) == chunk.rows for chunk, parts in zip(chunks, extents, strict=True))
    if _inexact(memory, state) or not held:
        after, _ = _in_place(memory, state, lambda chunk, name: not scope.shows(name, chunk.at))
        return replace(after, notes=notes)
    firsts, end = list[int](), 0
    for chunk in chunks:
        firsts.append(end)
        end += chunk.rows
    moved = [
        part._replace(row=first + part.row - chunk.first)
        for first, chunk, parts in zip(firsts, chunks, extents, strict=True)
        for part in parts
    ]
    ledger = Ledger(chunk._replace(first=first) for first, chunk in zip(firsts, chunks, strict=True))
    log = replace(state.log, extents=joined(moved), end=end, open=None, spare=())
    start = Placement.new(memory.geometry, memory.layout.layers, memory.seed)
    placement = start.replayed(memory.geometry, (chunk.rows for chunk in chunks), slab=memory.slab)
    made = _made(memory, state, log, placement, ledger)
    return replace(made, tokens_read=ledger.text_tokens, pending=(), recent=(), notes=notes)


# -- merging -------------------------------------------------------------------------------------------------------


def merged(memory: Memory, other: Memory, prefix: str) -> tuple[MemoryState, MergeReport]:
    """The state of a memory that read what both have, by time."""
    _check_alike(memory, other)
    own, theirs = memory.ledger.chunks, [_renamed(chunk, prefix) for chunk in other.ledger.chunks]
    known = {(chunk.source, chunk.key, chunk.at) for chunk in own}
    fresh = [chunk for chunk in theirs if (chunk.source, chunk.key, chunk.at) not in known]
    taken = {chunk.source for chunk in own} & {chunk.source for chunk in fresh}
    if taken:
        raise InputError(
            f"both memories have their own text of {min(name or '' for name in taken)!r:.100} ({len(taken)} such sources); "
            "give merge(other, prefix='...'), or forget or rename one of them first"
        )
    pieces = _by_time([_Piece(chunk, memory.state.log) for chunk in own], [_Piece(chunk, other.state.log) for chunk in fresh])
    after, again = _assembled(memory, memory.state, pieces)
    tails = {**{_named(name, prefix): tail for name, tail in other.state.tails.items()}, **memory.state.tails}
    sources = list(dict.fromkeys(chunk.source or "" for chunk in fresh))
    tokens = sum(len(chunk.ids or ()) for chunk in fresh)
    report = MergeReport(sources=sources, tokens=tokens, duplicates=len(theirs) - len(fresh), rows_reencoded=again)
    return replace(after, tails=tails), report


def _check_alike(memory: Memory, other: Memory) -> None:
    if memory.encoder is not other.encoder and memory.encoder.fingerprint != other.encoder.fingerprint:
        raise InputError(
            f"this memory was written by model {memory.encoder.name!r}, the other by {other.encoder.name!r}; "
            "write one of them again with the other's model (mplus reencode)"
        )
    pooling = [one.geometry.sizes.tokens_per_row for one in (memory, other)]
    if memory.codec.fields != other.codec.fields or memory.format != other.format or pooling[0] != pooling[1]:
        raise InputError(
            "the memories keep rows of different forms (memory_format, number types, tokens_per_row); write one of them again"
        )
    for one in (memory, other):
        reason = _inexact(one, one.state)
        if reason:
            raise InputError(f"these memories cannot be merged: {reason}; write one of them again (mplus reencode)")


def _named(name: str | None, prefix: str) -> str | None:
    return f"{prefix}{name or ''}" or None


def _renamed(chunk: Chunk, prefix: str) -> Chunk:
    return chunk._replace(sources=tuple((_named(name, prefix), count) for name, count in chunk.sources)) if prefix else chunk


def _by_time(own: list[_Piece], theirs: list[_Piece]) -> list[_Piece]:
    """Both lists in one, each in its own order, the earlier head first."""
    out, left, right = list[_Piece](), 0, 0
    while left < len(own) and right < len(theirs):
        if (own[left].chunk.at or 0.0) <= (theirs[right].chunk.at or 0.0):
            out.append(own[left])
            left += 1
        else:
            out.append(theirs[right])
            right += 1
    return [*out, *own[left:], *theirs[right:]]


# -- a state of chunks ---------------------------------------------------------------------------------------------


def _assembled(memory: Memory, state: MemoryState, pieces: Sequence[_Piece]) -> tuple[MemoryState, int]:
    """The state after writing these chunks in this order, without passes but for rows that no log holds; and how many these were."""
    geometry = memory.geometry
    start = Placement.new(geometry, memory.layout.layers, memory.seed)
    placement = start.replayed(geometry, (piece.chunk.rows for piece in pieces), slab=memory.slab)
    first = placement.first_row
    needed = placement.now if first is None else first
    log, again, ledger = state.log.empty(), 0, Ledger()
    encoded: dict[tuple[str | None, str], EncodedChunk] = {}
    for piece in pieces:
        chunk, at = piece.chunk, log.end
        if at + chunk.rows <= needed:
            log = log.with_gap_to(at + chunk.rows)
        else:
            parts = list(piece.log.extents_of(chunk.first, chunk.rows))
            if sum(part.rows for part in parts) == chunk.rows:
                for part in parts:
                    log, _ = log.linked(_kept_at(part, memory, log))
            else:
                if (chunk.source, chunk.key) not in encoded:
                    encoded |= _encoded_again(memory, [one.chunk for one in pieces], chunk.source)
                log, _ = log.appended(memory.codec.stored(encoded[chunk.source, chunk.key].rows))
                again += chunk.rows
        ledger = ledger.with_chunk(chunk._replace(first=at))
    log = log.trimmed(needed).compacted()
    made = _made(memory, state, log, placement, ledger)
    return replace(made, tokens_read=ledger.text_tokens, pending=(), recent=()), again


def _kept_at(extent: Extent, memory: Memory, log: RowLog) -> Extent:
    """An extent as a memory may hold it: a segment of another directory is linked into its own."""
    if isinstance(extent.piece, Slab) or memory.storage is None:
        return extent
    own = memory.storage.segment_directory
    if extent.piece.path.parent == own.path:
        return extent
    known = next(
        (one.piece for one in log.extents if not isinstance(one.piece, Slab) and one.piece.name == extent.piece.name), None
    )
    return extent._replace(piece=known or own.adopt(extent.piece))


def _encoded_again(memory: Memory, chunks: Sequence[Chunk], source: str | None) -> dict[tuple[str | None, str], EncodedChunk]:
    """All chunks of a source, encoded from their token ids as they were the first time."""
    out: dict[tuple[str | None, str], EncodedChunk] = {}
    tail = memory.encoder.opening(memory)
    for chunk in chunks:
        if chunk.source != source:
            continue
        if chunk.ids is None:
            raise InputError(
                f"rows of source {source!r} are needed again, but its token ids were not kept by the version that wrote this memory"
            )
        written = memory.encoder.encode(list(chunk.ids), memory, tail=tail)
        out[source, chunk.key] = written
        tail = followed(tail, written, memory)
    return out


def newest_rows_again(memory: Memory, state: MemoryState, source: str | None) -> Rows:
    """Rows [L, <=K, ...] of the newest tokens of a source, encoded again."""
    chunks = [chunk for chunk in state.ledger.chunks if chunk.source == source]
    encoded = _encoded_again(memory, chunks, source)
    count = memory.geometry.sizes.new_tokens
    parts = [memory.codec.rounded(encoded[source, chunk.key].rows) for chunk in chunks]
    return {name: torch.cat([part[name] for part in parts], 1)[:, -count:] for name in memory.layout.fields}


def _made(memory: Memory, state: MemoryState, log: RowLog, placement: Placement, ledger: Ledger) -> MemoryState:
    """A state with its caches made anew."""
    return replace(
        state,
        log=log,
        placement=placement,
        ledger=ledger,
        short_term=short_term_of(memory, log, placement),
        long_term=LongTerm(memory.layout, memory.geometry, memory.codec, log, placement.long),
    )


def short_term_of(memory: Memory, log: RowLog, placement: Placement) -> ShortTerm:
    """The short-term rows of a placement, fetched from the log."""
    short_term = ShortTerm(memory.layout, memory.geometry.sizes.stm_tokens, placement.groups)
    names = tuple(memory.layout.fields)
    if not len(placement):
        return short_term
    if placement.groups == 1:
        rows = memory.codec.of_log(log.gather(placement.rows[0], memory.codec.stored_names(names)), names)
    else:
        each = [
            memory.codec.decode(log.gather(own, memory.codec.stored_names(names), layer=layer), names)
            for layer, own in enumerate(placement.rows)
        ]
        rows = {name: torch.stack([one[name] for one in each]) for name in names}
    short_term.append(rows)
    return short_term


# -- a state of rows by rank ---------------------------------------------------------------------------------------


def with_rows(
    memory: Memory,
    state: MemoryState,
    rows: Rows,
    births: Tensor,
    long: Sequence[tuple[Rows, Tensor, Tensor | None, int]],
    *,
    now: int = 0,
    writes_since_merge: int = 0,
) -> MemoryState:
    """An empty state filled with short-term rows [L, n, ...], and long-term rows [M, ...] of each layer, that no write of this memory made.

    Rows that stand at one place of different layers share a number; they need not be of one token.

    Args:
        births: [G, n] of the short-term tokens.
        long: per group rows, births, recall frequencies (None: new), and how many wait for a merge.
    """
    log, _ = state.log.appended(memory.codec.stored(rows))
    count = births.shape[1]
    short = torch.arange(count, device="cpu").expand(births.shape[0], -1)
    most = max((born.shape[0] for _, born, _, _ in long), default=0)
    if most:
        log, _ = log.appended(_stacked(memory, [one for one, _, _, _ in long], most))
    groups = []
    for _, born, frequency, waiting in long:
        fresh = LongGroup().with_more(count + torch.arange(born.shape[0], device="cpu"), born, None)
        if memory.geometry.quirks.eviction == "countdown":
            start = torch.full(
                (born.shape[0],), memory.geometry.quirks.initial_recall_frequency, dtype=torch.float32, device="cpu"
            )
            fresh = replace(fresh, frequency=start if frequency is None else frequency.float(), waiting=waiting)
        groups.append(fresh)
    placement = replace(
        state.placement,
        rows=short,
        births=births.clone(),
        long=tuple(groups) or state.placement.long,
        now=now,
        writes_since_merge=writes_since_merge,
    )
    return _made(memory, state, log, placement, state.ledger)


def _stacked(memory: Memory, layers: Sequence[Rows], most: int) -> dict[str, Tensor]:
    """Rows [M, ...] of each layer as the log keeps them, [most, L, ...], with zeros behind the shorter ones."""
    encoded = [memory.codec.encode(rows) for rows in layers]
    out = {}
    for name, (shape, dtype) in memory.codec.fields.items():
        out[name] = torch.zeros(most, *shape, dtype=dtype, device="cpu")
        for layer, rows in enumerate(encoded):
            out[name][: rows[name].shape[0], layer] = rows[name].to("cpu", dtype)
    return out
