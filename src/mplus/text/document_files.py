"""Files, folders and patterns that a person names, as documents with the names of their sources. Knows no tokenizer and no memory."""

from __future__ import annotations

import glob
import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from mplus.errors import BinaryFileError, EmptyTextError, InputError
from mplus.runtime.input_file import expanded
from mplus.runtime.unicode import well_formed
from mplus.text.documents import read_document


@dataclass(frozen=True)
class DocumentFile:
    """A file to read.

    Attributes:
        name: of its source: the path as it was named; for a file of a folder with the folder's name before it.
        by_folder: a folder or pattern was named, not the file: without text it is passed over, which is no mistake.
    """

    path: Path
    name: str
    by_folder: bool = False


@dataclass(frozen=True)
class Document:
    """A text and the name of its source."""

    name: str
    text: str


@dataclass(frozen=True)
class Skipped:
    """What is not read.

    Attributes:
        reason: one sentence.
        is_mistake: it was named, or should have been readable.
    """

    name: str
    reason: str
    is_mistake: bool

    def __str__(self) -> str:
        return self.reason if self.name in self.reason else f"'{self.name}': {self.reason}"


_SIGNS: Final = re.compile(r"\[!?\]?[^\]]*\]|.", re.DOTALL)
"""Of a pattern: a set in brackets, or a character."""
Found = tuple[list[DocumentFile], list[Skipped]]


def find_documents(words: Iterable[str]) -> Found:
    """Files that are meant by paths of files and folders and by patterns (``docs/**/*.md``), each once, in the order given."""
    files: dict[str, DocumentFile] = {}
    skipped: list[Skipped] = []
    for word in words:
        found, left_out = _meant(word)
        skipped += left_out
        for file in found:
            files.setdefault(file.name, file)
    return list(files.values()), skipped


def files_below(folder: Path, prefix: str, *, patterns: Sequence[str] = ()) -> Found:
    """Files of a folder and its folders, sorted. Hidden ones, links to folders and what is no file are left out.

    Args:
        prefix: of the names of the sources, before the path in the folder.
        patterns: of file names or paths in the folder (``*.md``); without any every file is taken.

    Raises:
        InputError: there is no such folder.
    """
    if not folder.is_dir():
        raise InputError(f"there is no folder '{well_formed(str(folder))}'; check the path")
    files: list[DocumentFile] = []
    skipped: list[Skipped] = []

    def unreadable(error: OSError) -> None:
        skipped.append(_unreadable(well_formed(str(error.filename)), error))

    for place, folders, names in os.walk(folder, onerror=unreadable):
        inside = Path(place).relative_to(folder).as_posix()
        for name in sorted(folders):
            if name.startswith(".") or (Path(place) / name).is_symlink():
                folders.remove(name)
                why = "a hidden folder" if name.startswith(".") else "a link to a folder"
                skipped.append(Skipped(_joined(prefix, inside, name), f"it is {why}", is_mistake=False))
        folders.sort()
        for name in sorted(names):
            relative = name if inside == "." else f"{inside}/{name}"
            if not patterns or any(fnmatchcase(relative, one) or fnmatchcase(name, one) for one in patterns):
                one = _file(Path(place) / name, _joined(prefix, inside, name))
                (files if isinstance(one, DocumentFile) else skipped).append(one)  # type: ignore[arg-type]
    return files, skipped


def read_documents(files: Iterable[DocumentFile]) -> Iterator[Document | Skipped]:
    """The text of each file, or why there is none."""
    for file in files:
        try:
            yield Document(file.name, read_document(file.path))
        except (BinaryFileError, EmptyTextError) as error:
            yield Skipped(file.name, str(error), is_mistake=not file.by_folder)
        except InputError as error:
            yield Skipped(file.name, str(error), is_mistake=True)


def _meant(word: str) -> Found:
    """Files that one word stands for."""
    path, name = expanded(word), well_formed(word)
    try:
        kind = path.stat().st_mode
    except (OSError, ValueError) as error:
        if glob.has_magic(word):
            return _matching(path, name)
        reason = getattr(error, "strerror", None) or error
        missing = isinstance(error, (FileNotFoundError, NotADirectoryError))
        sentence = f"there is no file '{name}'; check the path" if missing else f"'{name:.200}' cannot be read ({reason})"
        return [], [Skipped(name, sentence, is_mistake=True)]
    if stat.S_ISDIR(kind):
        files, skipped = files_below(path, "" if word in (".", "./") else name.rstrip("/"))
        if not files and not skipped:
            skipped = [Skipped(name, f"the folder '{name}' is empty; name one with files to read", is_mistake=True)]
        return files, skipped
    return _one(path, word, by_folder=False)


def _matching(pattern: Path, name: str) -> Found:
    """Files that a pattern with ``*``, ``?``, ``[...]`` and ``**`` matches; links to folders are not followed."""
    parts = pattern.parts
    fixed = next(number for number, part in enumerate(parts) if glob.has_magic(part))
    root, rest = Path(*parts[:fixed]), (*parts[fixed:], *(["*"] if parts[-1] == "**" else []))
    none = [Skipped(name, f"no file matches '{name}'; check the pattern", is_mistake=True)]
    try:
        wanted = re.compile("".join(r"(?:.*/)?" if part == "**" else _one_name(part) + "/" for part in rest).removesuffix("/"))
    except re.error:  # a range from z to a
        return [], none
    if not root.is_dir():
        return [], none
    prefix = root.as_posix() if fixed else ""
    files, skipped = files_below(root, prefix)
    start = len(prefix) + 1 if prefix and prefix != "/" else len(prefix)
    files = [file for file in files if wanted.fullmatch(file.name[start:])]
    skipped = [one for one in skipped if one.is_mistake and wanted.fullmatch(one.name[start:])]
    return files, skipped if files or skipped else none


def _one_name(pattern: str) -> str:
    """A regular expression for what a pattern matches between two slashes."""
    known = {"*": "[^/]*", "?": "[^/]"}
    return "".join(
        known.get(part) or (part.replace("\\", r"\\").replace("[!", "[^", 1) if len(part) > 1 else re.escape(part))
        for part in _SIGNS.findall(pattern)
    )


def _one(path: Path, word: str, *, by_folder: bool) -> Found:
    if well_formed(word) != word:
        return [], [_not_utf8(well_formed(word))]
    return [DocumentFile(path, word, by_folder)], []


def _file(path: Path, name: str) -> DocumentFile | Skipped:
    """A file of a folder, if it is one that can be read and named."""
    if path.name.startswith("."):
        return Skipped(name, "it is a hidden file", is_mistake=False)
    if well_formed(path.name) != path.name or well_formed(name) != name:
        return _not_utf8(well_formed(name))
    try:
        kind = path.stat().st_mode
    except OSError as error:
        return _unreadable(name, error)
    if not stat.S_ISREG(kind):
        return Skipped(name, "it is no file but a device, pipe or socket", is_mistake=False)
    return DocumentFile(path, name, by_folder=True)


def _not_utf8(name: str) -> Skipped:
    return Skipped(name, f"the file name '{name}' is not UTF-8, so no source can have it; rename the file", is_mistake=True)


def _unreadable(name: str, error: OSError) -> Skipped:
    return Skipped(name, f"'{name}' cannot be read ({error.strerror or error})", is_mistake=True)


def _joined(prefix: str, inside: str, name: str) -> str:
    """The name of a source, shown characters for bytes that are none."""
    return well_formed("/".join(part for part in (prefix, "" if inside == "." else inside, name) if part))
