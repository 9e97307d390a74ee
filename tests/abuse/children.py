"""Rounds of an attack in processes of their own, so that a crash or a hang is counted and ends nothing else.

Children come from a server process that has imported everything and started no thread; each takes one round after the other
until it dies, hangs, or is done. Knows nothing of what a round does.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import random
import signal
import tempfile
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

from tests.abuse.counts import RIGHT, Counts, verdict_of

Work = Callable[[], object]
ROUND_S = 120.0
"""A round that takes longer hangs: a hundred times what the slowest takes on an idle core."""
IMPORTS_S = 180.0
"""What the first child waits at most for the imports of the server it comes from."""


class Hang(Exception):
    """Threads of this process wait for ever; it is of no more use."""


class Round:
    """One round: its random numbers, its directory, and whom to report to."""

    def __init__(self, connection: Connection, seed: int, number: int, place: Path) -> None:
        self.random = random.Random(f"{seed} {number}")
        self.number = number
        self.place = place
        self.wrong = 0
        self._connection = connection
        self._label = _label(seed, number)

    def report(self, row: str, verdict: str = RIGHT, example: str = "") -> None:
        """Count one attempt."""
        self.wrong += verdict not in (RIGHT, "refused")
        self._connection.send(("count", row, verdict, f"{' '.join(example.split())[:300]} {self._label}"))

    def report_error(self, row: str, error: BaseException, note: str = "") -> None:
        """Count an attempt that ended in an exception."""
        verdict, says = verdict_of(error)
        self.report(row, verdict, f"{note}{says}")


OneRound = Callable[[Round], None]


def run_rounds(one_round: OneRound, seed: int, rounds: int, first: int = 0, *, round_s: float = ROUND_S) -> Counts:
    """Do rounds `first` to `first + rounds` and count what they report.

    Args:
        one_round: a function of a module; it reports to the ``Round`` it is given.
        round_s: seconds after which a round hangs.
    """
    counts, number, end = Counts(), first, first + rounds
    while number < end:
        counts, number = _one_child(one_round, seed, number, end, counts, round_s)
    return counts


def _one_child(one_round: OneRound, seed: int, number: int, end: int, counts: Counts, round_s: float) -> tuple[Counts, int]:
    """Rounds in one child as long as it lives; returns the counts and the next round to do."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.abuse.preloaded"])
    ours, theirs = context.Pipe()
    with tempfile.TemporaryDirectory(prefix="mplus-abuse-", ignore_cleanup_errors=True) as place:
        child = context.Process(target=_child, args=(theirs, one_round, seed, number, end, place))
        child.start()
        theirs.close()
        deadline = time.monotonic() + IMPORTS_S
        try:
            while ours.poll(max(0.0, deadline - time.monotonic())):
                kind, *said = ours.recv()
                if kind == "count":
                    counts = counts.with_one(*said)
                elif kind == "round":
                    number, deadline = said[0], time.monotonic() + round_s
                else:
                    return counts, said[0]
            return counts.with_one("rounds", "hang", _label(seed, number)), number + 1
        except EOFError:
            child.join(10)
            return counts.with_one("rounds", "crash", f"exit code {child.exitcode} {_label(seed, number)}"), number + 1
        finally:
            _end(child.pid)
            child.join()
            ours.close()


def _label(seed: int, number: int) -> str:
    return f"[--seed {seed} --first {number} --rounds 1]"


def _end(pid: int | None) -> None:
    """Kill a child and whatever it started."""
    if pid is None:
        return
    for kill in (os.killpg, os.kill):
        try:
            kill(pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            continue


def _child(connection: Connection, one_round: OneRound, seed: int, number: int, end: int, place: str) -> None:
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    for one in range(number, end):
        connection.send(("round", one))
        here = Path(place) / str(one)
        here.mkdir()
        this = Round(connection, seed, one, here)
        try:
            one_round(this)
        except Hang as error:
            this.report("rounds", "hang", str(error))
            end = one + 1
            break
        except BaseException as error:
            where = traceback.extract_tb(error.__traceback__)
            at = " < ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in where[:-4:-1])
            this.report("rounds", f"raised {type(error).__name__}", f"{error} ({at})")
        gc.collect()
    connection.send(("end", end))
    os._exit(0)


def forked(work: Work) -> int:
    """Start work in a copy of this process; returns its id."""
    gc.collect()  # what is garbage here holds no lock there
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        result = work()
        code = result if isinstance(result, int) else 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def exit_code(pid: int, timeout_s: float = 60.0) -> int | None:
    """Wait for a copy; its exit code (minus the signal that ended it), None if it hangs and was killed."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.001)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return None
