"""Files that killed processes have left in a stored memory's directory. Knows names only, and brings no torch."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from mplus.errors import SnapshotError
from mplus.memory.file_names import ASIDE, MANIFEST, SAVE_LOCK, STATE, is_segment
from mplus.memory.manifest import read_manifest
from mplus.memory.parts import parts_of
from mplus.memory.stores.lock import exclusive_change


def unneeded(directory: Path, wanted: set[str]) -> Iterator[Path]:
    """Files and directories there that a save made, and that are not wanted."""
    for path in directory.iterdir():
        ours = STATE.fullmatch(path.name) or ASIDE.fullmatch(path.name) or is_segment(path.name)
        if ours and path.name not in wanted and path.name != MANIFEST:
            yield path


def remove(path: Path) -> None:
    """Remove a file or a directory; where that cannot be done it stays, and is no harm."""
    with suppress(OSError):
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)


def clear(directory: Path, keep: set[str]) -> None:
    """Remove what the stored memory there does not need, unless somebody is changing it or may not write there.

    Args:
        keep: names of files that are wanted all the same.
    """
    try:
        if not (directory / SAVE_LOCK).exists() and not any(unneeded(directory, _named(directory) | keep)):
            return
        with exclusive_change(directory, timeout_s=0.0):
            for path in unneeded(directory, _named(directory) | keep):
                remove(path)
    except (SnapshotError, OSError):  # it is in use, is being replaced, or is not ours to write
        return


def _named(directory: Path) -> set[str]:
    return {part.name for part in parts_of(read_manifest(directory), directory)}
