"""The sources of a memory with where their memory tokens are. Knows a state, no model."""

from __future__ import annotations

import torch
from torch import Tensor

from mplus.memory.ledger import Chunk, Ledger, SourceInfo, digest_of
from mplus.memory.placement import Placement
from mplus.memory.state import MemoryState


def source_infos(state: MemoryState) -> list[SourceInfo]:
    """One entry per source, in the order of their first write; text that only waits counts too."""
    ledger, ids = state.ledger, state.ledger.ids_by_source()
    names = list(dict.fromkeys([*ids, *(name for name, _ in state.pending)]))
    tokens, chunks = ledger.tokens_by_source(), dict.fromkeys(names, 0)
    times: dict[str | None, list[float]] = {name: [] for name in names}
    for chunk in ledger.chunks:
        for name in dict.fromkeys(name for name, _ in chunk.sources):
            chunks[name] += 1
            if chunk.at is not None:
                times[name].append(chunk.at)
    where = counts_by_source(state, names)
    infos = []
    for number, name in enumerate(names):
        held, waits = ids.get(name), [tokens for label, tokens in state.pending if label == name]
        complete = name not in ids or held is not None
        short, long, gone = where[number]
        infos.append(
            SourceInfo(
                name=name or "",
                tokens=tokens.get(name or "", 0) + sum(map(len, waits)),
                chunks=chunks[name],
                first_at=min(times[name], default=None),
                last_at=max(times[name], default=None),
                short_term=short,
                long_term=long,
                evicted=gone,
                digest=digest_of([*(held or ()), *waits]) if complete else "",
            )
        )
    return infos


def counts_by_source(state: MemoryState, names: list[str | None]) -> list[tuple[int, int, int]]:
    """(short-term, long-term, gone) memory tokens of each source; where layers differ, their mean."""
    owner = owners(state.ledger, names, state.log.end)
    total = _counted(owner, len(names))
    short, long = _held(state.placement, owner, len(names))
    return [
        (round(float(few)), round(float(many)), max(0, round(float(every - few - many))))
        for every, few, many in zip(total, short, long, strict=True)
    ]


def owners(ledger: Ledger, names: list[str | None], end: int) -> Tensor:
    """[end] number of the source of each row, -1 where there is none."""
    number = {name: place for place, name in enumerate(names)}
    owner = torch.full((end,), -1, dtype=torch.int32, device="cpu")
    for chunk in ledger.chunks:
        for name, begin, stop in parts_of(chunk):
            owner[begin:stop] = number.get(name, -1)
    return owner


def parts_of(chunk: Chunk) -> list[tuple[str | None, int, int]]:
    """(source, first row, row behind the last one) of each part of a chunk; rows stand evenly for its text tokens."""
    text, done, out = sum(count for _, count in chunk.sources), 0, []
    for name, count in chunk.sources:
        begin, stop = (chunk.first + place * chunk.rows // max(1, text) for place in (done, done + count))
        out.append((name, begin, stop))
        done += count
    return out


def _counted(numbers: Tensor, count: int) -> Tensor:
    return torch.bincount(numbers[numbers >= 0].long(), minlength=count).double()


def _held(placement: Placement, owner: Tensor, count: int) -> tuple[Tensor, Tensor]:
    short = (
        sum((_counted(owner[rows], count) for rows in placement.rows), torch.zeros(count, dtype=torch.float64, device="cpu"))
        / placement.groups
    )
    long = sum(
        (_counted(owner[group.rows], count) for group in placement.long), torch.zeros(count, dtype=torch.float64, device="cpu")
    ) / len(placement.long)
    return short, long
