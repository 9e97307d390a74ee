"""Training of the read adapter behind retrieved memory. RECIPE section 4, last part.

Each question stands behind ``[BOS | short-term memory | what the vote found, best last]``; with `source` short_term the same
budget is all short-term memory (MemoryLLM), with prompt the passage stands in plain context (a fine-tuned base to compare with).
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from mplus.errors import TrainingError
from mplus.model import MPlusModel
from mplus.retrieval.late_interaction import LateInteractionRetriever
from mplus.retrieval.read_plan import LayoutRule
from mplus.training.bank.question_bank import PreparedQuestion, QuestionBank
from mplus.training.bank.question_states import Form, chat_ids
from mplus.training.data.document_generator import DocumentGenerator
from mplus.training.objectives.answer_loss import AnswerLoss, answer_loss, by_length, joined, text_loss
from mplus.training.objectives.task import ParameterGroup, StepOutput, Task
from mplus.training.sampling.block_view import Shape, hardest, lead, places, retrieval_view, short_term, short_view

GROUP_ROWS = 16


class Settings(BaseModel):
    """Settings of task kind `read`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: str = Field("../shared/data", description="directory with books, squad, squadshifts and natural_questions")
    chat_template: str | None = Field(None, description="Jinja text to ask with, kept in the delta; null: what the model brings")
    chunks: int = Field(224, ge=8, description="chunks of the bank")
    fresh_chunks: int = Field(16, ge=1, description="chunks written at a time")
    fresh_every: int = Field(4, ge=1, description="steps between them")
    questions: int = Field(32, ge=1, description="questions of a step")
    per_chunk: int = Field(3, ge=1, description="questions prepared for each chunk at most")
    fact_share: float = Field(0.6, ge=0, le=1, description="share of chunks with generated facts")
    forms: dict[Form, float] = Field(default={"chat": 0.75, "system": 0.1, "plain": 0.15}, description="shares of ways to ask")
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
class ReadBatch:
    """Questions with the blocks each one reads [R, b]; or, without questions, chunks to go on with, and their memories."""

    asked: list[PreparedQuestion]
    chunks: list[int]
    blocks: Tensor
    complete: list[bool]


