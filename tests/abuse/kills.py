"""kill -9 of a process that saves, writes, exports ...: what is stored opens as the old or the new state, and goes on."""

from __future__ import annotations

import os
import shutil
import signal
import time
from contextlib import nullcontext
from pathlib import Path

from mplus.cli import main
from mplus.errors import MPlusError
from tests.abuse import models
from tests.abuse.children import Round, exit_code, forked, run_rounds
from tests.abuse.counts import RIGHT, Counts
from tests.abuse.interrupts import Lines
from tests.abuse.states import which
from tests.abuse.steps import STEPS, Stage, Step, copied, counted_changes, left_over, same, stage_of
from tests.abuse.stored import goes_on, model_beside, opened, stored_state, text_file, text_memory

COMMANDS, WEIGHTS = 0.01, (6, 2, 2)
"""Share of the rounds that kill the command; weights of kills before a change of a file's name, at a line, at a moment."""


def run(seed: int, rounds: int, first: int = 0) -> Counts:
    """One kill a round."""
    return run_rounds(one_round, seed, rounds, first)


def one_round(this: Round) -> None:
    """A step of the library, or now and then the command, which takes as long as fifty steps."""
    models.use_small_segments()
    if this.random.random() < COMMANDS:
        killed_command(this)
    else:
        killed_step(this, this.random.choice(STEPS))


def killed_step(this: Round, step: Step) -> None:
    """A copy of this process does a step and is killed before a name of a file changes, at a line, or from outside at a moment."""
    stage, how = stage_of(step), this.random.choices(["change", "line", "moment"], WEIGHTS)[0]
    place = copied(stage, this.place / "place")
    at = this.random.randint(1, {"change": stage.changes, "line": stage.lines, "moment": 1}[how])
    pid = forked(lambda: act(step, place, how, at))
    if how == "moment":
        time.sleep(this.random.uniform(0, 1.2 * stage.seconds))
        os.kill(pid, signal.SIGKILL)
    code = exit_code(pid)
    if code not in (0, -signal.SIGKILL):
        this.report(step.name, "hang" if code is None else "the step failed", f"exit code {code}")
        return
    fault = fault_of(step, stage, place, done=code == 0)
    this.report(
        f"{step.name}, killed at a {how}", fault.split(":")[0] if fault else RIGHT, f"{fault} ({how} {at})" if fault else ""
    )


def act(step: Step, place: Path, how: str, at: int) -> None:
    """Do it; die at a line of it or before a change, unless killed from outside."""

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    with counted_changes(at, die) if how == "change" else Lines(at, die).traced() if how == "line" else nullcontext():
        step.act(place)


def fault_of(step: Step, stage: Stage, place: Path, *, done: bool) -> str | None:
    """What is wrong with what a killed step has left; None if nothing is."""
    try:
        found = step.look(place)
        if not same(found, stage.new) and (done or not same(found, stage.old)):
            return "neither old nor new: another state" if not done else "lost: the step had ended"
        if step.look_clears and (names := left_over(place)):
            return f"left over at the next opening: {', '.join(names)}"
        step.again(place)
        if not any(same(step.look(place), one) for one in (found, stage.new)):
            return "changed: the next step of its kind found another state"
        if names := left_over(place):
            return f"left over: {', '.join(names)}"
    except MPlusError as error:
        return f"does not open or go on: {error}"
    return None


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
