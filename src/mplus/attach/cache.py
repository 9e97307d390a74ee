"""A transformers cache whose layers begin with memory. Every dependence on the cache API's version is in this file.

Legend: B rows, P prefix slots, T new tokens, H kv heads, E head width.

The causal mask is built before any layer runs, so a layer reports P slots before they are filled; an attention pre-hook
fills them when the layer's turn comes.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer
from transformers.masking_utils import create_causal_mask

GROWTH_TOKENS = 64

NAME = "cache" if "cache" in inspect.signature(create_causal_mask).parameters else "past_key_values"
"""The argument by which decoders and ``generate`` take a cache: renamed in transformers 5.24."""


def passed(cache: Cache | None) -> dict[str, Any]:
    """The argument that gives a decoder, or its ``generate``, this cache."""
    return {NAME: cache}


class PrefixLayer(DynamicLayer):
    """P memory slots, then what the model appends, in one buffer written in place.

    Args:
        prefix: P.
        room: tokens to reserve behind the prefix.
        storing: False keeps nothing of what passes (training with checkpointing, generation without cache): each
            forward sees the prefix and its own tokens only.
    """

    is_compileable = False

    def __init__(self, prefix: int, room: int, storing: bool) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.prefix = prefix
        self.room = room
        self.storing = storing
        self.filled = False
        self.used = prefix
        self.buffered = False

    def fill(self, keys: Tensor, values: Tensor) -> None:
        """Set the prefix: the first P slots of rotated keys and values, [B, H, S, E].

        Where S has the room behind P, what comes is written into these very tensors.
        """
        self.used = self.prefix
        self.buffered = self._may_buffer()
        self.lazy_initialization(keys, values)
        if self.buffered:
            self._keys, self._values = (self._with_room(part) for part in (keys, values))
            self._view()
        else:
            self.keys, self.values = keys[:, :, : self.prefix], values[:, :, : self.prefix]
        self.filled = True

    def _with_room(self, part: Tensor) -> Tensor:
        if part.shape[2] >= self.prefix + self.room > self.prefix:
            return part
        buffer = part.new_empty(*part.shape[:2], self.prefix + self.room, part.shape[3])
        buffer[:, :, : self.prefix] = part
        return buffer

    def _may_buffer(self) -> bool:
        return self.storing and not torch.is_grad_enabled()

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        if not self.filled or self.keys is None or self.values is None:
            raise AssertionError("attention ran before its memory prefix was filled")
        if not self.buffered:
            keys = torch.cat([self.keys, key_states], -2)
            values = torch.cat([self.values, value_states], -2)
            if self.storing:
                self.keys, self.values, self.used = keys, values, keys.shape[-2]
            return keys, values
        count = key_states.shape[-2]
        if self.used + count > self._keys.shape[-2]:
            self._grow(self.used + count + GROWTH_TOKENS)
        self._keys[:, :, self.used : self.used + count] = key_states
        self._values[:, :, self.used : self.used + count] = value_states
        self.used += count
        self._view()
        return self.keys, self.values

    def get_seq_length(self, *args: Any) -> int:
        return self.used

    def get_mask_sizes(self, query_length: Any, *args: Any) -> tuple[int, int]:
        count = query_length if isinstance(query_length, int) else int(query_length.shape[0])  # a position tensor before 5.20
        return self.used + count, 0

    def reorder_cache(self, beam_idx: Tensor) -> None:
        self._take(beam_idx)

    def batch_select_indices(self, indices: Tensor) -> None:
        self._take(indices)

    def batch_repeat_interleave(self, repeats: int) -> None:
        if self.filled and self.keys is not None:
            self._take(torch.arange(self.keys.shape[0], device=self.keys.device).repeat_interleave(repeats))

    def crop(self, tokens_to_remove: int) -> None:
        """Forget the last ``-tokens_to_remove`` appended tokens; memory slots are never cropped."""
        self.used = max(self.prefix, self.used - abs(tokens_to_remove))
        if self.filled:
            if self.buffered:
                self._view()
            elif self.keys is not None and self.values is not None:
                self.keys, self.values = self.keys[:, :, : self.used], self.values[:, :, : self.used]

    def _take(self, index: Tensor) -> None:
        if not self.filled or self.keys is None or self.values is None:
            return
        index = index.to(self.keys.device)
        if self.buffered:
            self._keys, self._values = self._keys.index_select(0, index), self._values.index_select(0, index)
            self._view()
        else:
            self.keys, self.values = self.keys.index_select(0, index), self.values.index_select(0, index)

    def _view(self) -> None:
        self.keys, self.values = self._keys[:, :, : self.used], self._values[:, :, : self.used]

    def _grow(self, slots: int) -> None:
        for name in ("_keys", "_values"):
            old: Tensor = getattr(self, name)
            new = old.new_empty(*old.shape[:2], max(slots, old.shape[2] + old.shape[2] // 4), old.shape[3])
            new[:, :, : self.used] = old[:, :, : self.used]
            setattr(self, name, new)


class PrefixCache(Cache):
    """One ``PrefixLayer`` per decoder layer."""

    _can_checkpoint_with_cache = True  # a layer that stores nothing gives the same result when recomputed

    def __init__(self, depth: int, prefix: int, *, room: int = GROWTH_TOKENS, storing: bool = True) -> None:
        super().__init__(layers=[PrefixLayer(prefix, room, storing) for _ in range(depth)])
        self.prefix = prefix

    def at(self, layer: int) -> PrefixLayer:
        """The cache layer of a decoder layer."""
        found = self.layers[layer]
        assert isinstance(found, PrefixLayer)
        return found


class BatchLayer(DynamicLayer):
    """One layer of a ``BatchCache``, [rows, H, slots, E]."""

    is_compileable = False

    def __init__(self, cache: BatchCache) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.cache = cache
        self.row_keys: Tensor | None = None
        self.row_values: Tensor | None = None

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        keys, values, cache = self.row_keys, self.row_values, self.cache
        assert keys is not None and values is not None
        keys[cache.passing, :, cache.end] = key_states[:, :, 0]
        values[cache.passing, :, cache.end] = value_states[:, :, 0]
        seen = slice(cache.first, cache.end + 1)
        return keys[cache.passing, :, seen], values[cache.passing, :, seen]

    def get_seq_length(self, *args: Any) -> int:
        return self.cache.end - self.cache.first

    def get_mask_sizes(self, query_length: Any, *args: Any) -> tuple[int, int]:
        return self.cache.end - self.cache.first + 1, 0

    def arrange(self, rows: int, slots: int, held: int, source: slice, target: slice) -> None:
        """Make buffers of so many rows and slots, and copy the first `held` rows into other slots of them."""
        for name in ("row_keys", "row_values"):
            old: Tensor | None = getattr(self, name)
            assert old is not None
            new = old.new_zeros(rows, old.shape[1], slots, old.shape[3])  # what nobody sees must be finite
            new[:held, :, target] = old[:held, :, source]
            setattr(self, name, new)


class BatchCache(Cache):
    """Keys and values of rows that are decoded together: each begins at a slot of its own, all end at the same one.

    A pass appends one token to each row. Rows come in by ``join`` and go by ``leave``; buffers grow by steps, never with a token.

    Attributes:
        starts: first slot of each row.
        end: the slot of the next token.
        passing: the rows of the pass that runs.
    """

    def __init__(self, depth: int) -> None:
        super().__init__(layers=[BatchLayer(self) for _ in range(depth)])
        self.starts: list[int] = []
        self.end = self.rows_reserved = self.slots_reserved = 0
        self.passing = slice(0, 0)

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def first(self) -> int:
        """The first slot that any row of the pass sees."""
        return min(self.starts[self.passing], default=self.end)

    def join(self, source: PrefixCache, seen: Tensor, taken_row: int = 0) -> None:
        """Copy a row of another cache behind the rows, without the slots that are False in `seen` [S]."""
        length, row = int(seen.sum()), len(self)
        places = None if length == seen.shape[0] else seen.nonzero()[:, 0]
        self._reserve(row + 1, length, source)
        taken = slice(self.end - length, self.end)
        for layer, own in enumerate(self.layers):
            part = source.at(layer)
            assert isinstance(own, BatchLayer) and own.row_keys is not None and own.row_values is not None
            for target, given in ((own.row_keys, part.keys), (own.row_values, part.values)):
                assert given is not None
                own_part = given[taken_row]
                target[row, :, taken] = own_part if places is None else own_part.index_select(1, places)
        self.starts.append(taken.start)

    def leave(self, row: int) -> None:
        """Take a row out; the last one has its number from now on."""
        last = len(self) - 1
        if row != last:
            used = slice(self.starts[last], self.end)
            for own in self._layers():
                assert own.row_keys is not None and own.row_values is not None
                own.row_keys[row, :, used] = own.row_keys[last, :, used]
                own.row_values[row, :, used] = own.row_values[last, :, used]
            self.starts[row] = self.starts[last]
        self.starts.pop()

    def reserve_slot(self) -> None:
        """Grow the buffers where the token of the next pass has no slot."""
        if self.end == self.slots_reserved:
            self._arrange(self.rows_reserved, max(self.end - start for start in self.starts))

    def _reserve(self, rows: int, length: int, like: PrefixCache) -> None:
        """Grow the buffers until so many rows fit, and one of `length` before the next token's slot."""
        longest = max([length, *(self.end - start for start in self.starts)])
        if not self.rows_reserved:
            for layer, own in enumerate(self._layers()):
                given = like.at(layer).keys
                assert given is not None
                own.row_keys = own.row_values = given.new_zeros(0, given.shape[1], 0, given.shape[3])
        if not self.starts and length < self.slots_reserved and rows <= self.rows_reserved:
            self.end = length
        elif rows > self.rows_reserved or length > self.end or self.end == self.slots_reserved:
            self._arrange(max(rows, 2 * self.rows_reserved) if rows > self.rows_reserved else self.rows_reserved, longest)

    def _arrange(self, rows: int, longest: int) -> None:
        """Move all rows so that they end behind `longest` slots, with room for what follows."""
        room = longest + max(GROWTH_TOKENS, longest // 4)
        slots = self.slots_reserved if room <= self.slots_reserved else room + GROWTH_TOKENS
        moved, first = longest - self.end, min(self.starts, default=self.end)
        for own in self._layers():
            own.arrange(rows, slots, len(self), slice(first, self.end), slice(first + moved, self.end + moved))
        self.starts = [start + moved for start in self.starts]
        self.end, self.rows_reserved, self.slots_reserved = longest, rows, slots

    def _layers(self) -> list[BatchLayer]:
        return [layer for layer in self.layers if isinstance(layer, BatchLayer)]
