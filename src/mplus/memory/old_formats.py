"""Memories of formats 1 and 2, which kept rows of short-term and long-term memory apart and no token ids. Knows no directory.

Legend: L layers, G drop groups, n short-term tokens, M long-term tokens of a group, k rows of one piece.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mplus.memory.columns import Column
from mplus.memory.ledger import Chunk, Ledger
from mplus.memory.log import Extent, RowLog
from mplus.memory.long_term import LongTerm
from mplus.memory.placement import LongGroup, Placement
from mplus.memory.rewriting import short_term_of, with_rows
from mplus.memory.state import MemoryState
from mplus.memory.stores.fields import FieldSpec
from mplus.memory.stores.segments import Segment

if TYPE_CHECKING:
    from mplus.memory.memory import Memory


def geometry_of(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of an old memory: every chunk saw the newest tokens of the whole memory."""
    return {"write_context": "memory", **flat}


def state_of(
    memory: Memory, manifest: Mapping[str, Any], tensors: Mapping[str, Tensor], segments: Sequence[tuple[list[Segment], int]]
) -> MemoryState:
    """The state that an old memory holds.

    Args:
        segments: per group its segments, oldest first, and how many rows of the first are forgotten.

    Raises:
        KeyError, ValueError, TypeError, RuntimeError: a tensor is missing or of another form, or counts differ.
    """
    births = tensors["stm.births"]
    groups, held = memory.placement.groups, births.shape[1]
    if tuple(births.shape) != (groups, manifest["stm_tokens"]):
        raise ValueError(f"stm.births is {list(births.shape)}, expected {[groups, manifest['stm_tokens']]}")
    rows = {
        name: _shaped(tensors, f"stm.{name}", (memory.layout.groups(name), held, *shape))
        for name, shape in memory.layout.fields.items()
    }
    shared = memory.geometry.read.is_shared
    make = _of_shared if shared else _of_layers
    state = make(memory, manifest, tensors, segments, rows, births)
    device, dtype = memory.layout.device, memory.layout.dtype
    generator = tensors["generator"]
    torch.Generator().set_state(generator)
    return replace(
        state,
        placement=replace(
            state.placement,
            generator=generator,
            now=int(manifest["now"]),
            writes_since_merge=int(manifest["writes_since_merge"]),
        ),
        ledger=ledger_of(manifest, traceable=shared, end=state.log.end),
        tail=tensors["tail"].to(device, dtype) if "tail" in tensors else None,
        tokens_read=int(manifest["tokens_read"]),
        pending=tuple((source, tuple(int(token) for token in ids)) for source, ids in manifest["pending"]),
        initialised=bool(manifest["initialised"]),
    )


def ledger_of(manifest: Mapping[str, Any], *, traceable: bool, end: int) -> Ledger:
    """The chunks; rows of layers that dropped apart are not known by number."""
    chunks = []
    for first, count, sources in manifest["chunks"]:
        parts = tuple((None if name is None else str(name), int(tokens)) for name, tokens in sources)
        known = traceable and first + count <= end
        chunks.append(Chunk(int(first) if known else 0, int(count) if known else 0, parts, by_hand=True))
    return Ledger(chunks)


# -- layers that share rows ----------------------------------------------------------------------------------------


def _of_shared(
    memory: Memory,
    manifest: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    segments: Sequence[tuple[list[Segment], int]],
    rows: Mapping[str, Tensor],
    births: Tensor,
) -> MemoryState:
    """Rows take the numbers of their births."""
    fields = memory.codec.fields
    segments_here, start = segments[0] if segments else ([], 0)
    extents, long_births = list[Extent](), list[Tensor]()
    for number, segment in enumerate(segments_here):
        born = segment.tensors({**fields, "birth": ((), torch.int64)})["birth"][start if number == 0 else 0 :]
        extents += _runs(segment, born, start if number == 0 else 0)
        long_births.append(born.clone())
    loose = list(_loose(tensors, 0, {**fields, "birth": ((), torch.int64)}))
    long_births += [piece["birth"] for piece in loose]
    log = RowLog(fields, storage=memory.storage)
    in_ram = [memory.codec.stored(dict(rows)) | {"birth": births[0]}, *loose]
    columns = {name: torch.cat([piece[name] for piece in in_ram]) for name in (*fields, "birth")}
    order = columns["birth"].argsort()
    columns = {name: value[order] for name, value in columns.items()}
    born = columns.pop("birth")
    for begin, stop in _consecutive(born):
        log, _ = log.with_gap_to(int(born[begin])).appended({name: value[begin:stop] for name, value in columns.items()})
    now = int(manifest["now"])
    every = tuple(sorted((*log.extents, *extents), key=lambda extent: extent.row))
    if any(before.stop > after.row for before, after in itertools.pairwise(every)):
        raise ValueError("the memory holds a token twice")
    log = replace(log, extents=every, end=max(now, log.end))
    long = torch.cat(long_births) if long_births else torch.empty(0, dtype=torch.int64)
    if long.numel() != manifest["ltm_tokens"]:
        raise ValueError(f"{long.numel()} long-term tokens are held, stored were {manifest['ltm_tokens']}")
    placement = Placement(
        births.clone(), births.clone(), (LongGroup(Column(long), Column(long.clone())),), torch.empty(0).byte(), now
    )
    return MemoryState(
        log=log,
        placement=placement,
        short_term=short_term_of(memory, log, placement),
        long_term=LongTerm(memory.layout, memory.geometry, memory.codec, log, placement.long),
    )


