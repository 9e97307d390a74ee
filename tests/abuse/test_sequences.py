"""Random sequences of steps, a few; ``python -m tests.abuse --kind sequences`` does more."""

from __future__ import annotations

from tests.abuse import sequences


def test_any_sequence_of_steps_gives_what_its_plain_twin_has() -> None:
    counts = sequences.run(seed=11, rounds=10)
    assert counts.tried >= 10
    assert not counts.wrong, counts.first_example()
