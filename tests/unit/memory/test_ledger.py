"""Laws of the ledger: which text a memory token came from."""

from __future__ import annotations

import json

import pytest

from mplus.errors import SnapshotError
from mplus.memory.ledger import Chunk, Ledger


def ledger() -> Ledger:
    made = Ledger()
    made.add(Chunk(0, 4, (("a.txt", 9),)))
    made.add(Chunk(4, 2, (("a.txt", 1), (None, 3))))
    made.add(Chunk(10, 3, (("b.txt", 3),)))
    return made


def test_each_birth_belongs_to_the_chunk_that_made_it() -> None:
    made = ledger()
    owners = [made.chunk_of(birth) for birth in range(-2, 15)]
    expected = [None] * 2 + [made.chunks[0]] * 4 + [made.chunks[1]] * 2 + [None] * 4 + [made.chunks[2]] * 3 + [None] * 2
    assert owners == expected


def test_empty_ledger_knows_no_chunk() -> None:
    assert Ledger().chunk_of(0) is None
    assert Ledger().tokens_by_source() == {}


def test_tokens_are_counted_per_source() -> None:
    assert ledger().tokens_by_source() == {"a.txt": 10, "": 3, "b.txt": 3}


def test_clone_then_add_leaves_the_original_unchanged() -> None:
    made = ledger()
    made.clone().add(Chunk(13, 1, (("c", 1),)))
    assert len(made.chunks) == 3


def test_json_gives_the_same_ledger_back() -> None:
    made = ledger()
    assert Ledger.from_json(json.loads(json.dumps(made.to_json()))).chunks == made.chunks


@pytest.mark.parametrize("damaged", [None, 3, [[1, 2]], [[1, 2, 3]], [["x", 1, []]], [[1, 2, [["a"]]]], {"a": 1}])
def test_damaged_json_is_a_snapshot_error(damaged: object) -> None:
    with pytest.raises(SnapshotError, match="ledger"):
        Ledger.from_json(damaged)
