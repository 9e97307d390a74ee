"""What happens in the model's worker, told as it happens; metrics listen. Knows nothing of the worker's inside."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class WorkerLoad:
    """Counts of one moment.

    Attributes:
        waiting: answers and searches whose prompt has not begun to pass.
        prefilling: prompts that pass.
        running: answers that are decoded, the rows of the next step.
        writes: texts that wait or are being written.
        calls: short changes that wait.
    """

    waiting: int = 0
    prefilling: int = 0
    running: int = 0
    writes: int = 0
    calls: int = 0


class WorkerEvents:
    """Called by the thread that works for it; each must return at once. These do nothing."""

    def load(self, load: WorkerLoad) -> None:
        """The counts after a round."""

    def step(self, rows: int, seconds: float) -> None:
        """One decode step of so many rows."""

    def first_token(self, seconds: float) -> None:
        """An answer's first token, since it was asked for."""

    def answered(self, tokens: int, seconds: float, finish: str) -> None:
        """An answer ended."""

    def searched(self) -> None:
        """A search of a memory ended, with passages, with an error or cancelled."""

    def wrote(self, tokens: int, seconds: float) -> None:
        """One write pass of so many text tokens."""

    def failed(self, what: str, error: BaseException) -> None:
        """An answer, a search, a write or a call ended with an error."""
