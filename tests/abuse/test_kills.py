"""kill -9, a few rounds; ``python -m tests.abuse --kind kills`` does more."""

from __future__ import annotations

from tests.abuse import kills


def test_a_killed_process_leaves_the_old_or_the_new_state() -> None:
    counts = kills.run(seed=11, rounds=12)
    assert counts.tried >= 12
    assert not counts.wrong, counts.first_example()
