"""The smallest real task: the read adapter of a tiny model learns to repeat what it has just read. To test the loop with.

Legend: B rows, T tokens.
"""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor
from torch.nn import functional

from mplus import MPlusModel
from mplus.training.objectives.task import ParameterGroup, StepOutput, Task
from tests.tiny import VOCABULARY


class Settings(BaseModel):
    """How many rows of how many tokens; and what goes wrong at which draw, for tests of mishaps."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rows: int = 4
    tokens: int = 12
    nan_loss_at: int | None = None
    nan_gradient_at: int | None = None


class ToyTask(Task):
    """Half of each row is new, the other half repeats it; a bank of earlier rows is mixed in."""

    def __init__(self, model: MPlusModel, settings: Settings, seed: int) -> None:
        super().__init__()
        self.model, self.settings = model, settings
        self.decoder = model.parts.decoder.model
        self.bos = torch.nn.Parameter(model.parts.bos.clone())  # not a module of the decoder
        self.random = random.Random(seed)
        self.bank: list[Tensor] = []
        self.drawn, self.prepared, self.progress = 0, 0, 0.0
        self.adapter_on = model.parts.adapters.on("read")
        self.adapter_on.__enter__()  # for good: layers may be computed again in the backward pass
        for name, value in self.decoder.named_parameters():
            value.requires_grad_(".lora_" in name)

    def groups(self) -> list[ParameterGroup]:
        adapter = [(name, value) for name, value in self.decoder.named_parameters() if value.requires_grad]
        return [
            ParameterGroup("adapter", adapter),
            ParameterGroup("bos", [("bos", self.bos)], lr_factor=0.1, weight_decay=0.01),
        ]

    def prepare(self) -> None:
        self.prepared += 1
        self.bank = [self._row() for _ in range(3)]

    def draw(self) -> Tensor:
        self.drawn += 1
        fresh = [self._row() for _ in range(self.settings.rows - 1)]
        return torch.stack([*fresh, self.random.choice(self.bank)])

    def shard(self, batch: Tensor, process: int, processes: int) -> Tensor:
        return batch[process::processes]

    def forward(self, batch: Tensor) -> StepOutput:
        logits = self.decoder(input_ids=batch, use_cache=False).logits[:, :-1].float()
        wanted = batch[:, 1:]
        loss = functional.cross_entropy(logits.flatten(0, 1), wanted.flatten()) + (self.bos**2).mean()
        if self.drawn == self.settings.nan_loss_at:
            loss = loss * math.nan
        if self.drawn == self.settings.nan_gradient_at:
            loss = loss + (self.bos - self.bos).abs().sqrt().sum()  # finite, but the root has no slope at 0
        hits = (logits.argmax(-1) == wanted).float()
        recall = (float(hits.sum()), float(hits.numel()))
        return StepOutput(loss, batch.shape[0], batch.numel(), {"recall": recall, f"rows {self.drawn % 2}": (len(batch), 1.0)})

    def finish_step(self, progress: float) -> None:
        self.progress = progress
        self.bank[self.random.randrange(len(self.bank))] = self._row()

    def state(self) -> dict[str, Any]:
        return {"random": self.random.getstate(), "bank": self.bank, "drawn": self.drawn}

    def load_state(self, state: dict[str, Any]) -> None:
        self.random.setstate(state["random"])
        self.bank, self.drawn = state["bank"], state["drawn"]

    def save(self, directory: Path) -> None:
        with torch.no_grad():
            self.model.parts.bos.copy_(self.bos)
        self.model.save_pretrained(directory)

    def _row(self) -> Tensor:
        half = torch.randint(3, VOCABULARY, (self.settings.tokens // 2,))  # torch's global generator, on purpose
        half[0] = 3 + self.random.randrange(VOCABULARY - 3)
        return torch.cat([half, half])


def build(model: MPlusModel, settings: Settings, seed: int) -> ToyTask:
    """A task as the registry asks for it."""
    return ToyTask(model, settings, seed)
