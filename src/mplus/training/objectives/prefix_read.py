"""A read with gradient: prompts of a step over the memories their samples see. Knows views and tables, nothing of sub-tasks.

Legend: B rows, T tokens, P prefix slots, L layers, H kv heads, E head width, k long-term tokens, n short-term tokens.

Row b of layer l is what a read gives it (``mplus.attach.read_pass``): [unused | BOS_l | k found | n short-term | text], or with
``read_order="score"`` the found ones last. Gradient flows through BOS, through rows that were written with gradient, through the
adapter that projects rows where they are hidden states, and through the read adapter.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from mplus.attach.checkpointing import recomputed
from mplus.attach.hooks import Hooks
from mplus.attach.prefix_pass import Pair, PrefixPass
from mplus.model import MPlusModel
from mplus.training.bank.step_rows import StepRows
from mplus.training.objectives.selection import Selection
from mplus.training.sampling.memory_view import MemoryView

NO_COLUMN = -1


class PrefixRead:
    """One forward pass.

    Args:
        views: what each row sees, B of them.
        search: how long-term tokens are chosen.
        ids, text: [B, T] left-padded token ids, and False at padding.
        checkpointed: layers that keep only their input for the backward pass.
    """

    def __init__(
        self,
        model: MPlusModel,
        table: StepRows,
        views: list[MemoryView],
        search: Selection,
        ids: Tensor,
        text: Tensor,
        *,
        checkpointed: tuple[int, ...] = (),
    ) -> None:
        self.checkpointed = checkpointed
        self.model, self.table, self.views, self.search = model, table, views, search
        self.decoder, self.adapters = model.parts.decoder, model.parts.adapters
        self.ids = ids
        by_score = model.geometry.read.beside_prompt is not None
        self.groups = len(views[0].short)
        self.short_tokens = [min(part.shape[0] for part in short) for short in search.short]
        self.behind = search.behind if by_score else self.short_tokens  # short-term tokens behind the found ones
        self.lengths = [1 + count + short for count, short in zip(search.tokens, self.short_tokens, strict=True)]
        self.prefix_pass = PrefixPass(self.decoder, self.lengths, text, storing=False)
        self.prefix = self.prefix_pass.prefix
        self.short_index = [self._short(group) for group in range(self.groups)]
        self.bos_kv: list[Pair] = []

    def forward(self, wanted: Tensor) -> Tensor:
        """Logits [m, V] of the positions where `wanted` [B, T] is True, in row order."""
        decoder, adapters = self.decoder, self.adapters
        with adapters.on(adapters.named(self.model.geometry.read.memory_projection)):
            self.bos_kv = self.model.parts.project_bos(decoder.depth)
        with self._hooked(), recomputed(decoder, self.checkpointed, self._hooked):
            logits: Tensor = decoder.model.lm_head(self.prefix_pass.states(self.ids)[wanted])
        return logits

    @contextmanager
    def _hooked(self) -> Iterator[None]:
        with self.adapters.on(self.adapters.read), Hooks() as hooks:
            self.prefix_pass.install(hooks, self._fill)
            yield

    def _fill(self, layer: int, normed: Tensor) -> Pair:
        columns = self._columns(layer, self.search.choose(layer, normed))
        rows, place = self.table.gather(layer, columns.clamp(min=0))
        keys, values = self._project(layer, rows)
        keys, values = keys[place], values[place]  # [B, P, H, E]
        bos_keys, bos_values = self.bos_kv[layer]
        here = (self.prefix_pass.slots == self.prefix_pass.bos_slot)[:, :, None, None]
        keys, values = torch.where(here, bos_keys.to(keys), keys), torch.where(here, bos_values.to(values), values)
        return self.prefix_pass.rotated(keys, values)

    def _project(self, layer: int, rows: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        if "keys" in rows:
            return rows["keys"], rows["values"]
        with self.adapters.on(self.adapters.named(self.model.geometry.read.memory_projection)):
            return self.decoder.project(layer, rows["hidden"])

    def _columns(self, layer: int, found: list[Tensor]) -> Tensor:
        """[B, P] columns; unused slots and BOS have none."""
        out = self.short_index[layer if self.groups > 1 else 0].clone()
        for row, chosen in enumerate(found):
            if chosen.numel():
                last = self.prefix - self.behind[row]
                out[row, last - chosen.shape[0] : last] = chosen
        return out

    def _short(self, group: int) -> Tensor:
        out = torch.full((len(self.views), self.prefix), NO_COLUMN)
        for row, shorts in enumerate(self.search.short):
            short = shorts[group][shorts[group].shape[0] - self.short_tokens[row] :]
            last, behind = self.prefix - self.behind[row], short.shape[0] - self.behind[row]
            out[row, last:] = short[behind:]
            last -= self.search.tokens[row]
            out[row, last - behind : last] = short[:behind]
        return out
