"""Files that a manifest names: name, size and digest, whatever they hold. Knows no content, and brings no torch."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from mplus.errors import SnapshotError

BLOCK_BYTES = 1 << 20
NAME = re.compile(r"(memory|segment)-[0-9a-f]{16}\.safetensors|source-[0-9a-f]{16}\.encrypted")
"""Of every file beside the manifest that a stored memory consists of. No such name leads out of a directory."""
DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Part:
    """One file of a stored memory.

    Attributes:
        sha256: of the whole file, in hex.
    """

    name: str
    size_bytes: int
    sha256: str


def parts_of(manifest: dict[str, Any], where: object) -> list[Part]:
    """All files that a manifest names, the data file first.

    Args:
        where: how messages call the memory.

    Raises:
        SnapshotError: the manifest names them in another form, names something that is no file of a memory, or one twice.
    """
    try:
        parts = [_part(entry) for entry in _entries(manifest)]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise SnapshotError(f"the manifest of {where} is damaged ({type(error).__name__}: {error}); restore it") from None
    if len({part.name for part in parts}) < len(parts):
        raise SnapshotError(f"the manifest of {where} names a file twice; restore it from a backup")
    return parts


def _entries(manifest: dict[str, Any]) -> Iterator[Any]:
    yield manifest["data"]
    yield from manifest.get("segments", [])
    yield from manifest.get("encrypted", {}).get("files", [])  # format 4
    for group in manifest.get("ltm_segments", []):  # formats 1 and 2
        yield from group["segments"]


def _part(entry: dict[str, Any]) -> Part:
    name, size_bytes, digest = entry["file"], entry["bytes"], entry["sha256"]
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise ValueError(f"{name!r:.80} is no file of a memory")
    if type(size_bytes) is not int or size_bytes < 1:
        raise ValueError(f"{name} has {size_bytes!r:.40} bytes")
    if not isinstance(digest, str) or not DIGEST.fullmatch(digest):
        raise ValueError(f"{name} has the digest {digest!r:.80}")
    return Part(name, size_bytes, digest)


def check_size(part: Part, directory: Path) -> None:
    """Look whether a file is there with its size; reads nothing of it.

    Raises:
        SnapshotError: it is missing, no regular file, or of another size.
    """
    path = directory / part.name
    if path.is_symlink() or not path.is_file():
        raise SnapshotError(f"{path} is missing; restore it from a backup")
    size_bytes = path.stat().st_size
    if size_bytes != part.size_bytes:
        raise SnapshotError(
            f"{path} was truncated or altered ({size_bytes:,} bytes, expected {part.size_bytes:,}); restore it from a backup"
        )


def copy_checked(part: Part, source: IO[bytes], target: IO[bytes] | None, where: object) -> None:
    """Copy a file's bytes and compare them with the manifest on the way; never more of them than it says.

    Args:
        target: None compares only.
        where: how the message calls the file.

    Raises:
        SnapshotError: the bytes are other ones, fewer or more.
    """
    digest, left = hashlib.sha256(), part.size_bytes
    while left and (block := source.read(min(left, BLOCK_BYTES))):
        digest.update(block)
        left -= len(block)
        if target is not None:
            target.write(block)
    if left or source.read(1):
        raise SnapshotError(f"{where} was truncated or altered (expected {part.size_bytes:,} bytes); restore it from a backup")
    if digest.hexdigest() != part.sha256:
        raise SnapshotError(f"{where} was altered since it was written (its SHA-256 differs); restore it from a backup")
