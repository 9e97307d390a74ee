"""Files that must be whole: their hashes, and getting them to the disk. Knows nothing of memories."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path


def sha256(path: Path) -> str:
    """Hex digest of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def written_whole(writers: Mapping[Path, Callable[[Path], object]]) -> list[Path]:
    """Have several files replaced together: written aside, flushed, then renamed. Where a writer fails all are as before.

    Args:
        writers: path to what writes its content to the path it is given. Their folders are there.

    Returns:
        the paths.
    """
    aside = {path: path.with_name(f".{path.stem}.{secrets.token_hex(4)}{path.suffix}") for path in writers}
    try:
        for path, write in writers.items():
            write(aside[path])
        for written in aside.values():
            flush(written)
        for path, written in aside.items():
            written.replace(path)
    finally:
        for written in aside.values():
            written.unlink(missing_ok=True)
    return list(writers)


def flush(path: Path) -> None:
    """Wait until a file or a directory is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
