"""A server of `mplus serve` in a process of its own: start, kill, memory. Knows no request but whether it is ready.

The process is forked from one that has imported the packages and done nothing else, so that a hundred starts do not import them a hundred
times; what runs in it is the command.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import httpx

from mplus.server.keys import add_key

MIB = 1 << 20
START_TIMEOUT_S = 180.0
STOP_TIMEOUT_S = 60.0
IMPORTED = [
    "benchmarks.serving_process",
    "mplus.cli.serve",
    "mplus.cli.serve_keys",
    "mplus.checkpoints.loading",
    "mplus.inference.writer",
    "mplus.server.app",
    "peft",
    "transformers.models.auto.modeling_auto",
    "transformers.models.auto.tokenization_auto",
    "transformers.models.llama.modeling_llama",
]


def tiny_model_at(folder: Path) -> Path:
    """Store the tiny model that tests use, with its base, so that a server can open it."""
    from tests.tiny import text_model

    text_model(positions=1024).save_pretrained(folder, include_base=True)
    return folder


def keys_of(path: Path, tenants: int) -> dict[str, str]:
    """Make a key for each of some tenants; tenant to key."""
    return {tenant: add_key(path, tenant)[1] for tenant in (f"tenant-{number}" for number in range(tenants))}


@dataclass(kw_only=True)
class ServerProcess:
    """One server; ``start`` may be called again after ``kill``, on the same home.

    Attributes:
        options: further arguments of `mplus serve`.
        log: where its log goes; it is added to.
        rss_bytes: resident memory, four times a second.
    """

    model: str
    home: Path
    keys: Path
    log: Path
    options: tuple[str, ...] = ()
    address: str = ""
    rss_bytes: list[int] = field(default_factory=list)
    _process: ForkServerProcess | None = None

    def start(self) -> float:
        """Start it; gives the seconds until it was ready.

        Raises:
            RuntimeError: it ended, or was not ready in time.
        """
        begun = time.monotonic()
        said = self.keys.with_name(f"{self.home.name}-said")
        said.unlink(missing_ok=True)
        arguments = ["serve", "--model", self.model, "--home", str(self.home), "--port", "0", "--api-keys", str(self.keys)]
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(IMPORTED)
        self._process = context.Process(target=_serve, args=([*arguments, "--json", *self.options], said, self.log), daemon=True)
        self._process.start()
        self._wait(begun, lambda: said.exists() and said.read_text(encoding="utf-8").endswith("\n"))
        self.address = json.loads(said.read_text(encoding="utf-8"))["address"]
        self._wait(begun, lambda: httpx.get(self.address + "/ready").status_code == 200)
        threading.Thread(target=self._sample, args=(self._process,), daemon=True).start()
        return time.monotonic() - begun

    def kill(self) -> None:
        """End it at once, as a crash does."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process = None

    def stop(self) -> int | None:
        """Ask it to end (SIGTERM); gives its exit code, None where it did not end in time."""
        if self._process is None:
            return 0
        self._process.terminate()
        self._process.join(STOP_TIMEOUT_S)
        code = self._process.exitcode
        self.kill()
        return code

    def _wait(self, begun: float, until: Callable[[], bool]) -> None:
        while time.monotonic() < begun + START_TIMEOUT_S and self._process is not None and self._process.is_alive():
            try:
                if until():
                    return
            except httpx.HTTPError:
                pass  # it listens before it answers, and may end meanwhile
            time.sleep(0.05)
        self.kill()
        raise RuntimeError(f"the server did not start; its log is {self.log}:\n{self.log.read_text(encoding='utf-8')[-2000:]}")

    def _sample(self, process: ForkServerProcess) -> None:
        while process is self._process and (rss := resident_bytes(process.pid)) is not None:
            self.rss_bytes.append(rss)
            time.sleep(0.25)


def _serve(arguments: list[str], said: Path, log: Path) -> None:
    """Be the command, in the process that was made for it."""
    for path, descriptor in ((said, 1), (log, 2)):
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(opened, descriptor)
        os.close(opened)
    sys.stdout, sys.stderr = os.fdopen(1, "w", encoding="utf-8"), os.fdopen(2, "w", encoding="utf-8", buffering=1)
    from mplus.cli import main

    raise SystemExit(main(arguments))


def resident_bytes(pid: int | None) -> int | None:
    """Resident memory of a process; None where it has ended."""
    try:
        fields = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()
        return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") or None
    except (OSError, IndexError):
        return None
