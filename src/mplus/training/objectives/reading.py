"""Training of the read adapter behind retrieved memory. RECIPE section 4, last part.

Each question stands behind ``[BOS | short-term memory | what the vote found, best last]``; with `source` short_term the same
budget is all short-term memory (MemoryLLM), with prompt the passage stands in plain context (a fine-tuned base to compare with).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from mplus.model import MPlusModel
from mplus.training.bank.question_bank import PreparedQuestion, QuestionBank
from mplus.training.bank.question_states import chat_ids
from mplus.training.data.document_generator import DocumentGenerator
from mplus.training.objectives.answer_loss import AnswerLoss, answer_loss, by_length, joined
from mplus.training.objectives.bank_task import BankSettings, BankTask
from mplus.training.objectives.task import StepOutput
from mplus.training.sampling.block_view import hardest, lead, retrieval_view, short_view

GROUP_ROWS = 16


class Settings(BankSettings):
    """Settings of task kind `read`."""

    fact_share: float = Field(0.6, ge=0, le=1, description="share of chunks with generated facts")
    source: Literal["vote", "short_term", "prompt"] = Field("vote", description="where what is read comes from")
    text_share: float = Field(0.1, ge=0, lt=1, description="share of steps that keep the language model as it was")


def build(model: MPlusModel, settings: Settings, seed: int) -> ReadTask:
    """See ``training.registry``."""
    return ReadTask(model, settings, seed)


@dataclass
class ReadBatch:
    """Questions with the blocks each one reads [R, b]; or, without questions, chunks to go on with, and their memories.

    At one ratio: text tokens that a memory token stands for.
    """

    asked: list[PreparedQuestion]
    chunks: list[int]
    blocks: Tensor
    complete: list[bool]
    ratio: int = 1


class ReadTask(BankTask):
    """Trains a model's read adapter by the answers to questions."""

    settings: Settings

    def __init__(self, model: MPlusModel, settings: Settings, seed: int) -> None:
        super().__init__(model, settings, seed, kind="read", searched=settings.source == "vote")

    def _generator(self, seed: int) -> DocumentGenerator:
        settings = self.settings
        return DocumentGenerator(
            self.model.tokenizer, Path(settings.data), self.tokens, seed=seed, fact_share=settings.fact_share
        )

    def _bank(self) -> QuestionBank:
        settings = self.settings
        return QuestionBank(
            self.model,
            settings.chunks,
            self.tokens,
            per_chunk=settings.per_chunk,
            forms=dict(settings.forms),
            randomness=self.random,
            ratio=self._ratio,
        )

    # -- batches ---------------------------------------------------------------------------------------------------

    def draw(self) -> ReadBatch:
        self.grid = self.grids[self._ratio()]
        shape, ratio = self._shape(), self.grid.ratio
        if self.searched and self.random.random() < self.settings.text_share:
            chunks, blocks = self._text_rows(shape)
            return ReadBatch([], chunks, blocks, [], ratio)
        chunks, asked = self._draw_questions(self.settings.hard_among if self.searched else 1)
        scores = self.bank.scores(asked, self.grid.is_contiguous, self.grid.block) if self.searched else None
        places = [self._right(chunk, one) for chunk, one in zip(chunks, asked, strict=True)]
        if scores is not None:
            leads = [lead(own, right, self.retriever.window) for own, right in zip(scores, places, strict=True)]
            kept = hardest(leads, [one.is_fact for one in asked], self.settings.questions, self.settings.hard_share, self.random)
            chunks, asked, places = [chunks[row] for row in kept], [asked[row] for row in kept], [places[row] for row in kept]
            scores = scores[kept]
        views = []
        for row, (chunk, right) in enumerate(zip(chunks, places, strict=True)):
            newest = chunk if self.random.random() < self.settings.fresh_share else self._other(chunk)
            if scores is None:
                views.append(short_view(right, newest, shape, len(self.grid.positions), self.random))
            else:
                views.append(retrieval_view(scores[row], self.grid.positions, right, newest, shape, self.random))
        blocks = torch.tensor([view.blocks for view in views])
        return ReadBatch(asked, chunks, blocks, [view.complete for view in views], ratio)

    def _draw_questions(self, times: int) -> tuple[list[int], list[PreparedQuestion]]:
        """Chunks and a question about each, `times` as many as a step asks."""
        answerable = [chunk for chunk, questions in enumerate(self.bank.questions) if questions]
        chunks = self.random.sample(answerable, min(self.settings.questions * times, len(answerable)))
        return chunks, [self.random.choice(self.bank.questions[chunk]) for chunk in chunks]

    def shard(self, batch: ReadBatch, process: int, processes: int) -> ReadBatch:
        rows = slice(process, None, processes)
        return ReadBatch(batch.asked[rows], batch.chunks[rows], batch.blocks[rows], batch.complete[rows], batch.ratio)

    def forward(self, batch: ReadBatch) -> StepOutput:
        if not batch.asked:
            return self._text_outcome(batch.chunks, batch.blocks, self.grids[batch.ratio])
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

    def _answers(self, batch: ReadBatch, prompts: list[list[int]], answers: list[list[int]], rows: list[int]) -> AnswerLoss:
        own = [prompts[row] for row in rows], [answers[row] for row in rows]
        if self.settings.source == "prompt":
            return answer_loss(self.model, *own)
        return answer_loss(self.model, *own, *self._memory(batch.blocks[rows], self.grids[batch.ratio]))
