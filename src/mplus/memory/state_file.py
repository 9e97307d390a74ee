"""A memory's state as tensors and JSON, both ways: what a data file and a manifest of format 3 hold. Knows no directory.

Legend: c chunks, p parts of chunks, e extents, T text tokens, G drop groups, n short-term tokens, M long-term tokens of a group q.

Tensors: ``ids`` [T] int32, token ids of all chunks that know theirs, one behind the other; ``chunks`` [c, 5] int64: first row, rows,
number of ids (-1: not known), parts, whether tokens left by hand; ``chunks.at`` [c] float64 seconds (NaN: not known); ``chunks.keys``
[c, 16] uint8 (zeros: not known); ``parts`` [p, 2] int64: number of the source in the manifest's ``names``, text tokens; ``extents`` [e, 4]
int64: number of the segment, first row in it, rows, first row in the log; ``short.rows``, ``short.births`` [G, n] int64; ``long.q.rows``,
``long.q.births`` [skipped + M] int64, ``long.q.frequency`` [M] float32; ``generator`` uint8; ``tail``, ``tails.i`` hidden states.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy
import torch
from torch import Tensor

from mplus.memory.columns import Column
from mplus.memory.ledger import Chunk, Ledger, packed
from mplus.memory.log import Extent, RowLog
from mplus.memory.long_term import LongTerm
from mplus.memory.placement import LongGroup, Placement
from mplus.memory.rewriting import short_term_of
from mplus.memory.sources import source_infos
from mplus.memory.state import MemoryState
from mplus.memory.stores.fields import FieldSpec
from mplus.memory.stores.segments import Segment

if TYPE_CHECKING:
    from mplus.memory.memory import Memory

KEY_BYTES = 16


# -- writing -------------------------------------------------------------------------------------------------------


def tensors_of(state: MemoryState, extents: Sequence[tuple[int, int, int, int]]) -> dict[str, Tensor]:
    """What the data file holds.

    Args:
        extents: (segment, first row in it, rows, first row in the log) of all rows.
    """
    placement = state.placement
    _check_born(placement.births, placement.long, placement.now)  # what is stored opens again
    out = {
        **_ledger_tensors(state.ledger),
        "extents": torch.tensor(list(extents), dtype=torch.int64, device="cpu").view(-1, 4),
        "short.rows": placement.rows.contiguous(),
        "short.births": placement.births.contiguous(),
        "generator": placement.generator,
    }
    for number, group in enumerate(placement.long):
        out[f"long.{number}.rows"] = group.all_rows.values.contiguous()
        out[f"long.{number}.births"] = group.all_births.values.clone()
        if group.frequency is not None:
            out[f"long.{number}.frequency"] = group.frequency.contiguous()
    if state.tail is not None:
        out["tail"] = state.tail.contiguous()
    for number, tail in enumerate(state.tails.values()):
        out[f"tails.{number}"] = tail.contiguous()
    return out


def _ledger_tensors(ledger: Ledger) -> dict[str, Tensor]:
    names = {name: number for number, name in enumerate(ledger.sources)}
    table = [
        [chunk.first, chunk.rows, -1 if chunk.ids is None else len(chunk.ids), len(chunk.sources), int(chunk.by_hand)]
        for chunk in ledger.chunks
    ]
    parts = [(names[name], count) for chunk in ledger.chunks for name, count in chunk.sources]
    return {
        "chunks": torch.tensor(table, dtype=torch.int64, device="cpu").view(-1, 5),
        "parts": torch.tensor(parts, dtype=torch.int64, device="cpu").view(-1, 2),
        **ledger_tensors(ledger.chunks),
    }


def ledger_tensors(chunks: Sequence[Chunk]) -> dict[str, Tensor]:
    """Token ids, times and content addresses of some chunks."""
    keys = bytearray().join(bytes.fromhex(chunk.key) if chunk.key else bytes(KEY_BYTES) for chunk in chunks)
    ids = [numpy.asarray(chunk.ids, dtype=numpy.int32) for chunk in chunks if chunk.ids is not None]
    at = [math.nan if chunk.at is None else chunk.at for chunk in chunks]
    return {
        "ids": torch.from_numpy(numpy.concatenate(ids) if ids else numpy.empty(0, numpy.int32)),
        "chunks.at": torch.tensor(at, dtype=torch.float64, device="cpu"),
        "chunks.keys": torch.frombuffer(keys, dtype=torch.uint8).view(-1, KEY_BYTES)
        if keys
        else torch.empty(0, KEY_BYTES, dtype=torch.uint8, device="cpu"),
    }


def json_of(state: MemoryState) -> dict[str, Any]:
    """What the manifest says of a state, beside settings and files."""
    placement = state.placement
    return {
        "now": placement.now,
        "tokens_read": state.tokens_read,
        "initialised": state.initialised,
        "rows": state.log.end,
        "stm_tokens": len(placement),
        "ltm_tokens": len(state.long_term),
        "long": [
            {"tokens": len(group), "skipped": group.skipped, "forgotten": group.forgotten, "waiting": group.waiting}
            for group in placement.long
        ],
        "writes_since_merge": placement.writes_since_merge,
        "pending": [[source, list(ids)] for source, ids in state.pending],
        "names": state.ledger.sources,
        "tails": list(state.tails),
        "chunks": len(state.ledger),
        "sources": [asdict(info) for info in source_infos(state)],
        "notes": {name: dict(note) for name, note in state.notes.items()},
    }


# -- reading -------------------------------------------------------------------------------------------------------


def log_of(memory: Memory, manifest: Mapping[str, Any], tensors: Mapping[str, Tensor], segments: Sequence[Segment]) -> RowLog:
    """The log whose rows lie in these segments.

    Raises:
        ValueError: the extents do not lie in the segments, or overlap.
    """
    out, end = list[Extent](), 0
    for number, first, rows, row in tensors["extents"].tolist():
        if not (0 <= number < len(segments) and first >= 0 and rows > 0 and first + rows <= segments[number].rows and row >= end):
            raise ValueError(f"rows {row} to {row + rows} are said to lie at {first} of segment {number}, where they cannot be")
        out.append(Extent(segments[number], first, rows, row))
        end = row + rows
    if end > int(manifest["rows"]):
        raise ValueError(f"the log ends at row {end}, the manifest says {manifest['rows']}")
    forms = {id(segment): segment.stored_as(memory.codec.fields) for segment in segments}
    for segment in segments:  # mapped now: a file that is replaced later stays readable, and another form is found
        segment.tensors(forms[id(segment)])
    if any(form != memory.codec.fields for form in forms.values()):
        return _converted(memory, out, forms).with_gap_to(int(manifest["rows"]))
    return RowLog(memory.codec.fields, tuple(out), int(manifest["rows"]), storage=memory.storage)


def _converted(memory: Memory, extents: Sequence[Extent], forms: Mapping[int, FieldSpec]) -> RowLog:
    """The log with copies of rows that a model of another number type wrote."""
    log = RowLog(memory.codec.fields, storage=memory.storage)
    for extent in extents:
        form = forms[id(extent.piece)]
        log, _ = log.with_gap_to(extent.row).appended({name: extent.part(form, name) for name in form})
    return log


def state_of(memory: Memory, manifest: Mapping[str, Any], tensors: Mapping[str, Tensor], log: RowLog) -> MemoryState:
    """The state that was stored.

    Raises:
        KeyError, ValueError, TypeError, RuntimeError: a tensor is missing or of another form, or counts differ.
    """
    placement = _placement(memory, manifest, tensors)
    for rows in placement.all_rows():
        if rows.numel() and not bool(log.holds(rows).all()):
            raise ValueError(f"row {int(rows[~log.holds(rows)][0])} is placed, but the log does not hold it")
    device, dtype = memory.layout.device, memory.layout.dtype
    tails = {name: tensors[f"tails.{number}"].to(device, dtype) for number, name in enumerate(manifest["tails"])}
    ledger = ledger_of(manifest, tensors, log.end)
    if ledger.text_tokens != manifest["tokens_read"]:
        raise ValueError(f"the ledger counts {ledger.text_tokens} text tokens, the manifest {manifest['tokens_read']}")
    _check_sources(manifest, ledger)
    return MemoryState(
        log=log,
        placement=placement,
        short_term=short_term_of(memory, log, placement),
        long_term=LongTerm(memory.layout, memory.geometry, memory.codec, log, placement.long),
        ledger=ledger,
        tail=tensors["tail"].to(device, dtype) if "tail" in tensors else None,
        tails=tails,
        tokens_read=int(manifest["tokens_read"]),
        pending=tuple((source, tuple(int(token) for token in ids)) for source, ids in manifest["pending"]),
        initialised=bool(manifest["initialised"]),
        notes=_notes(manifest.get("notes", {})),
    )


def _notes(notes: Any) -> dict[str, dict[str, Any]]:
    if not isinstance(notes, dict) or not all(isinstance(note, dict) for note in notes.values()):
        raise ValueError("the notes on sources are no table of tables")
    return notes


def _placement(memory: Memory, manifest: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Placement:
    empty, held = Placement.new(memory.geometry, memory.layout.layers, 0), int(manifest["stm_tokens"])
    rows, births = (_shaped(tensors, f"short.{name}", (empty.groups, held)) for name in ("rows", "births"))
    most = max((int(entry["tokens"]) for entry in manifest["long"]), default=0)
    if most != manifest["ltm_tokens"]:
        raise ValueError(f"the long-term groups have counts up to {most}, the manifest says {manifest['ltm_tokens']}")
    if len(manifest["long"]) != len(empty.long) or held > memory.geometry.sizes.stm_tokens:
        raise ValueError(
            f"{len(manifest['long'])} long-term groups and {held} short-term tokens, which these settings do not give"
        )
    long = tuple(_group(memory, number, entry, tensors) for number, entry in enumerate(manifest["long"]))
    now = int(manifest["now"])
    _check_born(births, long, now)
    _check_once(memory, rows, long)
    torch.Generator().set_state(tensors["generator"])
    return Placement(rows, births, long, tensors["generator"], now, int(manifest["writes_since_merge"]))


def _group(memory: Memory, number: int, entry: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> LongGroup:
    tokens, skipped, waiting = int(entry["tokens"]), int(entry["skipped"]), int(entry["waiting"])
    rows, births = (_shaped(tensors, f"long.{number}.{name}", (skipped + tokens,)) for name in ("rows", "births"))
    counts_down = memory.geometry.quirks.eviction == "countdown" and tokens
    frequency = _shaped(tensors, f"long.{number}.frequency", (tokens,)) if counts_down else None
    if waiting > tokens:
        raise ValueError(f"{waiting} of {tokens} long-term tokens wait, which cannot be")
    return LongGroup(Column(rows), Column(births), skipped, int(entry["forgotten"]), frequency, waiting)


def _check_born(births: Tensor, long: Sequence[LongGroup], now: int) -> None:
    """Raise ValueError where a token was written in the future."""
    for born in (births, *(group.births for group in long)):
        if born.numel() and int(born.max()) >= now:
            raise ValueError(f"a token has birth {int(born.max())}, only {now} were written")


def _check_once(memory: Memory, rows: Tensor, long: Sequence[LongGroup]) -> None:
    """Raise ValueError where a token is in one group twice."""
    for number, group in enumerate(long):
        own = torch.cat([rows[number if rows.shape[0] > 1 else 0], group.all_rows.values])
        if own.unique().numel() != own.numel():
            raise ValueError(f"group {number} holds a token twice")
    if any(bool((own.diff() <= 0).any()) for own in rows):
        raise ValueError("tokens of short-term memory are not in the order of writing")


def ledger_of(manifest: Mapping[str, Any], tensors: Mapping[str, Tensor], end: int) -> Ledger:
    """The ledger that was stored, of a log with `end` rows.

    Raises:
        KeyError, ValueError, TypeError: its parts do not belong together.
    """
    names, ids, keys = manifest["names"], tensors["ids"].numpy(), tensors["chunks.keys"].numpy().tobytes()
    table, times, parts = tensors["chunks"].tolist(), tensors["chunks.at"].tolist(), tensors["parts"].tolist()
    if not len(table) == len(times) == len(keys) // KEY_BYTES == manifest["chunks"]:
        raise ValueError(f"the ledger has {len(table)} chunks, {len(times)} times, stored were {manifest['chunks']}")
    chunks, at_id, at_part, last = list[Chunk](), 0, 0, 0
    for number, (first, rows, count, part_count, by_hand) in enumerate(table):
        if first < last or rows < 0 or first + rows > end:
            raise ValueError("the chunks of the ledger overlap, or lie beyond the log")
        last = first + rows
        own = tuple((names[source], tokens) for source, tokens in parts[at_part : at_part + part_count])
        known = None if count < 0 else packed(ids[at_id : at_id + count])
        if known is not None and (len(known) != count or sum(tokens for _, tokens in own) != count):
            raise ValueError("the token ids of the ledger do not add up")
        key = keys[number * KEY_BYTES : (number + 1) * KEY_BYTES]
        at = None if math.isnan(times[number]) else times[number]
        chunks.append(Chunk(first, rows, own, known, at, key.hex() if any(key) else "", by_hand=bool(by_hand)))
        at_id, at_part = at_id + max(0, count), at_part + part_count
    if at_id != len(ids) or at_part != len(parts):
        raise ValueError("the ledger has token ids or parts of no chunk")
    return Ledger(chunks)


def _check_sources(manifest: Mapping[str, Any], ledger: Ledger) -> None:
    """Raise ValueError where what people are told of the sources without opening the memory is not what it holds."""
    tokens = ledger.tokens_by_source()
    for source, ids in manifest["pending"]:
        tokens[source or ""] = tokens.get(source or "", 0) + len(ids)
    told = {entry["name"]: entry["tokens"] for entry in manifest["sources"]}
    if told != tokens or len(told) != len(manifest["sources"]):
        raise ValueError("the sources do not add up to those of the ledger")


def _shaped(tensors: Mapping[str, Tensor], name: str, shape: tuple[int, ...]) -> Tensor:
    if tuple(tensors[name].shape) != shape:
        raise ValueError(f"{name} is {list(tensors[name].shape)}, expected {list(shape)}")
    return tensors[name]
