"""Laws of folders in use: what another process takes away while they are looked at counts as gone."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mplus.runtime import folder
from mplus.runtime.folder import folder_bytes, names_in
from mplus.server.memories.place import Place
from mplus.server.scope import Scope


@pytest.fixture
def taking_away(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Take a folder away when it is about to be read, after its parent was."""

    def set_up(gone: Path) -> None:
        original = os.scandir

        def scandir(path: Any = ".") -> Any:
            if path in (gone, str(gone)):
                shutil.rmtree(gone, ignore_errors=True)
            return original(path)

        monkeypatch.setattr(os, "scandir", scandir)

    return set_up


def test_sizes_are_of_all_files_below(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "one").write_bytes(b"123")
    (tmp_path / "two").write_bytes(b"12345")
    assert folder_bytes(tmp_path) == 8 and names_in(tmp_path) == ["a", "two"]
    assert folder_bytes(tmp_path / "none") == 0 and names_in(tmp_path / "none") == []


def test_a_memory_has_a_size_while_a_save_ends(tmp_path: Path, taking_away: Callable[[Path], None]) -> None:
    place = Place(tmp_path, Scope("acme", "anna"))
    aside = place.directory / ".saving-0123456789abcdef"
    aside.mkdir(parents=True)
    (aside / "half").write_bytes(b"12")
    (place.directory / "manifest.json").write_bytes(b"123")
    taking_away(aside)
    assert place.size_bytes() == 3 and not aside.exists()


def test_a_file_that_goes_before_it_is_measured_has_no_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one", "two"):
        (tmp_path / name).write_bytes(b"123")
    original = folder.file_bytes

    def removes(path: str) -> int:
        (tmp_path / "two").unlink(missing_ok=True)
        return original(path)

    monkeypatch.setattr(folder, "file_bytes", removes)
    assert folder_bytes(tmp_path) in (0, 3)
