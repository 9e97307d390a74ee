"""Names, times and digests of the sources of an encrypted memory, as far as their keys are there. Decrypts heads only; brings no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mplus.errors import MPlusError, SnapshotError
from mplus.memory.encryption import decrypt
from mplus.memory.keys import Keys, default_directory
from mplus.memory.ledger import SourceInfo

STREAM = "source of a memory"
"""What the encrypted stream of a source is called."""
MOST_HEAD_BYTES = 64 << 20


def decrypted_infos(directory: Path, manifest: Mapping[str, Any]) -> list[SourceInfo] | None:
    """What the files of sources say of them, without those whose key was destroyed; None where no key is at hand.

    Raises:
        SnapshotError: a file was altered, or is missing.
        KeyError, ValueError, TypeError: a file or the manifest is of another form.
    """
    encrypted = manifest["encrypted"]
    try:
        held = Keys(default_directory()).of_memory(str(encrypted["memory"])).read()
    except MPlusError:  # no keys, or not the package that reads them
        return None
    infos = []
    for entry in encrypted["files"]:
        if entry["source"] in held:
            said = _said(held[entry["source"]], directory / str(entry["file"]))
            infos.append(SourceInfo(**said["info"]))
    return infos


def _said(key: bytes, path: Path) -> dict[str, Any]:
    """The head of a source's file; no more of it is decrypted than that."""
    content = bytearray()
    try:
        with path.open("rb") as file:
            for block in decrypt(key, STREAM, file):
                content += block
                stop = 8 + int.from_bytes(content[:8], "little")
                if stop > MOST_HEAD_BYTES:
                    raise ValueError(f"the head of {path.name} would have {stop:,} bytes")
                if len(content) >= stop:
                    said: dict[str, Any] = json.loads(json.loads(content[8:stop])["__metadata__"]["source"])
                    return said
    except OSError as error:
        raise SnapshotError(f"{path} cannot be read ({error.strerror or error}); restore it from a backup") from None
    raise ValueError(f"{path.name} ends in its head")
