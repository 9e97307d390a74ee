"""Stored states of chunks and of questions about them, which a retriever is trained on. Knows no loss.

Legend: C chunks, T memory tokens of a chunk, Q questions, t tokens of a question, V layers, D width.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mplus.memory.memory import Memory
from mplus.model import MPlusModel
from mplus.training.bank.chunk_encoder import ChunkEncoder
from mplus.training.bank.question_states import PASS_QUESTIONS, chat_ids, question_states, reading_states
from mplus.training.data.document import Document, Question


@dataclass
class StateBank:
    """Normalised states that enter the layers' attention: [V, C, T, D] of chunks, [V, Q, t, D] of prompts, their mask [Q, t].

    Attributes:
        questions: Q of them, each with the chunk it is about.
        chunk_tokens: text tokens of a chunk.
        slots: where each thing that several chunks tell of is told, as chunks and their text tokens.
    """

    states: Tensor
    prompts: Tensor
    mask: Tensor
    questions: list[tuple[int, Question]]
    chunk_tokens: int
    slots: dict[str, list[tuple[int, tuple[int, int]]]] = field(default_factory=dict)

    @property
    def tokens(self) -> int:
        """T."""
        return self.states.shape[2]

    def by_chunk(self) -> dict[int, list[int]]:
        """Numbers of the questions about each chunk."""
        out: dict[int, list[int]] = {}
        for number, (chunk, _) in enumerate(self.questions):
            out.setdefault(chunk, []).append(number)
        return out

    def span(self, number: int) -> tuple[int, int]:
        """First and one-past-last memory token of the place in its chunk where a question's answer stands."""
        return self._tokens_of(self.questions[number][1].span)

    def right(self, number: int) -> list[tuple[int, int, int]]:
        """Chunks with first and one-past-last memory tokens of all places that a search may find: other values of the same thing too."""
        chunk, question = self.questions[number]
        told = [*((chunk, span) for span in (question.span, *question.also)), *self.slots.get(question.slot, ())]
        return [(of, *self._tokens_of(span)) for of, span in dict.fromkeys(told)]

    def unjudged(self, number: int) -> tuple[int, int]:
        """Memory tokens of the chunk that are neither right nor wrong where they are not right; an empty span: none."""
        question = self.questions[number][1]
        if question.is_fact:
            return 0, 0
        return self._tokens_of(question.within) if question.within[1] else (0, self.tokens)

    def _tokens_of(self, span: tuple[int, int]) -> tuple[int, int]:
        first, last = span
        return first * self.tokens // self.chunk_tokens, -(-last * self.tokens // self.chunk_tokens)


def make_state_bank(
    model: MPlusModel,
    layers: tuple[int, ...],
    documents: list[Document],
    randomness: random.Random,
    *,
    per_chunk: int,
    plain_share: float,
    behind_tokens: int | None = None,
) -> StateBank:
    """Encode documents of one chunk each and take the states of questions about them.

    Questions that no place answers, or only behind earlier turns, are left out: a search sees the last turn alone (decision 0025).

    Args:
        layers: V of them.
        per_chunk: questions about one chunk at most.
        plain_share: share of questions without the chat template.
        behind_tokens: None: a prompt's states are those of the bare base behind BOS, as late interaction searches. Else those of a
            read behind as many memory tokens of the bank's chunks, in whole chunks; `layers` must then be all of them.
    """
    states = torch.cat(  # pass by pass, so that of all layers' keys and values no more than one pass is held
        [
            rows["states"].transpose(0, 1)
            for rows in ChunkEncoder(model, layers, "kv").stream([one.chunks[0] for one in documents])
        ],
        1,
    )
    questions = [
        (number, question)
        for number, one in enumerate(documents)
        for asked in [[question for question in one.questions if question.span[1] and not question.turns]]
        for question in randomness.sample(asked, min(per_chunk, len(asked)))
    ]
    rows = [
        chat_ids(model.tokenizer, question.text, form="plain" if randomness.random() < plain_share else "chat")
        for _, question in questions
    ]
    if behind_tokens is None:
        prompts, mask = question_states(model, layers, rows)
    else:
        count = -(-len(rows) // PASS_QUESTIONS)
        prompts, mask = reading_states(model, rows, [_memory(model, documents, behind_tokens, randomness) for _ in range(count)])
    slots: dict[str, list[tuple[int, tuple[int, int]]]] = {}
    for number, one in enumerate(documents):
        for question in one.questions:
            if question.slot:
                slots.setdefault(question.slot, []).append((number, question.span))
    return StateBank(states, prompts, mask, questions, model.geometry.sizes.chunk_tokens, slots)


def _memory(model: MPlusModel, documents: list[Document], tokens: int, randomness: random.Random) -> Memory:
    """Memories to take a prompt's states behind: random chunks, in short-term memory alone."""
    chunks = -(-tokens // model.geometry.sizes.new_tokens)
    memory = model.new_memory(
        ltm=False, stm_tokens=max(model.geometry.sizes.stm_tokens, chunks * model.geometry.sizes.new_tokens)
    )
    for document in randomness.sample(documents, min(chunks, len(documents))):
        memory.update(model.encode(document.chunks[0], memory))
    return memory
