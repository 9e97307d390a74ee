"""A second look at the best windows: how well does each of them explain the prompt? Changes no memory.

Legend: B prompts of one memory, T prompt tokens, m windows, C candidates, W memory tokens of a candidate, L layers, H kv heads,
E head width, P prefix slots.

The vote compares prompt tokens with memory tokens one by one. A window that holds the right name and another one that
holds the right relation are then as good as one that holds both. Here the base itself reads a candidate, and says how likely the prompt
is behind it: it weighs all of both together. That works untrained; a look adapter may be trained for it (task ``look``). What it
costs and was worth stands in decision 0016.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from mplus.attach.cache import PrefixCache, passed
from mplus.attach.drawn import rows_of_all_layers
from mplus.attach.families import rotate
from mplus.attach.hooks import Hooks
from mplus.attach.parts import Attached
from mplus.attach.places import Places
from mplus.memory.memory import Memory
from mplus.retriever import VoteRetriever

LOOK_TOKENS = 64  # tokens of a prompt, counted from its end, that are to be explained
LOOK_NEIGHBOURS = 1  # blocks on each side of a window that are read with it


def look_again(
    attached: Attached,
    memory: Memory,
    places: Places,
    scores_Bm: Tensor,
    weight_BT: Tensor,
    ids_BT: Tensor,
    text_BT: Tensor,
) -> Tensor:
    """Scores [B, m] in which the best ``second_look`` windows stand above all others, in their new order.

    A candidate's new score is its vote plus ``look_weight`` times the weighted mean over the prompt's tokens of their
    log-probability behind it; the weights are those of the vote.
    """
    geometry, retriever = memory.geometry, attached.retriever
    assert isinstance(retriever, VoteRetriever)
    out = scores_Bm.clone()
    for row, scores in enumerate(scores_Bm):
        chosen = apart(scores, places.ids, geometry.second_look, retriever.window)
        if chosen.shape[0] < 2:
            continue
        own = text_BT[row].nonzero()[-LOOK_TOKENS:, 0]
        likely = _explained(attached, memory, places, chosen, retriever.window, ids_BT[row, own])
        counts = weight_BT[row, own][1:].float()
        judged = scores[chosen] + geometry.look_weight * (likely @ (counts / counts.sum().clamp(min=1e-6))).cpu()
        others = scores.clone()
        others[chosen] = float("-inf")
        top = float(others.amax()) if len(others) > len(chosen) else 0.0
        top = top if top > float("-inf") else 0.0
        out[row, chosen] = judged - judged.amin() + top + 1.0
    return out


def apart(scores: Tensor, ids: Tensor, count: int, window: int) -> Tensor:
    """[<=count] the best windows of which no two overlap, best first."""
    taken: list[int] = []
    for place in scores.argsort(descending=True, stable=True)[: count * 2 * window].tolist():
        if all(abs(int(ids[place]) - int(ids[other])) >= window for other in taken):
            taken.append(place)
        if len(taken) == count:
            break
    return torch.tensor(taken, dtype=torch.int64, device="cpu")


def _explained(attached: Attached, memory: Memory, places: Places, chosen: Tensor, window: int, ids_T: Tensor) -> Tensor:
    """Log-probabilities [C, T - 1] of a prompt's tokens behind each candidate, by the base with its look adapter, if it has one."""
    decoder, device = attached.decoder, ids_T.device
    known = {int(place): block for block, place in enumerate(places.ids)}
    reach = range(-LOOK_NEIGHBOURS, window + LOOK_NEIGHBOURS)
    spans = [[known[place + step] for step in reach if place + step in known] for place in places.ids[chosen].tolist()]
    blocks = sorted({block for span in spans for block in span})
    column = {block: number for number, block in enumerate(blocks)}
    found = places.found(torch.tensor(blocks, dtype=torch.int64, device="cpu"), memory, None)
    rows = rows_of_all_layers(memory, found, device)
    held = next(iter(rows.values())).shape[1]
    size = memory.geometry.block_tokens
    slots = [
        [slot for block in span for slot in range(column[block] * size, min((column[block] + 1) * size, held))] for span in spans
    ]
    prefix = 1 + max(map(len, slots))
    first = torch.tensor([prefix - 1 - len(span) for span in slots], device=device)
    index = torch.tensor([[0] * (prefix - len(span)) + span for span in slots], device=device)
    every = torch.arange(prefix, device=device)[None]
    rotation = decoder.rotation((every - first[:, None]).clamp(min=0), attached.bos)
    is_bos = (every == first[:, None])[:, :, None, None]
    role = attached.adapters.named(memory.geometry.memory_projection)
    bos_kv = attached.bos_kv(role, decoder.depth)

    def attend(layer: int, normed: Tensor) -> None:
        if cache.at(layer).filled:
            return
        bos_keys, bos_values = bos_kv[layer]
        if "keys" in rows:
            keys, values = rows["keys"][layer], rows["values"][layer]
        else:
            with attached.adapters.on(role):
                keys, values = decoder.project(layer, rows["hidden"][layer])
        keys = torch.where(is_bos, bos_keys, rotate(keys[index].to(bos_keys), *rotation))
        values = torch.where(is_bos, bos_values, values[index].to(bos_values))
        cache.at(layer).fill(keys.transpose(1, 2), values.transpose(1, 2))

    prompt = ids_T[None].expand(len(slots), -1)
    cache = PrefixCache(decoder.depth, prefix, room=prompt.shape[1])
    mask = torch.cat([every >= first[:, None], torch.ones_like(prompt, dtype=torch.bool)], 1).long()
    positions = (mask.cumsum(1) - 1)[:, prefix:]
    with torch.no_grad(), attached.adapters.on(attached.adapters.look), Hooks() as hooks:
        for layer in range(decoder.depth):
            hooks.before_attention(decoder, layer, partial(attend, layer))
        out = decoder.model(input_ids=prompt, attention_mask=mask, position_ids=positions, use_cache=True, **passed(cache))
        logits = out.logits
    loss = functional.cross_entropy(logits[:, :-1].transpose(1, 2).float(), prompt[:, 1:], reduction="none")
    return -loss
