"""Base of the tasks that train reading: it keeps a bank of written chunks, views it as reads, and steps on plain text.

Knows the bank and the read adapter, not what is asked. RECIPE section 4, last part.
"""

from __future__ import annotations

import random
from abc import abstractmethod
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field, field_validator
from torch import Tensor, nn

from mplus.errors import GeometryError, TrainingError
from mplus.memory.pooling import means
from mplus.model import MPlusModel
from mplus.retrieval.late_interaction import LateInteractionRetriever
from mplus.retrieval.read_plan import LayoutRule
from mplus.training.bank.question_bank import PreparedQuestion, QuestionBank
from mplus.training.bank.question_states import Form
from mplus.training.data.document_generator import DocumentGenerator
from mplus.training.objectives.answer_loss import RowsOfLayer, text_loss
from mplus.training.objectives.task import ParameterGroup, StepOutput, Task
from mplus.training.sampling.bank_grid import BankGrid
from mplus.training.sampling.block_view import Shape, short_term


class BankSettings(BaseModel):
    """Settings of every task that asks about a bank of chunks."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: str = Field("../shared/data", description="directory with books, squad, squadshifts and natural_questions")
    chat_template: str | None = Field(None, description="Jinja text to ask with, kept in the delta; null: what the model brings")
    chunks: int = Field(224, ge=8, description="chunks of the bank")
    fresh_chunks: int = Field(16, ge=1, description="chunks written at a time")
    fresh_every: int = Field(4, ge=1, description="steps between them")
    questions: int = Field(32, ge=1, description="questions of a step")
    per_chunk: int = Field(3, ge=1, description="questions prepared for each chunk at most")
    forms: dict[Form, float] = Field(default={"chat": 0.75, "system": 0.1, "plain": 0.15}, description="shares of ways to ask")
    fresh_share: float = Field(0.15, ge=0, le=1, description="share of questions about the chunk written last")
    hard_among: int = Field(3, ge=1, description="questions looked at for one that is asked")
    hard_share: float = Field(
        0.5, ge=0, le=1, description="share of those asked for which the search prefers a hard negative most"
    )
    text_rows: int = Field(5, ge=1, description="chunks of a step on text")
    text_weight: float = Field(1.0, gt=0, description="factor on the loss of such a step")
    found: list[float] = Field([1, 1, 1, 0.5, 0.25, 1.5], description="K0 of a step, drawn from these shares of the model's")
    short: list[float] = Field([1, 1, 0.75, 0.5], description="N of a step, drawn from these shares of the model's")
    ratios: dict[int, float] | None = Field(
        None, description="shares of steps by text tokens that a memory token stands for; null: as the model's geometry says"
    )

    @field_validator("ratios")
    @classmethod
    def _shares_of_steps(cls, ratios: dict[int, float] | None) -> dict[int, float] | None:
        if ratios is not None and (not ratios or min(ratios) < 1 or min(ratios.values()) < 0 or not sum(ratios.values())):
            raise ValueError(
                f"needs shares of 0 or more, one above 0, of 1 or more tokens, such as {{1: 0.5, 2: 0.5}}, got {ratios}"
            )
        return ratios


class BankTask(Task):
    """Trains a model's read adapter behind views of a bank; everything else is frozen.

    Args:
        searched: blocks are read as the search finds them; else memory is all short-term.

    Raises:
        TrainingError: nothing is retrieved by a trained late-interaction retriever, or the model has no read adapter.
    """

    bank: QuestionBank
    settings: BankSettings

    def __init__(self, model: MPlusModel, settings: BankSettings, seed: int, *, kind: str, searched: bool = True) -> None:
        super().__init__()
        self.settings = settings
        retriever, adapter = model.parts.retriever, model.parts.adapters.read
        if not isinstance(retriever, LateInteractionRetriever):
            raise TrainingError(
                f"task {kind} trains on what a shared retriever finds; start from a delta that task vote has stored"
            )
        if adapter is None:
            raise TrainingError(f"task {kind} trains the read adapter; give model.read_adapter")
        self.model, self.retriever, self.searched = model, retriever, searched
        model.checkpoint.use_chat_template(settings.chat_template or model.checkpoint.chat_template)
        self.decoder: nn.Module = model.parts.decoder.model
        for name, value in self.decoder.named_parameters():
            value.requires_grad_(".lora_" in name and f".{adapter}." in name)
        self.tokens = model.geometry.sizes.chunk_tokens
        self.generator = self._generator(seed)
        self.random = random.Random(seed)
        self.ratios = settings.ratios or {model.geometry.sizes.tokens_per_row: 1.0}
        self.grids = {ratio: self._grid(ratio) for ratio, share in self.ratios.items() if share}
        self.grid = next(iter(self.grids.values()))
        """Of the step that was drawn last."""
        self.bank = self._bank()
        self.steps = 0

    def _grid(self, ratio: int) -> BankGrid:
        """Blocks of the bank at a ratio.

        Raises:
            TrainingError: no memory has it, or its chunks do not become whole blocks.
        """
        try:
            geometry = self.model.geometry.changed(tokens_per_row=ratio)
        except GeometryError as error:
            raise TrainingError(f"task.ratios has {ratio}: {error}") from error
        span = geometry.drop_span * ratio
        if ratio > 1 and self.tokens % span:
            raise TrainingError(
                f"task.ratios has {ratio}, at which {span} text tokens leave short-term memory together, but a chunk has {self.tokens}; "
                "give a ratio with whole spans in a chunk, or fewer block_tokens"
            )
        return BankGrid.of(self.settings.chunks, self.tokens, geometry.read.block_tokens, ratio)

    @abstractmethod
    def _generator(self, seed: int) -> DocumentGenerator:
        """Make the generator of the bank's documents."""

    @abstractmethod
    def _bank(self) -> QuestionBank:
        """The empty bank."""

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

    # -- views of the bank -------------------------------------------------------------------------------------------

    def _ratio(self) -> int:
        """Draw text tokens that a memory token stands for."""
        ratios = list(self.grids)
        return ratios[0] if len(ratios) == 1 else self.random.choices(ratios, [self.ratios[one] for one in ratios])[0]

    def _text_rows(self, shape: Shape) -> tuple[list[int], Tensor]:
        """Chunks of which three quarters are the newest of their memory, the rest to be read on; and the blocks [R, b] of each."""
        chunks = self.random.sample(range(self.settings.chunks), self.settings.text_rows)
        rows = []
        for chunk in chunks:
            first, total = chunk * shape.per_chunk, len(self.grid.positions)
            begun = list(range(first, first + _begun(self.grid)))
            spans = short_term(chunk, shape, total, self.random)[: -shape.per_chunk or None]
            noise = short_term(self._other(chunk), shape, total, self.random, without={*spans, *begun})[-shape.rule.budget :]
            found = noise if shape.rule.budget else []
            # text is no question: where the search knows that, nothing stands between it and its past
            rows.append((found + spans if shape.rule.min_confidence is not None else spans + found) + begun)
        return chunks, torch.tensor(rows)

    def _text_outcome(self, chunks: list[int], blocks: Tensor, grid: BankGrid) -> StepOutput:
        behind = _begun(grid) * grid.block
        loss = text_loss(self.model, self.bank.ids[chunks], behind, *self._memory(blocks, grid))
        rows = len(chunks)
        metrics = {"divergence": (loss.item() * rows, float(rows))}
        return StepOutput(loss * self.settings.text_weight, rows, rows * self.bank.ids.shape[1], metrics)

    def _right(self, chunk: int, asked: PreparedQuestion) -> list[int]:
        """Blocks of the bank where the answer stands."""
        return self.grid.blocks_of(chunk, asked.span)

    def _shape(self) -> Shape:
        geometry, per_chunk, searched = self.model.geometry, self.grid.per_chunk, self.searched
        block = geometry.read.block_tokens
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
        span = geometry.changed(tokens_per_row=self.grid.ratio).drop_span // block
        return Shape(per_chunk, span, max(per_chunk, int(short) // block), rule)

    def _other(self, chunk: int) -> int:
        return (chunk + self.random.randrange(1, self.settings.chunks)) % self.settings.chunks

    def _memory(self, blocks: Tensor, grid: BankGrid) -> tuple[RowsOfLayer, int]:
        """Keys and values [R, P, H, E] of blocks [R, b] by layer, pooled as they are read, and P."""
        fields, columns = self.bank.fields, grid.columns(blocks)

        def of_layer(layer: int) -> tuple[Tensor, Tensor]:
            keys, values = (fields[name][layer][columns] for name in ("keys", "values"))
            return (keys, values) if grid.ratio == 1 else (means(keys, grid.ratio), means(values, grid.ratio))

        return of_layer, columns.shape[1] // grid.ratio


def _begun(grid: BankGrid) -> int:
    """Blocks of a chunk that is gone on with which are in memory."""
    return grid.per_chunk * 3 // 4
