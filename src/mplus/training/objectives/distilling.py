"""Training of the read adapter from full context: a teacher that has the text in its prompt, a student that has it in memory.

The teacher is the base with no adapter on. It sees the passage around the right place as plain text before the question, and its
likeliest tokens at the answer's tokens are kept. The student reads memory as at inference. Each question weighs the same, whatever the
length of its answer: the recipe's `cross_entropy` times the mean loss of its tokens where the answer is known, plus its `kl` times the
mean divergence from the teacher where one can answer.

Legend: R questions, A answer tokens.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional

from mplus.errors import TrainingError
from mplus.model import MPlusModel
from mplus.training.bank.taught_bank import TaughtBank, TaughtQuestion
from mplus.training.data.document import Style
from mplus.training.data.mixed_documents import DraftKind, MixedDocuments
from mplus.training.objectives.answer_loss import AnswerLogits, answer_logits, by_length
from mplus.training.objectives.bank_task import BankSettings, BankTask
from mplus.training.objectives.distillation import TeacherTokens, divergence
from mplus.training.objectives.task import StepOutput
from mplus.training.objectives.teacher import Teacher
from mplus.training.sampling.block_view import BlockView, Shape, hardest, in_order_of_birth, lead, retrieval_view

GROUP_ROWS = 8
IN_ORDER: Final = ("update", "story")  # kinds of questions about what is current: of their chunk the newest stands nearest
AskedKind = Literal["instruction", "conversation", "prompt", "memory", "update", "story", "absent", "summary"]
MixKind = Literal["text", "instruction", "conversation", "prompt", "memory", "update", "story", "absent", "summary"]
_ABOUT: Final[dict[AskedKind, DraftKind]] = {
    "conversation": "chat",
    "prompt": "passage",
    "update": "changes",
    "story": "story",
    "summary": "study",
}
"""What chunks must hold for a kind to be asked."""
_OWN_SHARE: Final[tuple[AskedKind, ...]] = ("instruction", "prompt", "update", "story", "absent", "summary")
"""Kinds of questions that have a share of the mix by their own name."""


class Settings(BankSettings):
    """Settings of task kind `distil`."""

    cross_entropy: float = Field(1.0, ge=0, description="weight of the loss on known answers")
    kl: float = Field(1.0, ge=0, description="weight of the divergence from the teacher")
    top: int = Field(20, ge=1, description="tokens kept of the teacher; all others count as one")
    teacher: str | None = Field(None, description="a stock decoder with the same tokenizer; null: the base itself, no adapter on")
    taught: tuple[Style, ...] = Field(("value", "sentence"), description="styles of answers that the teacher gives too")
    passage_tokens: int = Field(128, ge=8, description="text around the right place that the teacher sees")
    mix: dict[MixKind, float] = Field(
        {"text": 20, "instruction": 30, "conversation": 25, "prompt": 10, "memory": 10, "summary": 5},
        description="shares of what a step asks; text: of steps that keep the language model",
    )
    documents: dict[DraftKind, float] = Field(
        {"facts": 0.3, "chat": 0.25, "passage": 0.2, "changes": 0.1, "study": 0.15}, description="shares of what chunks hold"
    )
    self_study: str | None = Field(None, description="a file of python -m mplus.training.self_study")

    @model_validator(mode="after")
    def _something_to_learn(self) -> Self:
        if not self.cross_entropy and not self.kl:
            raise ValueError("cross_entropy and kl are both 0: nothing would be learned; give one of them a weight")
        for name, shares in (("mix", dict(self.mix)), ("documents", dict(self.documents))):
            if not shares or min(shares.values()) < 0 or not sum(shares.values()):
                raise ValueError(f"{name} needs shares of 0 or more and one above 0, got {shares}")
        if not any(share for kind, share in self.mix.items() if kind != "text"):
            raise ValueError("mix asks nothing: give a share to something else than text")
        if self.documents.get("corrections"):
            raise ValueError(
                "corrections lie in several chunks, which a read shows in any order; give a share to changes instead"
            )
        for kind, needed in _ABOUT.items():
            if self.mix.get(kind) and not self.documents.get(needed):
                raise ValueError(f"mix has a share of {kind}, but documents has none of {needed}, which it is about; give both")
        return self


def build(model: MPlusModel, settings: Settings, seed: int) -> DistilTask:
    """See ``training.registry``."""
    return DistilTask(model, settings, seed)


@dataclass
class DistilBatch:
    """Questions with the blocks each one reads [R, b]; or, without questions, chunks to go on with, and their memories.

    At one ratio: text tokens that a memory token stands for.
    """

    asked: list[TaughtQuestion]
    chunks: list[int]
    blocks: Tensor
    complete: list[bool]
    ratio: int = 1


class DistilTask(BankTask):
    """Trains a model's read adapter by what its base says with the text in the prompt, and by known answers."""

    settings: Settings
    bank: TaughtBank

    def __init__(self, model: MPlusModel, settings: Settings, seed: int) -> None:
        super().__init__(model, settings, seed, kind="distil")
        teacher = model if settings.teacher is None else Teacher.opened(settings.teacher, model)
        self.teacher = Teacher(teacher, model, settings.top, settings.passage_tokens)

    def _generator(self, seed: int) -> MixedDocuments:
        settings = self.settings
        study = Path(settings.self_study) if settings.self_study is not None else None
        data = Path(settings.data)
        return MixedDocuments(self.model.tokenizer, data, self.tokens, seed=seed, shares=dict(settings.documents), study=study)

    def _bank(self) -> TaughtBank:
        settings, forms = self.settings, dict(self.settings.forms)
        return TaughtBank(
            self.model,
            settings.chunks,
            self.tokens,
            per_chunk=settings.per_chunk,
            forms=forms,
            randomness=self.random,
            ratio=self._ratio,
        )

    # -- batches ---------------------------------------------------------------------------------------------------

    def draw(self) -> DistilBatch:
        self.grid = self.grids[self._ratio()]
        shape, mix, ratio = self._shape(), self.settings.mix, self.grid.ratio
        if self.random.random() < mix.get("text", 0.0) / sum(mix.values()):
            chunks, blocks = self._text_rows(shape)
            return DistilBatch([], chunks, blocks, [], ratio)
        chunks, asked, views = [], [], []
        for kind, count in self._counts().items():
            for chunk, one, scores in self._drawn(kind, count):
                chunks.append(chunk)
                asked.append(one)
                views.append(self._view(chunk, one, scores, shape))
        if not asked:
            raise TrainingError(
                "the bank holds no question of any kind that task.mix asks for; give task.documents that hold some"
            )
        if self.settings.kl:
            styles = [("value" if one.is_value else "sentence") in self.settings.taught for one in asked]
            taught = [(one, chunk) for one, chunk, wanted in zip(asked, chunks, styles, strict=True) if wanted]
            self.teacher.teach([one for one, _ in taught], [self.bank.ids[chunk].tolist() for _, chunk in taught])
        blocks = torch.tensor([view.blocks for view in views])
        return DistilBatch(asked, chunks, blocks, [view.complete for view in views], ratio)

    def _counts(self) -> dict[str, int]:
        """How many questions of each kind a step asks."""
        shares = {kind: share for kind, share in self.settings.mix.items() if kind != "text" and share}
        drawn = Counter(self.random.choices(list(shares), list(shares.values()), k=self.settings.questions))
        return {kind: drawn[kind] for kind in shares if drawn[kind]}

    def _drawn(self, kind: str, count: int) -> list[tuple[int, TaughtQuestion, Tensor]]:
        """Questions of one kind with their chunks and the scores [m] of all windows, hard ones preferred."""
        found = [
            (chunk, one)
            for chunk, questions in enumerate(self.bank.questions)
            for one in questions
            if isinstance(one, TaughtQuestion) and _kind_of(one) == kind
        ]
        has_place = bool(found) and all(one.span[1] for _, one in found)
        wanted = min(len(found), count * (self.settings.hard_among if has_place else 1))
        drawn = self.random.sample(found, wanted)
        if not drawn:
            return []
        scores = self.bank.scores([one for _, one in drawn], self.grid.is_contiguous, self.grid.block)
        rows = list(range(min(count, len(drawn))))
        if has_place:
            leads = [
                lead(own, self._right(chunk, one), self.retriever.window) for own, (chunk, one) in zip(scores, drawn, strict=True)
            ]
            rows = hardest(leads, [True] * len(leads), min(count, len(leads)), self.settings.hard_share, self.random)
        return [(*drawn[row], scores[row]) for row in rows]

    def _view(self, chunk: int, one: TaughtQuestion, scores: Tensor, shape: Shape) -> BlockView:
        newest = chunk if self.random.random() < self.settings.fresh_share else self._other(chunk)
        view = retrieval_view(scores, self.grid.positions, self._right(chunk, one), newest, shape, self.random)
        return in_order_of_birth(view, chunk, self.grid.per_chunk) if one.kind in IN_ORDER else view

    def shard(self, batch: DistilBatch, process: int, processes: int) -> DistilBatch:
        rows = slice(process, None, processes)
        return DistilBatch(batch.asked[rows], batch.chunks[rows], batch.blocks[rows], batch.complete[rows], batch.ratio)

    # -- loss ------------------------------------------------------------------------------------------------------

    def forward(self, batch: DistilBatch) -> StepOutput:
        grid = self.grids[batch.ratio]
        if not batch.asked:
            return self._text_outcome(batch.chunks, batch.blocks, grid)
        groups = by_length([one.prompt for one in batch.asked], [one.answer for one in batch.asked], GROUP_ROWS)
        loss, tokens = torch.zeros((), device=self.model.device), 0
        metrics: dict[str, tuple[float, float]] = {}
        for rows in groups:
            asked, memory = [batch.asked[row] for row in rows], self._memory(batch.blocks[rows], grid)
            own = answer_logits(self.model, [one.prompt for one in asked], [one.answer for one in asked], *memory)
            known, far = self._losses(own, asked)
            loss = loss + self.settings.cross_entropy * known.sum() + self.settings.kl * far.sum()
            tokens += own.tokens
            ratio = batch.ratio if len(self.grids) > 1 else None
            _count(metrics, asked, own.exact().tolist(), far.tolist(), [batch.complete[row] for row in rows], ratio)
        return StepOutput(loss / len(batch.asked), len(batch.asked), tokens, metrics)

    def _losses(self, own: AnswerLogits, asked: list[TaughtQuestion]) -> tuple[Tensor, Tensor]:
        """Cross entropy [R] where the answer is known and divergence [R] where it is taught, means over the tokens of each; else 0."""
        device, eos = own.logits.device, self.model.tokenizer.eos_token_id
        known = torch.tensor([float(one.is_known) for one in asked], device=device)[own.row_of]
        cross = functional.cross_entropy(own.logits, own.wanted, reduction="none")
        far = torch.zeros_like(cross)
        taught = torch.tensor([bool(one.taught) for one in asked], device=device)[own.row_of]
        if taught.any():
            ids = torch.cat([one.taught[0] for one in asked if one.taught])
            logs = torch.cat([one.taught[1].float() for one in asked if one.taught])  # autocast joins no half precision
            far[taught] = divergence(own.logits[taught], TeacherTokens(ids, logs).to(device))
            # where a bare value ends its teacher, which continues a text, goes on; what ends it is for cross entropy to say
            is_value = torch.tensor([one.is_value for one in asked], device=device)[own.row_of]
            taught = taught & ~(is_value & (own.wanted == eos))
        return _row_means(cross, known, own), _row_means(far, taught.float(), own)


