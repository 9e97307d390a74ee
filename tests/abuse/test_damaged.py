"""Damaged files, a few rounds; ``python -m tests.abuse --kind damaged`` does more."""

from __future__ import annotations

from tests.abuse import damaged


def test_damaged_files_are_refused_in_one_sentence() -> None:
    counts = damaged.run(seed=11, rounds=70)
    assert counts.tried >= 70
    assert not counts.wrong, counts.first_example()
