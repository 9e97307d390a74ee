"""The query pass: hidden states that a query searches memory with, by the bare base. Changes no memory.

Legend: B queries, T query tokens, D width, V layers that make keys.
"""

from __future__ import annotations

import contextlib
from functools import partial

import torch
from torch import Tensor

from mplus.attach.cache import PrefixCache, passed
from mplus.attach.hooks import Hooks, StopForward
from mplus.attach.parts import ModelParts


def query_states(model_parts: ModelParts, layers: tuple[int, ...], ids_BT: Tensor, text_BT: Tensor) -> dict[int, Tensor]:
    """Normalised hidden states entering `layers`, [B, T, D] each, of a pass that sees BOS and the query only.

    Args:
        ids_BT, text_BT: what searches (``mplus.text.search_query``), left-padded, and False at padding.

    The bare base runs: what is searched for depends neither on the memory nor on the read adapter.
    """
    decoder = model_parts.decoder
    taken: dict[int, Tensor] = {}
    last = max(layers)

    def attend(layer: int, normed: Tensor) -> None:
        if layer in layers:
            taken[layer] = normed
        if layer == last:
            raise StopForward
        keys, values = (part[None].transpose(1, 2).expand(normed.shape[0], -1, -1, -1) for part in bos_kv[layer])
        cache.at(layer).fill(keys, values)

    bos_kv = model_parts.bos_kv(None, last)
    cache = PrefixCache(decoder.depth, 1, room=ids_BT.shape[1])
    with torch.no_grad(), model_parts.adapters.on(None), Hooks() as hooks:
        for layer in range(last + 1):
            hooks.before_attention(decoder, layer, partial(attend, layer))
        mask = torch.cat([text_BT.new_ones(text_BT.shape[0], 1), text_BT], 1).long()
        positions = (mask.cumsum(1) - 1)[:, 1:].clamp(min=0)
        with contextlib.suppress(StopForward):
            decoder.body(input_ids=ids_BT, attention_mask=mask, position_ids=positions, use_cache=True, **passed(cache))
    return taken


def prompt_features(model_parts: ModelParts, ids_BT: Tensor, text_BT: Tensor) -> list[Tensor]:
    """``query_states`` of the layers that make the retriever's keys, in their order."""
    assert model_parts.retriever is not None
    states = query_states(model_parts, model_parts.retriever.layers, ids_BT, text_BT)
    return [states[layer] for layer in model_parts.retriever.layers]
