"""Documents as people have them, as text: plain text, Markdown, code, HTML, PDF and Word. Knows no tokenizer and no memory."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from mplus.errors import EmptyTextError, InputError
from mplus.runtime.input_file import read_input
from mplus.runtime.unicode import well_formed
from mplus.text.converters import converter_of
from mplus.text.files import decoded, refuse_binary

LARGEST_DOCUMENT_BYTES: Final = 1 << 29
"""Of a file that is converted; most of it may be pictures."""
LARGEST_PLAIN_BYTES: Final = 1 << 24
"""Of a text that becomes one source, some 4 million tokens: to tokenise it takes 250 times as much RAM."""
_LOOKED_AT: Final = 1 << 16
_EXPECTED: Final = "a text, HTML, PDF or Word file"


def read_document(path: str | Path) -> str:
    """The text of a document of any kind that can be read; a pipe is read to its end.

    Raises:
        InputError: there is no such file, it is a directory or a device, too large, or it cannot be read.
        EncodingError: it is not UTF-8, damaged or locked; ``BinaryFileError``: it holds no text.
        EmptyTextError: there is no text in it.
        MissingExtraError: the library for its kind is not installed.
    """
    name = well_formed(str(path))
    return document_text(read_input(path, limit_bytes=lambda head: largest_bytes(head, name), what=_EXPECTED), name)


def document_text(data: bytes, name: str) -> str:
    """The text of the bytes of a document, as of an upload or of stdin.

    Args:
        name: of the document, for errors; its ending says what it may be.

    Raises:
        InputError, EncodingError, EmptyTextError, MissingExtraError: see ``read_document``.
    """
    if not data:
        raise EmptyTextError(f"'{name}' is empty (0 bytes); expected some text to read")
    convert = converter_of(data[:_LOOKED_AT], name)
    text = decoded(data, name) if convert is None else convert(data, name)
    if not text.strip():
        raise EmptyTextError(f"'{name}' holds no text ({len(data)} bytes, all white space); expected some text to read")
    if len(text) > LARGEST_PLAIN_BYTES:
        raise InputError(
            f"'{name}' holds {len(text):,} characters, more than the {LARGEST_PLAIN_BYTES:,} of one source; split it into smaller files, "
            "for example with: split -C 10m"
        )
    return text


def largest_bytes(head: bytes, name: str) -> int:
    """How many bytes of a document are read at most, by its first bytes.

    Raises:
        BinaryFileError: it holds no text, so that the rest need not be read.
    """
    if converter_of(head[:_LOOKED_AT], name) is not None:
        return LARGEST_DOCUMENT_BYTES
    refuse_binary(head, name)
    return LARGEST_PLAIN_BYTES
