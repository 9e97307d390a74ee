"""Laws of the index: an id is found by its tenant and kind alone, in the order of coming, and goes with what it names."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest

from mplus.errors import InputError, StoreError
from mplus.server.memories.index import Index, IndexEntry
from tests.unit.server.serving import found_in


def entry(id_: str, *, tenant: str = "acme", kind: str = "mem0", memory: str = "anna", source: str | None = "a") -> IndexEntry:
    return IndexEntry(tenant=tenant, kind=kind, id=id_, memory=memory, source=source, data={"n": [1, None, "x"]})


def test_an_entry_is_its_tenants_and_kinds(tmp_path: Path) -> None:
    index = Index(tmp_path / "index.sqlite")
    index.put(entry("1"))
    assert index.get("acme", "mem0", "1") == index.list("acme", "mem0")[0]
    assert index.get("acme", "mem0", "1") is not None and index.get("acme", "mem0", "1").data == {"n": [1, None, "x"]}  # type: ignore[union-attr]
    assert index.get("umbrella", "mem0", "1") is None and index.get("acme", "response", "1") is None
    assert not index.delete("umbrella", "mem0", "1") and index.delete("acme", "mem0", "1")
    assert index.get("acme", "mem0", "1") is None
    index.close()


def test_entries_come_in_order_page_by_page(tmp_path: Path) -> None:
    index = Index(tmp_path / "index.sqlite")
    index.put_all([entry(str(number), memory="ben" if number % 2 else "anna") for number in range(10)])
    index.put(entry("3", memory="ben", source="other"))  # in its place
    ids = [one.id for one in index.list("acme", "mem0", limit=4)]
    assert ids == ["0", "1", "2", "3"]
    assert [one.id for one in index.list("acme", "mem0", after="3", limit=2)] == ["4", "5"]
    assert [one.id for one in index.list("acme", "mem0", memory="ben")] == ["1", "3", "5", "7", "9"]
    assert [one.id for one in index.list("acme", "mem0", newest_first=True, after="5", limit=2)] == ["4", "3"]
    assert [one.id for one in index.list("acme", "mem0", newest_first=True, limit=1)] == ["9"]
    assert [one.id for one in index.list("acme", "mem0", source="other")] == ["3"]
    index.close()


def test_ids_go_with_their_source_and_memory_and_leave_no_trace(tmp_path: Path) -> None:
    index = Index(tmp_path / "index.sqlite")
    index.put_all(
        [entry(f"id-{source}-{memory}", source=source, memory=memory) for source in "abc" for memory in ("anna", "ben")]
    )
    assert found_in(tmp_path, b"id-a-anna", b"id-c-ben")
    assert index.delete_source("acme", "anna", "a") == 1 and index.delete_source("umbrella", "anna", ["b"]) == 0
    assert index.delete_source("acme", "anna", ["b", "x"]) == 1
    assert index.delete_memory("acme", "ben") == 3
    assert [one.id for one in index.list("acme", "mem0")] == ["id-c-anna"]
    assert not found_in(tmp_path, b"id-a-anna", b"id-b-anna", b"-ben")
    index.close()


def test_old_entries_of_a_kind_expire(tmp_path: Path) -> None:
    index = Index(tmp_path / "index.sqlite")
    index.put_all([IndexEntry(tenant="acme", kind=kind, id=str(at), created_at=at) for kind in ("a", "b") for at in (10.0, 20.0)])
    assert index.expire("a", 15.0) == 1
    assert [one.id for kind in ("a", "b") for one in index.list("acme", kind)] == ["20.0", "10.0", "20.0"]
    index.close()


def test_quotas_are_kept(tmp_path: Path) -> None:
    index = Index(tmp_path / "index.sqlite")
    assert index.quota("acme") is None
    index.set_quota("acme", 0)
    index.set_quota("umbrella", 5)
    index.close()
    index = Index(tmp_path / "index.sqlite")
    assert (index.quota("acme"), index.quota("umbrella")) == (0, 5)
    assert index.delete_quota("acme") and not index.delete_quota("acme") and index.quota("acme") is None
    for wrong in (-1, True, 1.5, "9"):
        with pytest.raises(InputError, match="the quota is"):
            index.set_quota("acme", wrong)  # type: ignore[arg-type]
    index.close()


def test_data_that_is_no_json_is_refused_and_nothing_changes(tmp_path: Path) -> None:
    index = Index(tmp_path / "index.sqlite")
    bad = IndexEntry(tenant="acme", kind="mem0", id="2", data={"a": object()})
    with pytest.raises(InputError, match="no JSON"):
        index.put_all([entry("1"), bad])
    assert index.list("acme", "mem0") == []
    index.close()


def test_many_threads_put_and_list(tmp_path: Path) -> None:
    index = Index(tmp_path / "index.sqlite")

    def work(name: str) -> None:
        for number in range(20):
            index.put(entry(f"{name} {number}", tenant=name))
            assert len(index.list(name, "mem0")) == number + 1

    threads = [threading.Thread(target=work, args=(str(name),)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(len(index.list(str(name), "mem0")) for name in range(4)) == 80
    index.close()


@pytest.mark.parametrize("damage", ["bytes", "newer"])
def test_a_damaged_or_newer_file_is_refused_in_one_sentence(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "index.sqlite"
    if damage == "bytes":
        path.write_bytes(b"no database at all" * 100)
    else:
        with sqlite3.connect(path) as base:
            base.execute("PRAGMA user_version = 9")
    with pytest.raises(StoreError, match=r"update mplus|move it away"):
        Index(path)
