"""SIGINT and SIGTERM as a wish to stop after the current step. Knows nothing of what is stopped."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any, Self

CAUGHT = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """While in its ``with`` block, the first signal is noted; a second SIGINT interrupts at once.

    Outside the main thread signals cannot be caught; then nothing is changed.

    Attributes:
        received: name of the signal, or None.
    """

    def __init__(self) -> None:
        self.received: str | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in CAUGHT}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = signal.Signals(number).name
