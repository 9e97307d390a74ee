"""The memory of a combination of ids: never one for two, and led back to the ids."""

from __future__ import annotations

import itertools

import pytest

from mplus.server.errors import BadRequestError
from mplus.server.mem0.owners import Owner

VALUES = (None, "a", "b", "a&agent_id=b", "user_id=a", "a=b", "a%26b", "a&b", "é ü", "conv_1", "a/b", "mem_1")


def test_two_combinations_never_share_a_memory() -> None:
    owners = [Owner(user_id=user, agent_id=agent, run_id=run) for user, agent, run in itertools.product(VALUES, repeat=3)]
    owners = [one for one in owners if one.ids]
    assert len({one.memory for one in owners}) == len(owners)


def test_a_memory_leads_back_to_its_ids() -> None:
    for user, agent, app, run in itertools.product(VALUES[:9], VALUES[:3], (None, "x"), VALUES[:7]):
        owner = Owner(user_id=user, agent_id=agent, app_id=app, run_id=run)
        if owner.ids:
            assert Owner.of_memory(owner.memory) == owner


def test_a_plain_user_has_the_memory_of_that_name() -> None:
    assert Owner(user_id="alice").memory == "alice"
    assert Owner(user_id="alice", run_id="").memory == "alice"
    assert Owner(user_id="alice", run_id="7").memory == "user_id=alice&run_id=7"


@pytest.mark.parametrize("memory", ["conv_0123", "resp_01", "user_id=a&user_id=b", "run_id=1&user_id=a", "x=1", "user_id="])
def test_other_memories_are_nobodys(memory: str) -> None:
    assert Owner.of_memory(memory) is None


@pytest.mark.parametrize("owner", [Owner(), Owner(user_id=""), Owner(user_id="a\n"), Owner(user_id="x" * 200, run_id="y" * 200)])
def test_ids_that_cannot_be_used(owner: Owner) -> None:
    with pytest.raises(BadRequestError):
        _ = owner.memory
