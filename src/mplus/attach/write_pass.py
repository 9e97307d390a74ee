"""The write pass: a chunk of text through the layers becomes new memory tokens. Changes no memory.

Legend: B rows, T text tokens, K new tokens at most, L layers, D width, H kv heads, E head width, n tail tokens.

``input`` tap: what enters a layer is its memory token, one per text token, or K spread over the chunk where K is smaller
(``Sizes.kept_positions``), or the mean of each ``tokens_per_row`` neighbours. ``output`` tap (published): what leaves a layer at the
last K rows; a chunk shorter than K is left-filled by the newest old memory tokens, which are refreshed with it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from mplus.attach.attention import grouped_on_cpu
from mplus.attach.checkpointing import recomputed
from mplus.attach.families import rotate
from mplus.attach.hooks import Hooks, StopForward
from mplus.attach.parts import ModelParts
from mplus.attach.prefix_pass import Pair, PrefixPass
from mplus.errors import InputError
from mplus.memory.pooling import pooled
from mplus.memory.rows import EncodedChunk, RowLayout, Rows
from mplus.settings import Geometry


@dataclass(frozen=True)
class Tail:
    """The newest memory tokens, which a write sees.

    Attributes:
        hidden: [B or 1, L, n, D], or None when keys and values are at hand.
        keys, values: [B or 1, L, n, H, E] as the write adapter projects them, or None.
    """

    hidden: Tensor | None = None
    keys: Tensor | None = None
    values: Tensor | None = None

    @property
    def tokens(self) -> int:
        """n."""
        held = self.hidden if self.hidden is not None else self.keys
        return 0 if held is None else held.shape[2]


def joined(tails: Sequence[Tail]) -> Tail:
    """One tail per row of a pass; all of one form and length."""
    if tails[0].hidden is not None:
        return Tail(hidden=torch.cat([tail.hidden for tail in tails if tail.hidden is not None]))
    if tails[0].keys is None:
        return Tail()
    keys = [tail.keys for tail in tails if tail.keys is not None]
    return Tail(keys=torch.cat(keys), values=torch.cat([tail.values for tail in tails if tail.values is not None]))


@dataclass
class _Taken:
    """What the hooks of one pass collect, one entry per layer."""

    hidden: dict[int, Tensor] = field(default_factory=dict)
    keys: dict[int, Tensor] = field(default_factory=dict)
    values: dict[int, Tensor] = field(default_factory=dict)
    normed: dict[int, Tensor] = field(default_factory=dict)
    text: dict[int, Tensor] = field(default_factory=dict)


def write_pass(
    model_parts: ModelParts,
    geometry: Geometry,
    layout: RowLayout,
    ids: Tensor,
    tail: Tail,
    *,
    initial: bool = False,
    logits: bool = False,
    grad: bool = False,
    states: tuple[int, ...] = (),
    recompute: tuple[int, ...] = (),
    lengths: tuple[int, ...] | None = None,
) -> list[EncodedChunk]:
    """Run one chunk per row; rows do not see each other.

    Args:
        ids: [B, T] token ids.
        lengths: tokens of each row where they differ, the rest of a row being padding on the right; with the output tap at least
            K of them, and neither logits nor gradient.
        tail: the newest tokens of the memory (or of each row's memory).
        initial: the first write of a pool that does not exist yet: no BOS, no tail (MemoryLLM, ``initialized`` = 0).
        logits: also give logits and the text's layer inputs.
        grad: keep the graph, so that a loss on what reads the new rows trains what wrote them (paper section 3.4).
        states: layers whose normalised states are given too, as ``rows["states"]`` [len(states), n, D], without gradient; what
            a retriever is trained on, one text token a memory token.
        recompute: layers that keep only their input for the backward pass; see ``recompute.taken_over``.

    Returns:
        one ``EncodedChunk`` per row.

    Raises:
        InputError: more text than one write takes.
    """
    text = ids.shape[1]
    if text > geometry.sizes.chunk_tokens:
        raise InputError(
            f"one write takes at most {geometry.sizes.chunk_tokens} tokens, got {text}; use memory.write, which cuts text"
        )
    with torch.set_grad_enabled(grad and torch.is_grad_enabled()):
        run = _Run(model_parts, geometry, layout, ids, tail, initial, logits, states, recompute, lengths)
        with model_parts.adapters.on(model_parts.adapters.write), grouped_on_cpu(model_parts.decoder):
            final = run.forward()
        return run.results(final)


class _Run:
    def __init__(
        self,
        model_parts: ModelParts,
        geometry: Geometry,
        layout: RowLayout,
        ids: Tensor,
        tail: Tail,
        initial: bool,
        logits: bool,
        states: tuple[int, ...],
        recompute: tuple[int, ...],
        lengths: tuple[int, ...] | None,
    ) -> None:
        self.parts, self.geometry, self.layout, self.tail = model_parts, geometry, layout, tail
        self.decoder = model_parts.decoder
        self.initial, self.wants_logits = initial, logits
        self.batch, self.text = ids.shape
        room = max(0, geometry.sizes.new_tokens - self.text) if geometry.write.tap == "output" else 0
        self.fill = min(room, tail.tokens)
        self.per_row = geometry.sizes.tokens_per_row
        self.new = self.text if self.per_row > 1 else min(geometry.sizes.new_tokens, self.text + self.fill)
        self.kept: slice | Tensor = slice(-self.new, None)
        if geometry.write.tap == "input" and self.per_row == 1 and geometry.sizes.new_tokens < geometry.sizes.chunk_tokens:
            self.kept = torch.tensor(geometry.sizes.kept_positions(self.text), device=ids.device)
            self.new = self.kept.shape[0]
        self.lengths = lengths
        self.own: list[Tensor] | None = None  # with lengths: which of the kept rows are each row's own
        if lengths is not None:
            self._keep_by_row(lengths, ids.device)
        self.ids = torch.cat([ids[:, :1].expand(-1, self.fill), ids], 1)
        length = 0 if initial else 1 + tail.tokens - self.fill
        text = torch.ones_like(self.ids, dtype=torch.bool)
        self.prefix_pass = PrefixPass(self.decoder, [length], text, storing=not torch.is_grad_enabled())
        self.taken = _Taken()
        self.takes_kv = layout.format == "kv" and keeps_write_kv(geometry)
        retriever = model_parts.retriever if "search" in layout.fields else None
        self.searched: tuple[int, ...] = () if retriever is None else retriever.layers
        self.states, self.recompute = states, recompute
        self.may_stop = not logits and not (recompute and torch.is_grad_enabled())
        self.narrows = self.may_stop and geometry.write.tap == "output" and not torch.is_grad_enabled()
        self.seen_kv: list[Pair] = []
        self.left_out: Pair | None = None

    def _keep_by_row(self, lengths: tuple[int, ...], device: torch.device) -> None:
        """Rows of different length: take all that is kept of any, and remember what is whose."""
        geometry = self.geometry
        if self.wants_logits or self.fill or (geometry.write.tap == "output" and min(lengths) < geometry.sizes.new_tokens):
            raise AssertionError("rows of different length give no logits and, with the output tap, have K tokens at least")
        output = geometry.write.tap == "output"
        first = min(lengths) - geometry.sizes.new_tokens if output else 0
        places = [
            list(range(length - geometry.sizes.new_tokens, length)) if output else self._taken_of(length) for length in lengths
        ]
        self.own = [torch.tensor(place, device=device) - first for place in places]
        self.new = self.text - first
        self.kept = slice(-self.new, None)  # counted from the end: the last layer may leave the others out

    def _taken_of(self, length: int) -> list[int]:
        """Places of a row whose layer inputs are taken; where rows are pooled, all."""
        return list(range(length)) if self.per_row > 1 else self.geometry.sizes.kept_positions(length)

    def forward(self) -> Tensor | None:
        """Run the decoder's layers with the hooks on; the last hidden states, or None when the pass could stop early."""
        decoder = self.decoder
        if not self.initial:  # before the hooks: they must see the chunk's projections only
            bos_kv = self.parts.project_bos(decoder.depth)
            self.seen_kv = [self.project_seen(layer, *bos) for layer, bos in enumerate(bos_kv)]
        with suppress(StopForward), Hooks() as hooks, recomputed(decoder, self.recompute, self.again):
            self.install(hooks)
            return self.prefix_pass.states(self.ids)
        return None

    @contextmanager
    def again(self) -> Iterator[None]:
        """Hooks and adapter once more, for a layer that gradient checkpointing recomputes; what they take is thrown away."""
        twin = copy.copy(self)
        twin.taken = _Taken()
        with self.parts.adapters.on(self.parts.adapters.write), Hooks() as hooks:
            twin.install(hooks)
            yield

    def install(self, hooks: Hooks) -> None:
        """Hook every layer: prepare its input, fill its prefix, take what becomes memory."""
        self.prefix_pass.install(hooks, self.fill_prefix)
        for layer in range(self.decoder.depth):
            self.install_layer(hooks, layer)

    def install_layer(self, hooks: Hooks, layer: int) -> None:
        """Hooks of one layer that take its rows."""
        decoder = self.decoder
        hooks.before_layer(decoder, layer, lambda hidden: self.enter(layer, hidden))
        if self.narrows and layer == decoder.depth - 1:
            hooks.around_layer(decoder, layer, self.narrow)
        if self.takes_kv:
            (key_source, keys_of), (value_source, values_of) = decoder.key_source(layer), decoder.value_source(layer)
            hooks.after(decoder, key_source, lambda out: self.take(self.taken.keys, layer, keys_of(out)))
            hooks.after(decoder, value_source, lambda out: self.take(self.taken.values, layer, values_of(out)))
        elif self.geometry.write.tap == "output":
            hooks.after(decoder, decoder.layers[layer], lambda out: self.leave(layer, out))

    def enter(self, layer: int, hidden: Tensor) -> Tensor:
        """Before a layer: refreshed old rows in front, the position vector on the new rows, the input tap."""
        if self.wants_logits:
            self.taken.text[layer] = hidden[:, self.fill :].clone()
        if self.fill or self.parts.position is not None:
            hidden = hidden.clone()
        if self.fill:
            assert self.tail.hidden is not None
            hidden[:, : self.fill] = self.tail.hidden[:, layer, self.tail.tokens - self.fill :]
        if self.parts.position is not None:
            if self.own is None:
                hidden[:, self.kept] += self.parts.position.to(hidden.dtype)
            else:
                kept = hidden[:, self.kept]
                for row, own in enumerate(self.own):
                    kept[row, own] += self.parts.position.to(hidden.dtype)
            if self.initial and layer:  # the published first write edits the previous layer's output in place
                self.taken.hidden[layer - 1] = hidden[:, self.kept].clone()
        if self.geometry.write.tap == "input" and not self.takes_kv:
            self.taken.hidden[layer] = hidden[:, self.kept].clone()
        return hidden

    def narrow(self, hidden: Tensor, others: dict[str, Any]) -> Tensor | None:
        """Before the last layer with the output tap: only rows that become memory are computed, of the others keys and values."""
        mask = others.get("attention_mask")
        rest = hidden.shape[1] - self.new
        if rest <= 0 or not isinstance(mask, Tensor) or mask.dim() != 4:
            return None
        cos, sin = others["position_embeddings"]
        keys, values = self.decoder.project(self.decoder.depth - 1, hidden[:, :rest])
        self.left_out = rotate(keys, cos[:, :rest], sin[:, :rest]), values
        others["attention_mask"] = mask[:, :, rest:]
        others["position_embeddings"] = cos[:, rest:], sin[:, rest:]
        if others.get("position_ids") is not None:
            others["position_ids"] = others["position_ids"][:, rest:]
        return hidden[:, rest:]

    def fill_prefix(self, layer: int, normed: Tensor) -> Pair | None:
        """Before attention: rotated keys and values of [BOS | tail]; with the input tap this is also where search keys come from."""
        last = layer == self.decoder.depth - 1
        if self.geometry.write.tap == "input" and (layer in self.searched or layer in self.states):
            self.taken.normed[layer] = normed[:, self.kept]
        if last and self.geometry.write.tap == "input" and not self.takes_kv and self.may_stop:
            raise StopForward
        parts = [] if self.initial else [self.prefix_pass.rotated(*self.seen_kv[layer])]
        if last and self.left_out is not None:
            self.prefix_pass.cache.at(layer).prefix += self.left_out[0].shape[1]
            keys, values = self.left_out
            parts.append((keys.transpose(1, 2), values.transpose(1, 2)))
        if not parts:
            return None
        keys, values = (both[0] if len(both) == 1 else torch.cat(both, 2) for both in zip(*parts, strict=True))
        return keys, values

    def project_seen(self, layer: int, bos_key: Tensor, bos_value: Tensor) -> Pair:
        """Keys before rotation and values of [BOS | tail], each [B or 1, P, H, E]."""
        decoder, seen = self.decoder, self.prefix_pass.prefix - 1
        keys, values = bos_key[None], bos_value[None]
        if not seen:
            return keys, values
        if self.tail.hidden is not None:
            tail_keys, tail_values = decoder.project(layer, self.tail.hidden[:, layer, :seen])
        else:
            assert self.tail.keys is not None and self.tail.values is not None
            tail_keys, tail_values = self.tail.keys[:, layer, :seen], self.tail.values[:, layer, :seen]
        each = (tail_keys.shape[0], -1, -1, -1)
        return torch.cat([keys.expand(each), tail_keys], 1), torch.cat([values.expand(each), tail_values], 1)

    def take(self, into: dict[int, Tensor], layer: int, out: Tensor) -> None:
        """After the key or value projection [B, T, H, E]: the chunk's own rows, before rotation."""
        into[layer] = out[:, self.kept]
        if layer == self.decoder.depth - 1 and into is self.taken.values and self.may_stop:
            raise StopForward

    def leave(self, layer: int, out: Tensor) -> None:
        """After a layer: the output tap."""
        self.taken.hidden[layer] = out[:, self.kept].clone()

    def results(self, states: Tensor | None) -> list[EncodedChunk]:
        """Split the batch into one ``EncodedChunk`` per row."""
        depth, decoder = self.decoder.depth, self.decoder
        hidden = (
            torch.stack([self.taken.hidden[layer] for layer in range(depth)], 1) if self.taken.hidden else None
        )  # [B, L, n, D]
        rows: Rows = {}
        if self.layout.format == "hidden":
            assert hidden is not None
            rows["hidden"] = hidden
        elif self.takes_kv:
            rows["keys"] = torch.stack([self.taken.keys[layer] for layer in range(depth)], 1)
            rows["values"] = torch.stack([self.taken.values[layer] for layer in range(depth)], 1)
        else:
            assert hidden is not None
            rows.update(project_rows(self.parts, self.geometry, hidden))
        if self.searched:
            rows["search"] = self.search_keys(hidden)
        if self.states:
            rows["states"] = torch.stack([value for _, value in sorted(self.normed(self.states, hidden).items())], 1).detach()
        logits = None if states is None or not self.wants_logits else decoder.model.lm_head(states[:, self.fill :])
        out = []
        for row in range(self.batch):
            own = slice(None) if self.own is None else self.own[row]
            text = self.text if self.lengths is None else self.lengths[row]
            fields = pooled({name: value[row][:, own] for name, value in rows.items()}, self.per_row)
            written = EncodedChunk(fields, text, initial=self.initial)
            written.hidden = None if hidden is None else hidden[row][:, own]
            if logits is not None:
                written.logits = logits[row]
                written.layer_input = [self.taken.text[layer][row] for layer in range(depth)]
            out.append(written)
        return out

    def search_keys(self, hidden: Tensor | None) -> Tensor:
        """[B, L or 1, n, R] retriever keys of the new rows."""
        assert self.parts.retriever is not None
        return self.parts.retriever.search_keys(self.normed(self.searched, hidden))

    def normed(self, layers: tuple[int, ...], hidden: Tensor | None) -> dict[int, Tensor]:
        """Normalised states of the new rows, [B, n, D] per layer."""
        if self.geometry.write.tap == "input":
            return {layer: self.taken.normed[layer] for layer in layers}
        assert hidden is not None
        return {layer: self.decoder.normed(layer, hidden[:, layer]) for layer in layers}


def keeps_write_kv(geometry: Geometry) -> bool:
    """Whether the K and V that a write pass computes are the ones a read needs."""
    return geometry.write.tap == "input" and geometry.read.memory_projection == "write"


def project_rows(model_parts: ModelParts, geometry: Geometry, hidden: Tensor) -> Rows:
    """K and V before rotation, [B, L, n, H, E], of hidden states [B, L, n, D], by the adapter that reads use for memory."""
    with model_parts.adapters.on(model_parts.adapters.named(geometry.read.memory_projection)):
        pairs = [model_parts.decoder.project(layer, hidden[:, layer]) for layer in range(hidden.shape[1])]
    return {"keys": torch.stack([pair[0] for pair in pairs], 1), "values": torch.stack([pair[1] for pair in pairs], 1)}
