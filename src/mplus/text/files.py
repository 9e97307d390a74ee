"""Text files as people have them: bounded reading, encodings, and a word on what a file is that holds no text. Knows no task."""

from __future__ import annotations

import codecs
import json
import re
from pathlib import Path
from typing import Any, Final

from mplus.errors import BinaryFileError, EmptyTextError, EncodingError
from mplus.runtime.input_file import LARGEST_TEXT_BYTES, read_input
from mplus.runtime.unicode import well_formed

_LOOKED_AT: Final = 1 << 16  # bytes that tell what a file is
_SURROGATE: Final = re.compile(r"\\u[dD][89a-fA-F]")
_FEW: Final = 0.01  # share of control characters that text may have
_MOSTLY: Final = 0.7  # share of ASCII in what is likely Latin-1

_MAGIC: Final[tuple[tuple[bytes, str], ...]] = (
    (b"\x89PNG\r\n\x1a\n", "a PNG picture"), (b"\xff\xd8\xff", "a JPEG picture"), (b"GIF87a", "a GIF picture"), (b"GIF89a", "a GIF picture"),
    (b"II*\x00", "a TIFF picture"), (b"MM\x00*", "a TIFF picture"), (b"%PDF-", "a PDF"), (b"{\\rtf", "an RTF document"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Office document (.doc, .xls, .ppt)"), (b"%!PS", "a PostScript document"),
    (b"\x1f\x8b", "a gzip file"), (b"BZh", "a bzip2 file"), (b"\xfd7zXZ\x00", "an xz file"), (b"\x28\xb5\x2f\xfd", "a Zstandard file"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"), (b"Rar!\x1a\x07", "a RAR archive"), (b"PAR1", "a Parquet file"), (b"ARROW1", "an Arrow file"),
    (b"SQLite format 3\x00", "an SQLite data base"), (b"\x7fELF", "a program"), (b"MZ\x90\x00", "a program"), (b"GGUF", "a GGUF model"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file"), (b"\x93NUMPY", "a NumPy array"), (b"ID3", "an MP3 recording"), (b"OggS", "an Ogg recording"),
    (b"fLaC", "a FLAC recording"), (b"\x80\x02", "a Python pickle"), (b"\x80\x03", "a Python pickle"), (b"\x80\x04", "a Python pickle"),
    (b"\x80\x05", "a Python pickle"),
)  # fmt: skip
_IN_ZIP: Final = (
    (b"word/", "a Word document (.docx)"), (b"xl/", "an Excel table (.xlsx)"), (b"ppt/", "a PowerPoint document (.pptx)"),
    (b"application/vnd.oasis.opendocument", "an OpenDocument file"), (b"application/epub+zip", "an EPUB book"),
    (b"/data.pkl", "a PyTorch file"), (b".npy", "a NumPy archive"),
)  # fmt: skip
_RIFF: Final = {b"WAVE": "a WAV recording", b"WEBP": "a WebP picture", b"AVI ": "an AVI film"}
_UNPACK: Final = ("gzip", "bzip2", "xz file", "Zstandard", "archive", "ZIP")
_EXPORT: Final = ("PDF", "document", "OpenDocument", "EPUB", "table")
_WEAK: Final = (b"PAR1", b"ARROW1", b"GGUF", b"ID3", b"OggS", b"fLaC", b"BZh", b"GIF87a", b"GIF89a", b"%!PS")
"""Beginnings that text could have too: they count only where what follows is no text."""


def read_text(path: str | Path, *, most_bytes: int = LARGEST_TEXT_BYTES, may_be_empty: bool = False) -> str:
    """The text of a UTF-8 file (a byte order mark is left out), line ends normalised. A pipe is read to its end.

    Args:
        most_bytes: a larger file is refused before it fills the memory.
        may_be_empty: give white space as it is instead of refusing it.

    Raises:
        InputError: there is no such file, it is a directory or a device, too large, or it cannot be read.
        EncodingError: it is not UTF-8; says what it is, as far as that can be seen.
        EmptyTextError: it holds nothing but white space.
    """
    name = well_formed(str(path))
    data = read_input(path, limit_bytes=most_bytes)
    text = decoded(data, name)
    if not may_be_empty and not text.strip():
        raise EmptyTextError(f"'{name}' holds no text ({len(data)} bytes, all white space); expected some text to read")
    return text


def decoded(data: bytes, name: str) -> str:
    """Bytes as text, line ends normalised.

    Args:
        name: of their file, for errors.

    Raises:
        EncodingError: they are not UTF-8 text.
    """
    if (wide := refuse_binary(data, name)) is not None:
        raise EncodingError(f"'{name}' is not UTF-8 but {wide}; convert it first, for example with: iconv -f {wide} -t UTF-8")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise EncodingError(f"'{name}' is not UTF-8: {_complaint(data, error)}") from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def refuse_binary(data: bytes, name: str) -> str | None:
    """Refuse what is no text in any encoding, by its first bytes; returns the encoding if it is UTF-16 or UTF-32.

    Raises:
        BinaryFileError: it is a picture, a program, an archive or other binary data.
    """
    head = data[:_LOOKED_AT]
    kind = kind_of(head)
    if kind is not None and not (head.startswith(_WEAK) and _is_utf8(head)):
        raise BinaryFileError(f"'{name}' is {kind}, not text; {_advice(kind)}")
    wide = _wide(head)
    if wide is None and _controls(head) > _FEW:
        raise BinaryFileError(f"'{name}' holds binary data, not text; give a UTF-8 text file")
    return wide


def parsed(text: str) -> Any:
    """The value of a JSON text; lone surrogates ("\\ud83d", half an emoji) become U+FFFD.

    Raises:
        ValueError: it is not JSON, or too deep or too large a number to be read.
    """
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return _joined(value) if _SURROGATE.search(text) else value


def _joined(value: Any) -> Any:
    if isinstance(value, str):
        return well_formed(value)
    if isinstance(value, list):
        return [_joined(one) for one in value]
    if isinstance(value, dict):
        return {well_formed(key): _joined(one) for key, one in value.items()}
    return value


def kind_of(head: bytes) -> str | None:
    """The kind of a file by its first bytes; None for text and unknown kinds."""
    for magic, kind in _MAGIC:
        if head.startswith(magic):
            return kind
    if head.startswith(b"PK\x03\x04"):
        return next((kind for sign, kind in _IN_ZIP if sign in head), "a ZIP archive")
    if head[:4] == b"RIFF" and head[8:12] in _RIFF:
        return _RIFF[head[8:12]]
    if head[4:8] == b"ftyp":
        return "an MP4 film or HEIC picture"
    if head[:2] == b"BM" and head[6:10] == b"\x00\x00\x00\x00":
        return "a BMP picture"
    if head[8:10] == b'{"' and int.from_bytes(head[:8], "little") < 1 << 27:
        return "a safetensors file"
    return None


def _advice(kind: str) -> str:
    if any(word in kind for word in _EXPORT):
        return "export it as plain text first"
    if any(word in kind for word in _UNPACK):
        return "unpack it first"
    if "Parquet" in kind:
        return "name it with the ending .parquet where data are read, else export its text"
    return "give a UTF-8 text file"


def _is_utf8(head: bytes) -> bool:
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)  # whose last character may be cut off
    except UnicodeDecodeError:
        return False
    return _controls(head) <= _FEW


def _wide(head: bytes) -> str | None:
    """UTF-16 or UTF-32, by its mark or by its zero bytes."""
    if head.startswith((b"\xff\xfe\x00\x00", b"\x00\x00\xfe\xff")):
        return "UTF-32"
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "UTF-16"
    even, odd = head[::2], head[1::2]
    if len(odd) < 2:
        return None
    low, high = even.count(0) / len(even), odd.count(0) / len(odd)
    if high > 0.3 and low < 0.1:
        return "UTF-16LE"
    if low > 0.3 and high < 0.1:
        return "UTF-16BE"
    return None


def _controls(head: bytes) -> float:
    """Share of bytes that no text has."""
    return sum(head.count(sign) for sign in (*range(8), *range(14, 27), 28, 29, 30, 31, 127)) / max(len(head), 1)


def _complaint(data: bytes, error: UnicodeDecodeError) -> str:
    """The place that is not UTF-8, and the encoding it may have."""
    head = data[:_LOOKED_AT]
    at = f"byte {error.start} is 0x{data[error.start]:02x}"
    if error.start >= len(data) - 3 and error.reason == "unexpected end of data":
        return f"{at}, the beginning of a character whose rest is missing; the file was cut off, get it again"
    if sum(byte < 128 for byte in head) >= _MOSTLY * len(head):
        return f"{at}; convert it first, for example with: iconv -f LATIN1 -t UTF-8"
    return f"{at}; convert it from its encoding first, for example with: iconv -f GB18030 (SHIFT_JIS, CP1251, ...) -t UTF-8"
