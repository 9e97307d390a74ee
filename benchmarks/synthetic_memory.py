"""Memories of any size without reading for hours: nearly all of their rows are random. Knows no clock.

Legend: M long-term rows, n rows of one piece, L layers.

A random row costs what a written one costs; writing 2,560 tokens on two busy cores takes a minute for each memory. Long-term rows
go through the store's own append, so their form in the store is the real one.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from benchmarks.plan import LARGEST_LTM
from mplus.memory import budget
from mplus.memory.memory import Memory
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
    memory.short_term.append(rows, torch.arange(memory.now, memory.now + older))
    if layout.format == "hidden":  # as writes leave it
        memory.tail = rows["hidden"][:, -memory.geometry.sizes.new_tokens :].clone()
    memory.now += older
    memory.write(random_ids(memory.geometry.sizes.chunk_tokens, memory.encoder.vocabulary))


def grow_long(memory: Memory, tokens: int) -> None:
    """Append random rows until every group of long-term memory holds `tokens`."""
    longterm, layout = memory.long_term, memory.layout
    generator = torch.Generator().manual_seed(3)
    shapes = {name: longterm.codec.fields[name][0] for name in layout.fields}
    block = longterm.block
    tokens = tokens // block * block
    source = {name: torch.randn(PIECE_ROWS, *shape, generator=generator).to(layout.dtype) for name, shape in shapes.items()}
    for group, store in enumerate(longterm.stores):
        piece = 0
        while len(store) < tokens:
            count, first = min(PIECE_ROWS, tokens - len(store)), len(store) - OLDEST
            rows = {name: value.roll(piece * 61 + group, 0)[:count] for name, value in source.items()}
            if "search" in shapes:  # no two rows may score the same
                rows["search"] = torch.randn(count, *shapes["search"], generator=generator).to(layout.dtype)
            longterm.restore(group, rows, torch.arange(first, first + count), waiting=longterm.waiting[group])
            piece += 1


def bytes_of(memory: Memory, tokens: int) -> int:
    """Bytes that `tokens` long-term tokens take in all layers."""
    return sum(bytes_per_row(store.fields) for store in memory.long_term.stores) * tokens


def shortage(needed_bytes: int, *, spare_bytes: int = 1_500_000_000) -> str | None:
    """None where there is room; else one sentence about what would be needed."""
    free = budget.free_bytes(torch.device("cpu"))
    if free is None or needed_bytes + spare_bytes <= free:
        return None
    return f"needs {(needed_bytes + spare_bytes) / 1e9:.1f} GB of free RAM, {free / 1e9:.1f} GB are there"
