"""Files at an address that `fsspec` opens (`s3://`, `memory://`, `file://` ...), or at a local path. Knows no content.

What is written elsewhere is made here first and sent whole: object stores show a file only when all of it has arrived.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from mplus.errors import InputError
from mplus.runtime.atomic import NEW, aside_of, clear_leftovers, flush, flush_names, honour_umask
from mplus.runtime.input_file import expanded, is_address

_READ_BYTES = 8 << 20


@contextmanager
def opened_for_reading(place: str | Path) -> Iterator[IO[bytes]]:
    """A file to read from any point on.

    Raises:
        InputError: it cannot be opened.
    """
    system, path = _system_and_path(place)
    try:
        if not (system.isfile(path) if system else Path(path).is_file()):
            raise FileNotFoundError("there is no such file")
        file = system.open(path, "rb", block_size=_READ_BYTES) if system else Path(path).open("rb")  # noqa: SIM115
    except Exception as error:  # each file system has errors of its own
        raise InputError(f"'{place}' cannot be read ({reason_of(error)}); check the address and your rights there") from None
    with file:
        yield file


def write_whole(place: str | Path, write: Callable[[Path], object]) -> None:
    """Make a file and put it where `place` says, whole or not at all.

    Args:
        write: writes its content to the local path it is given.

    Raises:
        InputError: it cannot be put there; what was there is unchanged.
    """
    system, path = _system_and_path(place)
    if system is None:
        _replace(Path(path), place, write)
        return
    with tempfile.TemporaryDirectory(prefix="mplus-") as folder:
        made = Path(folder) / NEW
        write(made)
        try:
            system.put_file(str(made), path)
        except Exception as error:
            raise _not_written(place, error) from None


def _replace(path: Path, place: str | Path, write: Callable[[Path], object]) -> None:
    """What a killed process has left beside it is removed."""
    if path.is_dir():
        raise InputError(f"'{place}' is a directory; name a file in it")
    if not path.parent.is_dir():
        raise InputError(f"'{place}' cannot be written: there is no directory '{path.parent}'; make it, or choose another place")
    try:
        clear_leftovers(path)
        with aside_of(path) as aside:
            write(aside / NEW)
            honour_umask(aside / NEW, aside)
            flush(aside / NEW)
            os.replace(aside / NEW, path)
            flush_names(path.parent)
    except OSError as error:
        raise _not_written(place, error) from None


def _not_written(place: str | Path, error: Exception) -> InputError:
    return InputError(
        f"'{place}' cannot be written ({reason_of(error)}); make room there, check your rights, or choose another place"
    )


def _system_and_path(place: str | Path) -> tuple[Any, str]:
    """The file system behind an address and the path in it; None for what lies on this machine."""
    if not isinstance(place, str) or not is_address(place):
        return None, os.path.realpath(expanded(_checked(place)))
    from fsspec.core import url_to_fs

    try:
        system, path = url_to_fs(place)
    except Exception as error:
        what = "; install the package that it names" if isinstance(error, ImportError) else ""
        raise InputError(
            f"'{place}' cannot be opened ({reason_of(error)}){what}, or name a path or an address like s3://bucket/name"
        ) from None
    return (None, os.path.realpath(path)) if system.protocol in ("file", ("file", "local")) else (system, path)


def _checked(place: str | Path) -> str | Path:
    if not isinstance(place, (str, Path)):
        raise InputError(f"a file is a path or an address as text, got {type(place).__name__}; give a str or a pathlib.Path")
    if not str(place) or "\0" in str(place):
        raise InputError(f"{str(place)!r:.80} names no file; give a path, or an address like s3://bucket/name")
    return place


def reason_of(error: Exception) -> str:
    """An error in one line."""
    text = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    return " ".join(text.split())[:200]
