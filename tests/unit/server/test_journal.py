"""Laws of the journal: what was acknowledged is done again after a kill, in order, once; what is torn or damaged is told."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from mplus import MPlusModel
from mplus.errors import SnapshotError, StoreError
from mplus.memory.snapshot import Save
from mplus.server.engine import Engine, SourceText
from mplus.server.errors import ConflictError
from mplus.server.memories import journal as journal_module
from mplus.server.memories.journal import Journal, read_journal
from mplus.server.memories.opened import Opened
from mplus.server.memories.place import Place
from tests.tiny import contents, same_contents
from tests.unit.server.serving import ANNA, copied_at_one_moment, found_in, serve, texts

BOAT = "Ilse has a red boat in the old harbour."
CLOCK = "The clock in Graz was mended by Odo."
Block = Callable[[Engine], Awaitable[Any]]


def killed(model: MPlusModel, home: Path, block: Block) -> Path:
    """The home as a kill leaves it at the end of a block: a copy of all files that the disk has."""
    copy = home.with_name(f"{home.name}-killed")

    async def run(engine: Engine) -> None:
        await block(engine)
        copied_at_one_moment(home, copy)

    serve(model, home, run)
    return copy


# -- the file ----------------------------------------------------------------------------------------------------------


def test_lines_come_back_in_order(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j", "state")
    lines: list[dict[str, Any]] = [{"n": number, "text": "Ärger\n\ud800"} for number in range(3)]
    for line in lines:
        journal.sync(journal.append(line))
    found = read_journal(tmp_path / "j")
    assert list(found.records) == lines and found.stands_on == "state" and not found.damage
    assert found.end == journal.size_bytes == (tmp_path / "j").stat().st_size
    assert read_journal(tmp_path / "none").stands_on is None


def test_a_line_that_was_cut_short_is_dropped_at_every_byte_and_written_over(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j", "state")
    ends = [journal.append({"n": number}) for number in range(2)]
    whole = (tmp_path / "j").read_bytes()
    for cut in range(len(whole)):
        (tmp_path / "j").write_bytes(whole[:cut])
        found = read_journal(tmp_path / "j")
        assert not found.damage and len(found.records) == sum(end <= cut for end in ends)
        again = Journal(tmp_path / "j", "state", found.end)
        again.append({"n": 7})
        again.close()
        assert read_journal(tmp_path / "j").records[-1] == {"n": 7}


def test_damage_before_the_last_line_is_told(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j", "state")
    first = journal.append({"n": 0})
    for number in (1, 2):
        journal.append({"n": number})
    content = bytearray((tmp_path / "j").read_bytes())
    content[first + 12] ^= 1
    (tmp_path / "j").write_bytes(content)
    found = read_journal(tmp_path / "j")
    assert list(found.records) == [{"n": 0}] and "line 3" in found.damage


def test_a_stored_state_says_which_lines_it_holds(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j", "old")
    for line in ({"n": 1}, {"saved": "new"}, {"n": 2}, {"saved": "newer"}):
        journal.append(line)
    found = read_journal(tmp_path / "j")
    assert found.behind("old") == ([{"n": 1}, {"n": 2}], True)
    assert found.behind("new") == ([{"n": 2}], True)
    assert found.behind("newer") == ([], True)
    assert found.behind("foreign") == ([{"n": 1}, {"n": 2}], False)


def test_those_that_wait_together_share_a_flush(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushes, flushing, go = [], threading.Event(), threading.Event()

    def slow(file: int) -> None:
        flushes.append(file)
        flushing.set()
        go.wait(10)

    monkeypatch.setattr(journal_module, "_flush", slow)
    journal = Journal(tmp_path / "j", "")
    places = [journal.append({"n": 0})]
    threads = [threading.Thread(target=journal.sync, args=(places[0],))]
    threads[0].start()
    assert flushing.wait(10)
    for number in range(1, 9):
        places.append(journal.append({"n": number}))
        threads.append(threading.Thread(target=journal.sync, args=(places[-1],)))
        threads[-1].start()
    go.set()
    for thread in threads:
        thread.join(10)
    assert len(flushes) == 2


def test_a_line_that_the_disk_does_not_take_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path / "j", "")
    journal.append({"n": 0})
    real = os.write

    def half(file: int, content: bytes) -> int:
        real(file, content[:5])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mplus.server.memories.journal.os.write", half)
    with pytest.raises(StoreError, match="nothing changed"):
        journal.append({"n": 1})
    monkeypatch.undo()
    journal.append({"n": 2})
    assert list(read_journal(tmp_path / "j").records) == [{"n": 0}, {"n": 2}]


# -- after a kill ------------------------------------------------------------------------------------------------------


def test_every_change_is_there_after_a_kill_and_the_memory_the_same(text_model: MPlusModel, tmp_path: Path) -> None:
    before: list[Any] = []

    async def block(engine: Engine) -> None:
        await engine.write(ANNA, CLOCK, source="saved")
        await engine.snapshot(ANNA)
        await engine.write(ANNA, BOAT, source="a", at=5.0, note={"role": "user"})
        await engine.write(ANNA, " It leaks.", source="a")
        await engine.write_all(ANNA, [SourceText(source="b", text=CLOCK), SourceText(source="c", text="Two cats.")])
        await engine.note(ANNA, "c", {"n": 1})
        before.extend(
            [
                contents((await engine.registry.catalogue.entry(ANNA)).memory),
                await engine.sources(ANNA),
                await engine.memory(ANNA),
            ]
        )

    async def after(engine: Engine) -> list[Any]:
        listed = await engine.memory(ANNA)
        sources = await engine.sources(ANNA)
        return [contents((await engine.registry.catalogue.entry(ANNA)).memory), sources, listed]

    found = serve(text_model, killed(text_model, tmp_path / "home", block), after)
    assert same_contents(found[0], before[0]) and found[1] == before[1]
    assert (found[2].tokens, found[2].sources) == (before[2].tokens, before[2].sources) == (before[2].tokens, 4)


def test_what_a_kill_left_is_saved_at_the_next_start(text_model: MPlusModel, tmp_path: Path) -> None:
    home = killed(text_model, tmp_path / "home", lambda engine: engine.write(ANNA, BOAT, source="a"))
    assert Place(home, ANNA).journal.exists() and not Place(home, ANNA).is_stored

    async def wait(engine: Engine) -> None:
        for _ in range(1000):
            if not Place(home, ANNA).journal.exists():
                break
            await asyncio.sleep(0.01)
        assert Place(home, ANNA).is_stored

    serve(text_model, home, wait)


@pytest.mark.parametrize("how", ["save", "forget"])
@pytest.mark.parametrize("before_the_commit", [True, False])
def test_a_kill_in_a_save_does_nothing_twice(
    text_model: MPlusModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, before_the_commit: bool
) -> None:
    """The process ends just before the manifest is replaced, or just before the journal is removed."""
    home, copy = tmp_path / "home", tmp_path / "copy"

    async def block(engine: Engine) -> None:
        await engine.write(ANNA, CLOCK, source="stays")
        await engine.write(ANNA, BOAT, source="gone")
        await engine.snapshot(ANNA)
        await engine.write(ANNA, CLOCK, source="stays")
        name, owner = ("commit", Save) if before_the_commit else ("_finish", Opened)
        real = getattr(owner, name)

        def copied(*args: Any) -> Any:
            copied_at_one_moment(home, copy)
            return real(*args)

        with monkeypatch.context() as patch:
            patch.setattr(owner, name, copied)
            if how == "save":
                await engine.snapshot(ANNA)
            else:
                await engine.forget(ANNA, ["gone"])

    serve(text_model, home, block)
    expected = {"stays": CLOCK + CLOCK} | ({"gone": BOAT} if how == "save" or before_the_commit else {})
    for _ in range(2):
        found = serve(text_model, copy, lambda engine: texts(engine, ANNA))
        assert found == expected


def test_a_torn_line_is_dropped_and_told(text_model: MPlusModel, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def block(engine: Engine) -> None:
        await engine.write(ANNA, CLOCK, source="a")
        await engine.write(ANNA, BOAT, source="b")

    home = killed(text_model, tmp_path / "home", block)
    path = Place(home, ANNA).journal
    path.write_bytes(path.read_bytes()[:-9])

    async def after(engine: Engine) -> dict[str, str]:
        await engine.write(ANNA, "New.", source="c")
        return await texts(engine, ANNA)

    assert serve(text_model, home, after) == {"a": CLOCK, "c": "New."}
    assert "cut short" in caplog.text and BOAT not in caplog.text


@pytest.mark.parametrize("damage", ["checksum", "change"])
def test_a_damaged_journal_is_read_up_to_there_and_takes_no_writes(
    text_model: MPlusModel, tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    async def block(engine: Engine) -> None:
        for name in "abc":
            await engine.write(ANNA, CLOCK, source=name)

    home = killed(text_model, tmp_path / "home", block)
    path = Place(home, ANNA).journal
    lines = path.read_bytes().splitlines(keepends=True)
    if damage == "checksum":
        lines[2] = lines[2].replace(b"Graz", b"Graf")
    else:
        other = Journal(tmp_path / "other", "")
        other.append({"texts": 7})
        lines[2] = (tmp_path / "other").read_bytes().splitlines(keepends=True)[1]
    path.write_bytes(b"".join(lines))

    async def after(engine: Engine) -> None:
        assert await texts(engine, ANNA) == {"a": CLOCK}
        for change in (engine.write(ANNA, BOAT, source="d"), engine.forget(ANNA, ["a"]), engine.note(ANNA, "a", {})):
            with pytest.raises(SnapshotError, match="is damaged"):
                await change

    with caplog.at_level(logging.ERROR):
        serve(text_model, home, after)
    assert "takes no more writes" in caplog.text and CLOCK not in caplog.text
    assert path.read_bytes() == b"".join(lines)  # for the operator


def test_a_journal_that_is_not_on_the_disk_is_not_acknowledged(
    text_model: MPlusModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(file: int) -> None:
        raise OSError(5, "Input/output error")

    async def block(engine: Engine) -> None:
        await engine.write(ANNA, CLOCK, source="a")
        with monkeypatch.context() as patch:
            patch.setattr(journal_module, "_flush", fails)
            with pytest.raises(StoreError, match="look at the disk"):
                await engine.write(ANNA, BOAT, source="b")
        await engine.write(ANNA, BOAT, source="c")
        assert {"a", "c"} <= set(await texts(engine, ANNA))

    serve(text_model, tmp_path, block)


# -- keys --------------------------------------------------------------------------------------------------------------


def test_a_write_under_a_key_is_done_once_across_a_kill(text_model: MPlusModel, tmp_path: Path) -> None:
    home, results = tmp_path / "home", list[Any]()

    async def block(engine: Engine) -> None:
        results.append(await engine.write(ANNA, BOAT, source="a", key="k"))
        assert await engine.write(ANNA, BOAT, source="a", key="k") == results[0]
        with pytest.raises(ConflictError):
            await engine.write(ANNA, CLOCK, source="a", key="k")

    copy = killed(text_model, home, block)
    for path in copy.glob("index.sqlite*"):  # as if it was killed before the index knew
        path.unlink()

    async def after(engine: Engine) -> dict[str, str]:
        assert await engine.write(ANNA, BOAT, source="a", key="k") == results[0]
        await engine.write(ANNA, BOAT, source="a", key="another")
        return await texts(engine, ANNA)

    assert serve(text_model, copy, after) == {"a": BOAT + BOAT}
    assert not found_in(copy, BOAT.encode())


def test_retries_at_once_write_once(text_model: MPlusModel, tmp_path: Path) -> None:
    async def block(engine: Engine) -> dict[str, str]:
        results = await asyncio.gather(*(engine.write(ANNA, BOAT, source="a", key="k") for _ in range(4)))
        assert len(set(results)) == 1
        return await texts(engine, ANNA)

    assert serve(text_model, tmp_path, block) == {"a": BOAT}
