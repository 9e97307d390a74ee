"""Laws of killed processes: wherever a deletion, a fork or a rewriting ends, each memory is whole or gone, and the next change clears up."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mplus import Memory, MPlusModel
from mplus.memory import reencode as reencode_module
from mplus.memory.home import Home
from mplus.memory.reencode import reencode
from mplus.memory.verify import verify
from tests import tiny
from tests.tiny import filled

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="a system that forks"),
    pytest.mark.filterwarnings("ignore:This process:DeprecationWarning"),  # threads of torch: the child uses none
]
EVENTS = ("open", "os.mkdir", "os.rename", "os.link", "os.remove", "os.rmdir", "os.chmod", "shutil.rmtree", "shutil.copyfile")
KILLED, DONE, FAILED = 9, 0, 3


def killed_at(step: int, act: Callable[[], object]) -> bool:
    """Run `act` in a process that ends without a word before its `step`-th call that changes files; whether it did not get so far."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        left = [step]

        def count(event: str, arguments: tuple[Any, ...]) -> None:
            if event in EVENTS and not (event == "open" and arguments[1] in ("r", "rb")):
                left[0] -= 1
                if left[0] == 0:
                    os._exit(KILLED)

        sys.addaudithook(count)
        try:
            act()
        except BaseException:
            os._exit(FAILED)
        os._exit(DONE)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (KILLED, DONE)
    return code == KILLED


def files(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir() if not path.name.startswith(".")}


@pytest.fixture
def home(tmp_path: Path, model: MPlusModel) -> Home:
    """A home with one memory, a."""
    home = Home(tmp_path)
    home.create("a", filled(model))
    home.fork("a", "kept")
    return home


def test_a_killed_deletion_leaves_the_memory_or_nothing(home: Home) -> None:
    whole = files(home.path("a"))
    step, seen = 1, set[bool]()
    while killed_at(step, lambda: home.delete("a")):
        there = "a" in home.names()
        seen.add(there)
        assert not there or files(home.path("a")) == whole
        home.fork("kept", "next")  # clears up
        home.delete("next")
        assert {path.name for path in home.memories.iterdir()} == {"kept", *(["a"] if there else [])}
        if not there:
            home.fork("kept", "a")
        step += 1
    assert seen == {True, False} and step > 5
    assert home.names() == ["kept"]


@pytest.mark.parametrize("linked", [True, False])
def test_a_killed_fork_leaves_a_whole_one_or_none(home: Home, monkeypatch: pytest.MonkeyPatch, linked: bool) -> None:
    def refuse(*given: object) -> None:
        raise OSError(1, "not here")

    if not linked:
        monkeypatch.setattr(os, "link", refuse)
    whole, step = files(home.path("a")), 1
    while killed_at(step, lambda: home.fork("a", "b")):
        assert files(home.path("a")) == whole
        if "b" in home.names():
            assert files(home.path("b")) == whole
            home.delete("b")
        step += 1
    assert step > 5
    home.delete("kept")
    assert {path.name for path in home.memories.iterdir()} == {"a", "b"}
    assert files(home.path("b")) == whole


def test_a_killed_rewriting_leaves_the_old_memory_or_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text_model: MPlusModel
) -> None:
    monkeypatch.setattr(reencode_module, "SAVE_EVERY_S", 0.0)
    new = MPlusModel.from_base(
        tiny.tiny_decoder("qwen2", vocabulary=256), geometry=text_model.geometry, tokenizer=tiny.byte_tokenizer()
    )
    home, memory = Home(tmp_path), text_model.new_memory()
    for name in ("ana", "oliver"):
        memory.write(f"The notes of {name}, long enough to be a chunk of their own.", source=name)
    home.create("a", memory)
    before, step, kinds = files(home.path("a")), 1, set[bool]()
    while killed_at(step, lambda: reencode(home.path("a"), new)):
        is_old = files(home.path("a")) == before
        kinds.add(is_old)
        if not is_old:
            assert verify(home.path("a")).is_sound
            home.delete(home.fork("a", "next"))  # clears up
            assert os.listdir(home.memories) == ["a"]
            assert [one.name for one in Memory.load(home.path("a"), new).sources()] == ["ana", "oliver"]
            memory.save(home.path("a"), overwrite=True)
            before = files(home.path("a"))
        step += 7
    assert True in kinds and step > 20
    reencode(home.path("a"), new)
    assert [one.name for one in Memory.load(home.path("a"), new).sources()] == ["ana", "oliver"]
    assert os.listdir(home.memories) == ["a"]
