"""The choice of the next token of one row. Knows no batch: what is chosen depends on the row's own logits, tokens and seed.

Legend: V vocabulary.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessorList, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from mplus.errors import InputError

LARGEST_SEED = 2**63


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How tokens are chosen; the defaults are greedy.

    Attributes:
        max_tokens: None: as many as an answer of ``chat`` may have.
        temperature: 0 takes the likeliest token.
        stop: strings that end the answer and are not part of it.
        frequency_penalty, presence_penalty: subtracted from a token's logit for each time, and once, that the answer has it.

    Raises:
        InputError: a value is out of range; it is named.
    """

    max_tokens: int | None = None
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0

    def __post_init__(self) -> None:
        bounds = {"temperature": (0.0, 2.0), "frequency_penalty": (-2.0, 2.0), "presence_penalty": (-2.0, 2.0)}
        for name, (low, high) in bounds.items():
            value = getattr(self, name)
            if not low <= value <= high:  # false for nan too
                raise InputError(f"{name} is {value!r}, expected a number from {low:g} to {high:g}")
        if not 0.0 < self.top_p <= 1.0:
            raise InputError(f"top_p is {self.top_p!r}, expected a number above 0, at most 1")
        for name, least in (("max_tokens", 1), ("top_k", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise InputError(f"{name} is {value!r}, expected a whole number of at least {least}")
        if self.seed is not None and not -LARGEST_SEED <= self.seed < LARGEST_SEED:
            raise InputError(f"seed is {self.seed!r}, expected a whole number of 64 bits")
        if not all(self.stop):
            raise InputError("a stop string is empty; give at least one character each, or leave stop out")

    @property
    def is_greedy(self) -> bool:
        """Whether the likeliest token is taken as it is."""
        return self.temperature == 0.0 and not self.frequency_penalty and not self.presence_penalty


class Sampler:
    """Chooses the tokens of one row, one after the other.

    Args:
        sampling: what a client asked for.
        device: of the logits.
    """

    def __init__(self, sampling: Sampling, device: torch.device) -> None:
        self.sampling = sampling
        self._counts: dict[int, int] = {}
        self._warpers = LogitsProcessorList()
        if sampling.temperature > 0:
            self._warpers.append(TemperatureLogitsWarper(float(sampling.temperature)))
            if sampling.top_k is not None:
                self._warpers.append(TopKLogitsWarper(sampling.top_k))
            if sampling.top_p < 1.0:
                self._warpers.append(TopPLogitsWarper(sampling.top_p))
            self._generator = torch.Generator(device=device)
            self._generator.manual_seed(torch.seed() if sampling.seed is None else sampling.seed)

    def choose(self, logits_V: Tensor) -> int:
        """The next token.

        Raises:
            FloatingPointError: the model gave no numbers.
        """
        scores = self._penalised(logits_V.float())
        best = scores.argmax()
        if not math.isfinite(float(scores[best])):
            raise FloatingPointError("the model gave logits that are no numbers")
        if self.sampling.temperature == 0.0:
            token = int(best)
        else:
            none: Any = None  # these warpers look at no token that came before
            chances = self._warpers(none, scores[None])[0].softmax(-1)
            token = int(torch.multinomial(chances, 1, generator=self._generator))
        self._counts[token] = self._counts.get(token, 0) + 1
        return token

    def _penalised(self, scores: Tensor) -> Tensor:
        often, once = self.sampling.frequency_penalty, self.sampling.presence_penalty
        if not self._counts or not (often or once):
            return scores
        tokens = torch.tensor(list(self._counts), device=scores.device)
        counts = torch.tensor(list(self._counts.values()), device=scores.device, dtype=scores.dtype)
        return scores.index_add(0, tokens, counts * often + once, alpha=-1)


def end_tokens(config: object) -> frozenset[int]:
    """The tokens that end an answer, as a model's generation config names them."""
    ends = getattr(config, "eos_token_id", None)
    if ends is None:
        return frozenset()
    return frozenset(int(one) for one in (ends if isinstance(ends, (list, tuple)) else [ends]))
