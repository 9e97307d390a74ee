"""Steps that change what is stored, and what each may leave when it is killed. Knows no way of killing.

A step begins in a copy of a *stage*: a directory with a stored memory and whatever else the step needs. It is prepared once per
process; a kill costs a copy of links, a fork and one opening.
"""

from __future__ import annotations

import functools
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from mplus import Memory, MPlusModel
from mplus.memory.compact import compact
from mplus.memory.file_names import LOCK, MANIFEST
from mplus.memory.keys import Keys
from mplus.memory.manifest import read_manifest
from mplus.memory.parts import parts_of
from mplus.memory.portable import export_memory, import_memory
from tests.abuse import models
from tests.abuse.interrupts import Lines
from tests.abuse.models import ids
from tests.tiny import contents, same_contents

MEMORY, ARCHIVE, KEYS = "memory", "memory.mplus", "keys"
TEXT, MORE = ids(150, 11), ids(24, 12)
Look = Callable[[Path], object]
"""What is in a place now; None where there is nothing."""


@dataclass(frozen=True)
class Step:
    """One thing that a process does with what is stored.

    Attributes:
        name: the row it is counted in.
        act: does it, in a place that is like its stage.
        look: opens what it has left.
        again: does the next thing of its kind, which clears up.
        prepare: changes the stage first.
        look_clears: whether an opening removes what a killed process has left; else the next step of the kind does.
    """

    name: str
    act: Callable[[Path], object]
    look: Look
    again: Callable[[Path], object]
    prepare: Callable[[Path], object] = lambda place: None
    look_clears: bool = True


CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "shutil.rmtree"}
"""Events of Python that come before a name of a file changes."""
_watching: list[Callable[[], None]] = []


def _hook(event: str, arguments: object) -> None:
    if _watching and event in CHANGES:
        _watching[-1]()


@functools.cache
def _install() -> None:
    sys.addaudithook(_hook)  # for the life of the process: there is no way to take one away


@contextmanager
def counted_changes(at: int = 0, act: Callable[[], object] = lambda: None) -> Iterator[list[int]]:
    """Count changes of names; do something before the one with a number."""
    _install()
    count = [0]

    def noted() -> None:
        count[0] += 1
        if count[0] == at:
            act()

    _watching.append(noted)
    try:
        yield count
    finally:
        _watching.pop()


@dataclass
class Stage:
    """What a step begins with.

    Attributes:
        place: to be copied.
        old, new: what may be there afterwards.
        changes, lines, seconds: what the whole step takes; changes are calls that change names of files.
    """

    place: Path
    old: object
    new: object
    changes: int
    lines: int
    seconds: float
    _keep: tempfile.TemporaryDirectory[str] = field(repr=False)


def copied(stage: Stage, place: Path) -> Path:
    """A place like the stage; its files are links, since nobody writes into a stored file."""
    return Path(shutil.copytree(stage.place, place, copy_function=os.link))


@functools.cache
def stage_of(step: Step) -> Stage:
    """The stage of a step, made once per process, with what the step leaves when nothing kills it."""
    keep = tempfile.TemporaryDirectory(prefix="mplus-abuse-stage-")
    place = Path(keep.name) / "stage"
    place.mkdir()
    memory = base_memory()
    memory.save(place / MEMORY)
    export_memory(place / MEMORY, place / ARCHIVE)
    written_more().save(place / MEMORY)
    step.prepare(place)
    stage = Stage(place, None, None, 0, 0, 0.0, keep)
    whole, counted = copied(stage, place.with_name("whole")), copied(stage, place.with_name("counted"))
    changed = copied(stage, place.with_name("changed"))
    stage.old = step.look(copied(stage, place.with_name("old")))
    begun = time.perf_counter()
    step.act(whole)
    stage.seconds = time.perf_counter() - begun
    stage.new = step.look(whole)
    with (lines := Lines()).traced():
        step.act(counted)
    stage.lines = lines.count
    with counted_changes() as count:
        step.act(changed)
    stage.changes = count[0]
    assert not same(stage.old, stage.new), f"{step.name} changes nothing"
    return stage


@functools.cache
def base_memory() -> Memory:
    """Two sources, more than short-term memory holds."""
    memory = models.model_of("shared").new_memory(seed=3)
    for number, source in enumerate("abab"):
        memory.write(TEXT[number::4], source=source)
    return memory


@functools.cache
def written_more() -> Memory:
    """It, and a third source."""
    memory = base_memory().fork()
    memory.write(MORE, source="c")
    return memory


