"""Base of tasks that train one adapter by questions about a bank. Knows no objective."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field

from mplus.errors import TrainingError
from mplus.model import MPlusModel
from mplus.retrieval.late_interaction import LateInteractionRetriever
from mplus.training.bank.question_bank import PreparedQuestion, QuestionBank
from mplus.training.bank.question_states import Form
from mplus.training.data.document_generator import DocumentGenerator
from mplus.training.objectives.task import ParameterGroup, Task
from mplus.training.sampling.block_view import places


class QuestionSettings(BaseModel):
    """Settings of the bank and its questions."""

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


class QuestionTask(Task):
    """Trains the adapter of one role; everything else is frozen.

    Args:
        kind: of the task, which is also the role of its adapter.

    Raises:
        TrainingError: nothing is found by a trained vote, or the model has no such adapter.
    """

    def __init__(self, model: MPlusModel, settings: QuestionSettings, seed: int, kind: Literal["read"]) -> None:
        super().__init__()
        retriever, adapter = model.parts.retriever, model.parts.adapters.named(kind)
        if not isinstance(retriever, LateInteractionRetriever):
            raise TrainingError(
                f"task {kind} trains on what a shared retriever finds; start from a delta that task vote has stored"
            )
        if adapter is None:
            raise TrainingError(f"task {kind} trains the {kind} adapter; give model.{kind}_adapter")
        self.model, self.kind, self.vote = model, kind, retriever
        self.fresh_chunks, self.fresh_every, self.questions = settings.fresh_chunks, settings.fresh_every, settings.questions
        model.checkpoint.use_chat_template(settings.chat_template or model.checkpoint.chat_template)
        self.net = model.parts.decoder.model
        for name, value in self.net.named_parameters():
            value.requires_grad_(".lora_" in name and f".{adapter}." in name)
        tokens, self.block = model.geometry.sizes.chunk_tokens, model.geometry.read.block_tokens
        self.makers = DocumentGenerator(model.tokenizer, Path(settings.data), tokens, seed=seed, fact_share=settings.fact_share)
        self.random = random.Random(seed)
        self.bank = QuestionBank(
            model, settings.chunks, tokens, per_chunk=settings.per_chunk, forms=dict(settings.forms), randomness=self.random
        )
        self.per_chunk = tokens // self.block
        self.places = places(settings.chunks, self.per_chunk)
        self.follows = torch.cat([self.places.diff() == 1, torch.zeros(1, dtype=torch.bool)])
        self.steps = 0

    def groups(self) -> list[ParameterGroup]:
        return [ParameterGroup(self.kind, [(name, value) for name, value in self.net.named_parameters() if value.requires_grad])]

    def prepare(self) -> None:
        self._add(self.bank.chunks)

    def finish_step(self, progress: float) -> None:
        self.steps += 1
        if self.steps % self.fresh_every == 0:
            self._add(self.fresh_chunks)

    def _add(self, count: int) -> None:
        self.bank.add_chunks(self.makers.make(count))

    def drawn_questions(self, times: int = 1) -> tuple[list[int], list[PreparedQuestion]]:
        """Chunks and a question about each, `times` as many as a step asks."""
        answerable = [chunk for chunk, asked in enumerate(self.bank.questions) if asked]
        chunks = self.random.sample(answerable, min(self.questions * times, len(answerable)))
        return chunks, [self.random.choice(self.bank.questions[chunk]) for chunk in chunks]

    def state(self) -> dict[str, Any]:
        return {
            "steps": self.steps,
            "random": self.random.getstate(),
            "makers": self.makers.state(),
            "shelf": self.bank.state(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        self.steps = int(state["steps"])
        self.random.setstate(state["random"])
        self.makers.load_state(state["makers"])
        self.bank.load_state(state["shelf"])

    def save(self, directory: Path) -> None:
        self.model.save_pretrained(directory)
