"""Two processes on one directory: both texts are there, or the second was refused; a reader sees whole states only."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from mplus import Memory
from mplus.cli import main
from mplus.errors import MPlusError
from tests.abuse import models
from tests.abuse.children import Round, exit_code, forked, run_rounds
from tests.abuse.counts import REFUSED, RIGHT, Counts, verdict_of
from tests.abuse.models import ids
from tests.abuse.states import state_of, which
from tests.abuse.stored import goes_on, model_beside, one_line, opened, states_along, stored_state, text_file, text_memory, texts

DONE, REFUSED_CODE, FAILED, WRONG = 0, 2, 1, 3


def run(seed: int, rounds: int, first: int = 0) -> Counts:
    """One pair of processes a round and row."""
    return run_rounds(one_round, seed, rounds, first)


def one_round(this: Round) -> None:
    """One of the rows."""
    models.use_small_segments()
    this.random.choice(
        [two_commands, two_commands, two_saves, load_write_save, load_write_save, reader_beside_writer, readers_by_command]
    )(this)


def at_once(this: Round, *works: Callable[[], object], delay_s: float = 0.0) -> list[int | None]:
    """Exit codes of processes begun together, or up to so many seconds apart."""
    gate, release = os.pipe()
    pids = []
    for work in works:
        pause_s = this.random.uniform(0, delay_s)

        def waits(work: Callable[[], object] = work, pause_s: float = pause_s) -> object:
            os.close(release)
            os.read(gate, 1)  # ends when nobody holds the other end
            time.sleep(pause_s)
            return work()

        pids.append(forked(waits))
    os.close(release)
    codes = [exit_code(pid) for pid in pids]
    os.close(gate)
    return codes


def said_by(work: Callable[[], object], note: Path) -> Callable[[], int]:
    """Work that notes its error and ends as a command does."""

    def run() -> int:
        try:
            work()
        except Exception as error:
            verdict, says = verdict_of(error)
            note.write_text(f"{verdict}: {says}", encoding="utf-8")
            return REFUSED_CODE if verdict == REFUSED else FAILED
        return DONE

    return run


def quiet(arguments: list[str], note: Path) -> Callable[[], int]:
    """A command whose stderr goes to a file."""

    def run() -> int:
        descriptor = os.open(note, os.O_WRONLY | os.O_CREAT)
        os.dup2(descriptor, 2)
        return main(arguments)

    return run


def two_commands(this: Round) -> None:
    """Two ``mplus write`` on one memory, which is there already or not."""
    name, place = model_beside(this.place), this.place / "memory"
    files = [text_file(this.place / f"{letter}.txt", this.random) for letter in "abc"]
    is_new = this.random.random() < 0.3
    row = f"two mplus write, {'new' if is_new else 'old'} memory"
    if not is_new:
        text_memory(place, files[:1], name)
    notes = [this.place / f"{letter}.err" for letter in "bc"]
    arguments = [["write", str(place), str(file), "--model", name] for file in files[1:]]
    codes = at_once(this, *(quiet(one, note) for one, note in zip(arguments, notes, strict=True)), delay_s=0.15)
    says = [note.read_text(encoding="utf-8") if note.exists() else "" for note in notes]
    fault = None
    for code, said in zip(codes, says, strict=True):
        if code not in (DONE, REFUSED_CODE) or (code == REFUSED_CODE and not one_line(said)):
            fault = f"ended otherwise: exit code {code}, {said}"
    expected = {str(file) for file, code in zip(files[1:], codes, strict=True) if code == DONE}
    expected |= set() if is_new else {str(files[0])}
    try:
        held = Memory.load(place, opened(name))
        there = set(held.ledger.tokens_by_source()) | {source or "" for source, _ in held.pending}
        if there != expected:
            names = [sorted(Path(path).name for path in paths) for paths in (expected, there)]
            fault = fault or f"a text is lost or came though refused: expected {names[0]}, there is {names[1]}; codes {codes}"
        fault = fault or goes_on(place, opened(name))
    except MPlusError as error:
        fault = fault or (f"destroyed: {error}; codes {codes}" if expected else None)
    refused = REFUSED_CODE in codes
    this.report(row, fault.split(":")[0] if fault else (REFUSED if refused else RIGHT), fault or "")


def two_saves(this: Round) -> None:
    """Two memories saved into one directory at once: it holds one of them, whole."""
    model, place = models.model_of("shared"), this.place / "memory"
    old = this.random.random() < 0.7
    row = f"two saves, {'over an old state' if old else 'new directory'}"
    pair = [model.new_memory(seed=seed) for seed in (1, 2)]
    for memory, text in zip(pair, texts(this.random.randrange(50), 2), strict=True):
        memory.write(text, source="a")
    states = [state_of(memory, model) for memory in pair]
    if old:
        before = model.new_memory(seed=3)
        before.write(ids(24, 9))
        before.save(place)
        states.append(state_of(before, model))
    notes = [this.place / "0.err", this.place / "1.err"]
    works = [said_by(partial(memory.save, place), note) for memory, note in zip(pair, notes, strict=True)]
    codes = at_once(this, *works, delay_s=this.random.choice([0.0, 0.002, 0.02]))
    fault = _codes_fault(codes, notes)
    allowed = [number for number, code in enumerate(codes) if code == DONE] or ([2] if old else [])
    try:
        number = which(stored_state(place, model), states)
        if number not in allowed:
            fault = fault or f"neither of both: state {number}, codes {codes}"
        fault = fault or goes_on(place, model)
    except MPlusError as error:
        fault = fault or f"destroyed: {error}; codes {codes}"
    this.report(row, fault.split(":")[0] if fault else (REFUSED if REFUSED_CODE in codes else RIGHT), fault or "")


def _codes_fault(codes: list[int | None], notes: list[Path]) -> str | None:
    for code, note in zip(codes, notes, strict=True):
        if code not in (DONE, REFUSED_CODE):
            return f"ended otherwise: exit code {code}, {note.read_text(encoding='utf-8') if note.exists() else ''}"
    return None


def load_write_save(this: Round) -> None:
    """Two processes that load, write and save: both texts are there, or the second was refused."""
    model, place, in_place = models.model_of("shared"), this.place / "memory", this.random.random() < 0.4
    row = f"load, write, save by two, {'in place' if in_place else 'in RAM'}"
    before = model.new_memory(seed=3)
    before.write(ids(40, 9), source="old")
    before.save(place)
    written = texts(this.random.randrange(50), 2)

    def work(number: int) -> None:
        memory = Memory.load(place, model, store=place if in_place else None)
        memory.write(written[number], source=f"new-{number}")
        memory.save(place)

    notes = [this.place / "0.err", this.place / "1.err"]
    works = [said_by(partial(work, number), notes[number]) for number in range(2)]
    codes = at_once(this, *works, delay_s=this.random.choice([0.0, 0.03, 0.1]))
    fault = _codes_fault(codes, notes)
    try:
        there = set(Memory.load(place, model).stats().sources)
        expected = {"old"} | {f"new-{number}" for number, code in enumerate(codes) if code == DONE}
        if there != expected:
            fault = fault or f"a text is lost or came though refused: expected {sorted(expected)}, there is {sorted(there)}"
        fault = fault or goes_on(place, model)
    except MPlusError as error:
        fault = fault or f"destroyed: {error}; codes {codes}"
    this.report(row, fault.split(":")[0] if fault else (REFUSED if REFUSED_CODE in codes else RIGHT), fault or "")


def reader_beside_writer(this: Round) -> None:
    """One process saves state after state, another loads: each load is a whole state, never an older one than before."""
    model, place, in_place = models.model_of("shared"), this.place / "memory", this.random.random() < 0.5
    row = f"a reader beside a writer {'in place' if in_place else 'in RAM'}"
    written = texts(this.random.randrange(50), 9)
    states = states_along(model, written)
    note, stop = this.place / "note", this.place / "stop"

    def write() -> None:
        memory = model.new_memory(seed=3, store=place if in_place else "ram")
        for number, text in enumerate(written):
            memory.write(text, source="a")
            memory.save(place)
            if number == 0:
                (this.place / "begun").touch()
        stop.touch()

    def read() -> int:
        limit = time.monotonic() + 30
        while not (this.place / "begun").exists() and time.monotonic() < limit:
            time.sleep(0.001)
        held: list[Memory] = []
        while not held or (not stop.exists() and len(held) < 200 and time.monotonic() < limit):
            try:
                held.append(Memory.load(place, model))
            except Exception as error:
                says = f"a false refusal: {type(error).__name__}: {error}"
                note.write_text(json.dumps([len(held) + 1, says]), encoding="utf-8")
                return WRONG
        last = 0
        for memory in held:
            number = which(state_of(memory, model), states[last:])
            if number is None:
                note.write_text(json.dumps([len(held), f"no whole state: or one older than {last}"]), encoding="utf-8")
                return WRONG
            last += number
        note.write_text(json.dumps([len(held), ""]), encoding="utf-8")
        return DONE

    codes = at_once(this, said_by(write, this.place / "write.err"), read)
    loads, fault = json.loads(note.read_text(encoding="utf-8")) if note.exists() else (1, f"ended otherwise: codes {codes}")
    if not fault and codes != [DONE, DONE]:
        fault = f"ended otherwise: {codes}"
    for _ in range(loads - 1):
        this.report(row)
    this.report(row, fault.split(":")[0] if fault else RIGHT, fault)


def readers_by_command(this: Round) -> None:
    """``mplus info`` and ``mplus ask`` while a process saves: an answer, never a complaint."""
    row, name, place = "mplus info and ask beside a writer", model_beside(this.place), this.place / "memory"
    file = text_file(this.place / "a.txt", this.random)
    text_memory(place, [file], name)
    model = opened(name)

    def write() -> None:
        memory = Memory.load(place, model)
        for number in range(8):
            memory.write(ids(40, number), source="b")
            memory.save(place)

    notes = [this.place / f"{number}.err" for number in range(3)]
    readers = [["info", str(place), "--json"], ["ask", str(place), "Who has a boat?", "--model", name, "--max-new-tokens", "4"]]
    works = [said_by(write, notes[2]), *(quiet(one, note) for one, note in zip(readers, notes[:2], strict=True))]
    codes = at_once(this, *works, delay_s=0.05)
    for code, note, what in zip(codes, [notes[2], *notes[:2]], ["write", "info", "ask"], strict=True):
        says = note.read_text(encoding="utf-8") if note.exists() else ""
        this.report(f"{row}: {what}", RIGHT if code == DONE else "a false refusal", f"exit code {code}: {says}")