def _row_means(values: Tensor, weights: Tensor, own: AnswerLogits) -> Tensor:
    """[R] means of values [A] over the tokens of each row that have a weight; 0 where none has."""
    zeros = torch.zeros(own.rows, device=values.device)
    return zeros.index_add(0, own.row_of, values * weights) / zeros.index_add(0, own.row_of, weights).clamp_min(1.0)


def _kind_of(one: TaughtQuestion) -> AskedKind:
    """The share of the mix that a question belongs to."""
    own = next((kind for kind in _OWN_SHARE if kind == one.kind), None)
    return own or ("conversation" if one.kind == "chat" or len(one.turns) > 1 else "memory")


def _count(
    metrics: dict[str, tuple[float, float]],
    asked: list[TaughtQuestion],
    exact: list[bool],
    far: list[float],
    complete: list[bool],
    ratio: int | None,
) -> None:
    """Add a group's hits to `metrics`, by kind, and by ratio where there are several."""
    for one, hit, divergent, found in zip(asked, exact, far, complete, strict=True):
        kind = _kind_of(one)
        values = {f"exact {kind}": float(hit)} if one.is_known and (one.is_value or kind == "absent") else {}
        values |= {f"exact at {ratio}:1": float(hit)} if ratio is not None and one.is_known and one.is_value else {}
        values |= {f"divergence {kind}": divergent} if one.taught else {}
        values |= {f"found {kind}": float(found)} if one.span[1] else {}
        for name, value in values.items():
            before = metrics.get(name, (0.0, 0.0))
            metrics[name] = (before[0] + value, before[1] + 1.0)
