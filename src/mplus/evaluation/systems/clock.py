"""Times of an answer's tokens. Knows no system."""

from __future__ import annotations

import time
from typing import Any

from transformers.generation.streamers import BaseStreamer


class TokenClock(BaseStreamer):
    """Goes from when it is made; ``generate`` of transformers tells it every token, as a streamer.

    Taken from one answer. The difference of a long and a short one would be lost in the noise of reading the prompt twice.
    """

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self.seconds: list[float] = []

    def put(self, value: Any) -> None:
        """What ``generate`` made: first the prompt [1, T], then each token [1]."""
        if value.ndim == 1:
            self.tick()

    def end(self) -> None:
        """Nothing is left over."""

    def tick(self) -> None:
        """A token is there."""
        self.seconds.append(time.perf_counter() - self._started)

    @property
    def first_token_s(self) -> float:
        """Seconds to the first token."""
        return self.seconds[0]

    @property
    def tokens_per_s(self) -> float:
        """Of the tokens behind the first one."""
        return (len(self.seconds) - 1) / max(self.seconds[-1] - self.seconds[0], 1e-9)
