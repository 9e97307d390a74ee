"""Training of the look adapter: the window that answers is to explain the question better than the vote's other best ones.

Legend: R questions, C candidates of one, W memory tokens of a candidate, T prompt tokens, m blocks of the shelf.

The candidates are those of a second look at inference (``mplus.attach.look``): the best windows of the vote that do not overlap,
with a block on each side. The score that is trained is the one they are ranked by.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn import functional

from mplus.attach.look import LOOK_NEIGHBOURS, apart
from mplus.errors import TrainingError
from mplus.model import MPlusModel
from mplus.retriever import VoteRetriever
from mplus.training.answering import padded, read_states
from mplus.training.documents import DocumentMaker
from mplus.training.shelf import Asked, Shelf
from mplus.training.shelf_view import places
from mplus.training.task import Outcome, ParameterGroup, Task

GROUP_QUESTIONS = 4  # of like length, so that little is padded
HELD = 0.5  # share of the answer's place that a right candidate holds
FAR = -1e4


class Settings(BaseModel):
    """Settings of task kind `look`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: str = Field("../shared/data", description="directory with books, squad, squadshifts and natural_questions")
    chunks: int = Field(224, ge=8, description="chunks on the shelf")
    fresh_chunks: int = Field(16, ge=1, description="chunks written at a time")
    fresh_every: int = Field(6, ge=1, description="steps between them")
    questions: int = Field(16, ge=1, description="questions of a step")
    per_chunk: int = Field(3, ge=1, description="questions prepared for each chunk at most")
    fact_share: float = Field(0.5, ge=0, le=1, description="share of chunks with generated facts")
    candidates: int = Field(6, ge=2, description="windows that are judged for a question")
    forms: dict[Literal["chat", "system", "plain"], float] = Field(
        default={"chat": 0.75, "system": 0.1, "plain": 0.15}, description="shares of ways to ask"
    )


def build(model: MPlusModel, settings: Settings, seed: int) -> LookTask:
    """See ``training.registry``."""
    return LookTask(model, settings, seed)


@dataclass
class Batch:
    """Questions with their candidates.

    Attributes:
        starts: [R, C] first block of each window; vote: [R, C] its score; weight: R tensors [T] of the prompt's tokens.
        right, known: [R, C] candidates that hold the answer, and those that are either right or wrong.
    """

    asked: list[Asked]
    starts: Tensor
    vote: Tensor
    weight: list[Tensor]
    right: Tensor
    known: Tensor


