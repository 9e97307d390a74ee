"""Sessions of a run, and the seconds of each system: on disk soon enough that a killed run is counted too. Knows no models."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Final

from mplus.runtime.atomic import replace_files

SESSIONS: Final = "sessions.jsonl"
"""A line for each time the run was begun or gone on with."""

_SAVE_EVERY_S: Final = 10.0


class Sessions:
    """Earlier sessions of a directory, and this one.

    Args:
        path: of the file; its lines are kept.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._earlier = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        self._began = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self._own: dict[str, float] = {}
        self._saved = time.monotonic()

    def spend(self, name: str, seconds: float) -> None:
        """Count seconds for a system, or for reading."""
        self._own[name] = self._own.get(name, 0.0) + seconds
        if time.monotonic() - self._saved > _SAVE_EVERY_S:
            self.save()

    def save(self) -> None:
        """Put all on disk."""
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        line = json.dumps({"began": self._began, "last": now, "seconds_of": {k: round(v, 1) for k, v in self._own.items()}})
        text = "".join(f"{one}\n" for one in [*self._earlier, line])
        replace_files({self.path: lambda path: path.write_text(text, encoding="utf-8")})
        self._saved = time.monotonic()

    @property
    def count(self) -> int:
        """Sessions, this one among them."""
        return len(self._earlier) + 1

    @property
    def seconds(self) -> dict[str, float]:
        """Of each system and of reading, over all sessions."""
        found: dict[str, float] = {}
        for one in [*(json.loads(line)["seconds_of"] for line in self._earlier), self._own]:
            for name, value in one.items():
                found[name] = found.get(name, 0.0) + value
        return {name: round(value, 1) for name, value in found.items()}