def same(one: object, other: object) -> bool:
    """Bit for bit."""
    if isinstance(one, dict) and isinstance(other, dict):
        return same_contents(one, other)
    return type(one) is type(other) and one == other


def state(place: Path) -> dict[str, object]:
    """What the stored memory holds."""
    return _contents(Memory.load(place / MEMORY, _model()))


def left_over(place: Path) -> list[str]:
    """Names in a place that nothing needs: of the memory, what its manifest does not name; beside it, what no stage has."""
    beside = [path.name for path in place.iterdir() if path.name not in (MEMORY, ARCHIVE, KEYS, "new")]
    for memory in (place / MEMORY, place / "new"):
        if memory.is_dir():
            wanted = {MANIFEST, LOCK, *(part.name for part in parts_of(read_manifest(memory), memory))}
            beside += [path.name for path in memory.iterdir() if path.name not in wanted]
    return sorted(beside)


def _model() -> MPlusModel:
    return models.model_of("shared")


def _contents(memory: Memory) -> dict[str, object]:
    return {name: value for name, value in contents(memory).items() if name != "order"}


def _save(place: Path) -> None:
    base_memory().save(place / MEMORY, overwrite=True)


def _write(place: Path) -> None:
    memory = Memory.load(place / MEMORY, _model())
    memory.write(MORE, source="d")
    memory.save(place / MEMORY)


def _write_in_place(place: Path) -> None:
    memory = Memory.load(place / MEMORY, _model(), store=place / MEMORY)
    memory.write(TEXT[:40], source="d")
    memory.save(place / MEMORY)


def _forget(place: Path) -> None:
    memory = Memory.load(place / MEMORY, _model())
    memory.forget("b")
    memory.save(place / MEMORY)


def _forget_compact(place: Path) -> None:
    _forget(place)
    compact(place / MEMORY)


def _compact(place: Path) -> None:
    compact(place / MEMORY)


def _compacted(place: Path) -> object:
    """The state, and how large it lies there."""
    return {**state(place), "bytes": sum(path.stat().st_size for path in (place / MEMORY).glob("*.safetensors"))}


def _encrypt(place: Path) -> None:
    """Have the stage encrypted."""
    memory = Memory.load(place / MEMORY, _model())
    memory.keys = Keys.make(place / KEYS)
    memory.save(place / MEMORY)


def _opened_with_keys(place: Path) -> Memory:
    return Memory.load(place / MEMORY, _model(), keys=Keys(place / KEYS))


def _encrypted_state(place: Path) -> object:
    """What it holds, and for which sources there are keys: those of forgotten ones are gone when it is opened."""
    memory = _opened_with_keys(place)
    held = {one for name in memory.keys.memories() for one in memory.keys.of_memory(name).read()} if memory.keys else set()
    named = set(read_manifest(place / MEMORY)["names"])
    forgotten = 0 if named <= held and any(info.name == "b" for info in memory.sources()) else len(held - named)
    return {**_contents(memory), "keys of forgotten sources": forgotten}


def _forget_encrypted(place: Path) -> None:
    memory = _opened_with_keys(place)
    memory.forget("b")
    memory.write(MORE, source="d")
    memory.save(place / MEMORY)


def _save_encrypted_again(place: Path) -> None:
    memory = _opened_with_keys(place)
    memory.save(place / MEMORY)


def _save_again(place: Path) -> None:
    memory = Memory.load(place / MEMORY, _model())
    memory.save(place / MEMORY)


def _export(place: Path) -> None:
    export_memory(place / MEMORY, place / ARCHIVE)


def _archive(place: Path) -> bytes:
    return (place / ARCHIVE).read_bytes()


def _import(place: Path) -> None:
    import_memory(place / ARCHIVE, place / "new")


def _imported(place: Path) -> object:
    return _contents(Memory.load(place / "new", _model())) if (place / "new").exists() else None


def _import_again(place: Path) -> None:
    if not (place / "new").exists():
        _import(place)


STEPS = [
    Step("save", _save, state, _save_again),
    Step("write and save", _write, state, _save_again),
    Step("forget and save", _forget, state, _save_again),
    Step("forget, save and compact", _forget_compact, state, _compact),
    Step("compact", _compact, _compacted, _compact, _forget),
    Step("forget and save, encrypted", _forget_encrypted, _encrypted_state, _save_encrypted_again, _encrypt),
    Step("write and save in place", _write_in_place, state, _save_again),
    Step("export", _export, _archive, _export, look_clears=False),
    Step("import", _import, _imported, _import_again, look_clears=False),
]
