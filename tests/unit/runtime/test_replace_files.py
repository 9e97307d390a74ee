"""Laws of files that are replaced together: all new or all as before, whichever call fails, and nothing beside them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from mplus.runtime.atomic import replace_files

NAMES = ("a.json", "b.png", "c.md")


def write(folder: Path, word: str) -> list[Path]:
    return replace_files({folder / name: lambda path: path.write_text(word, encoding="utf-8") for name in NAMES})


def words(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()}


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), KeyboardInterrupt()], ids=["error", "interrupt"])
@pytest.mark.parametrize("call", ["replace", "fsync", "open", "link", "unlink"])
@pytest.mark.parametrize("old", [NAMES, NAMES[:1], ()], ids=["all there", "one there", "none there"])
def test_all_are_new_or_all_are_as_before(
    tmp_path: Path, call: str, error: BaseException, old: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = getattr(os, call)
    for number in range(1, 30):
        folder = tmp_path / str(number)
        folder.mkdir()
        for name in old:
            (folder / name).write_text("old", encoding="utf-8")
        calls, said = 0, False

        def failing(*arguments: Any, **named: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == number:  # noqa: B023
                raise error
            return real(*arguments, **named)

        with monkeypatch.context() as patch:
            patch.setattr(os, call, failing)
            try:
                write(folder, "new")
            except (OSError, KeyboardInterrupt):
                said = True
        held = {name: word for name, word in words(folder).items() if name in NAMES}
        allowed = [dict.fromkeys(old, "old")] if said and isinstance(error, OSError) else [dict.fromkeys(NAMES, "new")]
        if isinstance(error, KeyboardInterrupt):
            allowed.append(dict.fromkeys(old, "old"))
        assert held in allowed, (number, said)
        if call != "unlink":
            assert words(folder).keys() == held.keys(), number
        if calls < number:
            return
    pytest.fail("more calls than were tried")
