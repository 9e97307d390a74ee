"""kill -9 of a server, a few rounds; ``TMPDIR=/dev/shm python -m tests.abuse --kind server_kills=40`` kills it 120 times."""

from __future__ import annotations

import pytest

from tests.abuse import server_kills


@pytest.mark.long
def test_what_a_killed_server_acknowledged_is_there() -> None:
    counts = server_kills.run(seed=11, rounds=7)
    assert counts.tried >= 21
    assert not counts.wrong, counts.first_example()
