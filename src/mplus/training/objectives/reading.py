"""Training of the read adapter behind retrieved memory. RECIPE section 4, last part.

Each question stands behind ``[BOS | short-term memory | what the vote found, best last]``; with `source` short_term the same
budget is all short-term memory (MemoryLLM), with prompt the passage stands in plain context (a fine-tuned base to compare with).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from mplus.model import MPlusModel
from mplus.training.bank.question_bank import PreparedQuestion
from mplus.training.bank.question_states import chat_ids
from mplus.training.objectives.answer_loss import AnswerLoss, answer_loss, by_length, joined, text_loss
from mplus.training.objectives.question_task import QuestionSettings, QuestionTask
from mplus.training.objectives.task import StepOutput
from mplus.training.sampling.block_view import Shape, found_view, hardest, lead, short_term, short_view

GROUP_ROWS = 16


class Settings(QuestionSettings):
    """Settings of task kind `read`."""

    source: Literal["vote", "short_term", "prompt"] = Field("vote", description="where what is read comes from")
    fresh_share: float = Field(0.15, ge=0, le=1, description="share of questions about the chunk written last")
    hard_among: int = Field(3, ge=1, description="questions looked at for one that is asked")
    hard_share: float = Field(
        0.5, ge=0, le=1, description="share of those asked for which the search prefers a hard negative most"
    )
    text_share: float = Field(0.1, ge=0, lt=1, description="share of steps that keep the language model as it was")
    text_rows: int = Field(5, ge=1, description="chunks of such a step")
    text_weight: float = Field(1.0, gt=0, description="factor on the loss of such a step")
    found: list[float] = Field([1, 1, 1, 0.5, 0.25, 1.5], description="K0 of a step, drawn from these shares of the model's")
    short: list[float] = Field([1, 1, 0.75, 0.5], description="N of a step, drawn from these shares of the model's")


def build(model: MPlusModel, settings: Settings, seed: int) -> ReadTask:
    """See ``training.registry``."""
    return ReadTask(model, settings, seed)


@dataclass
class Batch:
    """Questions with the blocks each one reads [R, b]; or, without questions, chunks to go on with, and their memories."""

    asked: list[PreparedQuestion]
    chunks: list[int]
    blocks: Tensor
    complete: list[bool]


class ReadTask(QuestionTask):
    """Trains a model's read adapter; everything else is frozen."""

    def __init__(self, model: MPlusModel, settings: Settings, seed: int) -> None:
        super().__init__(model, settings, seed, "read")
        self.settings = settings

    # -- batches ---------------------------------------------------------------------------------------------------

    def draw(self) -> Batch:
        shape = self._shape()
        searched = self.settings.source == "vote"
        if searched and self.random.random() < self.settings.text_share:
            return self._text(shape)
        chunks, asked = self.drawn_questions(self.settings.hard_among if searched else 1)
        scores = self.bank.scores(asked, self.follows) if searched else None
        places = [self._right(chunk, one) for chunk, one in zip(chunks, asked, strict=True)]
        if scores is not None:
            leads = [lead(own, right, self.vote.window) for own, right in zip(scores, places, strict=True)]
            kept = hardest(leads, [one.is_fact for one in asked], self.questions, self.settings.hard_share, self.random)
            chunks, asked, places = [chunks[row] for row in kept], [asked[row] for row in kept], [places[row] for row in kept]
            scores = scores[kept]
        views = []
        for row, (chunk, right) in enumerate(zip(chunks, places, strict=True)):
            newest = chunk if self.random.random() < self.settings.fresh_share else self._other(chunk)
            if scores is None:
                views.append(short_view(right, newest, shape, len(self.places), self.random))
            else:
                views.append(found_view(scores[row], self.places, right, newest, shape, self.random))
        return Batch(asked, chunks, torch.tensor([view.blocks for view in views]), [view.complete for view in views])

    def shard(self, batch: Batch, process: int, processes: int) -> Batch:
        rows = slice(process, None, processes)
        return Batch(batch.asked[rows], batch.chunks[rows], batch.blocks[rows], batch.complete[rows])

    def forward(self, batch: Batch) -> StepOutput:
        if not batch.asked:
            return self._text_outcome(batch)
        prompts = [one.prompt for one in batch.asked]
        answers = [one.answer for one in batch.asked]
        if self.settings.source == "prompt":
            tokenizer = self.model.tokenizer
            texts = [str(tokenizer.decode(self.bank.ids[chunk])).strip() for chunk in batch.chunks]
            asked = zip(texts, batch.asked, strict=True)
            prompts = [chat_ids(tokenizer, f"{text}\n\n{one.text}", form=one.form) for text, one in asked]
        groups = by_length(prompts, answers, GROUP_ROWS)
        out = joined([self._answers(batch, prompts, answers, rows) for rows in groups], groups)
        facts = torch.tensor([one.is_fact for one in batch.asked])
        metrics = {}
        for name, hits in (("exact", out.exact.cpu()), ("found", torch.tensor(batch.complete))):
            metrics[f"{name} facts"] = (float(hits[facts].sum()), float(facts.sum()))
            metrics[f"{name} passages"] = (float(hits[~facts].sum()), float((~facts).sum()))
        return StepOutput(out.loss, len(prompts), out.tokens, metrics)

    def _answers(self, batch: Batch, prompts: list[list[int]], answers: list[list[int]], rows: list[int]) -> AnswerLoss:
        own = [prompts[row] for row in rows], [answers[row] for row in rows]
        if self.settings.source == "prompt":
            return answer_loss(self.model, *own)
        index = self._rows(batch.blocks[rows])
        return answer_loss(self.model, *own, lambda layer: self._memory(layer, index), index.shape[1])

    def _text(self, shape: Shape) -> Batch:
        """Chunks of which three quarters are the newest of their memory; the rest is to be read on."""
        chunks = self.random.sample(range(self.settings.chunks), self.settings.text_rows)
        rows = []
        for chunk in chunks:
            first = chunk * self.per_chunk
            begun = list(range(first, first + self._begun))
            spans = short_term(chunk, shape, len(self.places), self.random)[: -self.per_chunk or None]
            noise = short_term(self._other(chunk), shape, len(self.places), self.random, without={*spans, *begun})[-shape.found :]
            found = noise if shape.found else []
            # text is no question: where the search knows that, nothing stands between it and its past
            rows.append((found + spans if shape.certain is not None else spans + found) + begun)
        return Batch([], chunks, torch.tensor(rows), [])

    def _text_outcome(self, batch: Batch) -> StepOutput:
        index = self._rows(batch.blocks)
        behind = self._begun * self.model.geometry.read.block_tokens
        loss = text_loss(
            self.model, self.bank.ids[batch.chunks], behind, lambda layer: self._memory(layer, index), index.shape[1]
        )
        rows = len(batch.chunks)
        metrics = {"divergence": (loss.item() * rows, float(rows))}
        return StepOutput(loss * self.settings.text_weight, rows, rows * self.bank.ids.shape[1], metrics)

    def _right(self, chunk: int, asked: PreparedQuestion) -> list[int]:
        """Blocks of the bank where the answer stands."""
        block, first = self.model.geometry.read.block_tokens, chunk * self.per_chunk
        return [first + place for place in range(asked.span[0] // block, (asked.span[1] - 1) // block + 1)]

    @property
    def _begun(self) -> int:
        return self.per_chunk * 3 // 4

    def _shape(self) -> Shape:
        geometry = self.model.geometry
        block = geometry.read.block_tokens
        found = geometry.sizes.ltm_read_tokens * self.random.choice(self.settings.found)
        short = geometry.sizes.stm_tokens * self.random.choice(self.settings.short)
        if self.settings.source != "vote":
            found, short = 0, geometry.sizes.stm_tokens + geometry.sizes.ltm_read_tokens
        return Shape(
            self.per_chunk,
            geometry.drop_span // block,
            max(self.per_chunk, int(short) // block),
            int(found) // block,
            geometry.read.neighbour_blocks,
            self.vote.window,
            geometry.read.recency_tail // block if self.settings.source == "vote" else 0,
            geometry.read.min_confidence,
            geometry.read.order if geometry.read.beside_prompt else "score",
        )

    def _other(self, chunk: int) -> int:
        return (chunk + self.random.randrange(1, self.settings.chunks)) % self.settings.chunks

    def _rows(self, blocks: Tensor) -> Tensor:
        block = self.model.geometry.read.block_tokens
        return (blocks[:, :, None] * block + torch.arange(block)).flatten(1)

    def _memory(self, layer: int, index: Tensor) -> tuple[Tensor, Tensor]:
        return self.bank.fields["keys"][layer][index], self.bank.fields["values"][layer][index]
