"""Texts that a person names for a command: files, folders, patterns and stdin. Says what is left out; knows no memory."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any

from mplus.cli import terminal
from mplus.errors import InputError
from mplus.runtime.input_file import read_bounded
from mplus.text.document_files import Document, Skipped, find_documents, read_documents
from mplus.text.documents import document_text, largest_bytes

STDIN = "-"
SHOWN = 20
"""Lines on what is left out by default of a folder; mistakes are all shown."""


def read_stdin() -> str:
    """The text of stdin, of whatever kind of document it is.

    Raises:
        InputError: it is closed, cannot be read, or holds no text.
    """
    if sys.stdin is None:
        raise InputError(f"stdin ('{STDIN}') is closed; name a file, or feed a text through a pipe")
    try:
        data = read_bounded(sys.stdin.buffer, limit_bytes=lambda head: largest_bytes(head, "stdin"), name="stdin")
    except (OSError, ValueError) as error:
        raise InputError(f"stdin cannot be read ({getattr(error, 'strerror', None) or error}); name a file") from None
    return document_text(data, "stdin")


def read_named(words: Sequence[str], source: str | None) -> tuple[list[Document], list[Skipped]]:
    """Texts of everything that is named, and what is left out.

    Args:
        words: paths, patterns, or '-' for stdin.
        source: the name of the one text there is.

    Raises:
        InputError: there is no text at all, or several texts for one name.
    """
    if words.count(STDIN) > 1:
        raise InputError(f"'{STDIN}' (stdin) is named {words.count(STDIN)} times, but it can be read only once")
    files, skipped = find_documents(word for word in words if word != STDIN)
    documents: list[Document] = []
    for one in read_documents(files):
        (documents if isinstance(one, Document) else skipped).append(one)  # type: ignore[arg-type]
    if STDIN in words:
        documents.insert(words.index(STDIN), Document("stdin", read_stdin()))
    if source is not None and len(documents) > 1:
        raise InputError(f"--source names one text, and there are {len(documents)}; leave it out, or name one file")
    if not documents:
        _refuse(skipped)
    return [Document(source or one.name, one.text) for one in documents], skipped


def read_one(word: str) -> str:
    """The text of one file, or of stdin.

    Raises:
        InputError: it cannot be read, or several files are meant.
    """
    documents, _ = read_named([word], None)
    if len(documents) > 1:
        raise InputError(f"'{word}' means {len(documents)} files; name one")
    return documents[0].text


def _refuse(skipped: Sequence[Skipped]) -> None:
    """End a command that has nothing to do.

    Raises:
        InputError.
    """
    if len(skipped) == 1:
        raise InputError(str(skipped[0]))
    note_skipped(skipped)
    raise InputError(f"none of {len(skipped)} files could be read; nothing was stored")


def note_skipped(skipped: Sequence[Skipped]) -> None:
    """Say what is left out and why: equal reasons together, mistakes last and all of them."""
    usual = [one for one in skipped if not one.is_mistake]
    lines = _lines(usual)
    for line in lines if terminal.is_verbose() else lines[:SHOWN]:
        terminal.note(f"left out: {line}")
    if len(lines) > SHOWN and not terminal.is_verbose():
        terminal.note(f"left out: {len(lines) - SHOWN:,} more; --verbose shows them")
    for line in _lines([one for one in skipped if one.is_mistake]):
        terminal.note(f"not read: {line}")


def _lines(skipped: Iterable[Skipped]) -> list[str]:
    """One sentence for each reason."""
    together: dict[str, list[Skipped]] = {}
    for one in skipped:
        together.setdefault(one.reason, []).append(one)
    return [
        str(group[0]) if len(group) == 1 else f"{len(group)} files ({_some(one.name for one in group)}): {reason}"
        for reason, group in together.items()
    ]


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    return ", ".join(listed[:3]) + (", ..." if len(listed) > 3 else "")


def plain_skipped(skipped: Iterable[Skipped]) -> list[dict[str, Any]]:
    """Give what is left out as plain values."""
    return [{"name": one.name, "reason": one.reason, "mistake": one.is_mistake} for one in skipped]
