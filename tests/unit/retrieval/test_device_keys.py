"""Search keys on an accelerator are copied once for an unchanged memory, if they fit."""

from __future__ import annotations

import pytest
import torch

from mplus import MPlusModel
from mplus.memory.long_term import LongTerm
from mplus.retrieval import device_keys
from mplus.retrieval.device_keys import keys_on
from tests.conftest import TinyModel
from tests.tiny import filled, ids

ELSEWHERE = torch.device("meta")


@pytest.fixture
def copies(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Groups whose keys were read from their store."""
    seen: list[int] = []
    plain = LongTerm.search_parts

    def noted(self: LongTerm, group: int, begin: int = 0) -> object:
        seen.append(group)
        return plain(self, group, begin)

    monkeypatch.setattr(LongTerm, "search_parts", noted)
    return seen


def test_keys_are_copied_once_until_the_memory_changes(
    tiny_model: TinyModel, copies: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_keys, "free_bytes", lambda device: 1 << 30)
    memory = filled(tiny_model("llama", "per_layer"))
    for _ in range(3):
        for group in range(2):
            parts = list(keys_on(memory.long_term, group, ELSEWHERE))
            assert sum(part.shape[0] for part in parts) == len(memory.long_term)
            assert all(part.device == ELSEWHERE for part in parts)
    assert copies == [0, 1]
    memory.write(ids(16, 7))
    copies.clear()
    assert sum(part.shape[0] for part in keys_on(memory.long_term, 1, ELSEWHERE)) == len(memory.long_term)
    assert copies == [1]
    fork = memory.fork()
    list(keys_on(fork.long_term, 1, ELSEWHERE))
    assert copies == [1, 1], "a fork may change by itself"


@pytest.mark.parametrize("free", [None, 100])
def test_keys_that_do_not_fit_are_copied_piece_by_piece(
    model: MPlusModel, copies: list[int], monkeypatch: pytest.MonkeyPatch, free: int | None
) -> None:
    monkeypatch.setattr(device_keys, "free_bytes", lambda device: free)
    memory = filled(model)
    for _ in range(2):
        assert sum(part.shape[0] for part in keys_on(memory.long_term, 0, ELSEWHERE)) == len(memory.long_term)
    assert copies == [0, 0]
    assert not any("search keys" in name for name in memory.long_term.cache)


def test_on_the_cpu_the_store_is_read_itself(model: MPlusModel) -> None:
    memory = filled(model)
    own, seen = list(memory.long_term.search_parts(0)), list(keys_on(memory.long_term, 0, torch.device("cpu")))
    assert [part.data_ptr() for part in own] == [part.data_ptr() for part in seen]
