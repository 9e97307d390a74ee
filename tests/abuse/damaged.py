"""Damaged files of a stored memory: the right memory, or one sentence; never a traceback, a hang, or another memory."""

from __future__ import annotations

import gc
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from mplus import Memory, MPlusModel
from mplus.errors import MPlusError
from tests.abuse import models
from tests.abuse.children import Round, run_rounds
from tests.abuse.counts import REFUSED, RIGHT, Counts, verdict_of
from tests.abuse.models import ids
from tests.abuse.states import State, difference, state_of
from tests.abuse.stored import command, one_line

ROUND_S = 15.0
"""Of a FIFO that is waited for; else a round takes a twentieth of a second."""
FACTS = ("tokens_read", "stm_tokens", "ltm_tokens", "pending_tokens", "chunks", "sources", "model")


def run(seed: int, rounds: int, first: int = 0) -> Counts:
    """One damage a round: a load, and ``mplus info``."""
    return run_rounds(one_round, seed, rounds, first, round_s=ROUND_S)


class Whole:
    """A stored memory, an older state of it and another one, whose files are mixed in."""

    def __init__(self, place: Path, model: MPlusModel, setup: str, form: str) -> None:
        self.place, self.older, self.other = place / "whole", place / "older", place / "other"
        memory = self._memory(model, self.place if form == "segments" else "ram", 3)
        memory.save(self.older)
        memory.write(ids(43, 4), source="b")
        memory.write(ids(1, 5), source="waits")
        memory.save(self.place)
        self.state: State = state_of(memory, model)
        self._memory(model, "ram", 9).save(self.other)
        self.told = json.loads(command("info", str(self.place), "--json")[1])

    @staticmethod
    def _memory(model: MPlusModel, store: Any, seed: int) -> Memory:
        memory = model.new_memory(seed=seed, store=store)
        memory.write(ids(70, seed), source="a")
        return memory


WHOLES: dict[tuple[str, str], Whole] = {}
"""Of this process."""


def whole_of(this: Round, model: MPlusModel, setup: str, form: str) -> Whole:
    """Made once per process."""
    if (setup, form) not in WHOLES:
        place = this.place.parent / f"{setup}-{form}"
        place.mkdir()
        WHOLES[setup, form] = Whole(place, model, setup, form)
        gc.collect()
    return WHOLES[setup, form]


def one_round(this: Round) -> None:
    """Copy, damage, load, look."""
    models.use_small_segments()
    setup, form = this.random.choice(["shared", "shared", "per_layer", "output"]), this.random.choice(["ram", "segments"])
    model = models.model_of(setup)
    whole, place = whole_of(this, model, setup, form), this.place / "memory"
    shutil.copytree(whole.place, place)
    name, damage = this.random.choice(DAMAGES)
    what = damage(this.random, place, whole)
    in_place, row = this.random.random() < 0.4, f"load, {form}, {name}"
    before = _files(place)
    try:
        memory = Memory.load(place, model, store=place if in_place else None, check_rows=True)
        found = difference(state_of(memory, model), whole.state)
        this.report(row, "another memory" if found else RIGHT, f"{what}: {found or ''}")
        del memory
    except MPlusError as error:
        verdict = verdict_of(error)[0]
        lost = _files(place) != before
        this.report(row, "a refused load changed files" if lost else verdict, f"{what}: {error}")
    except BaseException as error:
        this.report_error(row, error, f"{what}: ")
    gc.collect()
    _told(this, place, whole, f"info, {name}", what)


def _files(place: Path) -> list[str]:
    return sorted(path.name for path in place.iterdir() if "lock" not in path.name) if place.is_dir() else []


def _told(this: Round, place: Path, whole: Whole, row: str, what: str) -> None:
    """``mplus info`` says the truth, or one line."""
    try:
        code, out, err = command("info", str(place), "--json")
    except BaseException as error:
        this.report_error(row, error, f"{what}: ")
        return
    if code:
        this.report(row, REFUSED if code == 2 and one_line(err) else "no sentence", f"{what}: exit code {code}, {err}")
        return
    told = json.loads(out)
    exchanged = row.endswith("mixed")  # a whole manifest of another memory: only a load can know
    changed = [fact for fact in FACTS if told.get(fact) != whole.told.get(fact) and not exchanged]
    this.report(row, "told otherwise" if changed else RIGHT, f"{what}: {[(fact, str(told.get(fact))[:60]) for fact in changed]}")


# -- damages: each changes the directory and says what it did ----------------------------------------------------------

Damage = Callable[[Random, Path, Whole], str]


def _any(random: Random, place: Path, suffix: str = "") -> Path:
    files = [path for path in sorted(place.rglob(f"*{suffix}")) if path.is_file() and "lock" not in path.name]
    return random.choice(files)


def flipped(random: Random, place: Path, whole: Whole) -> str:
    """Some bits of a file."""
    path = _any(random, place)
    data = bytearray(path.read_bytes())
    spots = [random.randrange(len(data)) for _ in range(random.choice([1, 1, 3]))]
    for spot in spots:
        data[spot] ^= 1 << random.randrange(8)
    replace(path, bytes(data))
    return f"bits of {path.name} at {spots}"


