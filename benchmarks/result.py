"""Result of a run, as data, as JSON and on disk. Computes nothing with models.

Schema 1 promises schema, what, model, kind, ratios, spread, targets, environment and raw; ratios can be computed again from raw.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.machine import Limits
from benchmarks.ratios import gains, spreads, targets
from benchmarks.timing import Spread
from mplus.errors import InputError
from mplus.runtime.atomic import replace_files

SCHEMA: Final = 1
WHAT: Final = "mplus bench"


@dataclass(frozen=True, kw_only=True)
class Result:
    """Raw numbers of a run with its environment."""

    model: str
    kind: str
    raw: dict[str, Any]
    environment: dict[str, Any]
    notes: list[str]

    @property
    def spreads(self) -> dict[str, Spread]:
        """See ``ratios.spreads``."""
        return spreads(self.raw)

    @property
    def gains(self) -> dict[str, dict[str, dict[str, float]]]:
        """See ``ratios.gains``; empty without an ablation."""
        part = self.raw.get("switches")
        if not part:
            return {}
        return gains(part, Limits(**self.environment["limits"]), self.environment["hardware"]["dtype"])

    def to_text(self) -> str:
        """The content of the file."""
        spreads = self.spreads
        content = {
            "schema": SCHEMA,
            "what": WHAT,
            "model": self.model,
            "kind": self.kind,
            "ratios": {name: _rounded(one.median) for name, one in spreads.items()},
            "spread": {name: [_rounded(one.low), _rounded(one.high)] for name, one in spreads.items()},
            "targets": targets(spreads),
            "gains": self.gains,
            "environment": self.environment,
            "notes": self.notes,
            "raw": self.raw,
        }
        return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def check_profile(file: Path) -> None:
    """Refuse to replace a text that is no profile of ours.

    Raises:
        InputError: it is not.
    """
    with contextlib.suppress(FileNotFoundError):
        if not file.read_text(encoding="utf-8", errors="replace").startswith("first token, "):
            raise InputError(
                f"'{file}' exists and is no profile of mplus bench, which alone would be replaced; give another --out"
            )


def check_file(file: Path) -> None:
    """Refuse a place where the result cannot be stored before minutes of computing are spent on it.

    An earlier result of ``mplus bench`` is replaced; anything else that stands there is kept.

    Raises:
        InputError: not writable, a directory, or a file that is not ours.
    """
    if file.suffix == ".png":
        raise InputError(
            f"the result is JSON and its picture lies beside it as .png; give a name like '{file.with_suffix('.json')}'"
        )
    if file.is_dir():
        raise InputError(f"'{file}' is a directory; give a file like '{file / 'bench.json'}'")
    folder = file.absolute().parent
    nearest = next(place for place in (folder, *folder.parents) if place.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise InputError(f"the result cannot be stored in '{file}': {nearest} may not be written; give another file with --out")
    if file.exists() and not _is_ours(file):
        raise InputError(f"'{file}' exists and is no result of mplus bench, which alone would be replaced; give another --out")
    picture = file.with_suffix(".png")
    if picture.exists() and not file.exists():
        raise InputError(f"'{picture}' exists and belongs to no result of mplus bench; give another --out")


def _is_ours(file: Path) -> bool:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and content.get("what") == WHAT and content.get("schema") == SCHEMA


def store(file: Path, text: str, draw: Callable[[Path], None] | None) -> list[Path]:
    """Replace a result and, if there is one, its picture, together; returns their paths."""
    file.parent.mkdir(parents=True, exist_ok=True)
    writers: dict[Path, Callable[[Path], object]] = {file: lambda path: path.write_text(text, encoding="utf-8")}
    if draw is not None:
        writers[file.with_suffix(".png")] = draw
    return replace_files(writers)


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")