def _runs(segment: Segment, births: Tensor, start: int) -> list[Extent]:
    return [Extent(segment, start + begin, stop - begin, int(births[begin])) for begin, stop in _consecutive(births)]


def _consecutive(births: Tensor) -> Iterator[tuple[int, int]]:
    """Runs of births that follow each other, as (begin, end) places."""
    if not births.numel():
        return
    cuts = [0, *((births.diff() != 1).nonzero()[:, 0] + 1).tolist(), births.numel()]
    yield from itertools.pairwise(cuts)


# -- layers with rows of their own ---------------------------------------------------------------------------------


def _of_layers(
    memory: Memory,
    manifest: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    segments: Sequence[tuple[list[Segment], int]],
    rows: Mapping[str, Tensor],
    births: Tensor,
) -> MemoryState:
    """Rows take numbers by their place; those of different layers at one place need not be of one token."""
    layers, spec = memory.layout.layers if memory.geometry.sizes.ltm else 0, _layer_fields(memory)
    waiting, long = manifest["ltm_waiting"], list[tuple[dict[str, Tensor], Tensor, Tensor | None, int]]()
    for layer in range(layers):
        pieces = [*_in_segments(tensors, layer, segments, spec), *_loose(tensors, layer, spec)]
        columns = {
            name: torch.cat([piece[name] for piece in pieces]) if pieces else torch.empty(0, *shape, dtype=dtype)
            for name, (shape, dtype) in spec.items()
        }
        names = tuple(memory.layout.fields)
        long.append((memory.codec.decode(columns, names), columns["birth"], columns.get("frequency"), int(waiting[layer])))
    counts = [born.shape[0] for _, born, _, _ in long]
    if counts != manifest.get("ltm_group_tokens", counts) or max(counts, default=0) != manifest["ltm_tokens"]:
        raise ValueError(f"the groups of long-term memory hold {counts} tokens, stored were {manifest['ltm_tokens']}")
    return with_rows(memory, memory.empty_state(), dict(rows), births, long)


def _layer_fields(memory: Memory) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
    """What an old store kept of one row of one layer."""
    spec = {name: (shape[1:], dtype) for name, (shape, dtype) in memory.codec.fields.items()}
    spec["birth"] = ((), torch.int64)
    if memory.geometry.quirks.eviction == "countdown":
        spec["frequency"] = ((), torch.float32)
    return spec


def _in_segments(
    tensors: Mapping[str, Tensor], group: int, segments: Sequence[tuple[list[Segment], int]], spec: FieldSpec
) -> Iterator[dict[str, Tensor]]:
    held, start = segments[group] if segments else ([], 0)
    for number, segment in enumerate(held):
        columns = dict(segment.tensors(spec))
        for name in spec:
            columns[name] = tensors.get(f"ltm.{group}.{name}.segment.{number}", columns[name])
        yield {name: value[start if number == 0 else 0 :] for name, value in columns.items()}


def _loose(tensors: Mapping[str, Tensor], group: int, spec: FieldSpec) -> Iterator[dict[str, Tensor]]:
    number = 0
    while f"ltm.{group}.birth.{number}" in tensors:
        count = tensors[f"ltm.{group}.birth.{number}"].shape[0]
        yield {
            name: _stored(tensors, f"ltm.{group}.{name}.{number}", (count, *shape), dtype)
            for name, (shape, dtype) in spec.items()
        }
        number += 1


def _shaped(tensors: Mapping[str, Tensor], name: str, shape: tuple[int, ...]) -> Tensor:
    if tuple(tensors[name].shape) != shape:
        raise ValueError(f"{name} is {list(tensors[name].shape)}, expected {list(shape)}")
    return tensors[name]


def _stored(tensors: Mapping[str, Tensor], name: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    value = _shaped(tensors, name, shape)
    if value.is_floating_point() != dtype.is_floating_point:  # levels without their scale, or numbers cut to levels
        raise ValueError(f"{name} is {value.dtype}, expected {dtype}")
    return value
