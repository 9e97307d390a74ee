"""Training of the look adapter: the window that answers is to explain the question better than the vote's other best ones.

Legend: R questions, C candidates of one, W memory tokens of a candidate, T prompt tokens, m blocks of the shelf.

The candidates are those of a second look at inference (``mplus.attach.look``): the best windows of the vote that do not overlap,
with a block on each side. The score that is trained is the one they are ranked by.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from mplus.attach.look import LOOK_NEIGHBOURS, apart
from mplus.model import MPlusModel
from mplus.text.search_query import last_user_turn
from mplus.training.answering import padded, read_states
from mplus.training.shelf import Asked
from mplus.training.shelf_task import ShelfSettings, ShelfTask
from mplus.training.task import Outcome

GROUP_QUESTIONS = 4  # of like length, so that little is padded
HELD = 0.5  # share of the answer's place that a right candidate holds
FAR = -1e4


class Settings(ShelfSettings):
    """Settings of task kind `look`."""

    fresh_every: int = Field(6, ge=1, description="steps between them")
    questions: int = Field(16, ge=1, description="questions of a step")
    fact_share: float = Field(0.5, ge=0, le=1, description="share of chunks with generated facts")
    candidates: int = Field(6, ge=2, description="windows that are judged for a question")


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


class LookTask(ShelfTask):
    """Trains a model's look adapter; everything else is frozen."""

    def __init__(self, model: MPlusModel, settings: Settings, seed: int) -> None:
        super().__init__(model, settings, seed, "look")
        self.settings = settings

    # -- batches ---------------------------------------------------------------------------------------------------

    def draw(self) -> Batch:
        chunks, asked = self.drawn_questions()
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
        prompts = [last_user_turn(self.model.tokenizer, batch.asked[row].prompt) for row in rows for _ in range(count)]
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
