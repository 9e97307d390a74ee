"""JSON from files and requests that nobody vouches for. Knows no format; the caller words the sentence for the user."""

from __future__ import annotations

import json
import math
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any

LARGEST_BYTES = 64 << 20
LONGEST_NUMBER = 40  # characters: tokenizer settings hold integers of 31 digits
DEEPEST = 64


class UnreadableJsonError(ValueError):
    """A file that holds no JSON object we would go on with; the text is the reason and names no file."""


def read_json_object(path: Path, *, largest_bytes: int = LARGEST_BYTES) -> dict[str, Any]:
    """The JSON object in a regular file; never waits for a pipe, and reads at most `largest_bytes`.

    Raises:
        FileNotFoundError: there is no such file.
        UnreadableJsonError: anything else, see ``parse_json``; the text says what, for example "it is empty".
    """
    data = parse_json(_content(path, largest_bytes))
    if not isinstance(data, dict):
        raise UnreadableJsonError(f"it holds a JSON {type(data).__name__}, expected an object")
    return data


def parse_json(content: bytes) -> Any:
    """A JSON value that later code can walk through, compare and store.

    Numbers are finite and of 40 characters at most, no key stands twice, nothing is nested deeper than 64 levels.

    Raises:
        UnreadableJsonError: the text says what is wrong.
    """
    if not content.strip():
        raise UnreadableJsonError("it is empty")
    try:
        data = json.loads(
            content.decode("utf-8"),
            parse_constant=_no_number,
            parse_float=_finite,
            parse_int=_integer,
            object_pairs_hook=_no_key_twice,
        )
    except UnreadableJsonError:
        raise
    except RecursionError:
        raise UnreadableJsonError(f"it is nested deeper than {DEEPEST} levels") from None
    except MemoryError:
        raise UnreadableJsonError(f"there is no memory for its {len(content):,} bytes") from None
    except UnicodeDecodeError as error:
        raise UnreadableJsonError(f"byte {error.start} is not UTF-8") from None
    except ValueError as error:  # JSONDecodeError, and what else a parser finds
        raise UnreadableJsonError(f"it is not JSON: {error}") from None
    _check_depth(data)
    return data


def _content(path: Path, largest_bytes: int) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))  # a FIFO would wait
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        raise UnreadableJsonError(_reason(error)) from None
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise UnreadableJsonError("it is a directory" if stat.S_ISDIR(found.st_mode) else "it is no regular file")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            content = file.read(largest_bytes + 1) if found.st_size <= largest_bytes else b""
    except (OSError, MemoryError) as error:
        raise UnreadableJsonError(_reason(error)) from None
    finally:
        os.close(descriptor)
    size_bytes = max(found.st_size, len(content))
    if size_bytes > largest_bytes:
        raise UnreadableJsonError(f"it has {size_bytes:,} bytes, at most {largest_bytes:,} are read")
    return content


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__


def _no_number(word: str) -> float:
    raise UnreadableJsonError(f"it holds {word}, which is no JSON number")


def _finite(digits: str) -> float:
    if len(digits) > LONGEST_NUMBER or not math.isfinite(value := float(digits)):
        raise UnreadableJsonError(f"it holds the number {digits:.20}..., which is out of range")
    return value


def _integer(digits: str) -> int:
    if len(digits) > LONGEST_NUMBER:
        raise UnreadableJsonError(f"it holds a number of {len(digits):,} digits, at most {LONGEST_NUMBER} are read")
    return int(digits)


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise UnreadableJsonError(f"it has the key {twice[:80]!r} twice")
    return made


def _check_depth(data: object) -> None:
    """Later code may walk through it by recursion, wherever on the stack it stands."""
    level: list[object] = [data]
    for _ in range(DEEPEST):
        below: list[object] = []
        for one in level:
            inner: Iterable[object] = one.values() if isinstance(one, dict) else one if isinstance(one, list) else ()
            below.extend(part for part in inner if isinstance(part, (dict, list)))
        if not below:
            return
        level = below
    raise UnreadableJsonError(f"it is nested deeper than {DEEPEST} levels")
