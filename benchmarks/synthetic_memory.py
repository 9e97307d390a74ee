"""Memories of any size without reading for hours: nearly all of their rows are random. Knows no clock.

Legend: M long-term rows, n rows of one piece, L layers.

A random row costs what a written one costs; writing 2,560 tokens on two busy cores takes a minute for each memory. Short-term rows are
taken in by the memory itself, long-term ones go through its log, so their form is the real one.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import torch
from torch import Tensor

from benchmarks.plan import LARGEST_LTM
from mplus.memory import budget
from mplus.memory.memory import Memory
from mplus.memory.rows import EncodedChunk
from mplus.memory.state import MemoryState
from mplus.memory.stores.fields import bytes_per_row

PIECE_ROWS: Final = 4096
OLDEST: Final = LARGEST_LTM  # long-term rows are born so long before the first written token


def random_ids(count: int, vocabulary: int, seed: int = 0) -> Tensor:
    """Token ids [count], never the first three, which are special."""
    return torch.randint(3, vocabulary, (count,), generator=torch.Generator().manual_seed(seed))


def fill_short(memory: Memory) -> None:
    """Fill short-term memory to the brim: random rows first, the newest ones by a real write, which also makes the tail."""
    written = min(memory.geometry.sizes.new_tokens, memory.geometry.sizes.chunk_tokens)
    older = memory.geometry.sizes.stm_tokens - len(memory.short_term) - written
    generator = torch.Generator().manual_seed(2)
    layout = memory.layout
    rows = {
        name: torch.randn(layout.groups(name), older, *shape, generator=generator).to(layout.device, layout.dtype)
        for name, shape in layout.fields.items()
    }
    memory.update(EncodedChunk(rows, 0, hidden=rows.get("hidden")))
    memory.write(random_ids(memory.geometry.sizes.chunk_tokens, memory.encoder.vocabulary))


def grow_long(memory: Memory, tokens: int) -> None:
    """Append random rows until every group of long-term memory holds `tokens`."""
    layout = memory.layout
    generator = torch.Generator().manual_seed(3)
    shapes = {name: memory.codec.fields[name][0] for name in layout.fields}
    block = memory.long_term.block
    tokens = tokens // block * block
    source = {name: torch.randn(PIECE_ROWS, *shape, generator=generator).to(layout.dtype) for name, shape in shapes.items()}
    state, piece = memory.state, 0
    while (missing := tokens - min(map(len, state.placement.long))) > 0:
        count = min(PIECE_ROWS, missing)
        rows = {name: value.roll(piece * 61, 0)[:count] for name, value in source.items()}
        if "search" in shapes:  # no two rows may score the same
            rows["search"] = torch.randn(count, *shapes["search"], generator=generator).to(layout.dtype)
        state = _with_long(state, memory, memory.codec.encode(rows), tokens)
        piece += 1
    memory.become(replace(state, long_term=memory.long_term.followed_by(state.log, state.placement.long)))


def _with_long(state: MemoryState, memory: Memory, stored: dict[str, Tensor], tokens: int) -> MemoryState:
    """The state with further rows, which every group that holds less than `tokens` counts as its newest ones."""
    log, place = state.log.appended(stored)
    quirks = memory.geometry.quirks
    frequency = quirks.initial_recall_frequency if quirks.eviction == "countdown" else None
    groups = []
    for group in state.placement.long:
        count, first = max(0, min(place.rows, tokens - len(group))), len(group) - OLDEST
        more = group.with_more(place.row + torch.arange(count), first + torch.arange(count), frequency)
        groups.append(replace(more, waiting=group.waiting))
    return replace(state, log=log, placement=replace(state.placement, long=tuple(groups)))


def bytes_of(memory: Memory, tokens: int) -> int:
    """Bytes that `tokens` long-term tokens take in all layers."""
    return bytes_per_row(memory.codec.fields) * tokens


def shortage(needed_bytes: int, *, spare_bytes: int = 1_500_000_000) -> str | None:
    """None where there is room; else one sentence about what would be needed."""
    free = budget.free_bytes(torch.device("cpu"))
    if free is None or needed_bytes + spare_bytes <= free:
        return None
    return f"needs {(needed_bytes + spare_bytes) / 1e9:.1f} GB of free RAM, {free / 1e9:.1f} GB are there"
