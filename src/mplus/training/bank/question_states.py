"""Token ids of questions, and the hidden states that a retriever searches with for them. Knows models, no bank.

Legend: B questions, T tokens of a prompt, V layers, L all layers, D width.
"""

from __future__ import annotations

import contextlib
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from mplus.attach.hooks import Hooks, StopForward
from mplus.attach.query_pass import query_states
from mplus.memory.memory import Memory
from mplus.model import MPlusModel
from mplus.text.chat_template import templated
from mplus.text.prompts import Prompts, encode

Form = Literal["chat", "system", "plain"]
SYSTEM = "You are a helpful assistant."
PASS_QUESTIONS = 48


def chat_ids(tokenizer: Any, question: str, *, form: Form = "chat") -> list[int]:
    """Token ids of a question as ``model.chat`` asks it, with a system turn before it, or as a plain prompt to be continued."""
    text = f"Question: {question}\nAnswer:"
    if form != "plain":
        turns = [{"role": "system", "content": SYSTEM}] if form == "system" else []
        text = templated(tokenizer, [*turns, {"role": "user", "content": question}])
    return encode(tokenizer, text)


def question_states(model: MPlusModel, layers: tuple[int, ...], rows: list[list[int]]) -> tuple[Tensor, Tensor]:
    """States of prompts, [V, B, T, D], and a mask [B, T] of their own tokens; left-padded.

    Of a pass that sees BOS and the prompt only, as late interaction searches.
    """
    prompts = Prompts.from_rows(rows, 2, model.device)
    parts = []
    for start in range(0, len(rows), PASS_QUESTIONS):
        piece = slice(start, start + PASS_QUESTIONS)
        states = query_states(model.parts, layers, prompts.ids[piece], prompts.mask[piece])
        parts.append(torch.stack([states[layer] for layer in layers]))
    return torch.cat(parts, 1), prompts.mask


def reading_states(model: MPlusModel, rows: list[list[int]], memories: list[Memory]) -> tuple[Tensor, Tensor]:
    """All layers' states of prompts, [L, B, T, D], and a mask [B, T]; left-padded, like ``question_states``.

    Of the pass that reads memory, as each layer for itself searches in it (paper section 3.2).

    Args:
        memories: prompts are dealt out to them in turn; what they hold stands before the prompt.
    """
    prompts = Prompts.from_rows(rows, 2, model.device)
    decoder = model.parts.decoder
    states = torch.zeros(
        decoder.depth, *prompts.ids.shape, decoder.width, dtype=decoder.dtype, device=prompts.ids.device
    )  # [L, B, T, D]

    def take(layer: int, own: slice, normed: Tensor) -> None:
        states[layer, own] = normed
        if layer == decoder.depth - 1:
            raise StopForward

    for number, memory in enumerate(memories[: len(rows)]):
        own = slice(number, None, len(memories))
        # our hooks come first: the reading's own hooks act behind them
        with Hooks(around_passes=True) as hooks, contextlib.suppress(StopForward):
            for layer in range(decoder.depth):
                hooks.before_attention(decoder, layer, partial(take, layer, own))
            model(prompts.ids[own], attention_mask=prompts.mask[own], memory=memory)
    return states, prompts.mask
