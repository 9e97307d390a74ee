"""Stopping rules of lm-evaluation-harness: lengths, sampling, texts to stop at. Knows requests, no models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import torch
from torch import Tensor
from transformers import StoppingCriteria

NEW_TOKENS: Final = 256
"""Of an answer, where a task does not say; the harness' own default."""
LENGTHS: Final = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
SAMPLING: Final = ("temperature", "top_p", "top_k", "min_p", "typical_p")


class Stop(StoppingCriteria):
    """Ends rows by what they have said since the prompt.

    Args:
        ended: told the new token ids [B, t], gives a truth for each row.
    """

    def __init__(self, ended: Callable[[Tensor], list[bool]]) -> None:
        self.ended = ended
        self.start: int | None = None

    def __call__(self, input_ids: Any, scores: Any, **kwargs: Any) -> Any:
        if self.start is None:
            self.start = input_ids.shape[1] - 1  # first called behind the first new token
        return torch.tensor(self.ended(input_ids[:, self.start :]), device=input_ids.device)


def settings_of(given: dict[str, Any]) -> dict[str, Any]:
    """A request's arguments as ``generate`` takes them, and ``until``; greedy unless sampling is asked for."""
    settings = dict(given)
    until = settings.pop("until", None) or []
    lengths = [settings.pop(name) for name in LENGTHS if name in settings]
    sampling = bool(settings.get("do_sample", settings.get("temperature")))
    if not sampling:
        settings = {name: value for name, value in settings.items() if name not in SAMPLING}
    return {
        **settings,
        "until": [stop for stop in ([until] if isinstance(until, str) else until) if stop],
        "max_new_tokens": int(next((one for one in lengths if one is not None), NEW_TOKENS)),
        "do_sample": sampling,
    }


def before(text: str, until: list[str]) -> str:
    """A text up to the first of the texts it is to stop at."""
    return text[: min((text.find(stop) for stop in until if stop in text), default=len(text))]
