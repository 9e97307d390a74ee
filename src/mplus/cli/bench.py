"""`mplus bench`: runs the benchmark of a checkout. Knows where it lies, not what it measures."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Final

import typer

import mplus
from mplus.errors import MPlusError

FORWARDED: Final = {"allow_extra_args": True, "ignore_unknown_options": True, "allow_interspersed_args": False}
"""Settings of the command: the benchmark reads its own options, ``--help`` included."""


def bench(context: typer.Context) -> int:
    """Measure speed and memory against the paper's procedure and plain transformers (from a checkout only)."""
    package = Path(mplus.__file__).resolve().parent
    root = package.parents[1]
    if not (root / "benchmarks" / "command.py").is_file():
        raise MPlusError(
            f"mplus bench needs benchmarks/, which lies in the repository and not in the package installed in {package}; "
            "clone the repository, run `make setup` there, then `.venv/bin/mplus bench`"
        )
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    code: int = import_module("benchmarks.command").run_command(context.args)
    return code
