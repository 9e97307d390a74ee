"""Stored memories that attacks work on, and what must hold of a directory. Knows no attack."""

from __future__ import annotations

import contextlib
import gc
import hashlib
import io
import shutil
from pathlib import Path
from random import Random

from mplus import Memory, MPlusModel
from mplus.cli import main
from tests.abuse import models
from tests.abuse.models import ids
from tests.abuse.states import State, difference, state_of

WORDS = ["the harbour", "a red boat", "two cats", "Ilse", "Odo", "the clock", "in Graz", "since 1912", "a market", "music"]


def sentence(random: Random, words: int = 14) -> str:
    """Text of no meaning, longer than what would wait."""
    return " ".join(random.choice(WORDS) for _ in range(words)).capitalize() + ".\n"


def texts(seed: int, count: int) -> list[list[int]]:
    """Token ids for several writes."""
    return [ids(40, 1000 * seed + number) for number in range(count)]


def states_along(model: MPlusModel, written: list[list[int]], seed: int = 3) -> list[State]:
    """Of a new memory in RAM, and after each text."""
    memory = model.new_memory(seed=seed)
    out = [state_of(memory, model)]
    for text in written:
        memory.write(text, source="a")
        out.append(state_of(memory, model))
    return out


def stored_state(place: Path, model: MPlusModel, *, in_place: bool = False) -> State:
    """What a directory holds.

    Raises:
        MPlusError: it does not open.
    """
    memory = Memory.load(place, model, store=place if in_place else None)
    try:
        return state_of(memory, model)
    finally:
        del memory
        gc.collect()


def listing(place: Path) -> dict[str, str]:
    """Files of a directory with their hashes, locks aside."""
    if not place.exists():
        return {}
    return {
        str(path.relative_to(place)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(place.rglob("*"))
        if path.is_file() and "lock" not in path.name
    }


def left_over(place: Path, model: MPlusModel) -> str | None:
    """Files that a save into an empty directory would not have; None where there are none."""
    memory, fresh = Memory.load(place, model), place.with_name(place.name + "-fresh")
    memory.save(fresh)
    found, needed = listing(place), listing(fresh)
    shutil.rmtree(fresh)
    extra = len(found) - len(needed)
    return f"{extra} files too many: {', '.join(found)[:200]}" if extra > 0 else None


def goes_on(place: Path, model: MPlusModel) -> str | None:
    """What is wrong with the next load, write and save, and what they leave; None if nothing is."""
    memory = Memory.load(place, model)
    memory.write(ids(16, 5), source="b")
    expected = state_of(memory, model)
    memory.save(place)
    if found := difference(stored_state(place, model), expected):
        return f"the next save is another: {found}"
    return left_over(place, model)


def command(*arguments: str) -> tuple[int, str, str]:
    """Run ``mplus`` in this process: exit code, stdout, stderr."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(list(arguments))
    gc.collect()
    return code, out.getvalue(), err.getvalue()


def one_line(err: str) -> bool:
    """Whether stderr ends in our one line and holds no traceback."""
    lines = [line for line in err.splitlines() if line.strip()]
    return bool(lines) and lines[-1].startswith("mplus: ") and "Traceback" not in err


def text_memory(place: Path, files: list[Path], model: str) -> None:
    """A memory in `place` that ``mplus write`` made."""
    code, _, err = command("write", str(place), *map(str, files), "--model", model)
    if code:
        raise ValueError(err)


def text_file(path: Path, random: Random) -> Path:
    """A file to write."""
    path.write_text(sentence(random), encoding="utf-8")
    return path


def opened(model_directory: str) -> MPlusModel:
    """The model behind ``--model``, for looking at what the command stored."""
    if model_directory not in _OPENED:
        _OPENED.clear()
        _OPENED[model_directory] = MPlusModel.from_pretrained(model_directory)
    return _OPENED[model_directory]


def forget() -> None:
    """Open the model anew."""
    _OPENED.clear()


_OPENED: dict[str, MPlusModel] = {}


def model_beside(place: Path) -> str:
    """The text model's directory of this process, made if absent."""
    directory = place.parent / "model"
    return str(directory) if directory.exists() else models.store_text_model(directory)
