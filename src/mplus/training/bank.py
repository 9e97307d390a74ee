"""Written chunks kept for training: their keys and values, or the hidden states that a vote is trained on.

Legend: C chunks, T tokens of a chunk, L layers, H kv heads, E head width, V voting layers, D width.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from mplus.attach.hooks import Enough, Hooks
from mplus.attach.parts import Attached
from mplus.attach.query_pass import prompt_features
from mplus.attach.write_pass import Tail, write_pass
from mplus.memory.memory import Memory
from mplus.memory.rows import Written
from mplus.model import MPlusModel
from mplus.retrieval.late_interaction import LateInteractionRetriever
from mplus.text.chat_template import templated
from mplus.text.prompts import Prompts, encode
from mplus.training.documents import Document, Question

WRITE_ROWS = 16


class RawStates(LateInteractionRetriever):
    """Gives some layers' states themselves as search keys, so that a search can be trained on them.

    Args:
        voting: the layers, ascending: those of a vote, or every one where each layer finds its own tokens.
        width: D.
    """

    def __init__(self, voting: tuple[int, ...], width: int) -> None:
        super().__init__(voting, width)

    def keys(self, features: list[Tensor]) -> Tensor:
        return torch.cat(features, -1)


class Writer:
    """Writes batches of chunks; each row's chunk sees the row's previous chunk, as in a stream."""

    def __init__(self, model: MPlusModel, retriever: LateInteractionRetriever) -> None:
        self.model = model
        attached = model.attached
        self.attached = Attached(attached.decoder, attached.adapters, attached.bos, attached.position, retriever)
        layout = model.writer.layout("kv", model.geometry)
        self.layout = type(layout)(
            format="kv",
            layers=layout.layers,
            fields={**layout.fields, "search": (retriever.search_width,)},
            search_groups=1,
            dtype=layout.dtype,
            device=layout.device,
        )
        self.previous: list[Written] | None = None

    def write(self, documents: list[Document]) -> list[Written]:
        """New memory rows of each chunk."""
        return [written for batch in self.batches(documents) for written in batch]

    def batches(self, documents: list[Document]) -> Iterator[list[Written]]:
        """The same pass by pass, for those who keep only a part of the rows."""
        for start in range(0, len(documents), WRITE_ROWS):
            batch = documents[start : start + WRITE_ROWS]
            ids = torch.tensor([document.ids for document in batch], device=self.model.device)
            written = write_pass(self.attached, self.model.geometry, self.layout, ids, self._tail(len(batch)))
            self.previous = written
            yield written

    def load_tail(self, rows: list[dict[str, Tensor]] | None) -> None:
        """Go on behind chunks written before."""
        self.previous = None if rows is None else [Written(dict(one), one["keys"].shape[1]) for one in rows]

    def _tail(self, rows: int) -> Tail:
        if self.previous is None or len(self.previous) < rows:
            return Tail()
        seen = self.previous[:rows]
        return Tail(
            keys=torch.stack([written.rows["keys"] for written in seen]),
            values=torch.stack([written.rows["values"] for written in seen]),
        )


SYSTEM = "You are a helpful assistant."


def chat_ids(tokenizer: Any, question: str, *, form: Literal["chat", "system", "plain"] = "chat") -> list[int]:
    """Token ids of a question as ``model.chat`` asks it, with a system turn before it, or as a plain prompt to be continued."""
    text = f"Question: {question}\nAnswer:"
    if form != "plain":
        turns = [{"role": "system", "content": SYSTEM}] if form == "system" else []
        text = templated(tokenizer, [*turns, {"role": "user", "content": question}])
    return encode(tokenizer, text)


def question_states(
    model: MPlusModel, retriever: LateInteractionRetriever, rows: list[list[int]], batch: int = 48
) -> tuple[Tensor, Tensor]:
    """The voting layers' states of prompts, [V, B, T, D], and a mask [B, T] of their own tokens; left-padded.

    Of a pass that sees BOS and the prompt only, as a vote is held.
    """
    attached = model.attached
    raw = Attached(attached.decoder, attached.adapters, attached.bos, attached.position, retriever)
    prompts = Prompts.from_rows(rows, 2, model.device)
    parts = []
    for start in range(0, len(rows), batch):
        piece = slice(start, start + batch)
        parts.append(torch.stack(prompt_features(raw, prompts.ids[piece], prompts.mask[piece])))
    return torch.cat(parts, 1), prompts.mask


def reading_states(model: MPlusModel, rows: list[list[int]], memories: list[Memory]) -> tuple[Tensor, Tensor]:
    """All layers' states of prompts, [L, B, T, D], and a mask [B, T]; left-padded, like ``question_states``.

    Of the pass that reads memory, as each layer for itself searches in it (paper section 3.2).

    Args:
        memories: prompts are dealt out to them in turn; what they hold stands before the prompt.
    """
    prompts = Prompts.from_rows(rows, 2, model.device)
    decoder = model.attached.decoder
    states = torch.zeros(
        decoder.depth, *prompts.ids.shape, decoder.width, dtype=decoder.dtype, device=prompts.ids.device
    )  # [L, B, T, D]

    def take(layer: int, own: slice, normed: Tensor) -> None:
        states[layer, own] = normed
        if layer == decoder.depth - 1:
            raise Enough

    for number, memory in enumerate(memories):
        own = slice(number, None, len(memories))
        if not len(rows[own]):
            continue
        with (
            Hooks(around_passes=True) as hooks,
            contextlib.suppress(Enough),
        ):  # ours come first: the reading's own hooks act behind them
            for layer in range(decoder.depth):
                hooks.before_attention(decoder, layer, partial(take, layer, own))
            model(prompts.ids[own], attention_mask=prompts.mask[own], memory=memory)
    return states, prompts.mask


@dataclass(frozen=True)
class Asked:
    """A question and the chunk of the bank it is about."""

    chunk: int
    question: Question


def pick(documents: list[Document], randomness: random.Random, per_chunk: int) -> list[Asked]:
    """Up to `per_chunk` questions about every chunk."""
    out = []
    for number, document in enumerate(documents):
        chosen = randomness.sample(document.questions, min(per_chunk, len(document.questions)))
        out += [Asked(number, question) for question in chosen]
    return out
