"""Failing file calls, a few rounds; ``python -m tests.abuse --kind failing_calls`` does more."""

from __future__ import annotations

from tests.abuse import failing_calls


def test_a_failing_file_call_loses_nothing_and_is_told_truly() -> None:
    counts = failing_calls.run(seed=11, rounds=10)
    assert counts.tried >= 10
    assert not counts.wrong, counts.first_example()
