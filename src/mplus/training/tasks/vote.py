"""Training of the shared retriever on stored states: no language model in the loop. RECIPE section 4.

Legend: C chunks, T tokens of a chunk, R questions of a step, m windows, V voting layers, D width.

The contrastive loss is over windows of neighbouring blocks, as they are found at inference; windows that hold only a part of
the right place are neither right nor wrong.
"""

from __future__ import annotations

import logging
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from mplus.errors import TrainingError
from mplus.model import MPlusModel
from mplus.retriever import VoteRetriever
from mplus.training.bank import Asked, RawStates, Writer, chat_ids, pick, question_states
from mplus.training.documents import Document, DocumentMaker
from mplus.training.losses import contrastive_loss
from mplus.training.task import Outcome, ParameterGroup, Task

log = logging.getLogger(__name__)

COVERED = 0.8  # share of a statement that a window must hold to be right, or as much as any window holds of it
NEVER = -1e4


class Settings(BaseModel):
    """Settings of task kind `vote`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: str = Field("../shared/data", description="directory with books, squad, squadshifts and natural_questions")
    chat_template: str | None = Field(None, description="Jinja text to ask with, kept in the delta; null: what the model brings")
    chunks: int = Field(192, ge=2, description="chunks of one bank")
    banks: int = Field(4, ge=1, description="banks held at a time; steps go round them")
    bank_steps: int = Field(40, ge=1, description="steps between two fresh banks, the oldest goes")
    step_chunks: int = Field(96, ge=2, description="chunks a question is held against")
    questions: int = Field(32, ge=1, description="questions of a step")
    per_chunk: int = Field(4, ge=1, description="questions asked of one chunk at most")
    fact_share: float = Field(0.6, ge=0, le=1, description="share of chunks with generated facts")
    plain_share: float = Field(0.15, ge=0, le=1, description="share of questions without the chat template")
    scale_rate: float = Field(13.0, gt=0, description="factor on the learning rate of the layers' weights")


def build(model: MPlusModel, settings: Settings, seed: int) -> VoteTask:
    """See ``training.registry``."""
    return VoteTask(model, settings, seed)


@dataclass
class Bank:
    """States of written chunks and of questions about them: [V, C, T, D], [V, Q, t, D] and their mask [Q, t]."""

    states: Tensor
    prompts: Tensor
    mask: Tensor
    asked: list[Asked]

    def by_chunk(self) -> dict[int, list[int]]:
        """Numbers of the questions about each chunk."""
        out: dict[int, list[int]] = {}
        for number, one in enumerate(self.asked):
            out.setdefault(one.chunk, []).append(number)
        return out


@dataclass
class Batch:
    """Which questions of a bank are asked against which of its chunks."""

    bank: int
    chunks: Tensor
    questions: list[int]


class VoteTask(Task):
    """Trains a model's ``VoteRetriever``; everything else is frozen."""

    def __init__(self, model: MPlusModel, settings: Settings, seed: int) -> None:
        super().__init__()
        retriever = model.attached.retriever
        if not isinstance(retriever, VoteRetriever) or retriever.key_width is None:
            raise TrainingError("task vote trains a shared retriever; give model.retriever with key_width and voting layers")
        self.model, self.settings = model, settings
        model._loaded.use_chat_template(settings.chat_template or model._loaded.chat_template)
        self.vote = retriever.requires_grad_(True)
        self.raw = RawStates(retriever.voting, retriever.width)
        self.makers = DocumentMaker(
            model.tokenizer, Path(settings.data), model.geometry.chunk_tokens, seed=seed, fact_share=settings.fact_share
        )
        self.random = random.Random(seed)
        self.banks: list[Bank] = []
        self.origins: list[dict[str, Any]] = []
        self.steps = 0

    def groups(self) -> list[ParameterGroup]:
        named = list(self.vote.named_parameters())
        return [
            ParameterGroup("vote", [(name, value) for name, value in named if name != "scale"]),
            ParameterGroup("scale", [(name, value) for name, value in named if name == "scale"], self.settings.scale_rate),
        ]

    def prepare(self) -> None:
        self._fresh_bank()

    def finish_step(self, progress: float) -> None:
        self.steps += 1
        growing = len(self.banks) < self.settings.banks and self.steps % max(1, self.settings.bank_steps // 2) == 0
        if growing or self.steps % self.settings.bank_steps == 0:
            self._fresh_bank()

    def draw(self) -> Batch:
        number = self.steps % len(self.banks)
        bank = self.banks[number]
        total = bank.states.shape[1]
        chosen = sorted(self.random.sample(range(total), min(self.settings.step_chunks, total)))
        by_chunk = bank.by_chunk()
        pool = [question for chunk in chosen for question in by_chunk.get(chunk, [])]
        return Batch(number, torch.tensor(chosen), self.random.sample(pool, min(self.settings.questions, len(pool))))

    def share(self, batch: Batch, process: int, processes: int) -> Batch:
        return Batch(batch.bank, batch.chunks, batch.questions[process::processes])

    def forward(self, batch: Batch) -> Outcome:
        bank, picked = self.banks[batch.bank], batch.questions
        length = int(bank.mask[picked].sum(1).max())
        mask = bank.mask[picked][:, -length:]
        right, known = self._targets(bank, batch)
        with torch.autocast("cpu", torch.bfloat16, enabled=bank.states.device.type == "cpu"):
            keys = self.vote.keys([part[batch.chunks].flatten(0, 1) for part in bank.states])
            query, weight = self.vote.queries([part[picked][:, -length:] for part in bank.prompts], mask)
        block, per_chunk = self.model.geometry.block_tokens, bank.states.shape[2] // self.model.geometry.block_tokens
        match = self.vote.matches(query, keys, block)
        follows = torch.arange(match.shape[-1]) % per_chunk != per_chunk - 1
        with torch.autocast(match.device.type, enabled=False):  # float32, whatever the loop computes in
            scores = self.vote.window_scores(match, weight, follows).clamp(min=NEVER)
            loss = contrastive_loss(scores, right, known)
        hits = right.gather(1, scores.masked_fill(~known, NEVER).argmax(1, keepdim=True)).squeeze(1)
        facts = torch.tensor([bank.asked[number].question.is_fact for number in picked])
        metrics = {
            name: (float(hits[rows].sum()), float(rows.sum()))
            for name, rows in (("recall facts", facts), ("recall passages", ~facts))
        }
        return Outcome(loss, len(picked), len(picked) * length + int(batch.chunks.shape[0]) * bank.states.shape[2], metrics)

    def _targets(self, bank: Bank, batch: Batch) -> tuple[Tensor, Tensor]:
        """[R, m] windows that hold the answer, and those that are either right or wrong."""
        block, window = self.model.geometry.block_tokens, self.vote.window
        per_chunk = bank.states.shape[2] // block
        place = {int(chunk): number for number, chunk in enumerate(batch.chunks)}
        right = torch.zeros(len(batch.questions), len(place) * per_chunk, dtype=torch.bool)
        close = torch.zeros_like(right)
        starts = torch.arange(per_chunk) * block
        ends = (starts + window * block).clamp(max=per_chunk * block)
        for row, number in enumerate(batch.questions):
            one = bank.asked[number]
            first, last = one.question.span
            held = (ends.clamp(max=last) - starts.clamp(min=first)).clamp(min=0)
            columns = slice(place[one.chunk] * per_chunk, (place[one.chunk] + 1) * per_chunk)
            right[row, columns] = held >= min(int(held.max()), COVERED * (last - first))
            close[row, columns] = held > 0
            if not one.question.is_fact:  # the rest of its passage is neither right nor wrong
                close[row, columns] = True
        return right, right | ~close

    def state(self) -> dict[str, Any]:
        return {
            "steps": self.steps,
            "random": self.random.getstate(),
            "makers": self.makers.state(),
            "origins": list(self.origins),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        self.banks, self.origins = [], []
        for origin in state["origins"]:  # a bank is made again from what it was made from
            self.makers.load_state(origin["makers"])
            self.random.setstate(origin["random"])
            self._fresh_bank()
        self.makers.load_state(state["makers"])
        self.random.setstate(state["random"])
        self.steps = int(state["steps"])

    def save(self, directory: Path) -> None:
        self.model.save_pretrained(directory)

    def _fresh_bank(self) -> None:
        origin = {"makers": self.makers.state(), "random": self.random.getstate()}
        bank = write_bank(self.model, self.raw, self.makers.make(self.settings.chunks), self.settings, self.random)
        if len(self.banks) == self.settings.banks:
            del self.banks[0], self.origins[0]
        self.banks.append(bank)
        self.origins.append(origin)
        log.info("bank of %d chunks, %d questions", bank.states.shape[1], len(bank.asked))


def write_bank(
    model: MPlusModel, raw: RawStates, documents: list[Document], settings: Settings, randomness: random.Random
) -> Bank:
    """States of chunks and of questions about them."""
    written = Writer(model, raw).write(documents)
    search = torch.stack([one.rows["search"][0] for one in written])  # [C, T, V * D]
    states = search.unflatten(-1, (len(raw.voting), raw.width)).permute(2, 0, 1, 3).contiguous()
    asked = pick(documents, randomness, settings.per_chunk)
    rows = [
        chat_ids(model.tokenizer, one.question.text, form="plain" if randomness.random() < settings.plain_share else "chat")
        for one in asked
    ]
    prompts, mask = question_states(model, raw, rows)
    return Bank(states, prompts, mask, asked)
