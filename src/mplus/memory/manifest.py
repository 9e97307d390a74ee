"""The manifest of a stored memory: reading it, and what it must say to be believed. Knows no model, and brings no torch by itself.

A manifest is the only part of a stored memory that no digest covers from outside, so it carries its own. Manifests of before do not; these
checks hold for both.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mplus.errors import SnapshotError
from mplus.memory.file_names import MANIFEST as MANIFEST
from mplus.runtime.json_file import UnreadableJsonError, read_json_object

if TYPE_CHECKING:
    from torch import Tensor

    from mplus.memory.memory import Memory

PLAIN, WITH_SEGMENTS = FORMATS = (1, 2)
"""Version of a memory without segments, and with them; so a package that knows no segments still opens what has none."""
LARGEST_BYTES = 512 << 20
"""Of a manifest: some millions of chunks. A larger one is neither read nor written."""
CHECKSUM = "checksum"
LARGEST = 2**62


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
            f"{name or directory} has memory format {manifest['format']!r:.40}, this version of mplus reads {PLAIN} and {WITH_SEGMENTS}; "
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
    for count in manifest["ltm_waiting"]:
        _whole("ltm_waiting", count)
    for source, ids in manifest["pending"]:
        if source is not None and not isinstance(source, str):
            raise ValueError(f"the source of waiting text is {source!r:.40}")
        for token in ids:
            if _whole("a waiting token", token) >= vocabulary:
                raise ValueError(f"text waits with token id {token}, this model has 0..{vocabulary - 1}")
    _check_ledger(manifest)


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


def check_rows_of(memory: Memory, manifest: dict[str, Any]) -> None:
    """Raise where rows cannot be: more or fewer than were stored, of a birth in the future, twice, out of order.

    Births of rows in segments are left to ``check_rows``, which reads them.

    Raises:
        SnapshotError: the rows do not belong together.
    """
    import torch

    _check_counts(memory, manifest)
    births, now = memory.short_term.births, memory.now
    ages = memory.geometry.quirks.stm_ages == "since_written"  # else births move along, and several rows may share one
    _check_born("short-term", births, now)
    if ages and any(bool((_written(own).diff() <= 0).any()) for own in births):
        raise SnapshotError("tokens of short-term memory are not in the order of their births; restore it from a backup")
    for group, store in enumerate(memory.long_term.stores):
        parts = [] if getattr(store, "segments", None) else list(store.parts("birth"))
        if not parts:
            continue
        born = torch.cat(parts)
        _check_born("long-term", born, now)
        held = torch.cat([_written(born), _written(births[group % births.shape[0]])])
        if ages and held.unique().numel() != held.numel():
            raise SnapshotError("the memory holds a token twice; restore it from a backup")


def _check_counts(memory: Memory, manifest: dict[str, Any]) -> None:
    held, waiting = [len(store) for store in memory.long_term.stores], memory.long_term.waiting
    stored = manifest.get("ltm_group_tokens", held)  # of before: only the largest group was counted
    if held != stored or len(waiting) != len(held) or any(rows > all_rows for rows, all_rows in zip(waiting, held, strict=False)):
        raise SnapshotError(
            f"the groups of long-term memory hold {held} tokens ({waiting} of them waiting), stored were {stored!s:.200}; "
            "restore it from a backup"
        )
    tail, layout = memory.tail, memory.layout
    if tail is not None and (
        tail.dim() != 3 or tail.shape[0] != layout.layers or tail.shape[1] > memory.geometry.sizes.new_tokens
    ):
        raise SnapshotError(f"the newest hidden states are {list(tail.shape)}, which no write leaves; restore it from a backup")


def _written(births: Tensor) -> Tensor:
    """Births of tokens that a write made; those of a model's own first rows lie before 0."""
    return births[births >= 0]


def _check_born(what: str, births: Tensor, now: int) -> None:
    if births.numel() and int(births.max()) >= now:
        raise SnapshotError(
            f"{what} memory holds a token of birth {int(births.max())}, only {now} were written; restore it from a backup"
        )


def _whole(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < LARGEST:
        raise ValueError(f"{name} is {value!r:.40}, expected a whole number from 0 on")
    return value
