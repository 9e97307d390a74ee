"""kill -9 of a server that writes and forgets: what it acknowledged is there when it starts again, what it forgot is nowhere.

A child works on one home under several scopes, many things at once, and tells each act before it begins and when it was acknowledged.
It is killed at a moment; the parent opens the home and compares. What was begun and not acknowledged may be there or not, whole.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from mplus.server.engine import Engine
from mplus.server.errors import NotFoundError
from mplus.server.memories import upkeep
from mplus.server.scope import Scope
from mplus.server.settings import ServerSettings
from tests.abuse import models
from tests.abuse.children import Round, exit_code, forked, run_rounds
from tests.abuse.counts import RIGHT, Counts
from tests.abuse.processes import said_by

SCOPES = [Scope("acme", "anna"), Scope("acme", "ben"), Scope("umbrella", "anna")]
AT_ONCE, KILLS, LONGEST_S = 4, 3, 1.5
Held = dict[tuple[str, str, str], str]
"""Tenant, memory and source to its text."""


def run(seed: int, rounds: int, first: int = 0) -> Counts:
    """A few kills a round, of servers on the same home one after the other."""
    return run_rounds(one_round, seed, rounds, first)


def one_round(this: Round) -> None:
    """Start, work, kill, open, compare; several times on one home."""
    models.text_model()
    held: Held = {}
    for number in range(KILLS):
        notes = this.place / f"acts-{number}"
        seed = this.random.random()
        pid = forked(said_by(partial(works, this.place / "home", notes, seed), this.place / "err"))
        wait_until(notes.exists)
        time.sleep(this.random.uniform(0.0, LONGEST_S))
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        if (code := exit_code(pid)) != -signal.SIGKILL:
            this.report("a killed server", "it ended by itself", f"exit code {code} {_said(this.place / 'err')}")
            return
        lines = [json.loads(line) for line in notes.read_text(encoding="utf-8").splitlines() if line.endswith("}")]
        fault, held = asyncio.run(compared(this.place / "home", held, lines))
        acknowledged = sum(line["done"] for line in lines)
        for _ in range(max(1, acknowledged)):
            this.report("acknowledged acts", fault.split(":")[0] or RIGHT, fault)
        if fault:
            return


def _said(note: Path) -> str:
    return note.read_text(encoding="utf-8") if note.exists() else ""


def wait_until(holds: Callable[[], bool]) -> None:
    """Wait for the child to begin."""
    limit = time.monotonic() + 30
    while not holds() and time.monotonic() < limit:
        time.sleep(0.001)


# -- the child ---------------------------------------------------------------------------------------------------------


def works(home: Path, notes: Path, seed: float) -> None:
    """Work until it is killed."""
    asyncio.run(work(home, notes, seed))


async def work(home: Path, notes: Path, seed: float) -> None:
    """Write, replace and forget without end."""
    upkeep.SAVE_AFTER_S, upkeep.LOOK_S = 0.1, 0.02
    engine = Engine(models.text_model(), ServerSettings(home=home))
    await engine.start()
    file = os.open(notes, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    await asyncio.gather(*(one_client(engine, file, random.Random(f"{seed} {number}"), number) for number in range(AT_ONCE)))


async def one_client(engine: Engine, file: int, chance: random.Random, number: int) -> None:
    """One client, with sources of its own."""
    mine: list[tuple[Scope, str]] = []
    prefix = f"{chance.random():.12f}-{number}"
    while True:
        what = chance.choice(["write", "write", "write", "forget", "replace"])
        if what == "write" or not mine:
            scope, source = chance.choice(SCOPES), f"{prefix}-{len(mine)}-{chance.random():.6f}"
            act = {"what": "write", "scope": [scope.tenant, scope.memory], "source": source, "text": secret(chance)}
            tell(file, act, done=False)
            await engine.write(scope, act["text"], source=source)  # type: ignore[arg-type]
            mine.append((scope, source))
        else:
            scope, source = mine[chance.randrange(len(mine))]
            act = {"what": what, "scope": [scope.tenant, scope.memory], "source": source, "text": secret(chance)}
            tell(file, act, done=False)
            if what == "forget":
                mine.remove((scope, source))
                await engine.forget(scope, [source])
            else:
                await engine.replace(scope, source, act["text"])  # type: ignore[arg-type]
        tell(file, act, done=True)


def secret(chance: random.Random) -> str:
    """A text that stands nowhere else."""
    return " ".join(f"{chance.getrandbits(40):010x}" for _ in range(chance.randint(1, 12)))


def tell(file: int, act: dict[str, Any], *, done: bool) -> None:
    """A line that a kill does not take back."""
    os.write(file, json.dumps({**act, "done": done}).encode() + b"\n")


# -- the parent --------------------------------------------------------------------------------------------------------


async def compared(home: Path, held: Held, lines: list[dict[str, Any]]) -> tuple[str, Held]:
    """What is wrong with what a killed server has left, "" if nothing is; and what it holds now."""
    expected, open_acts, gone = dict(held), dict[tuple[str, str, str], dict[str, Any]](), list[str]()
    for line in lines:
        key = (*line["scope"], line["source"])
        if not line["done"]:
            open_acts[key] = line
            continue
        del open_acts[key]
        if line["what"] != "write":
            gone.append(expected.pop(key))
        if line["what"] != "forget":
            expected[key] = line["text"]
    found = await contents(home)
    for key, act in open_acts.items():  # it may have been done
        after = None if act["what"] == "forget" else act["text"]
        if found.get(key) == after and after != expected.get(key):
            expected.pop(key, None)
            expected |= {} if after is None else {key: after}
    lost = [key for key, text in expected.items() if found.get(key) != text]
    if lost:
        return f"a lost or changed write: {lost[0]} is {found.get(lost[0])!r:.60}", found
    if extra := found.keys() - expected.keys():
        return f"a forgotten source is there: {min(extra)}", found
    return files_fault(home, gone), found


async def contents(home: Path) -> Held:
    """All that a server started on a home answers."""
    engine, found = Engine(models.text_model(), ServerSettings(home=home)), Held()
    await engine.start()
    try:
        for scope in SCOPES:
            with contextlib.suppress(NotFoundError):
                for one in await engine.sources(scope):
                    found[scope.tenant, scope.memory, one.name] = await engine.text(scope, one.name)
    finally:
        await engine.stop()
    return found


def files_fault(home: Path, gone: list[str]) -> str:
    """What of a forgotten text, or of a killed process, lies in a home that was stopped."""
    files = [path for path in home.rglob("*") if path.is_file()]
    for path in files:
        if path.suffix in (".journal", ".removed") or path.name.startswith((".saving", ".aside")):
            return f"left over: {path.name}"
        content = path.read_bytes()
        if any(text.encode() in content or ids_of(text) in content for text in gone):
            return f"a forgotten text lies in a file: {path.name}"
    return ""


def ids_of(text: str) -> bytes:
    """Token ids of a text as a data file has them, but for its first ones, which depend on what stands before."""
    import numpy

    return bytes(numpy.asarray(models.text_model().tokenize(text)[2:8], dtype=numpy.int32).tobytes())
