"""Short-term memories after many writes, drawn ahead of the steps that need them. Knows births, nothing of rows.

``age.streamed`` does every write with the very code that inference drops with, for many independent groups at once; a step takes random
ones of them, one for each of its questions and layers. Some are drawn anew all the time.

Legend: R questions, L layers, N short-term tokens, K tokens of a write.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor

from mplus.settings import Geometry
from mplus.training.sampling import age

GROUPS: Final = 1024
FRESH_EVERY: Final = 200
"""Draws between two renewals."""
PAST: Final = 5
"""A memory's past is so many times N / K writes: e^-5 of its first tokens are left then."""


class DropTable:
    """Draws of which tokens are left of a long past.

    Args:
        layers: L.

    Attributes:
        writes: how many writes long the past is; of what is older nothing is left.
    """

    def __init__(self, geometry: Geometry, layers: int, seed: int) -> None:
        self.geometry, self.layers, self.seed = geometry, layers, seed
        sizes = geometry.sizes
        self.writes = PAST * -(-sizes.stm_tokens // sizes.new_tokens)
        self.renewed = self.drawn = 0
        self.held = self._streamed(0)

    def draw(self, questions: int, generator: torch.Generator) -> Tensor:
        """[L, R, N] tokens counted back from the newest (0), descending: the oldest first."""
        self.drawn += 1
        if self.drawn % FRESH_EVERY == 0:
            self.renewed += 1
            self.held = self._streamed(self.renewed)
        chosen = torch.randint(len(self.held), (self.layers, questions), generator=generator)
        return self.held[chosen]

    def state(self) -> dict[str, Any]:
        """What ``load_state`` takes."""
        return {"renewed": self.renewed, "drawn": self.drawn}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on where ``state`` was taken."""
        self.renewed, self.drawn = int(state["renewed"]), int(state["drawn"])
        self.held = self._streamed(self.renewed)

    def _streamed(self, number: int) -> Tensor:
        tokens = self.geometry.sizes.new_tokens
        births = age.streamed([tokens] * self.writes, self.geometry, GROUPS, self.seed + 7919 * number)
        return self.writes * tokens - 1 - births
