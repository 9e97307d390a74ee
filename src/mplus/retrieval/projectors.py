"""Projectors of hidden states to search keys and queries. Knows tensors only.

Legend: D width, R key width.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import nn

PLAIN: Final[Any] = {"dtype": torch.float32, "device": "cpu"}
"""Number type and device of a new part, whatever torch's defaults are; opening a model moves it to the decoder."""


def perceptron(width: int, key_width: int, layers: int = 2) -> nn.Module:
    """The paper's projector: D -> 2 R -> R with SiLU, no bias; one matrix when `layers` is 1."""
    if layers == 1:
        return nn.Linear(width, key_width, bias=False, **PLAIN)
    first = nn.Linear(width, 2 * key_width, bias=False, **PLAIN)
    second = nn.Linear(2 * key_width, key_width, bias=False, **PLAIN)
    for part in (first, second):
        nn.init.normal_(part.weight, std=1.2 / part.in_features**0.5)  # small weights sit on a saddle
    return nn.Sequential(first, nn.SiLU(), second)
