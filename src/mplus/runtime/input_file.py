"""Bytes of files that a person names, within bounds. Knows no format; a device or an endless stream is refused, never read to its end."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from mplus.errors import InputError
from mplus.runtime.unicode import well_formed

LARGEST_TEXT_BYTES = 1 << 30
"""Of one text: about 250 million tokens."""

LARGEST_SETTINGS_BYTES = 1 << 20
"""Of one file of settings (YAML)."""

_BLOCK_BYTES = 1 << 20
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+(::|://)")
"""How an address begins; a drive letter is a single one."""

Limit = int | Callable[[bytes], int]
"""Bytes that are read at most: a number, or what says it from the first block and may refuse the rest."""


def expanded(path: str | Path) -> Path:
    """The path with its `~` replaced by the home directory, where there is one."""
    try:
        return Path(path).expanduser()
    except RuntimeError:  # nobody of that name
        return Path(path)


def is_address(place: object) -> bool:
    """Whether a user's word for a file or a directory is an address (`s3://bucket/name`) and no path."""
    return isinstance(place, str) and _ADDRESS.match(place) is not None


def absolute_directory(path: str | os.PathLike[str]) -> Path:
    """The absolute path that a user's word for a directory means, `~` expanded; the working directory may change afterwards.

    Raises:
        InputError: it is empty or no path.
    """
    text = os.fspath(path) if isinstance(path, (str, os.PathLike)) else None
    if not isinstance(text, str):
        raise InputError(f"a directory is a path as text, got {type(path).__name__}; give a str or a pathlib.Path")
    if not text or "\0" in text:
        raise InputError(f"{text!r} names no directory; give the path of one, for example 'my-memory'")
    if is_address(text):
        raise InputError(
            f"{text!r} is an address, a memory lives in a directory of this machine; take it there and back in one file, "
            f"with `mplus export MEMORY {text}` and `mplus import {text} MEMORY`"
        )
    try:
        return Path(text).expanduser().absolute()
    except (RuntimeError, OSError) as error:  # an unknown user's home, a working directory that is gone
        raise InputError(f"the directory {text!r} cannot be found ({error}); give an absolute path") from None


def read_input(path: str | Path, *, limit_bytes: Limit = LARGEST_TEXT_BYTES, what: str = "a UTF-8 text file") -> bytes:
    """All bytes of a regular file or a pipe.

    Args:
        limit_bytes: refused beyond; named in the message.
        what: is expected, for the message.

    Raises:
        InputError: there is no such file, it is a directory or a device, is too long, or cannot be read.
    """
    name = well_formed(str(path))
    try:
        with expanded(path).open("rb") as file:
            kind = os.fstat(file.fileno()).st_mode
            if not (stat.S_ISREG(kind) or stat.S_ISFIFO(kind) or stat.S_ISSOCK(kind)):
                raise InputError(f"'{name}' is a device; expected {what} or a pipe, name one")
            return read_bounded(file, limit_bytes=limit_bytes, name=f"'{name}'")
    except FileNotFoundError:
        raise InputError(f"there is no file '{name}'; expected {what}, check the path") from None
    except IsADirectoryError:
        raise InputError(f"'{name}' is a directory; expected {what}, name a file in it") from None
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        raise InputError(f"'{name:.200}' cannot be read ({getattr(error, 'strerror', None) or error}); expected {what}") from None


def read_bounded(file: BinaryIO, *, limit_bytes: Limit = LARGEST_TEXT_BYTES, name: str) -> bytes:
    """All bytes of an open stream.

    Raises:
        InputError: there are more than `limit_bytes`.
    """
    blocks, size_bytes, most = list[bytes](), 0, limit_bytes if isinstance(limit_bytes, int) else 0
    while block := file.read(_BLOCK_BYTES):
        if not blocks and not isinstance(limit_bytes, int):
            most = limit_bytes(block)
        size_bytes += len(block)
        if size_bytes > most:
            raise InputError(f"{name} has more than {most:,} bytes, the most that is read at once; split it into smaller files")
        blocks.append(block)
    return b"".join(blocks)
