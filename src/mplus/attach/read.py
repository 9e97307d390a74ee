"""The read: memory stands before the prompt as keys and values of every layer. Changes no memory.

Legend: B prompts, T prompt tokens, P prefix slots, L layers, H kv heads, E head width, n short-term tokens, k long-term tokens.

Row b of layer l is [unused | BOS_l | k long-term, oldest first | n short-term, oldest first | prompt]; positions count from BOS.
With ``read_order="score"`` it is [unused | BOS_l | n short-term, oldest first | k found, best span last | prompt]; short-term tokens
that were found stand among the found ones only. Where the best find is among the newest ``recent_tokens``, these stay whole and
behind the other finds: [unused | BOS_l | older short-term | k found, best span last | newest short-term | prompt].
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from mplus.attach.cache import PrefixCache
from mplus.attach.drawn import Found, content, rows_of_all_layers
from mplus.attach.families import rotate
from mplus.attach.find import find_by_vote, find_in_layer, planned_tokens, prompt_features, searches
from mplus.attach.hooks import Hooks
from mplus.attach.parts import Attached
from mplus.config import Geometry
from mplus.memory.memory import Memory
from mplus.memory.rows import Rows, Written


@dataclass(frozen=True)
class Retrieved:
    """What one prompt drew from long-term memory: per layer, or one entry that holds for all layers."""

    layers: list[Found]

    @property
    def indices(self) -> list[list[int]]:
        """Places in the store, in reading order."""
        return [found.indices.tolist() for found in self.layers]


class Reading:
    """Everything a forward pass needs to read memory: prefix length, mask, cache, hooks.

    Args:
        memories: one per prompt (the same object may stand for several), or what a write pass produced, read alone.
        ids_BT, text_BT: the prompts, left-padded, and False at padding.
    """

    def __init__(
        self, attached: Attached, geometry: Geometry, memories: list[Memory | Written], ids_BT: Tensor, text_BT: Tensor
    ) -> None:
        self.attached, self.geometry, self.memories, self.text = attached, geometry, memories, text_BT
        self.device = ids_BT.device
        self.alone = any(isinstance(memory, Written) for memory in memories)
        self.sources = list({id(memory): memory for memory in memories}.values())
        self.rows_of = [[row for row, memory in enumerate(memories) if memory is source] for source in self.sources]
        self.found: list[list[Found]] = [[] for _ in memories]
        self.gathered: dict[int, Rows] = {}
        self.shared = geometry.retrieval == "shared"
        if self.shared:
            self._vote(ids_BT, text_BT)
        self.found_tokens = [self._found_tokens(row) for row in range(len(memories))]
        self.left_short = [self._left_short(row) for row in range(len(memories))]
        self.behind = [self._behind(row) for row in range(len(memories))]
        self.lengths = [1 + found + self._short_tokens(row) for row, found in enumerate(self.found_tokens)]
        self.prefix = max(self.lengths)
        self.bos_kv: list[tuple[Tensor, Tensor]] = []
        self.rotation = self._rotation()

    @property
    def adapter(self) -> str | None:
        """The adapter of this pass: `read`; a written chunk alone is read as a write would see it (published)."""
        return self.attached.adapters.write if self.alone else self.attached.adapters.read

    def mask(self) -> Tensor:
        """[B, P] 1 at used prefix slots."""
        lengths = torch.tensor(self.lengths, device=self.device)[:, None]
        return (torch.arange(self.prefix, device=self.device)[None] >= self.prefix - lengths).long()

    def cache(self, room: int, *, storing: bool = True) -> PrefixCache:
        """A cache that holds the prefix and `room` more tokens."""
        return PrefixCache(self.attached.decoder.depth, self.prefix, room=room, storing=storing)

    def install(self, hooks: Hooks) -> None:
        """Prepare BOS and hook every layer; call inside ``adapters.on(self.adapter)``."""
        decoder, adapters = self.attached.decoder, self.attached.adapters
        role = "write" if self.alone else self.geometry.memory_projection
        with torch.no_grad(), adapters.on(adapters.named(role)):
            self.bos_kv = [decoder.project(layer, self.attached.bos[layer][None]) for layer in range(decoder.depth)]
        for layer in range(decoder.depth):
            hooks.before_attention(decoder, layer, partial(self._fill, layer))

    def retrieved(self) -> list[Retrieved]:
        """What each prompt drew, after the pass has run."""
        return [Retrieved(found) for found in self.found]

    # -- long-term -------------------------------------------------------------------------------------------------

    def _vote(self, ids_BT: Tensor, text_BT: Tensor) -> None:
        features: list[Tensor] | None = None
        for source, rows in zip(self.sources, self.rows_of, strict=True):
            if not isinstance(source, Memory) or not searches(source):
                continue
            if features is None:
                features = prompt_features(self.attached, ids_BT, text_BT)
            here = torch.tensor(rows, device=ids_BT.device)
            own = [part[here] for part in features]
            for row, found in zip(rows, find_by_vote(self.attached, source, own, ids_BT[here], text_BT[here]), strict=True):
                self.found[row] = [found]
                self.gathered[row] = rows_of_all_layers(source, found, self.device)

    def _found_tokens(self, row: int) -> int:
        memory = self.memories[row]
        if not isinstance(memory, Memory):
            return 0
        if self.shared:
            return sum(found.indices.shape[0] + found.short.shape[0] for found in self.found[row])
        return planned_tokens(memory)

    def _left_short(self, row: int) -> Tensor | None:
        """Ranks of the short-term tokens that stay at their place in time; None: all of them."""
        if not self.shared or not self.found[row] or not self.found[row][0].short.numel():
            return None
        memory = self.memories[row]
        assert isinstance(memory, Memory)
        stays = torch.ones(len(memory.pool), dtype=torch.bool)
        stays[self.found[row][0].short] = False
        return stays.nonzero()[:, 0].to(self.device)

    def _behind(self, row: int) -> int:
        """Short-term tokens that stand behind what was found: all of them where that is read oldest first."""
        memory = self.memories[row]
        if isinstance(memory, Memory) and memory.geometry.read_order == "score":
            return sum(found.behind for found in self.found[row])
        return self._short_tokens(row)

    def _short_tokens(self, row: int) -> int:
        left = self.left_short[row]
        return _stm_tokens(self.memories[row]) if left is None else left.shape[0]

    def _longterm(self, layer: int, normed: Tensor, repeat: int) -> dict[int, Rows]:
        """Rows [k, ...] of one layer per prompt."""
        if self.shared:
            return {row: {name: value[layer] for name, value in rows.items()} for row, rows in self.gathered.items()}
        out: dict[int, Rows] = {}
        for source, rows in zip(self.sources, self.rows_of, strict=True):
            if not isinstance(source, Memory) or planned_tokens(source) == 0:
                continue
            here = torch.tensor(rows, device=normed.device)
            grown = normed.shape[1] - self.text.shape[1]  # without a cache each step brings the whole text again
            text = functional.pad(self.text[here], (0, grown), value=True)
            found_here = find_in_layer(self.attached, source, layer, normed[here * repeat], text)
            for row, found in zip(rows, found_here, strict=True):
                self.found[row] = [*self.found[row][:layer], found]
                out[row] = source.longterm.gather(layer, found.indices, content(source.layout.format), self.device)
        return out

    # -- assembly --------------------------------------------------------------------------------------------------

    def _rotation(self) -> tuple[Tensor, Tensor]:
        """cos, sin [1 or B, P, E]; slots before BOS are never seen."""
        lengths = torch.tensor(self.lengths, device=self.device)[:, None]
        if len(set(self.lengths)) == 1:
            lengths = lengths[:1]
        positions = (torch.arange(self.prefix, device=self.device)[None] - (self.prefix - lengths)).clamp(min=0)
        return self.attached.decoder.rotation(positions, self.attached.bos)

    def _fill(self, layer: int, cache: PrefixCache, normed: Tensor) -> None:
        slot = cache.at(layer)
        if slot.filled and slot.storing:
            return
        repeat = normed.shape[0] // len(self.memories)  # beams and several samples of one prompt
        with torch.no_grad():
            keys, values = self._assemble(layer, self._longterm(layer, normed, repeat))
            keys = rotate(keys, *self.rotation).transpose(1, 2)
            values = values.transpose(1, 2)
            if repeat > 1:
                keys, values = keys.repeat_interleave(repeat, 0), values.repeat_interleave(repeat, 0)
        slot.fill(keys, values)

    def _assemble(self, layer: int, longterm: dict[int, Rows]) -> tuple[Tensor, Tensor]:
        """Keys and values of all prefixes before rotation, [B, P, H, E]."""
        bos_keys, bos_values = self.bos_kv[layer]
        shape = (len(self.memories), self.prefix, *bos_keys.shape[-2:])
        keys, values = bos_keys.new_zeros(shape), bos_values.new_zeros(shape)
        for source, rows in zip(self.sources, self.rows_of, strict=True):
            short_keys, short_values = self._project(layer, _stm_rows(source, layer))
            for row in rows:
                first, left, behind = self.prefix - self.lengths[row], self.left_short[row], self.prefix - self.behind[row]
                short = torch.arange(first + 1, self.prefix, device=keys.device)
                long = slice(behind - self.found_tokens[row], behind)
                short = short[(short < long.start) | (short >= long.stop)]
                keys[row, first], values[row, first] = bos_keys[0], bos_values[0]
                keys[row, short] = (short_keys if left is None else short_keys[left]).to(keys)
                values[row, short] = (short_values if left is None else short_values[left]).to(values)
                if row in longterm:
                    long_keys, long_values = self._project(layer, longterm[row])
                    keys[row, long], values[row, long] = long_keys.to(keys), long_values.to(values)
        return keys, values

    def _project(self, layer: int, rows: Rows) -> tuple[Tensor, Tensor]:
        """K and V before rotation, [n, H, E], of stored rows."""
        if "keys" in rows:
            return rows["keys"], rows["values"]
        adapters = self.attached.adapters
        role = "write" if self.alone else self.geometry.memory_projection
        with adapters.on(adapters.named(role)):
            return self.attached.decoder.project(layer, rows["hidden"])


def _stm_tokens(memory: Memory | Written) -> int:
    return memory.tokens if isinstance(memory, Written) else len(memory.pool)


def _stm_rows(memory: Memory | Written, layer: int) -> Rows:
    """Short-term rows [n, ...] of one layer, oldest first; a chunk read alone gives its hidden states where it has them."""
    if isinstance(memory, Written):
        if memory.hidden is not None:
            return {"hidden": memory.hidden[layer]}
        return {name: memory.rows[name][layer] for name in ("keys", "values")}
    pool = memory.pool
    order = pool.order[layer if pool.drop_groups > 1 else 0]
    return {name: pool.rows[name][layer, order.to(pool.rows[name].device)] for name in content(memory.layout.format)}
