"""File calls that fail in turn, and a disk that is full: the old state or the new one, and a message that says which."""

from __future__ import annotations

import builtins
import errno
import gc
import io
import os
import re
import resource
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from mplus import Memory, MPlusModel
from mplus.errors import MPlusError
from tests.abuse import models
from tests.abuse.children import Round, run_rounds
from tests.abuse.counts import REFUSED, RIGHT, Counts, verdict_of
from tests.abuse.models import ids
from tests.abuse.states import Course, State, difference, state_of, which
from tests.abuse.stored import command, listing, model_beside, one_line, opened, stored_state, text_file, text_memory

CALLS: list[tuple[Any, str]] = [
    *((os, name) for name in ("replace", "rename", "fsync", "fdatasync", "open", "write", "unlink", "remove", "mkdir", "link")),
    *((os, name) for name in ("rmdir", "chmod", "stat", "scandir", "listdir", "ftruncate", "symlink")),
    (io, "open"),
    (builtins, "open"),
]
ERRORS = [errno.ENOSPC, errno.EIO, errno.EINVAL, errno.EACCES, errno.EROFS, errno.EDQUOT]
LOOKS, LOOK_ERRORS = {"stat", "scandir", "listdir"}, [errno.EIO, errno.EACCES]
"""Calls that need no room on a disk, and how they fail."""
SAYS_OLD = re.compile(r"not stored|unchanged|cannot be (stored|written|made)|was not", re.IGNORECASE)
FAULTS = 6
"""Failing calls of one round, each on a directory of its own."""


def run(seed: int, rounds: int, first: int = 0) -> Counts:
    """Each round lets several calls of one step fail."""
    return run_rounds(one_round, seed, rounds, first)


def one_round(this: Round) -> None:
    """One kind of step."""
    models.use_small_segments()
    this.random.choice([saves, saves, saves, loads, writes, commands])(this)


LAST = [""]
"""Name of the call that failed last, for the examples."""


