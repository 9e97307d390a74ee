"""Rows of different memories that are decoded together, one forward pass a step for all of them. Chooses no token.

All rows of a batch have the same adapter: those that read a memory are one batch, those of the bare base another.

Legend: B rows, S slots from the first that any row has, V vocabulary.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch
from torch import Tensor

from mplus.attach.attention import grouped_on_cpu
from mplus.attach.cache import BatchCache, passed
from mplus.attach.sweep import sweep
from mplus.inference.prefill import Prefill
from mplus.inference.reader import Reader

log = logging.getLogger(__name__)


class DecodeBatch:
    """Rows that each get one token a step; they join and leave between steps.

    Args:
        adapter: of all rows; None: the bare base.
    """

    def __init__(self, reader: Reader, adapter: str | None) -> None:
        self.parts, self.turn, self.adapter = reader.parts, reader.writer.turn, adapter
        self._cache = BatchCache(reader.parts.decoder.depth)

    def __len__(self) -> int:
        return len(self._cache)

    def join(self, prefill: Prefill, prompt: int = 0) -> None:
        """Take a prompt of those that have passed as the last row; a copy, so the prompts' buffers may be released afterwards."""
        assert prefill.is_done and prefill.adapter == self.adapter
        with torch.no_grad():
            self._cache.join(prefill.cache, prefill.seen[prompt], prompt)

    def leave(self, row: int) -> None:
        """Take a row out; the last one has its number from now on."""
        with torch.no_grad():
            self._cache.leave(row)

    def step(self, tokens: Sequence[int]) -> tuple[Tensor, dict[int, Exception]]:
        """Append a token to each row.

        Returns:
            logits [B, V] behind them, and the errors of rows that cannot go on. Where the pass of all rows fails, each is tried alone.
        """
        self._cache.reserve_slot()
        everyone, failed = slice(0, len(tokens)), dict[int, Exception]()
        try:
            logits = self._pass(tokens, everyone)
        except Exception as error:
            log.warning("a decode step of %d rows failed, each is tried alone", len(tokens), exc_info=error)
            logits, failed = self._one_by_one(tokens)
        self._cache.end += 1
        return logits, failed

    def _one_by_one(self, tokens: Sequence[int]) -> tuple[Tensor, dict[int, Exception]]:
        rows, failed = dict[int, Tensor](), dict[int, Exception]()
        for row in range(len(tokens)):
            try:
                rows[row] = self._pass(tokens, slice(row, row + 1))[0]
            except Exception as error:
                failed[row] = error
        blank = self.parts.bos.new_zeros(self.parts.decoder.vocabulary)
        return torch.stack([rows.get(row, blank).float() for row in range(len(tokens))]), failed

    def _pass(self, tokens: Sequence[int], rows: slice) -> Tensor:
        cache, decoder = self._cache, self.parts.decoder
        with self.turn.held(), torch.no_grad():
            sweep(self.parts)
            cache.passing = rows
            device = decoder.device
            starts = torch.tensor(cache.starts[rows], device=device)[:, None]
            seen = torch.arange(cache.first, cache.end + 1, device=device)[None] >= starts
            arguments = {
                **passed(cache),
                "input_ids": torch.tensor(list(tokens[rows]), device=device)[:, None],
                "attention_mask": seen.long(),
                "position_ids": cache.end - starts,
                "use_cache": True,
            }
            with grouped_on_cpu(decoder), self.parts.adapters.on(self.adapter):
                logits: Tensor = decoder.model(**arguments).logits[:, -1]
                return logits
