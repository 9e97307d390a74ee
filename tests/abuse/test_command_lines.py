"""Bad command lines, a few rounds; ``python -m tests.abuse --kind command_lines`` does more."""

from __future__ import annotations

from tests.abuse import command_lines


def test_bad_command_lines_end_in_one_line_and_a_known_exit_code() -> None:
    counts = command_lines.run(seed=5, rounds=60)
    assert counts.tried >= 60
    assert not counts.wrong, counts.first_example()