class ReadTask(Task):
    """Trains a model's read adapter; everything else is frozen.

    Raises:
        TrainingError: nothing is retrieved by a trained late-interaction retriever, or the model has no read adapter.
    """

    def __init__(self, model: MPlusModel, settings: Settings, seed: int) -> None:
        super().__init__()
        retriever, adapter = model.parts.retriever, model.parts.adapters.read
        if not isinstance(retriever, LateInteractionRetriever):
            raise TrainingError("task read trains on what a shared retriever finds; start from a delta that task vote has stored")
        if adapter is None:
            raise TrainingError("task read trains the read adapter; give model.read_adapter")
        self.model, self.settings, self.retriever = model, settings, retriever
        model.checkpoint.use_chat_template(settings.chat_template or model.checkpoint.chat_template)
        self.decoder: nn.Module = model.parts.decoder.model
        for name, value in self.decoder.named_parameters():
            value.requires_grad_(".lora_" in name and f".{adapter}." in name)
        tokens, self.block = model.geometry.sizes.chunk_tokens, model.geometry.read.block_tokens
        data = Path(settings.data)
        self.generator = DocumentGenerator(model.tokenizer, data, tokens, seed=seed, fact_share=settings.fact_share)
        self.random = random.Random(seed)
        self.bank = QuestionBank(
            model, settings.chunks, tokens, per_chunk=settings.per_chunk, forms=dict(settings.forms), randomness=self.random
        )
        self.per_chunk = tokens // self.block
        self.positions = places(settings.chunks, self.per_chunk)
        self.is_contiguous = torch.cat([self.positions.diff() == 1, torch.zeros(1, dtype=torch.bool)])
        self.steps = 0

    # -- the interface of a task -------------------------------------------------------------------------------------

    def groups(self) -> list[ParameterGroup]:
        trained = [(name, value) for name, value in self.decoder.named_parameters() if value.requires_grad]
        return [ParameterGroup("read", trained)]

    def prepare(self) -> None:
        self.bank.add_chunks(self.generator.make(self.bank.chunks))

    def finish_step(self, progress: float) -> None:
        self.steps += 1
        if self.steps % self.settings.fresh_every == 0:
            self.bank.add_chunks(self.generator.make(self.settings.fresh_chunks))

    def state(self) -> dict[str, Any]:
        return {
            "steps": self.steps,
            "random": self.random.getstate(),
            "makers": self.generator.state(),
            "shelf": self.bank.state(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        self.steps = int(state["steps"])
        self.random.setstate(state["random"])
        self.generator.load_state(state["makers"])
        self.bank.load_state(state["shelf"])

    def save(self, directory: Path) -> None:
        self.model.save_pretrained(directory)

    # -- batches ---------------------------------------------------------------------------------------------------

    def draw(self) -> ReadBatch:
        shape = self._shape()
        searched = self.settings.source == "vote"
        if searched and self.random.random() < self.settings.text_share:
            return self._text(shape)
        chunks, asked = self._draw_questions(self.settings.hard_among if searched else 1)
        scores = self.bank.scores(asked, self.is_contiguous) if searched else None
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
                views.append(short_view(right, newest, shape, len(self.positions), self.random))
            else:
                views.append(retrieval_view(scores[row], self.positions, right, newest, shape, self.random))
        return ReadBatch(asked, chunks, torch.tensor([view.blocks for view in views]), [view.complete for view in views])

    def _draw_questions(self, times: int) -> tuple[list[int], list[PreparedQuestion]]:
        """Chunks and a question about each, `times` as many as a step asks."""
        answerable = [chunk for chunk, questions in enumerate(self.bank.questions) if questions]
        chunks = self.random.sample(answerable, min(self.settings.questions * times, len(answerable)))
        return chunks, [self.random.choice(self.bank.questions[chunk]) for chunk in chunks]

    def shard(self, batch: ReadBatch, process: int, processes: int) -> ReadBatch:
        rows = slice(process, None, processes)
        return ReadBatch(batch.asked[rows], batch.chunks[rows], batch.blocks[rows], batch.complete[rows])

    def forward(self, batch: ReadBatch) -> StepOutput:
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

    def _answers(self, batch: ReadBatch, prompts: list[list[int]], answers: list[list[int]], rows: list[int]) -> AnswerLoss:
        own = [prompts[row] for row in rows], [answers[row] for row in rows]
        if self.settings.source == "prompt":
            return answer_loss(self.model, *own)
        index = self._rows(batch.blocks[rows])
        return answer_loss(self.model, *own, lambda layer: self._memory(layer, index), index.shape[1])

    def _text(self, shape: Shape) -> ReadBatch:
        """Chunks of which three quarters are the newest of their memory; the rest is to be read on."""
        chunks = self.random.sample(range(self.settings.chunks), self.settings.text_rows)
        rows = []
        for chunk in chunks:
            first = chunk * self.per_chunk
            begun = list(range(first, first + self._begun))
            spans = short_term(chunk, shape, len(self.positions), self.random)[: -self.per_chunk or None]
            noise = short_term(self._other(chunk), shape, len(self.positions), self.random, without={*spans, *begun})[
                -shape.rule.budget :
            ]
            found = noise if shape.rule.budget else []
            # text is no question: where the search knows that, nothing stands between it and its past
            rows.append((found + spans if shape.rule.min_confidence is not None else spans + found) + begun)
        return ReadBatch([], chunks, torch.tensor(rows), [])

    def _text_outcome(self, batch: ReadBatch) -> StepOutput:
        index = self._rows(batch.blocks)
        behind = self._begun * self.block
        loss = text_loss(
            self.model, self.bank.ids[batch.chunks], behind, lambda layer: self._memory(layer, index), index.shape[1]
        )
        rows = len(batch.chunks)
        metrics = {"divergence": (loss.item() * rows, float(rows))}
        return StepOutput(loss * self.settings.text_weight, rows, rows * self.bank.ids.shape[1], metrics)

    def _right(self, chunk: int, asked: PreparedQuestion) -> list[int]:
        """Blocks of the bank where the answer stands."""
        block, first = self.block, chunk * self.per_chunk
        return [first + place for place in range(asked.span[0] // block, (asked.span[1] - 1) // block + 1)]

    @property
    def _begun(self) -> int:
        return self.per_chunk * 3 // 4

    def _shape(self) -> Shape:
        geometry, block, searched = self.model.geometry, self.block, self.settings.source == "vote"
        budget = geometry.sizes.ltm_read_tokens * self.random.choice(self.settings.found)
        short = geometry.sizes.stm_tokens * self.random.choice(self.settings.short)
        if not searched:
            budget, short = 0, geometry.sizes.stm_tokens + geometry.sizes.ltm_read_tokens
        rule = LayoutRule(
            budget=int(budget) // block,
            neighbours=geometry.read.neighbour_blocks,
            window=self.retriever.window,
            order=geometry.read.order if geometry.read.beside_prompt else "score",
            recency_tail=geometry.read.recency_tail // block if searched else 0,
            min_confidence=geometry.read.min_confidence,
        )
        return Shape(self.per_chunk, geometry.drop_span // block, max(self.per_chunk, int(short) // block), rule)

    def _other(self, chunk: int) -> int:
        return (chunk + self.random.randrange(1, self.settings.chunks)) % self.settings.chunks

    def _rows(self, blocks: Tensor) -> Tensor:
        block = self.block
        return (blocks[:, :, None] * block + torch.arange(block)).flatten(1)

    def _memory(self, layer: int, index: Tensor) -> tuple[Tensor, Tensor]:
        return self.bank.fields["keys"][layer][index], self.bank.fields["values"][layer][index]
