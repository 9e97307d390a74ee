"""The likelihood that a text goes on in a given way, memory before it. Knows passes, not what they are for.

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
from mplus.attach.families import Decoder
from mplus.attach.prefix_pass import positions_of
from mplus.attach.read_pass import Reading
from mplus.text.prompts import Prompts


def log_likelihood(
    decoder: Decoder, prompts: Prompts, continuations: Sequence[Sequence[int]], reading: Reading | None, kwargs: dict[str, Any]
) -> list[Tensor]:
    """Natural logarithms of the probability of each continuation token.

    Args:
        continuations: token ids behind each prompt, at least one each.
        reading: open for these prompts; None: the bare base.
        kwargs: arguments of the decoder that go with it.

    Returns:
        one tensor [C_b] float32 per prompt.
    """
    lengths = [len(one) for one in continuations]
    width = max(lengths)
    rest = torch.tensor([[*one, *[one[-1]] * (width - len(one))] for one in continuations], device=prompts.ids.device)
    mask = kwargs["attention_mask"]
    options = {"use_cache": True, **passed(DynamicCache() if reading is None else reading.prefix_pass.cache)}
    before, positions = mask.shape[1] - prompts.ids.shape[1], positions_of(mask)
    with torch.no_grad():
        known = positions[:, before:]
        logits = decoder.model(input_ids=prompts.ids, attention_mask=mask, position_ids=known, logits_to_keep=1, **options).logits
        if width > 1:
            mask = torch.cat([mask, mask.new_ones(mask.shape[0], width - 1)], 1)
            later = positions[:, -1:] + torch.arange(1, width, device=mask.device)
            rest_logits = decoder.model(input_ids=rest[:, :-1], attention_mask=mask, position_ids=later, **options).logits
            logits = torch.cat([logits, rest_logits], 1)
        if reading is not None:
            reading.release()
    scores = functional.log_softmax(logits.float(), -1).gather(-1, rest[..., None])[..., 0]
    return [row[:length] for row, length in zip(scores, lengths, strict=True)]
