"""The query pass: hidden states that a query searches memory with, by the bare base. Changes no memory.

Legend: B queries, T query tokens, D width, V layers that make keys.
"""

from __future__ import annotations

import contextlib

import torch
from torch import Tensor

from mplus.attach.hooks import Hooks, StopForward
from mplus.attach.parts import ModelParts
from mplus.attach.prefix_pass import Pair, PrefixPass


def query_states(model_parts: ModelParts, layers: tuple[int, ...], ids_BT: Tensor, text_BT: Tensor) -> dict[int, Tensor]:
    """Normalised hidden states entering `layers`, [B, T, D] each, of a pass that sees BOS and the query only.

    Args:
        ids_BT, text_BT: what searches (``mplus.text.search_query``), left-padded, and False at padding.

    The bare base runs: what is searched for depends neither on the memory nor on the read adapter.
    """
    states: dict[int, Tensor] = {}
    last = max(layers)
    bos_kv = model_parts.bos_kv(None, last)

    def fill(layer: int, normed: Tensor) -> Pair:
        if layer in layers:
            states[layer] = normed
        if layer == last:
            raise StopForward
        keys, values = (part[None].transpose(1, 2).expand(normed.shape[0], -1, -1, -1) for part in bos_kv[layer])
        return keys, values

    prefix_pass = PrefixPass(model_parts.decoder, [1], text_BT)
    with torch.no_grad(), model_parts.adapters.on(None), contextlib.suppress(StopForward), Hooks() as hooks:
        prefix_pass.install(hooks, fill)
        prefix_pass.states(ids_BT)
    return states


def prompt_features(model_parts: ModelParts, ids_BT: Tensor, text_BT: Tensor) -> list[Tensor]:
    """``query_states`` of the layers that make the retriever's keys, in their order."""
    assert model_parts.retriever is not None
    states = query_states(model_parts, model_parts.retriever.layers, ids_BT, text_BT)
    return [states[layer] for layer in model_parts.retriever.layers]