def replace(path: Path, data: bytes) -> None:
    """A file of its own: the old one may be linked."""
    path.unlink()
    path.write_bytes(data)


def cut(random: Random, place: Path, whole: Whole) -> str:
    """A file ends early, or has more."""
    path = _any(random, place)
    data = path.read_bytes()
    size = random.choice([0, 1, random.randrange(len(data)), len(data) - 1])
    more = random.random() < 0.3
    replace(path, data + data[:size] if more else data[:size])
    return f"{path.name} {'with' if more else 'cut to'} {size} bytes{' more' if more else ''}"


def gone(random: Random, place: Path, whole: Whole) -> str:
    """A file is missing, or something else."""
    path, how = (
        _any(random, place),
        random.choice(["missing", "a directory", "a FIFO", "a loop", "a link to nothing", "not readable"]),
    )
    path.unlink()
    if how == "a directory":
        path.mkdir()
    elif how == "a FIFO":
        os.mkfifo(path)
    elif how == "a loop":
        path.symlink_to(path)
    elif how == "a link to nothing":
        path.symlink_to(path.with_name("nothing"))
    elif how == "not readable":
        path.write_bytes(random.randbytes(200))
    return f"{path.name} is {how}"


def mixed(random: Random, place: Path, whole: Whole) -> str:
    """A file of an older state, of another memory, or two of one exchanged."""
    path, source = _any(random, place), random.choice([whole.older, whole.other, place])
    other = _any(random, source, path.suffix)
    data = path.read_bytes()
    replace(path, other.read_bytes())
    if source == place and other != path:
        replace(other, data)
    return f"{path.name} is {other.name} of {source.name}"


def spots(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """BlockTable of all values in JSON."""
    out = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        out += spots(inner, (*path, key))
    return out


def changed_value(random: Random, value: Any) -> Any:
    """Something else of the same kind, or of another."""
    strange: list[Any] = [None, True, "", "x", -1, 0, 2**63, 10**30, 1e308, 0.5, [], {}, [[]], "../../etc/passwd", "\ud83d"]
    if isinstance(value, bool) or value is None or random.random() < 0.4:
        return random.choice(strange)
    if isinstance(value, int):
        return random.choice([value + 1, value - 1, -value, value * 2, 101, 10**6])
    if isinstance(value, str):
        return random.choice([value + "x", value[:-1], value[::-1]])
    if isinstance(value, list):
        return random.choice([value[:-1], value[1:], value + value[-1:], value[::-1], [*value, value]])
    return {**value, "x": 1} if isinstance(value, dict) else 2.5


def in_json(random: Random, place: Path, whole: Whole) -> str:
    """One value of the manifest is another, missing or twice."""
    path = _any(random, place, ".json")
    data = json.loads(path.read_text(encoding="utf-8"))
    spot = random.choice(spots(data))
    holder = data
    for key in spot[:-1]:
        holder = holder[key]
    old = holder[spot[-1]]
    if random.random() < 0.2:
        del holder[spot[-1]]
        what = "deleted"
    else:
        holder[spot[-1]] = new = changed_value(random, old)
        what = f"{str(old)[:40]} -> {str(new)[:40]!r}"
    path.write_text(json.dumps(data, indent=1), encoding="utf-8")
    return f"{path.name} {'.'.join(map(str, spot))[:80]}: {what}"


def as_text(random: Random, place: Path, whole: Whole) -> str:
    """JSON that is no JSON, or more than a parser takes."""
    path = _any(random, place, ".json")
    text = path.read_text(encoding="utf-8")
    numbers = [at for at in range(1, len(text)) if text[at].isdigit() and text[at - 1] == " "]
    at = random.choice(numbers)
    end = next(spot for spot in range(at, len(text)) if not text[spot].isdigit() and text[spot] != ".")
    value = random.choice(
        ["NaN", "Infinity", "-Infinity", "1e999", "9" * 5000, "[" * 20_000, '{"a":' * 20_000, "", "1" + "0" * 18]
    )
    name = '"format": 1, ' if random.random() < 0.2 else ""
    path.write_text("{" + name + text[1:at] + value + text[end:], encoding="utf-8")
    return f"{path.name} at {text[max(0, at - 24) : at]!r}: {value[:12]}{' and format twice' if name else ''}"


def twice(random: Random, place: Path, whole: Whole) -> str:
    """A key of the manifest is there twice, the second time with another value."""
    path = _any(random, place, ".json")
    text = path.read_text(encoding="utf-8").rstrip()
    key, value = random.choice([item for item in json.loads(text).items() if not isinstance(item[1], dict)])
    new = changed_value(random, value)
    path.write_text(f"{text[:-1]},{json.dumps(key)}: {json.dumps(new)}}}", encoding="utf-8")
    return f"{path.name} {key} twice, then {str(new)[:40]!r}"


DAMAGES: list[tuple[str, Damage]] = [
    ("bits", flipped),
    ("cut", cut),
    ("gone", gone),
    ("mixed", mixed),
    ("a value", in_json),
    ("a value", in_json),
    ("text", as_text),
    ("a key twice", twice),
]