class LookTask(Task):
    """Trains a model's look adapter; everything else is frozen.

    Raises:
        TrainingError: nothing is found by a vote, or there is no look adapter.
    """

    def __init__(self, model: MPlusModel, settings: Settings, seed: int) -> None:
        super().__init__()
        if not isinstance(model.attached.retriever, VoteRetriever):
            raise TrainingError(
                "task look judges what a shared retriever finds; start from a delta whose retriever is shared, e.g. one of task vote"
            )
        if model.attached.adapters.look is None:
            raise TrainingError("task look trains the look adapter; give model.look_adapter")
        self.model, self.settings, self.vote = model, settings, model.attached.retriever
        self.net = model.attached.decoder.model
        for name, value in self.net.named_parameters():
            value.requires_grad_(".lora_" in name and f".{model.attached.adapters.look}." in name)
        makers = DocumentMaker(
            model.tokenizer, Path(settings.data), model.geometry.chunk_tokens, seed=seed, fact_share=settings.fact_share
        )
        self.random = random.Random(seed)
        self.shelf = Shelf(model, makers, settings.chunks, settings.per_chunk, dict(settings.forms), self.random)
        self.block = model.geometry.block_tokens
        self.per_chunk = model.geometry.chunk_tokens // self.block
        self.places = places(settings.chunks, self.per_chunk)
        self.follows = functional.pad(self.places.diff() == 1, (0, 1))
        self.steps = 0

    def groups(self) -> list[ParameterGroup]:
        return [ParameterGroup("look", [(name, value) for name, value in self.net.named_parameters() if value.requires_grad])]

    def prepare(self) -> None:
        self.shelf.add(self.settings.chunks)

    def finish_step(self, progress: float) -> None:
        self.steps += 1
        if self.steps % self.settings.fresh_every == 0:
            self.shelf.add(self.settings.fresh_chunks)

    # -- batches ---------------------------------------------------------------------------------------------------

    def draw(self) -> Batch:
        answerable = [chunk for chunk, asked in enumerate(self.shelf.asked) if asked]
        chunks = self.random.sample(answerable, min(self.settings.questions, len(answerable)))
        asked = [self.random.choice(self.shelf.asked[chunk]) for chunk in chunks]
        scores, weight, mask = self.shelf.judged(asked, self.follows)
        scores = scores.masked_fill(~self._whole(), FAR)
        count, rows = self.settings.candidates, []
        for row, (chunk, one) in enumerate(zip(chunks, asked, strict=True)):
            held = self._held(chunk, one.span)
            right = held >= min(float(held.max()), HELD)
            close = held > 0
            if not one.is_fact:  # the rest of its passage is neither right nor wrong
                close[chunk * self.per_chunk : (chunk + 1) * self.per_chunk] = True
            starts = apart(scores[row], self.places, count, self.vote.window)
            if not right[starts].any():
                starts[-1] = int(scores[row].masked_fill(~right, 2 * FAR).argmax())
            rows.append((starts, scores[row, starts], right[starts], (right | ~close)[starts]))
        starts, vote, is_right, known = (torch.stack(part) for part in zip(*rows, strict=True))
        return Batch(asked, starts, vote, [weight[row, mask[row]] for row in range(len(asked))], is_right, known)

    def share(self, batch: Batch, process: int, processes: int) -> Batch:
        rows = slice(process, None, processes)
        return Batch(*(getattr(batch, name)[rows] for name in ("asked", "starts", "vote", "weight", "right", "known")))

    def forward(self, batch: Batch) -> Outcome:
        order = sorted(range(len(batch.asked)), key=lambda row: len(batch.asked[row].prompt))
        groups = [order[start : start + GROUP_QUESTIONS] for start in range(0, len(order), GROUP_QUESTIONS)]
        parts = [self._scores(batch, rows) for rows in groups]
        back = torch.tensor([row for group in groups for row in group]).argsort()
        scores = torch.cat([part for part, _ in parts])[back.to(parts[0][0].device)]
        right, known = batch.right.to(scores.device), batch.known.to(scores.device)
        counted = scores.masked_fill(~known, FAR)
        loss = (torch.logsumexp(counted, 1) - torch.logsumexp(counted.masked_fill(~right, FAR), 1)).mean()
        facts = torch.tensor([one.is_fact for one in batch.asked])
        metrics = {}
        for name, judged in (("first", counted.detach().cpu()), ("vote first", batch.vote.masked_fill(~batch.known, FAR))):
            hits = batch.right.gather(1, judged.argmax(1, keepdim=True))[:, 0]
            metrics[f"{name} facts"] = (float(hits[facts].sum()), float(facts.sum()))
            metrics[f"{name} passages"] = (float(hits[~facts].sum()), float((~facts).sum()))
        return Outcome(loss, len(batch.asked), sum(tokens for _, tokens in parts), metrics)

    def _scores(self, batch: Batch, rows: list[int]) -> tuple[Tensor, int]:
        """Scores [r, C] of some questions' candidates, float32, and the prompt tokens that took."""
        device, count = self.model.device, batch.starts.shape[1]
        prompts = [batch.asked[row].prompt for row in rows for _ in range(count)]
        ids, mask, _ = (part.to(device) for part in padded(prompts, [[]] * len(prompts)))
        index = self._rows(batch.starts[rows]).flatten(0, 1)
        states = read_states(
            self.model,
            ids,
            mask,
            lambda layer: (self.shelf.keys[layer][index], self.shelf.values[layer][index]),
            index.shape[1],
            role="look",
        )
        logits = self.net.lm_head(states[:, :-1]).float()
        likely = -functional.cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none")
        weight = torch.zeros(len(prompts), ids.shape[1] - 1, device=device)
        for number, row in enumerate(rows):
            own = batch.weight[row][1:].float()
            weight[number * count : (number + 1) * count, : len(own)] = own / own.sum().clamp(min=1e-6)
        gain = (likely * weight).sum(1).view(len(rows), count)
        return batch.vote[rows].to(device) + self.model.geometry.look_weight * gain, int(mask.sum())

    def _held(self, chunk: int, span: tuple[int, int]) -> Tensor:
        """[m] share of the answer's place that the window beginning at each block holds."""
        first, last = (chunk * self.model.geometry.chunk_tokens + place for place in span)
        starts = torch.arange(len(self.places)) * self.block
        held = (starts + self.vote.window * self.block).clamp(max=last) - starts.clamp(min=first)
        return (held.clamp(min=0).float() / (last - first)).masked_fill(~self._whole(), 0.0)

    def _whole(self) -> Tensor:
        """[m] windows that end inside their chunk."""
        return torch.arange(len(self.places)) % self.per_chunk <= self.per_chunk - self.vote.window

    def _rows(self, starts: Tensor) -> Tensor:
        """[r, C, W] columns of the candidates with their neighbours, moved into the chunk where they would reach out of it."""
        blocks = self.vote.window + 2 * LOOK_NEIGHBOURS
        chunk = torch.div(starts, self.per_chunk, rounding_mode="floor") * self.per_chunk
        first = torch.minimum((starts - LOOK_NEIGHBOURS).clamp(min=chunk), chunk + self.per_chunk - blocks)
        return first[..., None] * self.block + torch.arange(blocks * self.block)

    # -- state -----------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        return {
            "steps": self.steps,
            "random": self.random.getstate(),
            "makers": self.shelf.makers.state(),
            "shelf": self.shelf.state(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        self.steps = int(state["steps"])
        self.random.setstate(state["random"])
        self.shelf.makers.load_state(state["makers"])
        self.shelf.load_state(state["shelf"])

    def save(self, directory: Path) -> None:
        self.model.save_pretrained(directory)
