"""Options that several commands share."""

from __future__ import annotations

import os
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from mplus.checkpoints.base_models.base import DEFAULT_NAME
from mplus.cli import terminal
from mplus.errors import MPlusError
from mplus.memory.home import VARIABLE, Home
from mplus.memory.stored import read_stored
from mplus.runtime.input_file import expanded, is_address

__all__ = [
    "DEFAULT_NAME",
    "LARGEST_SEED",
    "MOST_TOKENS",
    "AsJson",
    "DType",
    "Device",
    "HomeDirectory",
    "MemoryDirectories",
    "MemoryDirectory",
    "MemoryPlace",
    "MinConfidence",
    "ModelName",
    "NewMemory",
    "NumberType",
    "Verbose",
    "a_memory",
    "a_path",
    "a_place",
    "a_size",
    "a_time",
    "example",
    "memory_names",
    "source_names",
]

MOST_TOKENS = 10_000_000
"""Of one text, answer or size that is typed."""
LARGEST_SEED = 2**63 - 1


class NumberType(StrEnum):
    """In which weights are opened."""

    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


def a_path(given: str | Path) -> Path:
    """A path as it is typed, with `~` replaced by the home directory; also a default, which is one already."""
    return expanded(_checked(str(given)))


def a_memory(given: str | Path) -> str | Path:
    """A memory as it is typed: `./notes` stays another word than `notes`."""
    _checked(str(given))
    return given


def a_place(given: str) -> str:
    """A file as it is typed: a path, with `~` replaced by the home directory, or an address that fsspec opens."""
    text = _checked(str(given))
    return text if is_address(text) else str(expanded(text))


def a_time(given: str | datetime) -> datetime:
    """A day or a moment of local time, as ISO 8601 writes it."""
    if isinstance(given, datetime):
        return given
    try:
        return datetime.fromisoformat(given.strip()).astimezone()
    except (ValueError, OverflowError, OSError):
        raise typer.BadParameter(
            f"{given!r:.40} is no time; expected a day or a moment, like 2026-11-28 or 2026-11-28T09:30"
        ) from None


UNITS = {"K": 10, "M": 20, "G": 30, "T": 40}
"""Letters of sizes to powers of two."""


def a_size(given: str | int) -> int:
    """Bytes, as a number or with a unit: 512M, 2G."""
    if isinstance(given, int):
        return given
    text = given.strip().upper().removesuffix("IB").removesuffix("B")
    digits, unit = (text[:-1], text[-1]) if text[-1:] in UNITS else (text, "")
    if not (digits.isascii() and digits.isdecimal() and len(digits) < 19):
        raise typer.BadParameter(f"{given!r:.40} is no size; expected bytes, or a number with K, M, G or T")
    return int(digits) << UNITS.get(unit, 0)


def _checked(text: str) -> str:
    if not text.strip():
        raise typer.BadParameter("it is empty; expected a path")
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        raise typer.BadParameter("it holds half a character; expected a path") from None
    if "\0" in text:
        raise typer.BadParameter("it holds a null character; expected a path")
    return text


def example(command: str) -> str:
    """The last line of a command's help."""
    return f"Example: {command}"


def _start_logging(value: bool) -> bool:
    if value:
        terminal.start_logging()
    return value


Verbose = Annotated[
    bool,
    typer.Option("--verbose", "-v", callback=_start_logging, help="Show what the library decides, on stderr."),
]
ModelName = Annotated[
    str, typer.Option("--model", metavar="NAME", help="A known name, a model directory, or a hub id like 'org/model'.")
]
MinConfidence = Annotated[
    float | None,
    typer.Option(
        "--min-confidence",
        metavar="SHARE",
        min=0.0,
        max=1.0,
        help='Say "I don\'t have that in memory." where that is likelier than 1 - SHARE; 0 refuses nothing.',
        show_default="refuse nothing",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]


def _use_home(value: Path | None) -> Path | None:
    """Let the rest of this command find memories and keys there; `main` undoes it."""
    if value is not None:
        os.environ[VARIABLE] = str(value)
    return value


HomeDirectory = Annotated[
    Path | None,
    typer.Option(
        "--home",
        metavar="DIR",
        parser=a_path,
        is_eager=True,  # the memories that are named beside it lie there
        callback=_use_home,
        help="Where memories with names lie.",
        show_default="$MPLUS_HOME, else ~/.local/share/mplus",
    ),
]


def _existing(context: typer.Context, given: Any) -> Any:
    return given if given is None or context.resilient_parsing else _home(context).existing(given)


def _all_existing(context: typer.Context, given: Any) -> Any:
    return given if given is None or context.resilient_parsing else [_home(context).existing(one) for one in given]


def place_of(context: typer.Context, given: Any) -> Any:
    """The directory that a word for a memory means; the word itself while a shell completes it."""
    return given if given is None or context.resilient_parsing else _home(context).resolve(given)


def _home(context: typer.Context) -> Home:
    return Home(context.params.get("home"))


def memory_names(context: typer.Context, incomplete: str) -> list[str]:
    """Names of memories that begin with what is typed so far, for a shell."""
    try:
        return [name for name in _home(context).names() if name.startswith(incomplete)]
    except (MPlusError, OSError):
        return []


def source_names(context: typer.Context, incomplete: str) -> list[str]:
    """Names of sources of the memory that is typed already; those that cannot be typed are left out."""
    memory = context.params.get("memory")
    try:
        names = [one.name for one in read_stored(_home(context).existing(memory)).sources] if memory is not None else []
    except (MPlusError, OSError):
        return []
    return [name for name in names if name and name.isprintable() and name.startswith(incomplete)]


MEMORY_HELP = "Name of a memory, or the path of its directory."
MemoryDirectory = Annotated[
    Path,
    typer.Argument(
        metavar="MEMORY",
        parser=a_memory,
        callback=_existing,
        autocompletion=memory_names,
        help=MEMORY_HELP,
        show_default=False,
    ),
]
"""A memory that must be there; a command that takes one also takes ``home: HomeDirectory``."""
MemoryDirectories = Annotated[
    list[Path],
    typer.Argument(
        metavar="OTHER...",
        parser=a_memory,
        callback=_all_existing,
        autocompletion=memory_names,
        help="Names or paths of memories.",
        show_default=False,
    ),
]
MemoryPlace = Annotated[
    Path,
    typer.Argument(
        metavar="MEMORY",
        parser=a_memory,
        callback=place_of,
        autocompletion=memory_names,
        help="Name of a memory, or the path of a directory; made if absent.",
        show_default=False,
    ),
]
"""A memory that may be there, or be made."""
NewMemory = Annotated[
    Path,
    typer.Argument(
        metavar="NEW", parser=a_memory, callback=place_of, help="A new name, or the path of a new directory.", show_default=False
    ),
]
Device = Annotated[
    str | None,
    typer.Option("--device", metavar="NAME", help="cpu, cuda, cuda:1 ...", show_default="a GPU if there is one, else the CPU"),
]
DType = Annotated[NumberType, typer.Option("--dtype", help="Number type of the weights; auto: the faster one here.")]
