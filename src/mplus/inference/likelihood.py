"""How likely a text is to go on in a given way, memory before it. Knows prompts and passes, not what they are for.

What is read from long-term memory is chosen by the prompt's query alone, as when generating: a continuation that helped to choose what it is
judged by would look likelier than it is. So the prompt and its continuation are two passes.

Legend: B prompts, T prompt tokens, C continuation tokens of the longest, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import DynamicCache

from mplus.attach.cache import passed
from mplus.errors import EmptyTextError
from mplus.text.prompts import Prompts
from mplus.text.search_query import Query


def log_likelihood(
    model: Any, prompts: Prompts, continuations: Sequence[Sequence[int]], memories: Any, query: Query | None = None
) -> list[Tensor]:
    """Natural logarithms of the probability of each continuation token.

    Args:
        model: an ``MPlusModel``.
        continuations: token ids behind each prompt, at least one each.
        memories: one per prompt, or none at all for the bare base.
        query: what searches them; None: the prompts, all of them.

    Returns:
        one tensor [C_b] float32 per prompt.
    """
    if not all(continuations):
        raise EmptyTextError("a continuation is empty; give at least one token whose likelihood is asked for")
    lengths = [len(one) for one in continuations]
    width = max(lengths)
    rest = torch.tensor([[*one, *[one[-1]] * (width - len(one))] for one in continuations], device=prompts.ids.device)
    decoder = model.attached.decoder.model
    with torch.no_grad(), model._reading(memories, prompts, query=query, room=width) as (reading, kwargs):
        mask = kwargs.pop("attention_mask")
        cache = passed(DynamicCache() if reading is None else reading.cache())
        before = mask.shape[1] - prompts.ids.shape[1]
        positions = mask.cumsum(1) - 1
        first = decoder(
            input_ids=prompts.ids,
            attention_mask=mask,
            position_ids=positions[:, before:].clamp(min=0),
            use_cache=True,
            logits_to_keep=1,
            **cache,
        ).logits
        logits = first
        if width > 1:
            mask = torch.cat([mask, mask.new_ones(mask.shape[0], width - 1)], 1)
            later = decoder(
                input_ids=rest[:, :-1],
                attention_mask=mask,
                position_ids=positions[:, -1:] + torch.arange(1, width, device=mask.device),
                use_cache=True,
                **cache,
            ).logits
            logits = torch.cat([first, later], 1)
        if reading is not None:
            reading.release()
    told = functional.log_softmax(logits.float(), -1).gather(-1, rest[..., None])[..., 0]
    return [row[:length] for row, length in zip(told, lengths, strict=True)]
