"""Laws of the memories of a server: whose they are, when they are loaded, saved and closed, and what a restart finds."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
from array import array
from pathlib import Path
from typing import Any

import pytest

from mplus import Memory, MPlusModel
from mplus.errors import EmptyTextError, InputError, SnapshotError, StoreError
from mplus.memory.home import Home
from mplus.server.engine import Engine, SourceText
from mplus.server.errors import (
    BadRequestError,
    ConflictError,
    QuotaError,
    UnavailableError,
    UnknownMemoryError,
    UnknownSourceError,
)
from mplus.server.memories import upkeep
from mplus.server.memories.index import IndexEntry
from mplus.server.memories.place import Place, tenant_root
from mplus.server.scope import Scope
from tests.unit.server.serving import ANNA, BEN, found_in, serve, texts

BOAT = "Ilse has a red boat in the old harbour."
CLOCK = "The clock in Graz was mended by Odo."


def test_a_memory_is_its_tenants_alone(text_model: MPlusModel, tmp_path: Path) -> None:
    async def block(engine: Engine) -> None:
        await engine.write(ANNA, BOAT, source="a")
        other = Scope("umbrella", "anna")
        with pytest.raises(UnknownMemoryError):
            await engine.memory(other)
        await engine.write(other, CLOCK, source="a")
        assert await texts(engine, ANNA) == {"a": BOAT}
        assert await texts(engine, other) == {"a": CLOCK}
        assert [one.id for one in await engine.memories("acme")] == ["anna"]
        with pytest.raises(UnknownMemoryError):
            await engine.merge(ANNA, other)

    serve(text_model, tmp_path, block)


def test_what_was_written_noted_and_described_is_there_after_a_restart(text_model: MPlusModel, tmp_path: Path) -> None:
    async def write(engine: Engine) -> list[Any]:
        await engine.create(ANNA, metadata={"of": "a client"})
        first = await engine.write(ANNA, BOAT, source="a", at=12.5, note={"role": "user"})
        await engine.write(ANNA, " It leaks.", source="a")
        await engine.note(ANNA, "a", {"role": "assistant"})
        both = await engine.write_all(ANNA, [SourceText(source="b", text=CLOCK), SourceText(source="c", text="Two cats sleep.")])
        assert first.total_tokens == first.tokens and both[1].total_tokens > both[0].tokens
        return [await engine.sources(ANNA), await engine.memory(ANNA), await texts(engine, ANNA)]

    async def read(engine: Engine) -> list[Any]:
        return [await engine.sources(ANNA), await engine.memory(ANNA), await texts(engine, ANNA)]

    sources, record, written = serve(text_model, tmp_path, write)
    again, same, found = serve(text_model, tmp_path, read)
    assert found == written == {"a": BOAT + " It leaks.", "b": CLOCK, "c": "Two cats sleep."}
    assert again == sources and sources[0].note == {"role": "assistant"} and sources[0].first_at == 12.5
    assert (same.id, same.metadata, same.created_at) == ("anna", {"of": "a client"}, record.created_at)
    assert (same.tokens, same.sources) == (record.tokens, 3)
    assert not found_in(tmp_path, BOAT.encode())  # a stop leaves no journal; token ids are no bytes of the text


def test_the_commands_of_mplus_open_the_memories(text_model: MPlusModel, tmp_path: Path) -> None:
    serve(text_model, tmp_path, lambda engine: engine.write(ANNA, BOAT, source="a"))
    (stored,) = Home(tenant_root(tmp_path, "acme")).all()
    assert not isinstance(stored, tuple) and [one.name for one in stored.sources] == ["a"]
    assert Memory.load(stored.path, text_model).text("a") == BOAT


def test_the_counts_of_memories_need_no_opening(text_model: MPlusModel, tmp_path: Path) -> None:
    async def write(engine: Engine) -> Any:
        for scope in (ANNA, BEN):
            await engine.write(scope, BOAT, source="a")
        return await engine.memories("acme")

    async def listed(engine: Engine) -> Any:
        found = await engine.memories("acme")
        assert all(entry.opened is None for entry in await engine.registry.catalogue.entries("acme"))
        return found

    before, after = serve(text_model, tmp_path, write), serve(text_model, tmp_path, listed)
    assert [(one.id, one.tokens, one.sources) for one in after] == [(one.id, one.tokens, one.sources) for one in before]
    assert all(one.bytes > 0 for one in after)


def test_an_id_is_taken_once(text_model: MPlusModel, tmp_path: Path) -> None:
    async def block(engine: Engine) -> None:
        first = await engine.create(ANNA, metadata={"a": 1})
        with pytest.raises(ConflictError, match="exists already"):
            await engine.create(ANNA)
        assert (await engine.create(ANNA, exist_ok=True)).created_at == first.created_at
        made = await asyncio.gather(*(engine.create(BEN) for _ in range(5)), return_exceptions=True)
        assert sum(isinstance(one, ConflictError) for one in made) == 4
        assert (await engine.set_metadata(ANNA, {"b": 2})).metadata == {"b": 2}

    serve(text_model, tmp_path, block)


def test_what_is_not_there_is_told_and_changes_nothing(text_model: MPlusModel, tmp_path: Path) -> None:
    async def block(engine: Engine) -> None:
        with pytest.raises(UnknownMemoryError):
            await engine.write(ANNA, BOAT, source="a", create=False)
        with pytest.raises(EmptyTextError):
            await engine.write(ANNA, " \n", source="a")
        assert await engine.memories("acme") == []
        await engine.write(ANNA, BOAT, source="a")
        with pytest.raises(UnknownSourceError):
            await engine.forget(ANNA, ["a", "b"])
        with pytest.raises(UnknownSourceError):
            await engine.replace(ANNA, "b", CLOCK)
        with pytest.raises(UnknownSourceError):
            await engine.note(ANNA, "b", {})
        with pytest.raises(BadRequestError):
            await engine.note(ANNA, "a", {"deep": [[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]})
        with pytest.raises(BadRequestError):
            await engine.write(ANNA, BOAT, source="a", note={"number": 10**60})
        with pytest.raises(InputError):
            await engine.write_all(ANNA, [SourceText(source="x", text=CLOCK), SourceText(source="y", text="")])
        assert await texts(engine, ANNA) == {"a": BOAT}

    serve(text_model, tmp_path, block)


def test_an_engine_that_was_not_started_says_so(text_model: MPlusModel, tmp_path: Path) -> None:
    with pytest.raises(UnavailableError):
        asyncio.run(Engine(text_model, _settings(tmp_path)).memory(ANNA))


def _settings(home: Path) -> Any:
    from mplus.server.settings import ServerSettings

    return ServerSettings(home=home)


def test_one_server_has_a_home(text_model: MPlusModel, tmp_path: Path) -> None:
    async def block(engine: Engine) -> None:
        (tmp_path / "server.lock").write_text("4711\n")
        with pytest.raises(StoreError, match=r"served by process 4711; stop that server"):
            await Engine(text_model, _settings(tmp_path)).start()

    serve(text_model, tmp_path, block)
    serve(text_model, tmp_path, lambda engine: engine.write(ANNA, BOAT, source="a"))
    assert (tmp_path / "server.lock").read_text() == f"{os.getpid()}\n"


# -- deleting ----------------------------------------------------------------------------------------------------------


def test_a_deleted_memory_leaves_no_file_and_no_id(text_model: MPlusModel, tmp_path: Path) -> None:
    async def block(engine: Engine) -> None:
        for scope in (ANNA, BEN):
            await engine.write(scope, BOAT, source="a")
            engine.index.put(IndexEntry(tenant="acme", kind="mem0", id=f"id of {scope.memory}", memory=scope.memory, source="a"))
        await engine.snapshot(ANNA)
        await engine.write(ANNA, CLOCK, source="b")
        await engine.delete(ANNA)
        with pytest.raises(UnknownMemoryError):
            await engine.memory(ANNA)
        with pytest.raises(UnknownMemoryError):
            await engine.delete(ANNA)
        assert not list(tmp_path.rglob(f"*{ANNA.directory}*"))
        assert engine.index.get("acme", "mem0", "id of anna") is None and engine.index.get("acme", "mem0", "id of ben")
        assert not found_in(tmp_path, CLOCK.encode(), b"id of anna")
        await engine.write(ANNA, CLOCK, source="new")
        assert await texts(engine, ANNA) == {"new": CLOCK}

    serve(text_model, tmp_path, block)


def test_a_removal_that_a_kill_cut_short_is_finished_at_the_next_start(text_model: MPlusModel, tmp_path: Path) -> None:
    serve(text_model, tmp_path, lambda engine: engine.write(ANNA, BOAT, source="a"))
    place = Place(tmp_path, ANNA)
    place.record.rename(place.removed)

    async def block(engine: Engine) -> None:
        assert await engine.memories("acme") == []

    serve(text_model, tmp_path, block)
    assert not list(tmp_path.rglob(f"*{ANNA.directory}*"))


def test_a_write_that_runs_when_its_memory_is_deleted_leaves_nothing(text_model: MPlusModel, tmp_path: Path) -> None:
    async def block(engine: Engine) -> None:
        await engine.create(ANNA)
        asked = threading.Event()

        def cancelled() -> bool:
            asked.set()
            return False

        writing = asyncio.ensure_future(engine.write(ANNA, BOAT * 40, source="long", create=False, cancelled=cancelled))
        await asyncio.to_thread(asked.wait, 20)
        await engine.delete(ANNA)
        with contextlib.suppress(UnknownMemoryError):  # or it was done before
            await writing
        assert await engine.memories("acme") == []

    serve(text_model, tmp_path, block)
    assert not list(tmp_path.rglob(f"*{ANNA.directory}*"))


def test_a_cancelled_write_leaves_nothing(text_model: MPlusModel, tmp_path: Path) -> None:
    async def block(engine: Engine) -> None:
        await engine.write(ANNA, BOAT, source="a")
        with pytest.raises(InputError, match="cancelled"):
            await engine.write(ANNA, CLOCK * 40, source="b", cancelled=lambda: True)
        gone = asyncio.ensure_future(engine.write(ANNA, CLOCK * 40, source="c"))
        await asyncio.sleep(0.02)
        gone.cancel()  # as when a client goes
        with pytest.raises(asyncio.CancelledError):
            await gone
        await engine.write(ANNA, "After.", source="d")
        assert {"a", "d"} <= set(await texts(engine, ANNA)) <= {"a", "c", "d"}

    serve(text_model, tmp_path, block)


# -- at once -----------------------------------------------------------------------------------------------------------


def test_writes_and_a_forget_at_once_are_all_done(text_model: MPlusModel, tmp_path: Path) -> None:
    async def block(engine: Engine) -> dict[str, str]:
        await engine.write(ANNA, BOAT, source="gone")
        await asyncio.gather(
            engine.write(ANNA, CLOCK, source="one"),
            engine.forget(ANNA, ["gone"]),
            engine.write(ANNA, "Two cats sleep.", source="two"),
            engine.write(BEN, BOAT, source="b"),
        )
        return await texts(engine, ANNA)

    expected = {"one": CLOCK, "two": "Two cats sleep."}
    assert serve(text_model, tmp_path, block) == expected
    assert serve(text_model, tmp_path, lambda engine: texts(engine, ANNA)) == expected


def test_first_writes_at_once_make_one_memory(text_model: MPlusModel, tmp_path: Path) -> None:
    async def block(engine: Engine) -> dict[str, str]:
        await asyncio.gather(*(engine.write(ANNA, CLOCK, source=str(number)) for number in range(8)))
        return await texts(engine, ANNA)

    for number in range(5):
        assert serve(text_model, tmp_path / str(number), block) == {str(number): CLOCK for number in range(8)}


def test_memories_beyond_the_budget_are_closed_and_opened_again(text_model: MPlusModel, tmp_path: Path) -> None:
    scopes = [Scope("acme", f"user {number}") for number in range(6)]

    async def block(engine: Engine) -> None:
        await engine.write(scopes[0], BOAT * 3, source="a")
        one = (await engine.registry.catalogue.entry(scopes[0])).memory.stats().size_bytes
        engine.registry.settings = engine.settings.model_copy(update={"memory_budget": 2 * one + one // 2})

        async def use(scope: Scope) -> None:
            for number in range(3):
                await engine.write(scope, f"{BOAT} {scope.memory} {number}", source=f"s{number}")
                assert (await engine.text(scope, f"s{number}")).endswith(f"{scope.memory} {number}")

        await asyncio.gather(*map(use, scopes))
        await engine.registry.make_room()
        held = [
            entry.memory.stats().size_bytes
            for entry in await engine.registry.catalogue.entries("acme")
            if entry.opened is not None
        ]
        assert held and sum(held) <= 2 * one + one // 2
        for scope in scopes:
            found = await texts(engine, scope)
            assert {name: text for name, text in found.items() if name != "a"} == {
                f"s{number}": f"{BOAT} {scope.memory} {number}" for number in range(3)
            }

    serve(text_model, tmp_path, block)


def test_a_memory_larger_than_the_budget_is_held_alone(
    text_model: MPlusModel, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def block(engine: Engine) -> None:
        engine.registry.settings = engine.settings.model_copy(update={"memory_budget": 1})
        await engine.write(ANNA, BOAT, source="a")
        await engine.write(BEN, CLOCK, source="b")
        assert [entry.scope for entry in await engine.registry.catalogue.entries("acme") if entry.opened is not None] == [BEN]
        assert await texts(engine, ANNA) == {"a": BOAT}

    with caplog.at_level(logging.WARNING):
        serve(text_model, tmp_path, block)
    assert "held alone" in caplog.text and BOAT not in caplog.text


def test_what_changed_is_saved_in_the_background(text_model: MPlusModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "SAVE_AFTER_S", 0.0)
    monkeypatch.setattr(upkeep, "LOOK_S", 0.01)

    async def block(engine: Engine) -> None:
        await engine.write(ANNA, BOAT, source="a")
        place = Place(tmp_path, ANNA)
        for _ in range(1000):
            if place.is_stored and not place.journal.exists():
                break
            await asyncio.sleep(0.01)
        assert place.is_stored and not place.journal.exists()

    serve(text_model, tmp_path, block)


# -- damage ------------------------------------------------------------------------------------------------------------


def test_a_damaged_memory_is_its_scopes_fault_alone(
    text_model: MPlusModel, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def write(engine: Engine) -> None:
        for scope in (ANNA, BEN, Scope("acme", "cleo")):
            await engine.write(scope, BOAT, source="a")

    async def block(engine: Engine) -> None:
        for name in ("anna", "cleo"):
            with pytest.raises(SnapshotError):
                await engine.sources(Scope("acme", name))
            with pytest.raises(SnapshotError):
                await engine.write(Scope("acme", name), CLOCK, source="b")
        assert await texts(engine, BEN) == {"a": BOAT}
        for name in ("anna", "cleo"):
            await engine.delete(Scope("acme", name))
        await engine.write(ANNA, CLOCK, source="b")

    serve(text_model, tmp_path, write)
    (Place(tmp_path, ANNA).directory / "manifest.json").write_text("{")
    Place(tmp_path, Scope("acme", "cleo")).record.write_text("[]")
    serve(text_model, tmp_path, block)
    assert "cannot be opened" in caplog.text and "is left out" in caplog.text


def test_what_somebody_else_stored_meanwhile_stays_and_no_write_is_lost(text_model: MPlusModel, tmp_path: Path) -> None:
    async def block(engine: Engine) -> None:
        await engine.write(ANNA, BOAT, source="a")
        await engine.snapshot(ANNA)
        other = Memory.load(Place(tmp_path, ANNA).directory, text_model)
        other.write("From the command line.", source="cli")
        other.save(Place(tmp_path, ANNA).directory)
        await engine.write(ANNA, CLOCK, source="b")

    serve(text_model, tmp_path, block)
    expected = {"a": BOAT, "b": CLOCK, "cli": "From the command line."}
    assert serve(text_model, tmp_path, lambda engine: texts(engine, ANNA)) == expected


# -- quotas ------------------------------------------------------------------------------------------------------------


def test_a_write_beyond_the_quota_changes_nothing(text_model: MPlusModel, tmp_path: Path) -> None:
    async def block(engine: Engine) -> None:
        await engine.write(ANNA, BOAT, source="a")
        used = await engine.stored_bytes("acme")
        engine.index.set_quota("acme", used + 100)
        with pytest.raises(QuotaError, match=r"bytes that may be stored are used"):
            await engine.write(ANNA, CLOCK * 30, source="b")
        with pytest.raises(QuotaError):
            await engine.fork(ANNA, BEN)
        assert await texts(engine, ANNA) == {"a": BOAT} and await engine.stored_bytes("acme") == used
        await engine.write(Scope("umbrella", "anna"), CLOCK * 30, source="b")
        engine.index.delete_quota("acme")
        await engine.write(ANNA, CLOCK * 30, source="b")

    serve(text_model, tmp_path, block)


def test_the_servers_own_limit_holds_where_no_quota_is_set(text_model: MPlusModel, tmp_path: Path) -> None:
    async def block(engine: Engine) -> None:
        with pytest.raises(QuotaError):
            await engine.write(ANNA, BOAT, source="a")
        assert await engine.memories("acme") == []
        engine.index.set_quota("acme", 1 << 30)
        await engine.write(ANNA, BOAT, source="a")

    serve(text_model, tmp_path, block, tenant_bytes=0)


# -- whole memories ----------------------------------------------------------------------------------------------------


def test_a_fork_goes_its_own_way_and_shares_segments(text_model: MPlusModel, tmp_path: Path) -> None:
    async def block(engine: Engine) -> None:
        await engine.write(ANNA, BOAT, source="a", note={"n": 1})
        await engine.fork(ANNA, BEN)
        first, second = ({path.name: path for path in Place(tmp_path, one).directory.glob("segment-*")} for one in (ANNA, BEN))
        assert first and all(os.path.samefile(path, second[name]) for name, path in first.items())
        await engine.write(BEN, CLOCK, source="b")
        await engine.forget(ANNA, ["a"])
        assert await texts(engine, ANNA) == {} and await texts(engine, BEN) == {"a": BOAT, "b": CLOCK}
        assert (await engine.source(BEN, "a")).note == {"n": 1}
        with pytest.raises(ConflictError):
            await engine.fork(BEN, ANNA)

    serve(text_model, tmp_path, block)
    assert serve(text_model, tmp_path, lambda engine: texts(engine, BEN)) == {"a": BOAT, "b": CLOCK}


def test_a_merge_is_on_the_disk_with_its_notes(text_model: MPlusModel, tmp_path: Path) -> None:
    async def block(engine: Engine) -> None:
        await engine.write(ANNA, BOAT, source="a")
        await engine.write(BEN, CLOCK, source="b", note={"n": 2})
        report = await engine.merge(ANNA, BEN, prefix="ben/")
        assert report.sources == ["ben/b"]
        assert not Place(tmp_path, ANNA).journal.exists()
        assert (await engine.source(ANNA, "ben/b")).note == {"n": 2}
        with pytest.raises(BadRequestError):
            await engine.merge(ANNA, ANNA)

    serve(text_model, tmp_path, block)
    assert serve(text_model, tmp_path, lambda engine: texts(engine, ANNA)) == {"a": BOAT, "ben/b": CLOCK}


def test_an_archive_comes_back_as_another_memory(text_model: MPlusModel, model: MPlusModel, tmp_path: Path) -> None:
    async def block(engine: Engine) -> None:
        await engine.write(ANNA, BOAT, source="a", note={"n": 1})
        await engine.export(ANNA, tmp_path / "a.mplus")
        record = await engine.import_(BEN, tmp_path / "a.mplus")
        assert record.sources == 1 and (await engine.source(BEN, "a")).note == {"n": 1}
        with pytest.raises(ConflictError):
            await engine.import_(BEN, tmp_path / "a.mplus")
        (tmp_path / "bad.mplus").write_bytes(b"PK no")
        with pytest.raises(BadRequestError, match="the archive") as told:
            await engine.import_(Scope("acme", "cleo"), tmp_path / "bad.mplus")
        assert str(tmp_path) not in str(told.value)
        assert [one.id for one in await engine.memories("acme")] == ["anna", "ben"]

    async def other(engine: Engine) -> None:
        with pytest.raises(BadRequestError) as told:
            await engine.import_(ANNA, tmp_path / "a.mplus")
        assert str(tmp_path) not in str(told.value) and await engine.memories("acme") == []

    serve(text_model, tmp_path / "home", block)
    assert serve(text_model, tmp_path / "home", lambda engine: texts(engine, BEN)) == {"a": BOAT}
    serve(model, tmp_path / "other", other)
    assert not list((tmp_path / "other").rglob("*.safetensors"))


# -- forgetting --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["in the journal", "saved", "both"])
@pytest.mark.parametrize("how", ["forget", "replace"])
def test_of_a_forgotten_text_no_file_has_a_trace(text_model: MPlusModel, tmp_path: Path, when: str, how: str) -> None:
    ids = text_model.tokenize(BOAT)
    secrets = [BOAT.encode(), *(array(kind, ids[3:9]).tobytes() for kind in "iq")]

    async def block(engine: Engine) -> None:
        await engine.write(ANNA, CLOCK, source="stays")
        if when != "in the journal":
            await engine.write(ANNA, BOAT, source="gone", note={"n": 1})
            engine.index.put(IndexEntry(tenant="acme", kind="mem0", id="m1", memory="anna", source="gone"))
            await engine.snapshot(ANNA)
        if when != "saved":
            await engine.write(ANNA, BOAT, source="gone", key="k1")
        assert found_in(tmp_path, *secrets)  # else the search could not fail
        rows = await engine.stored_bytes("acme")
        if how == "forget":
            report = await engine.forget(ANNA, ["gone"])
            assert report.sources == ["gone"] and report.shared_with == []
            assert engine.index.list("acme", "mem0", memory="anna") == []
            assert not found_in(tmp_path, b"gone")
        else:
            await engine.replace(ANNA, "gone", "Nothing of that kind.")
        assert not found_in(tmp_path, *secrets)
        assert await engine.stored_bytes("acme") < rows or how == "replace"
        expected = {"stays": CLOCK} | ({} if how == "forget" else {"gone": "Nothing of that kind."})
        assert await texts(engine, ANNA) == expected

    serve(text_model, tmp_path, block)
    assert not found_in(tmp_path, *secrets)
