"""Laws of directories that are replaced whole: old or new, whenever the process ends; nothing is left; the umask holds."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mplus.runtime import atomic
from mplus.runtime.atomic import replace_directory, restored

pytestmark = pytest.mark.slow

STEPS = ("replace", "mkdir", "fsync", "open", "unlink", "rmdir", "chmod")
KILLED = 9


def fill(directory: Path, word: str) -> None:
    with replace_directory(directory) as aside:
        for name in ("a.json", "b.safetensors"):
            (aside / name).write_text(word, encoding="utf-8")


def words(directory: Path) -> list[str]:
    return [path.read_text(encoding="utf-8") for path in sorted(directory.iterdir())]


def in_child(work: Callable[[], None]) -> int:
    """Exit code of a process that does `work` and ends without clearing up."""
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def killed_at(number: int, directory: Path, *, exchange: bool) -> bool:
    """Save over `directory` in a process that dies before its call `number` of the system; whether it died."""
    calls = 0

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def counting(*arguments: Any, **named: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == number:
                os._exit(KILLED)
            return call(*arguments, **named)

        return counting

    def work() -> None:
        for name in STEPS:
            setattr(os, name, counted(getattr(os, name)))
        atomic.exchanged = counted(atomic.exchanged if exchange else lambda first, second: False)
        fill(directory, "new")

    return in_child(work) == KILLED


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("exchange", [True, False], ids=["exchange", "two renames"])
def test_save_killed_at_any_call_leaves_old_or_new_and_the_next_clears_up(tmp_path: Path, exchange: bool) -> None:
    number, found = 0, set()
    while True:
        number += 1
        place = tmp_path / str(number)
        directory = place / "m"
        place.mkdir()
        fill(directory, "old")
        died = killed_at(number, directory, exchange=exchange)
        if exchange:
            assert directory.is_dir(), f"no directory after a kill at call {number}"
        restored(directory)
        assert words(directory) in (["old"] * 2, ["new"] * 2), f"a mixture after a kill at call {number}"
        found.add(words(directory)[0])
        fill(directory, "next")
        assert words(directory) == ["next"] * 2
        assert [path.name for path in place.iterdir()] == ["m"], f"leftovers of a kill at call {number}"
        shutil.rmtree(place)
        if not died:
            break
    assert number > 12 and found == {"old", "new"}


@pytest.mark.parametrize("exchange", [True, False], ids=["exchange", "two renames"])
@pytest.mark.parametrize("step", ["replace", "fsync", "chmod"])
def test_save_that_fails_at_any_call_leaves_the_old_one(
    tmp_path: Path, step: str, exchange: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path / "m", "old")
    real, calls, failing = getattr(os, step), 0, 0

    def broken(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == failing:
            raise OSError(28, "No space left on device")
        return real(*arguments, **named)

    if not exchange:
        monkeypatch.setattr(atomic, "exchanged", lambda first, second: False)
    monkeypatch.setattr(os, step, broken)
    while True:
        failing, calls = failing + 1, 0
        try:
            fill(tmp_path / "m", "new")
        except OSError:
            assert words(tmp_path / "m") == ["old"] * 2
        else:
            assert words(tmp_path / "m") == ["new"] * 2
            break
        assert [path.name for path in tmp_path.iterdir()] == ["m"]
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_what_a_living_process_works_in_stays(tmp_path: Path) -> None:
    with replace_directory(tmp_path / "m") as first:
        (first / "a").write_text("first", encoding="utf-8")
        fill(tmp_path / "m", "second")
        assert first.is_dir()
    assert words(tmp_path / "m") == ["first"]


@pytest.mark.skipif(os.name == "nt", reason="modes are of POSIX")
@pytest.mark.parametrize("mask", [0o022, 0o027, 0o077, 0o002])
def test_files_have_the_modes_of_the_umask(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        with replace_directory(tmp_path / "m") as aside:
            (aside / "a").touch(mode=0o600)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "m").stat().st_mode) == 0o777 & ~mask
    assert stat.S_IMODE((tmp_path / "m" / "a").stat().st_mode) == 0o666 & ~mask
