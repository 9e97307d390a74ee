"""Rows of memory that were retrieved for a prompt, in the order in which they are read. Changes no memory, knows no model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mplus.memory.memory import Memory
from mplus.memory.rows import Rows


@dataclass(frozen=True)
class RetrievalResult:
    """Tokens one prompt reads because they were retrieved for it, in reading order.

    Attributes:
        indices: [k] places in the store of the layer (or of all layers).
        ages: [k] memory tokens written since.
        scores: score of every token (per layer) or block (shared) of the store, float32; None where none were needed. Of a
            two-level search only the candidates have one: per layer these are the scores of ``candidates``, shared all other
            blocks have -inf.
        short: [j] ranks of short-term tokens that were retrieved too and are read with the long-term ones instead of at their place
            in time (``read_order="score"`` only).
        order: [k + j] reading order of ``indices`` followed by ``short``; None: as they stand.
        behind: newest short-term tokens that stand behind these, right before the prompt; None: all that are not in ``short``.
        candidates: [c] ascending places in the layer's store of the tokens that were scored; None: all of them, or blocks.
        positions: [k] numbers of the tokens in the order of writing, by which the ledger knows them.
        match: late interaction only: of search keys [n, F], the match [t, n] of each searching token with each key, and the weights [t] of
            these tokens.
        windows: late interaction only: [m] scores of the windows in the order of the text, for a second round.
        slot: [m] windows that answer the same as the best one; None: they were not looked for, or there is no other.
        rounds: searches that this came from.
        own_match: late interaction only: the match [t] of each searching token with its own search key, had it been written as it stands.
    """

    indices: Tensor
    ages: Tensor
    scores: Tensor | None
    short: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64, device="cpu"))
    order: Tensor | None = None
    behind: int | None = None
    candidates: Tensor | None = None
    positions: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64, device="cpu"))
    match: Callable[[Tensor], tuple[Tensor, Tensor]] | None = None
    windows: Tensor | None = None
    slot: Tensor | None = None
    rounds: int = 1
    own_match: Callable[[], Tensor] | None = None


@dataclass(frozen=True)
class Retrieved:
    """Retrieval results of one prompt: per layer, or one entry that holds for all layers."""

    layers: list[RetrievalResult]

    @property
    def indices(self) -> list[list[int]]:
        """BlockTable in the store, in reading order."""
        return [result.indices.tolist() for result in self.layers]


def fields_read(memory_format: str) -> tuple[str, ...]:
    """Fields of a row that a read needs."""
    return ("hidden",) if memory_format == "hidden" else ("keys", "values")


def rows_of_all_layers(memory: Memory, result: RetrievalResult, device: torch.device) -> Rows:
    """Rows [L, k + j, ...] that were retrieved for all layers at once, in reading order."""
    rows = memory.long_term.gather(0, result.indices, fields_read(memory.layout.format), device)
    rows = {name: value.transpose(0, 1) for name, value in rows.items()}
    if result.short.numel():
        pool = memory.short_term.at_slots(memory.short_term.order[:, result.short])
        rows = {name: torch.cat([value, pool[name].to(value)], 1) for name, value in rows.items()}
    if result.order is not None:
        order = result.order.to(device)
        rows = {name: value[:, order] for name, value in rows.items()}
    return rows
