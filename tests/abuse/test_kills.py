"""kill -9, a few rounds; ``TMPDIR=/dev/shm python -m tests.abuse --kind kills=1000`` does more."""

from __future__ import annotations

from tests.abuse import kills


def test_a_killed_process_leaves_the_old_or_the_new_state() -> None:
    counts = kills.run(seed=11, rounds=40)
    assert counts.tried >= 40
    assert not counts.wrong, counts.first_example()
