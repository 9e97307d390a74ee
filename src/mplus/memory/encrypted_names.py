"""What the sources of an encrypted memory are called, where their keys are at hand. Decrypts the heads of files; brings no torch."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from mplus.errors import MPlusError
from mplus.memory.encryption import decrypt
from mplus.memory.keys import Keys, default_directory
from mplus.memory.ledger import SourceInfo

log = logging.getLogger(__name__)
STREAM = "source of a memory"
"""What the encrypted stream of a source is called."""


def said_of(key: bytes, file: IO[bytes]) -> dict[str, Any]:
    """What the head of a source's file says of it; reads no more than the head's blocks.

    Raises:
        SnapshotError: it was altered, or is of another key.
        KeyError, ValueError, TypeError: it is of another form.
    """
    content = bytearray()
    for block in decrypt(key, STREAM, file):
        content += block
        first = 8 + int.from_bytes(content[:8], "little")
        if len(content) >= first:
            said: dict[str, Any] = json.loads(json.loads(content[8:first])["__metadata__"]["source"])
            return said
    raise ValueError("the head ends early")


def with_names(infos: list[SourceInfo], manifest: Mapping[str, Any], directory: Path) -> list[SourceInfo]:
    """Sources with their names, times and digests instead of ids, as far as their keys are at hand."""
    try:
        held = Keys(default_directory()).of_memory(str(manifest["encrypted"]["memory"])).read()
    except MPlusError as error:
        log.info("sources of %s are shown by ids: %s", directory, error)
        return infos
    files = {entry["source"]: directory / str(entry["file"]) for entry in manifest["encrypted"]["files"]}
    return [_named(info, held.get(info.name), files.get(info.name)) for info in infos]


def _named(info: SourceInfo, key: bytes | None, path: Path | None) -> SourceInfo:
    if key is None or path is None or not path.is_file():
        return info
    with path.open("rb") as file:
        said = said_of(key, file)
    own = said["info"]
    return replace(info, name=said["name"] or "", first_at=own["first_at"], last_at=own["last_at"], digest=own["digest"])
