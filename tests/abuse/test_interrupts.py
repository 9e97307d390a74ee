"""Ctrl-C anywhere, a few rounds; ``python -m tests.abuse --kind interrupts`` does more."""

from __future__ import annotations

from tests.abuse import interrupts


def test_an_interrupt_leaves_a_memory_of_one_moment() -> None:
    counts = interrupts.run(seed=11, rounds=8)
    assert counts.tried >= 8
    assert not counts.wrong, counts.first_example()
