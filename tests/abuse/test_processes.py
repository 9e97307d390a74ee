"""Two processes on one directory, a few rounds; ``python -m tests.abuse --kind processes`` does more."""

from __future__ import annotations

from tests.abuse import processes


def test_two_processes_on_one_directory_lose_nothing() -> None:
    counts = processes.run(seed=11, rounds=12)
    assert counts.tried >= 12
    assert not counts.wrong, counts.first_example()
