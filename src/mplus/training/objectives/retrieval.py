"""Training of the retriever on stored states: no language model in the loop. RECIPE section 4.

The shared one, where a few layers vote, or the paper's, where each layer finds its own tokens: whichever the model has. What
either learns stands in ``objectives.retrievers``; here are the banks of fresh chunks and the steps' questions.
"""

from __future__ import annotations

import logging
import random
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field, field_validator

from mplus.errors import TrainingError
from mplus.model import MPlusModel
from mplus.retrieval.late_interaction import LateInteractionRetriever
from mplus.retrieval.per_layer import PerLayerRetriever
from mplus.training.bank.state_bank import StateBank, make_state_bank
from mplus.training.data.document_generator import DocumentGenerator
from mplus.training.data.mixed_documents import DraftKind, MixedDocuments
from mplus.training.objectives.retrievers import (
    LateInteractionObjective,
    Loss,
    PerLayerObjective,
    RetrievalBatch,
    RetrieverObjective,
)
from mplus.training.objectives.task import ParameterGroup, StepOutput, Task

log = logging.getLogger(__name__)


class Settings(BaseModel):
    """Settings of task kind `vote`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: str = Field("../shared/data", description="directory with books, squad, squadshifts and natural_questions")
    chat_template: str | None = Field(None, description="Jinja text to ask with, kept in the delta; null: what the model brings")
    loss: Loss = Field("contrastive", description="paper: -log p+ - log(1 - p-); contrastive: some of the right tokens suffice")
    chunks: int = Field(192, ge=2, description="chunks of one bank")
    banks: int = Field(4, ge=1, description="banks held at a time; steps go round them")
    bank_steps: int = Field(40, ge=1, description="steps between two fresh banks, the oldest goes")
    step_chunks: int = Field(96, ge=2, description="chunks a question is held against")
    questions: int = Field(32, ge=1, description="questions of a step")
    per_chunk: int = Field(4, ge=1, description="questions asked of one chunk at most")
    fact_share: float = Field(0.6, ge=0, le=1, description="share of chunks with generated facts, where there is no `documents`")
    documents: dict[DraftKind, float] | None = Field(
        None, description="shares of chunks by what stands in them; null: facts, chats and passages by fact_share"
    )
    plain_share: float = Field(0.15, ge=0, le=1, description="share of questions without the chat template")
    scale_rate: float = Field(13.0, gt=0, description="factor on the learning rate of the voting layers' weights")
    slot_rank: int | None = Field(
        None,
        ge=1,
        description="rank of a same-slot head for a search that has none; a head that is there is always trained along",
    )
    step_layers: int = Field(6, ge=1, description="per-layer search: layers that learn in one step")
    behind_tokens: int | None = Field(
        None, ge=0, description="per-layer search: memory tokens a prompt stands behind as its states are taken; null: N + K0"
    )

    @field_validator("documents")
    @classmethod
    def _some_share(cls, value: dict[DraftKind, float] | None) -> dict[DraftKind, float] | None:
        if value is not None and (min(value.values(), default=0.0) < 0 or sum(value.values()) <= 0):
            raise ValueError("expected shares of 0 or more, one above 0")
        if value is not None and value.get("study"):
            raise ValueError("self-study has no place in task vote; give no study share")
        return value


def build(model: MPlusModel, settings: Settings, seed: int) -> RetrievalTask:
    """See ``training.registry``."""
    return RetrievalTask(model, settings, seed)


class RetrievalTask(Task):
    """Trains a model's retriever, ``LateInteractionRetriever`` or ``PerLayerRetriever``; everything else is frozen.

    Raises:
        TrainingError: the model's search has nothing to train, or its memory tokens do not stand for places of the text.
    """

    def __init__(self, model: MPlusModel, settings: Settings, seed: int) -> None:
        super().__init__()
        self.model, self.settings = model, settings
        _add_slot_head(model, settings.slot_rank)
        self.objective = _objective(model, settings)
        self.retriever = self.objective.retriever.requires_grad_(True)
        self.behind: int | None = None
        if isinstance(self.objective, PerLayerObjective):
            geometry, asked = model.geometry, settings.behind_tokens
            self.behind = geometry.sizes.stm_tokens + geometry.sizes.ltm_read_tokens if asked is None else asked
        model.checkpoint.use_chat_template(settings.chat_template or model.checkpoint.chat_template)
        self.generator = _generator(model, settings, seed)
        self.random = random.Random(seed)
        self.banks: list[StateBank] = []
        self.origins: list[dict[str, Any]] = []
        self.steps = 0

    def groups(self) -> list[ParameterGroup]:
        return self.objective.groups()

    def prepare(self) -> None:
        self._fresh_bank()

    def finish_step(self, progress: float) -> None:
        self.steps += 1
        growing = len(self.banks) < self.settings.banks and self.steps % max(1, self.settings.bank_steps // 2) == 0
        if growing or self.steps % self.settings.bank_steps == 0:
            self._fresh_bank()

    def draw(self) -> RetrievalBatch:
        number = self.steps % len(self.banks)
        bank = self.banks[number]
        total = bank.states.shape[1]
        chosen = sorted(self.random.sample(range(total), min(self.settings.step_chunks, total)))
        by_chunk = bank.by_chunk()
        pool = [question for chunk in chosen for question in by_chunk.get(chunk, [])]
        questions = self.random.sample(pool, min(self.settings.questions, len(pool)))
        return RetrievalBatch(number, torch.tensor(chosen), questions, self.objective.draw(self.random))

    def shard(self, batch: RetrievalBatch, process: int, processes: int) -> RetrievalBatch:
        return RetrievalBatch(batch.bank, batch.chunks, batch.questions[process::processes], batch.layers)

    def forward(self, batch: RetrievalBatch) -> StepOutput:
        return self.objective.outcome(self.banks[batch.bank], batch)

    def state(self) -> dict[str, Any]:
        return {
            "steps": self.steps,
            "random": self.random.getstate(),
            "makers": self.generator.state(),
            "origins": list(self.origins),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        self.banks, self.origins = [], []
        for origin in state["origins"]:  # a bank is made again from what it was made from
            self.generator.load_state(origin["makers"])
            self.random.setstate(origin["random"])
            self._fresh_bank()
        self.generator.load_state(state["makers"])
        self.random.setstate(state["random"])
        self.steps = int(state["steps"])

    def save(self, directory: Path) -> None:
        self.model.save_pretrained(directory)

    def _fresh_bank(self) -> None:
        origin = {"makers": self.generator.state(), "random": self.random.getstate()}
        if len(self.banks) == self.settings.banks:  # before the new one is written: of all layers a bank is large
            del self.banks[0], self.origins[0]
        bank = make_state_bank(
            self.model,
            self.objective.layers,
            self.generator.make(self.settings.chunks),
            self.random,
            per_chunk=self.settings.per_chunk,
            plain_share=self.settings.plain_share,
            behind_tokens=self.behind,
        )
        self.banks.append(bank)
        self.origins.append(origin)
        log.info("bank of %d chunks, %d questions", bank.states.shape[1], len(bank.questions))


def _add_slot_head(model: MPlusModel, rank: int | None) -> None:
    retriever = model.parts.retriever
    if rank is None:
        return
    if not isinstance(retriever, LateInteractionRetriever) or retriever.key_width is None:
        raise TrainingError(
            "task.slot_rank asks for a same-slot head, which only a trained late-interaction search has; leave it out, or give "
            "model.retriever a key_width and the layers that vote"
        )
    if retriever.slot_head is None:
        retriever.add_slot_head(rank)
    elif retriever.slot_head.rank != rank:
        raise TrainingError(
            f"the same-slot head of {model.name!r} has rank {retriever.slot_head.rank}, task.slot_rank asks for {rank}; "
            "leave it out to go on with what is there"
        )


def _generator(model: MPlusModel, settings: Settings, seed: int) -> DocumentGenerator:
    tokens, data = model.geometry.sizes.chunk_tokens, Path(settings.data)
    if settings.documents is None:
        return DocumentGenerator(model.tokenizer, data, tokens, seed=seed, fact_share=settings.fact_share)
    return MixedDocuments(model.tokenizer, data, tokens, seed=seed, shares=settings.documents, study=None)


def _objective(model: MPlusModel, settings: Settings) -> RetrieverObjective:
    retriever, geometry = model.parts.retriever, model.geometry
    if retriever is None or retriever.key_width is None:
        raise TrainingError(
            "task vote trains a search that can learn; give model.retriever a key_width, with the layers that vote or "
            "voting: per_layer"
        )
    if geometry.write.tap != "input":
        raise TrainingError(
            f"task vote needs memory tokens that stand for places of the text, geometry.write_tap is {geometry.write.tap!r}; "
            "set it to 'input', or train this search with task language"
        )
    if isinstance(retriever, PerLayerRetriever):
        return PerLayerObjective(retriever, settings.loss, settings.step_layers)
    assert isinstance(retriever, LateInteractionRetriever)
    if geometry.sizes.new_tokens % geometry.read.block_tokens:
        raise TrainingError(
            f"task vote judges whole blocks, but geometry.new_tokens ({geometry.sizes.new_tokens}) is no multiple of block_tokens "
            f"({geometry.read.block_tokens}); change one of them"
        )
    return LateInteractionObjective(retriever, geometry, settings.loss, settings.scale_rate)