class Failing:
    """Calls on files below `place`, counted; from the chosen one on, or that one alone, they fail.

    Args:
        at: number of the call that fails, counted from 1; 0: none.
        for_good: all later calls of the same name fail too.
    """

    def __init__(self, place: Path, at: int = 0, error: int = 0, *, for_good: bool = False) -> None:
        self.place, self.at, self.error, self.for_good = str(place), at, error, for_good
        self.count, self.name = 0, ""

    def _concerns(self, target: object) -> bool:
        if isinstance(target, int):
            try:
                target = os.readlink(f"/proc/self/fd/{target}")
            except OSError:
                return False
        return isinstance(target, (str, bytes, os.PathLike)) and os.fsdecode(target).startswith(self.place)

    def _wrapped(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            if any(self._concerns(target) for target in arguments[:2]):
                self.count += 1
                if self.count == self.at:
                    self.name, LAST[:] = name, [f"{name}, "]
                if self.count == self.at or (self.for_good and name == self.name):
                    error = LOOK_ERRORS[self.error % 2] if name in LOOKS else self.error
                    raise OSError(error, os.strerror(error), str(arguments[0]))
            return real(*arguments, **options)

        return call

    @contextmanager
    def installed(self) -> Iterator[Failing]:
        """In place of the real calls."""
        kept = [(owner, name, getattr(owner, name)) for owner, name in CALLS]
        try:
            for owner, name, real in kept:
                setattr(owner, name, self._wrapped(name, real))
            yield self
        finally:
            for owner, name, real in kept:
                setattr(owner, name, real)


@contextmanager
def files_at_most(size_bytes: int) -> Iterator[None]:
    """A disk that is full, as far as one file is concerned; what Rust writes fails too."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def faults(random: Random, place: Path, calls: int, largest_bytes: int) -> tuple[str, Any]:
    """A random fault: its name and the context in which it happens."""
    if random.random() < 0.15 or calls == 0:
        size = random.randrange(1, max(2, largest_bytes))
        return f"files of at most {size} bytes", files_at_most(size)
    at, error, for_good = random.randint(1, calls), random.choice(ERRORS), random.random() < 0.3
    failing = Failing(place, at, error, for_good=for_good)
    return f"call {at} {'and later ones fail' if for_good else 'fails'} with {errno.errorcode[error]}", failing.installed()


def saves(this: Round) -> None:
    """``save`` into a new directory, over an older state, or in place."""
    model, how = models.model_of("shared"), this.random.choice(["new", "over", "in place"])
    written = [ids(40, this.random.randrange(1 << 30)) for _ in range(2)]
    states: list[State] = []

    def prepared(place: Path) -> Memory:
        memory = model.new_memory(seed=4, store=place if how == "in place" else "ram")
        memory.write(written[0], source="a")
        if not states:
            states.append(state_of(memory, model))
        if how != "new":
            memory.save(place)
        memory.write(written[1], source="a")
        if len(states) < 2:
            states.append(state_of(memory, model))
        return memory

    counted, memory = Failing(this.place), prepared(this.place / "dry")
    with counted.installed():
        memory.save(this.place / "dry")
    largest = max(path.stat().st_size for path in (this.place / "dry").rglob("*") if path.is_file())
    for number in range(FAULTS):
        place, row = this.place / f"memory-{number}", f"save, {how}"
        memory = prepared(place)
        name, fault = faults(this.random, place, counted.count, largest)
        error = _result(fault, partial(memory.save, place))
        found = _judged_save(error, place, memory, model, states, how)
        this.report(row, found.split(":")[0] if found else (REFUSED if error else RIGHT), f"{LAST[0]}{name}: {found or ''}")


def _result(fault: Any, step: Callable[[], object]) -> BaseException | None:
    LAST[0] = ""
    try:
        with fault:
            step()
    except BaseException as error:
        return _freed(error)
    return None


def _freed(error: BaseException) -> BaseException:
    """The error without the frames it came through: they hold what the step had made, locks among it."""
    error.__traceback__ = None
    for inner in (error.__cause__, error.__context__):
        if inner is not None:
            _freed(inner)
    return error


def _judged_save(
    error: BaseException | None, place: Path, memory: Memory, model: MPlusModel, states: list[State], how: str
) -> str | None:
    says = "" if error is None else str(error)
    if error is not None and verdict_of(error)[0] != REFUSED:
        return f"{verdict_of(error)[0]}: {says}"
    try:
        number = which(stored_state(place, model), states)
        if number is None:
            return f"neither old nor new: after {says!r}"
    except MPlusError as refused:
        if how != "new" or error is None:
            return f"lost: {refused} after {says!r}"
        number = 0
    if error is None and number != 1:
        return "said stored but is not: the old state is there"
    if number == 1 and SAYS_OLD.search(says):
        return f"said not stored but is: {says}"
    if found := difference(state_of(memory, model), states[1]):
        return f"the memory changed: {found}"
    try:
        memory.save(place)
        found = difference(stored_state(place, model), states[1])
    except MPlusError as refused:
        found = f"refused, {refused}"
    return found and f"the next save: {found}"


def loads(this: Round) -> None:
    """``load`` into RAM or in place: right, or refused and nothing stored is changed."""
    model, in_place = models.model_of("shared"), this.random.random() < 0.6
    whole = this.place / "whole"
    memory = model.new_memory(seed=4, store=whole)
    memory.write(ids(80, this.random.randrange(1 << 30)), source="a")
    memory.save(whole)
    state = state_of(memory, model)
    del memory
    gc.collect()
    counted = Failing(this.place)
    shutil.copytree(whole, this.place / "dry")
    with counted.installed():
        Memory.load(this.place / "dry", model, store=this.place / "dry" if in_place else None)
    for number in range(FAULTS):
        place, row = this.place / f"memory-{number}", f"load, {'in place' if in_place else 'into RAM'}"
        shutil.copytree(whole, place)
        before = listing(place)
        name, fault = faults(this.random, place, counted.count, 1)
        held: list[Memory] = []
        store = place if in_place else None
        error = _result(fault, partial(_load_into, held, place, model, store))
        if error is not None and verdict_of(error)[0] != REFUSED:
            this.report_error(row, error, f"{LAST[0]}{name}: ")
            continue
        found = difference(state_of(held[0], model), state) if held else None
        held.clear()
        gc.collect()
        if not found and error is not None and listing(place) != before:
            found = f"a refused load changed files: {set(before) - set(listing(place))} are gone"
        if not found:
            try:
                found = difference(stored_state(place, model, in_place=in_place), state)
            except MPlusError as refused:
                found = f"does not open afterwards: {refused}"
        this.report(row, found.split(":")[0] if found else (REFUSED if error else RIGHT), f"{LAST[0]}{name}: {found or ''}")


def _load_into(held: list[Memory], place: Path, model: MPlusModel, store: Path | None) -> None:
    held.append(Memory.load(place, model, store=store))


def _run_into(done: list[tuple[int, str, str]], arguments: list[str]) -> None:
    done.append(command(*arguments))


def writes(this: Round) -> None:
    """``write`` into a memory whose rows go to a disk that fails: nothing is lost, and it goes on."""
    model, row = models.model_of("shared"), "write into a store"
    first, text = ids(40, this.random.randrange(1 << 30)), ids(48, this.random.randrange(1 << 30))
    start = model.new_memory(seed=4)
    start.write(first)
    course = Course(model, start, text)

    def prepared(place: Path) -> Memory:
        memory = model.new_memory(seed=4, store=place)
        memory.write(first)
        return memory

    counted, memory = Failing(this.place), prepared(this.place / "dry")
    with counted.installed():
        memory.write(text, source="a")
    for number in range(FAULTS):
        place = this.place / f"store-{number}"
        memory = prepared(place)
        name, fault = faults(this.random, place, counted.count, 3000)
        error = _result(fault, partial(memory.write, text, source="a"))
        if error is not None and verdict_of(error)[0] != REFUSED:
            this.report_error(row, error, f"{LAST[0]}{name}: ")
            continue
        try:
            found = course.fault(memory)
        except MPlusError as refused:
            found = f"refused afterwards: {refused}"
        this.report(row, found.split(":")[0] if found else (REFUSED if error else RIGHT), f"{LAST[0]}{name}: {found or ''}")


def commands(this: Round) -> None:
    """``mplus write``: exit code 0 where the new state is stored, and only there."""
    row, name = "mplus write", model_beside(this.place)
    model, whole, new = opened(name), this.place / "whole", this.place / "new"
    files = [text_file(this.place / f"{letter}.txt", this.random) for letter in "ab"]
    text_memory(whole, files[:1], name)
    shutil.copytree(whole, new)
    counted = Failing(new)
    with counted.installed():
        text_memory(new, files[1:], name)
    states = [stored_state(whole, model), stored_state(new, model)]
    largest = max(path.stat().st_size for path in new.iterdir())
    for number in range(FAULTS // 2):
        place = this.place / f"memory-{number}"
        shutil.copytree(whole, place)
        fault_name, fault = faults(this.random, place, counted.count, largest)
        arguments = ["write", str(place), str(files[1]), "--model", name]
        done: list[tuple[int, str, str]] = []
        error = _result(fault, partial(_run_into, done, arguments))
        if error is not None:
            this.report(row, f"raised {type(error).__name__}", f"{LAST[0]}{fault_name}: {error}")
            continue
        code, _, err = done[0]
        try:
            stored = which(stored_state(place, model), states)
        except MPlusError as refused:
            this.report(row, "lost", f"{LAST[0]}{fault_name}: {refused} after {err}")
            continue
        if code and not one_line(err):
            this.report(row, "no sentence", f"{LAST[0]}{fault_name}: {err}")
        elif stored is None or (stored == 1) != (code == 0):
            this.report(row, "exit code untrue", f"{LAST[0]}{fault_name}: exit code {code}, state {stored}, {err}")
        else:
            this.report(row, REFUSED if code else RIGHT)
