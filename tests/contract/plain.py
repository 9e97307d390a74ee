"""The slow, obvious twin of the hook path: memory rows concatenated before the text, attention written out.

Uses a model's own linear layers and norms, and none of ``mplus.attach`` but its adapter switch.
Legend: L layers, P memory rows with BOS, T text tokens, D width, H heads, E head width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mplus import Memory, MPlusModel
from mplus.retrieval.late_interaction import LateInteractionRetriever
from mplus.retrieval.per_layer import PerLayerRetriever


@dataclass
class PlainRead:
    """Logits [T, V], hidden states entering each layer and after the last norm, chosen long-term rows per layer."""

    logits: Tensor
    hidden: list[Tensor]
    chosen: list[list[int]]


class Plain:
    """One model's layers, run row by row without cache, mask or hooks."""

    def __init__(self, model: MPlusModel) -> None:
        self.model = model
        self.parts = model.parts
        self.net: Any = model.parts.decoder.model
        self.layers: list[Any] = list(self.net.model.layers)
        self.rotary = type(self.net.model.rotary_emb)(self.net.config)  # one that no pass has changed
        self.behind = 0  # short-term tokens that stand behind what was found last

    # -- one layer -------------------------------------------------------------------------------------------------

    def layer(self, number: int, memory: Tensor, text: Tensor, memory_adapter: str | None, text_adapter: str | None) -> Tensor:
        """Output [T, D] of layer `number` for text rows [T, D] behind memory rows [P, D]."""
        block = self.layers[number]
        with self.parts.adapters.on(memory_adapter):
            memory_keys, memory_values = self.keys_values(block, memory)
        with self.parts.adapters.on(text_adapter):
            text_keys, text_values = self.keys_values(block, text)
            keys, values = torch.cat([memory_keys, text_keys]), torch.cat([memory_values, text_values])
            queries = self.heads(block.self_attn.q_proj(block.input_layernorm(text)))
            if hasattr(block.self_attn, "q_norm"):
                queries = block.self_attn.q_norm(queries)
            total = keys.shape[0]
            positions = torch.arange(total)
            cos, sin = (part[0, :, None] for part in self.rotary(text, positions[None]))
            queries = rotated(queries, cos[total - text.shape[0] :], sin[total - text.shape[0] :])
            keys = rotated(keys, cos, sin)
            share = queries.shape[1] // keys.shape[1]
            keys, values = keys.repeat_interleave(share, 1), values.repeat_interleave(share, 1)
            scores = torch.einsum("qhe,khe->hqk", queries, keys) / queries.shape[-1] ** 0.5
            seen = positions[None, :] <= positions[total - text.shape[0] :, None]
            weights = scores.masked_fill(~seen, float("-inf")).softmax(-1)
            mixed = torch.einsum("hqk,khe->qhe", weights, values).flatten(1)
            text = text + block.self_attn.o_proj(mixed)
            return text + block.mlp(block.post_attention_layernorm(text))  # type: ignore[no-any-return]

    def keys_values(self, block: Any, rows: Tensor) -> tuple[Tensor, Tensor]:
        """K before rotation and V, [n, H, E], of hidden states [n, D]."""
        normed = block.input_layernorm(rows)
        keys = self.heads(block.self_attn.k_proj(normed))
        if hasattr(block.self_attn, "k_norm"):
            keys = block.self_attn.k_norm(keys)
        return keys, self.heads(block.self_attn.v_proj(normed))

    def heads(self, flat: Tensor) -> Tensor:
        """[n, H*E] to [n, H, E]."""
        return flat.view(flat.shape[0], -1, self.net.config.head_dim)

    def embed(self, ids: Tensor) -> Tensor:
        """[T, D]"""
        return self.net.model.embed_tokens(ids)  # type: ignore[no-any-return]

    # -- a write ---------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def write(self, ids: Tensor, tail: Tensor) -> Tensor:
        """New memory [L, n, D] of a chunk [T] that sees the newest memory tokens `tail` [L, m, D]."""
        geometry, adapter = self.model.geometry, self.parts.adapters.write
        output = geometry.write.tap == "output"
        text, tokens = self.embed(ids), ids.shape[0]
        new = min(geometry.sizes.new_tokens, tokens + (tail.shape[1] if output else 0))
        refreshed = max(0, new - tokens)
        found = []
        for number in range(len(self.layers)):
            rows = torch.cat([self.parts.bos[number][None], tail[number], text])
            if self.parts.position is not None:
                rows = torch.cat([rows[:-new], rows[-new:] + self.parts.position])
            queries = refreshed + tokens
            entered = rows[-queries:]
            left = self.layer(number, rows[:-queries], entered, adapter, adapter)
            found.append((left if output else entered)[-new:])
            text = left[-tokens:]
        return torch.stack(found)

    # -- a read ----------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def read(self, ids: Tensor, memory: Memory) -> PlainRead:
        """A prompt [T] that reads a memory which keeps hidden states."""
        adapters = self.parts.adapters
        memory_adapter = adapters.named(self.model.geometry.read.memory_projection)
        short = memory.short_term.at_slots(memory.short_term.order)["hidden"]
        shared = self.vote(ids, memory) if memory.geometry.read.is_shared else None
        text, hidden, chosen = self.embed(ids), [], []
        for number in range(len(self.layers)):
            picked = self.search(number, text, memory) if shared is None else shared
            held, kept = longterm_hidden(memory, number), torch.ones(short.shape[1], dtype=torch.bool)
            kept[[row - len(held) for row in picked if row >= len(held)]] = False
            long, left = torch.cat([held, short[number]])[picked], short[number][kept]
            hidden.append(text)
            chosen.append(picked)
            rows = [long, left]
            if memory.geometry.read.beside_prompt is not None:
                behind = len(left) - self.behind
                rows = [left[:behind], long, left[behind:]]
            prefix = torch.cat([self.parts.bos[number][None], *rows])
            text = self.layer(number, prefix, text, memory_adapter, adapters.read)
        final = self.net.model.norm(text)
        return PlainRead(self.net.lm_head(final), [*hidden, final], chosen)

    def recent(self, memory: Memory) -> int:
        """Short-term tokens that may stay beside the prompt: all but the whole blocks that are older than ``recent_tokens``."""
        size, wanted = memory.geometry.read.block_tokens, memory.geometry.read.recency_tail
        births = memory.placement.births[0].tolist()
        older = [birth for birth in births if birth < memory.now - wanted] if wanted else births
        return len(births) - len(older) // size * size if wanted else 0

    def search(self, number: int, text: Tensor, memory: Memory) -> list[int]:
        """Indices of the best rows of one layer, oldest first, scored one by one (paper section 3.2)."""
        retriever, geometry = self.parts.retriever, memory.geometry
        if not geometry.sizes.reads_ltm or not memory.long_term.tokens(number):
            return []
        assert isinstance(retriever, PerLayerRetriever)
        queries = retriever.query_proj[number](self.layers[number].input_layernorm(text))
        rows = longterm_hidden(memory, number)
        keys = [retriever.key_proj[number](self.layers[number].input_layernorm(row)) for row in rows]
        scores = [sum(float(torch.sigmoid(query @ key)) for query in queries) / len(queries) for key in keys]
        best = sorted(range(len(scores)), key=lambda row: -scores[row])[: geometry.sizes.ltm_read_tokens]
        births = memory.long_term.births(number).tolist()
        return sorted(best, key=lambda row: (births[row], -row))  # oldest first; of equal ages the later row first

    def vote(self, ids: Tensor, memory: Memory) -> list[int]:
        """Indices of the best blocks' rows in reading order, scored block by block over a pass without memory."""
        retriever, geometry, long_term = self.parts.retriever, memory.geometry, memory.long_term
        assert isinstance(retriever, LateInteractionRetriever)
        text, features = self.embed(ids), {}
        for number, block in enumerate(self.layers):
            features[number] = block.input_layernorm(text)
            text = self.layer(number, self.parts.bos[number][None], text, None, None)
        query = torch.cat(
            [unit(features[number] - mean) for number, mean in zip(retriever.layers, retriever.get_buffer("mean"), strict=True)],
            -1,
        )
        size, keys, births = geometry.read.block_tokens, long_term.column(0, "search"), long_term.births(0).tolist()
        if geometry.read.beside_prompt is not None:  # short-term memory is searched too; its rows are numbered behind the store's
            pool = memory.short_term.at_slots(memory.short_term.order)["search"][0]
            keys, births = torch.cat([keys, pool]), births + memory.placement.births[0].tolist()
        row_of = {birth: row for row, birth in enumerate(births)}
        places = sorted({birth // size for birth in births})
        score = {}
        for place in places:
            window = [place + step for step in range(retriever.window)]
            inside = window[: next((step for step, other in enumerate(window) if other not in places), len(window))]
            rows = [row_of[birth] for birth in range(inside[0] * size, (inside[-1] + 1) * size) if birth in row_of]
            score[place] = float((query @ keys[rows].T).amax(1).mean())
        certain = geometry.read.min_confidence is None or max(score.values()) >= geometry.read.min_confidence
        recent = self.recent(memory)
        first = memory.placement.births[0].tolist()[-recent] // size if recent else 0
        self.behind = recent if recent and max(places, key=lambda place: score[place]) >= first else 0
        if self.behind:
            places = [place for place in places if place < first]
        if not certain:
            self.behind = len(memory.short_term)
            places = [place for place in places if place * size in long_term.births(0)]
        budget, wanted = geometry.sizes.ltm_read_tokens // size, list[int]()
        for place in sorted(places, key=lambda place: -score[place]):
            near = [place + step for step in range(retriever.window)]
            near += [
                near[side] + sign * step
                for step in range(1, geometry.read.neighbour_blocks + 1)
                for side, sign in ((0, -1), (-1, 1))
            ]
            wanted += [other for other in near if other in places and other not in wanted]
        wanted = places if geometry.read.beside_prompt is None and len(places) <= budget else wanted[:budget]
        spans: list[list[int]] = []
        for place in sorted(wanted):
            spans = [*spans[:-1], [*spans[-1], place]] if spans and spans[-1][-1] == place - 1 else [*spans, [place]]
        if geometry.read.order == "score":
            spans.sort(key=lambda span: max(score[place] for place in span))
        found = [place for span in spans for place in span]
        return [row_of[birth] for place in found for birth in range(place * size, (place + 1) * size) if birth in row_of]


def longterm_hidden(memory: Memory, number: int) -> Tensor:
    """[M, D] hidden states of one layer's long-term rows."""
    if memory.geometry.read.is_shared:
        return memory.long_term.column(0, "hidden")[:, number]
    return memory.long_term.column(number, "hidden")


def unit(rows: Tensor) -> Tensor:
    """Rows at length 1."""
    scaled: Tensor = rows / rows.norm(dim=-1, keepdim=True)
    return scaled


def rotated(rows: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Half-split rotary embedding of [n, H, E] by cos, sin [n, 1, E]."""
    half = rows.shape[-1] // 2
    turned: Tensor = rows * cos + torch.cat([-rows[..., half:], rows[..., :half]], -1) * sin
    return turned
