"""The manifest of a stored memory: reading it, and what it must say to be believed. Knows no model, and brings no torch by itself.

A manifest is the only part of a stored memory that no digest covers from outside, so it carries its own. Manifests of before do not; these
checks hold for both.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from mplus.errors import SnapshotError
from mplus.memory.file_names import MANIFEST as MANIFEST
from mplus.runtime.json_file import UnreadableJsonError, read_json_object

FORMAT = 3
OLD_FORMATS = PLAIN, WITH_SEGMENTS = (1, 2)
"""Versions that kept short-term and long-term rows apart: without segments, and with them."""
ENCRYPTED = 4
"""Version of a memory whose sources lie in encrypted files; the rest of it is as in version 3."""
FORMATS = (*OLD_FORMATS, FORMAT, ENCRYPTED)
LARGEST_BYTES = 512 << 20
"""Of a manifest: some millions of chunks. A larger one is neither read nor written."""
CHECKSUM = "checksum"
LARGEST = 2**62
READ_AGAIN = 8
"""Times a reader follows a memory that is saved meanwhile, whose files are taken away while it reads them."""


def read_manifest(directory: Path, name: object = None) -> dict[str, Any]:
    """The manifest of a stored memory, checked for form, version and checksum.

    Args:
        name: how messages call the memory; the directory if nothing else is said.

    Raises:
        SnapshotError: no memory there, damaged, or of a version this package does not know.
    """
    path: object = directory / MANIFEST if name is None else f"the manifest of {name}"
    if not directory.exists():
        raise SnapshotError(f"no memory at {directory}; write one with `mplus write {directory} FILE`")
    try:
        manifest = read_json_object(directory / MANIFEST, largest_bytes=LARGEST_BYTES)
    except FileNotFoundError:
        raise SnapshotError(f"{name or directory} is not a memory: {MANIFEST} is missing") from None
    except UnreadableJsonError as error:
        raise SnapshotError(f"{path} cannot be read ({error}); restore it from a backup") from None
    if "format" not in manifest:
        raise SnapshotError(f"{path} is not a memory's manifest; restore it from a backup")
    if type(manifest["format"]) is not int or manifest["format"] not in FORMATS:
        raise SnapshotError(
            f"{name or directory} has memory format {manifest['format']!r:.40}, this version of mplus reads {', '.join(map(str, FORMATS))}; "
            "update mplus"
        )
    if not has_own_checksum(manifest):
        raise SnapshotError(f"{path} was altered since it was saved (its checksum differs); restore it from a backup")
    return manifest


def as_file(manifest: dict[str, Any]) -> bytes:
    """The manifest as it is stored, with a digest over all the rest of it.

    Raises:
        ValueError: it is larger than what is read again.
    """
    content = json.dumps({**manifest, CHECKSUM: _digest(manifest)}, indent=1).encode("utf-8")
    if len(content) > LARGEST_BYTES:
        raise ValueError(f"its manifest would have {len(content):,} bytes, at most {LARGEST_BYTES:,} are read again")
    return content


def has_own_checksum(manifest: dict[str, Any]) -> bool:
    """Whether the digest is right, or there is none (a manifest of before)."""
    return CHECKSUM not in manifest or manifest[CHECKSUM] == _digest({key: manifest[key] for key in manifest if key != CHECKSUM})


def state_digest(manifest: dict[str, Any]) -> str:
    """What tells a stored state from every other: its checksum, or in a manifest of before the digest of its data file."""
    return str(manifest.get(CHECKSUM) or manifest["data"]["sha256"])


def content_digest(manifest: dict[str, Any]) -> str:
    """What tells a memory's content from another, in whatever files it is stored: a compacted one has the same."""
    files = ("segments", "data", "mplus", CHECKSUM)
    return _digest({key: manifest[key] for key in manifest if key not in files})


def _digest(manifest: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def check_numbers(manifest: dict[str, Any], vocabulary: int) -> None:
    """Raise where numbers that later code trusts cannot be.

    Raises:
        SnapshotError, KeyError, TypeError, ValueError: a count is no count, text that waits is not of this vocabulary, or the ledger
            does not add up.
    """
    for name in ("now", "tokens_read", "stm_tokens", "ltm_tokens", "writes_since_merge"):
        _whole(name, manifest[name])
    for name in ("initialised", "initialised_at_start"):
        if not isinstance(manifest[name], bool):
            raise ValueError(f"{name} is {manifest[name]!r:.40}, expected true or false")
    old = manifest["format"] in OLD_FORMATS
    for count in manifest["ltm_waiting"] if old else _counts_of_groups(manifest):
        _whole("a long-term group's count", count)
    for source, ids in manifest["pending"]:
        if source is not None and not isinstance(source, str):
            raise ValueError(f"the source of waiting text is {source!r:.40}")
        for token in ids:
            if _whole("a waiting token", token) >= vocabulary:
                raise ValueError(f"text waits with token id {token}, this model has 0..{vocabulary - 1}")
    if old:
        _check_ledger(manifest)
        return
    for name in manifest["names"]:
        if name is not None and not isinstance(name, str):
            raise ValueError(f"a source is named {name!r:.40}")


def _counts_of_groups(manifest: dict[str, Any]) -> list[Any]:
    return [
        manifest["rows"],
        *(entry[name] for entry in manifest["long"] for name in ("tokens", "skipped", "forgotten", "waiting")),
    ]


def _check_ledger(manifest: dict[str, Any]) -> None:
    end, text, totals = 0, 0, dict[str, int]()
    for first, count, sources in manifest["chunks"]:
        if _whole("a chunk's first birth", first) < end or _whole("a chunk's size", count) < 1:
            raise ValueError("the chunks of the ledger overlap")
        end = first + count
        for name, tokens in sources:
            if name is not None and not isinstance(name, str):
                raise ValueError(f"a source is named {name!r:.40}")
            text += _whole("a source's tokens", tokens)
            totals[name or ""] = totals.get(name or "", 0) + tokens
    if end > manifest["now"]:
        raise ValueError(f"the ledger ends at birth {end}, but only {manifest['now']} tokens were written")
    if text != manifest["tokens_read"]:
        raise ValueError(f"the ledger counts {text} text tokens, the manifest {manifest['tokens_read']}")
    if totals != manifest["sources"]:
        raise ValueError("the sources do not add up to those of the ledger")


def _whole(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < LARGEST:
        raise ValueError(f"{name} is {value!r:.40}, expected a whole number from 0 on")
    return value
