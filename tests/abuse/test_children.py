"""Laws of the children: a crash, a hang and an exception are counted as wrong, and the rounds behind them are done."""

from __future__ import annotations

import os
import signal
import time

from tests.abuse.children import Hang, Round, run_rounds


def _badly(this: Round) -> None:
    if this.number == 1:
        os.kill(os.getpid(), signal.SIGSEGV)
    if this.number == 2:
        time.sleep(60)
    if this.number == 3:
        raise KeyError("x")
    if this.number == 4:
        raise Hang("threads")
    this.report("row")


def test_crashes_hangs_and_exceptions_are_counted_and_end_nothing() -> None:
    counts = run_rounds(_badly, 0, 6, round_s=2.0)
    assert (counts.tried, counts.right) == (6, 2)
    assert counts.wrong == {"crash": 1, "hang": 2, "raised KeyError": 1}
    assert "--first 1 " in counts.examples["crash"][0]
