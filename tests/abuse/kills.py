"""kill -9 of a process that writes and saves: the directory opens as the old or the new state, and goes on."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path

from mplus import MPlusModel
from mplus.cli import main
from mplus.errors import MPlusError
from tests.abuse import models
from tests.abuse.children import Round, exit_code, forked, run_rounds
from tests.abuse.counts import RIGHT, Counts
from tests.abuse.interrupts import Lines
from tests.abuse.states import State, which
from tests.abuse.stored import goes_on, model_beside, opened, states_along, stored_state, text_file, text_memory, texts

SAVES = 4
BEGUN, DONE = b"b", b"d"


def run(seed: int, rounds: int, first: int = 0) -> Counts:
    """One kill a round."""
    return run_rounds(one_round, seed, rounds, first)


def one_round(this: Round) -> None:
    """A library process, or the command."""
    if this.random.random() < 0.25:
        killed_command(this)
    else:
        killed_saves(this)


def killed_saves(this: Round) -> None:
    """A process that loads, writes and saves some times; it is killed from outside, or at one line of a save."""
    models.use_small_segments()
    in_place, by_line = this.random.random() < 0.5, this.random.random() < 0.6
    row = f"save {'in place' if in_place else 'from RAM'}, killed {'at a line' if by_line else 'at a moment'}"
    model, place, written = models.model_of("shared"), this.place / "memory", texts(this.random.randrange(50), SAVES)
    states = states_along(model, written)
    target = this.random.randrange(SAVES)
    line = this.random.randint(1, LINES.most) if by_line else 0
    reader, writer = os.pipe()
    pid = forked(lambda: keep_saving(model, place, written, in_place, writer, target if by_line else -1, line))
    os.close(writer)
    said = _until(reader, BEGUN, target + 1)
    if not by_line:
        time.sleep(this.random.uniform(0, 1.2 * LINES.save_s))
        os.kill(pid, signal.SIGKILL)
    said += _rest(reader)
    code = exit_code(pid)
    if code is None:
        this.report(row, "hang", "the writing process")
        return
    if code not in (0, -signal.SIGKILL):
        this.report(row, "writer failed", f"exit code {code}")
        return
    fault = _fault(this, place, model, states, said, in_place)
    this.report(row, fault.split(":")[0] if fault else RIGHT, fault or "")


class _Lines:
    """What a save takes, for choosing where to kill it; an upper bound is good enough."""

    most, save_s = 700, 0.03


LINES = _Lines()


def keep_saving(
    model: MPlusModel, place: Path, written: list[list[int]], in_place: bool, told: int, target: int, line: int
) -> None:
    """Write and save text after text, told before and after each save; with `target`, die at a line of that save."""
    memory = model.new_memory(seed=3, store=place if in_place else "ram")
    for number, text in enumerate(written):
        memory.write(text, source="a")
        os.write(told, BEGUN)
        if number == target:
            with Lines(line, lambda: os.kill(os.getpid(), signal.SIGKILL)).traced():
                memory.save(place)
        else:
            memory.save(place)
        os.write(told, DONE)


def _until(reader: int, sign: bytes, count: int) -> bytes:
    said = b""
    while said.count(sign) < count and (byte := os.read(reader, 1)):
        said += byte
    return said


def _rest(reader: int) -> bytes:
    said = b""
    while part := os.read(reader, 64):
        said += part
    os.close(reader)
    return said


def _fault(this: Round, place: Path, model: MPlusModel, states: list[State], said: bytes, in_place: bool) -> str | None:
    done, begun = said.count(DONE), said.count(BEGUN)
    try:
        number = which(stored_state(place, model, in_place=in_place and this.random.random() < 0.5), states)
    except MPlusError as error:
        return None if done == 0 else f"does not open: {error}"
    if number not in (done, begun):
        return f"neither old nor new: state {number}, {done} saves were done and {begun} begun"
    try:
        fault = goes_on(place, model)
    except MPlusError as error:
        return f"the next save is refused: {error}"
    return fault and f"the next save: {fault}"


def killed_command(this: Round) -> None:
    """``mplus write`` killed at a random moment."""
    row, name = "mplus write, killed at a moment", model_beside(this.place)
    model, place, twin = opened(name), this.place / "memory", this.place / "twin"
    files = [text_file(this.place / f"{letter}.txt", this.random) for letter in "ab"]
    text_memory(place, files[:1], name)
    shutil.copytree(place, twin)
    old = stored_state(place, model)
    begun = time.perf_counter()
    text_memory(twin, files[1:], name)
    took_s = time.perf_counter() - begun
    new = stored_state(twin, model)
    pid = forked(lambda: main(["write", str(place), str(files[1]), "--model", name]))
    time.sleep(this.random.uniform(0.3, 1.1) * took_s)
    os.kill(pid, signal.SIGKILL)
    code = exit_code(pid)
    try:
        number = which(stored_state(place, model), [old, new])
        allowed = (1,) if code == 0 else (0, 1)
        fault = None if number in allowed else f"neither old nor new: state {number}, exit code {code}"
        fault = fault or goes_on(place, model)
    except MPlusError as error:
        fault = f"does not open or go on: {error}"
    this.report(row, fault.split(":")[0] if fault else RIGHT, fault or "")
