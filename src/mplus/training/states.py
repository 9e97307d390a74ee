"""A bank: stored states of written chunks and of questions about them, which a search is trained on. Knows no loss.

Legend: C chunks, T memory tokens of a chunk, Q questions, t tokens of a question, V layers, D width.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch
from torch import Tensor

from mplus.memory.memory import Memory
from mplus.model import MPlusModel
from mplus.training.bank import Asked, RawStates, Writer, chat_ids, pick, question_states, reading_states
from mplus.training.documents import Document

ASKED_BEHIND = 48  # prompts that share a memory which they are read behind


@dataclass
class Bank:
    """Normalised states that enter the layers' attention: [V, C, T, D] of chunks, [V, Q, t, D] of prompts, their mask [Q, t]."""

    states: Tensor
    prompts: Tensor
    mask: Tensor
    asked: list[Asked]
    chunk_tokens: int

    @property
    def tokens(self) -> int:
        """T."""
        return self.states.shape[2]

    def by_chunk(self) -> dict[int, list[int]]:
        """Numbers of the questions about each chunk."""
        out: dict[int, list[int]] = {}
        for number, one in enumerate(self.asked):
            out.setdefault(one.chunk, []).append(number)
        return out

    def span(self, number: int) -> tuple[int, int]:
        """First and one-past-last memory token of the place in its chunk where a question's answer stands."""
        first, last = self.asked[number].question.span
        return first * self.tokens // self.chunk_tokens, -(-last * self.tokens // self.chunk_tokens)


@dataclass
class Batch:
    """Which questions of a bank are asked against which of its chunks, and in which layers (places in V; a vote: all)."""

    bank: int
    chunks: Tensor
    questions: list[int]
    layers: list[int]


def write_bank(
    model: MPlusModel,
    layers: tuple[int, ...],
    documents: list[Document],
    randomness: random.Random,
    *,
    per_chunk: int,
    plain_share: float,
    behind_tokens: int | None = None,
) -> Bank:
    """States of chunks and of questions about them.

    Args:
        layers: V of them.
        per_chunk: questions about one chunk at most.
        plain_share: share of questions without the chat template.
        behind_tokens: None: a prompt's states are those of the bare base behind BOS, as a vote sees them. Else those of a read
            behind as many memory tokens of the bank's chunks, in whole chunks; `layers` must then be all of them.
    """
    raw = RawStates(layers, model.attached.decoder.width)
    states = _chunk_states(model, raw, documents)
    asked = pick(documents, randomness, per_chunk)
    rows = [
        chat_ids(model.tokenizer, one.question.text, form="plain" if randomness.random() < plain_share else "chat")
        for one in asked
    ]
    if behind_tokens is None:
        prompts, mask = question_states(model, raw, rows)
    else:
        count = -(-len(rows) // ASKED_BEHIND)
        prompts, mask = reading_states(model, rows, [_memory(model, documents, behind_tokens, randomness) for _ in range(count)])
    return Bank(states, prompts, mask, asked, model.geometry.chunk_tokens)


def _chunk_states(model: MPlusModel, raw: RawStates, documents: list[Document]) -> Tensor:
    """[V, C, T, D]; pass by pass, so that of all layers' keys and values no more than one pass is held."""
    states: Tensor | None = None
    first = 0
    for batch in Writer(model, raw).batches(documents):
        part = torch.stack([one.rows["search"][0] for one in batch]).unflatten(-1, (len(raw.layers), raw.width))
        if states is None:
            states = part.new_zeros(len(raw.layers), len(documents), *part.shape[1:2], raw.width)
        states[:, first : first + len(batch)] = part.permute(2, 0, 1, 3)
        first += len(batch)
    assert states is not None, "a bank without chunks"
    return states


def _memory(model: MPlusModel, documents: list[Document], tokens: int, randomness: random.Random) -> Memory:
    """What stands before a prompt while its states are taken: random chunks, in short-term memory alone."""
    chunks = -(-tokens // model.geometry.new_tokens)
    memory = model.new_memory(ltm=False, stm_tokens=max(model.geometry.stm_tokens, chunks * model.geometry.new_tokens))
    for document in randomness.sample(documents, min(chunks, len(documents))):
        memory.update(model.encode(document.ids, memory))
    return memory
