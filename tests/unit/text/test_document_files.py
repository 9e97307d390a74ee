"""Laws of naming documents: a folder, a pattern or a file gives each file once, and what is left out is named with the reason."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mplus.errors import InputError
from mplus.text.document_files import Document, Skipped, files_below, find_documents, read_documents


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of texts with everything beside that folders have."""
    monkeypatch.chdir(tmp_path)
    for name in ("docs/b.md", "docs/a.txt", "docs/deep/c.py", "docs/.git/config", "docs/.hidden", "other.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"the text of {name}", encoding="utf-8")
    (tmp_path / "docs/picture.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0")
    (tmp_path / "docs/empty.txt").touch()
    (tmp_path / "docs/old.txt").write_bytes("Málaga".encode("latin-1"))
    (tmp_path / "docs/again").symlink_to(tmp_path / "docs")
    (tmp_path / "docs/gone.txt").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "docs/pipe")
    return tmp_path


def read(*words: str) -> tuple[dict[str, str], dict[str, bool]]:
    """Texts by source, and what was skipped with whether it is a mistake."""
    files, skipped = find_documents(words)
    read = list(read_documents(files))
    skipped += [one for one in read if isinstance(one, Skipped)]
    assert all("\n" not in str(one) and one.name in str(one) for one in skipped)
    return {one.name: one.text for one in read if isinstance(one, Document)}, {one.name: one.is_mistake for one in skipped}


@pytest.mark.parametrize("word", ["docs", "docs/", "./docs"])
def test_a_folder_gives_its_files_and_names_what_it_leaves_out(place: Path, word: str) -> None:
    texts, skipped = read(word)
    name = word.rstrip("/")
    assert texts == {f"{name}/{one}": f"the text of docs/{one}" for one in ("a.txt", "b.md", "deep/c.py")}
    assert skipped == {
        f"{name}/.git": False, f"{name}/.hidden": False, f"{name}/again": False, f"{name}/pipe": False,
        f"{name}/picture.png": False, f"{name}/empty.txt": False, f"{name}/old.txt": True, f"{name}/gone.txt": True,
    }  # fmt: skip


def test_the_working_directory_gives_plain_names(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place / "docs" / "deep")
    assert read(".") == ({"c.py": "the text of docs/deep/c.py"}, {})


def test_a_pattern_gives_what_matches(place: Path) -> None:
    assert read("docs/**/*.py") == ({"docs/deep/c.py": "the text of docs/deep/c.py"}, {})
    assert set(read("docs/*.[mt]*")[0]) == {"docs/a.txt", "docs/b.md"}
    assert set(read("*/*/[!x].??")[0]) == {"docs/deep/c.py"}
    assert set(read("**/[a-c].*")[0]) == {"docs/a.txt", "docs/b.md", "docs/deep/c.py"}
    assert set(read("docs/d*/**")[0]) == {"docs/deep/c.py"}
    assert read("docs/[z-a]") == ({}, {"docs/[z-a]": True})
    assert read("docs/*.rst") == ({}, {"docs/*.rst": True})


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(place: Path) -> None:
    (place / "a[1].txt").write_text("one", encoding="utf-8")
    assert read("a[1].txt") == ({"a[1].txt": "one"}, {})


def test_what_is_named_itself_must_be_readable(place: Path) -> None:
    texts, skipped = read("other.txt", "nowhere.txt", "docs/picture.png", "docs/empty.txt", "docs/.hidden", "other.txt/x")
    assert set(texts) == {"other.txt", "docs/.hidden"}
    assert skipped == {"nowhere.txt": True, "docs/picture.png": True, "docs/empty.txt": True, "other.txt/x": True}


def test_each_file_is_read_once(place: Path) -> None:
    assert [file.name for file in find_documents(["docs/b.md", "docs", "docs/b.md"])[0]].count("docs/b.md") == 1


def test_an_empty_folder_is_told(place: Path) -> None:
    (place / "nothing").mkdir()
    assert read("nothing") == ({}, {"nothing": True})


def test_a_name_that_is_not_utf8_is_told(place: Path) -> None:
    (place / "docs" / "deep" / os.fsdecode(b"caf\xe9.txt")).write_text("text", encoding="utf-8")
    assert read("docs/deep") == ({"docs/deep/c.py": "the text of docs/deep/c.py"}, {"docs/deep/caf\ufffd.txt": True})
    assert read(os.fsdecode(b"docs/deep/caf\xe9.txt")) == ({}, {"docs/deep/caf\ufffd.txt": True})


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_told(place: Path) -> None:
    (place / "docs/deep").chmod(0)
    (place / "docs/a.txt").chmod(0)
    texts, skipped = read("docs")
    (place / "docs/deep").chmod(0o755)
    assert set(texts) == {"docs/b.md"}
    assert skipped["docs/a.txt"]
    assert any(name.endswith("deep") and wrong for name, wrong in skipped.items())


def test_patterns_choose_by_name_or_path(place: Path) -> None:
    for patterns, expected in ((["*.py"], ["c.py"]), (["a.*", "*.md"], ["a.txt", "b.md"]), (["deep/*"], ["c.py"])):
        assert [file.path.name for file in files_below(place / "docs", "docs", patterns=patterns)[0]] == expected
    with pytest.raises(InputError, match="there is no folder"):
        files_below(place / "nowhere", "")
