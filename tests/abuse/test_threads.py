"""Threads on one model, a few rounds; ``python -m tests.abuse --kind threads`` does more."""

from __future__ import annotations

from tests.abuse import threads


def test_every_thread_gets_its_own_answer() -> None:
    counts = threads.run(seed=11, rounds=6)
    assert counts.tried >= 6
    assert not counts.wrong, counts.first_example()
