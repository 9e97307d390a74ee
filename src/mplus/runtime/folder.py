"""Names and sizes in a folder that others may change at the same moment: what goes meanwhile is gone. Knows nothing of contents."""

from __future__ import annotations

import os
from pathlib import Path


def names_in(folder: Path) -> list[str]:
    """Names in a folder, in order; none where there is no folder."""
    try:
        return sorted(os.listdir(folder))
    except FileNotFoundError:
        return []


def file_bytes(path: Path | str) -> int:
    """Size of a file; 0 where there is none."""
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0


def folder_bytes(folder: Path) -> int:
    """Size of all files below a folder; 0 where there is none."""
    found = os.walk(folder)  # unlike rglob it goes on where a folder went after its parent was read
    return sum(file_bytes(os.path.join(place, name)) for place, _, names in found for name in names)
