"""Laws of reading files: text comes as it is, everything else is named with a way out, and nothing is read without end."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from mplus.corpus.passages import read_passages
from mplus.corpus.records import read_records
from mplus.errors import EmptyTextError, EncodingError, InputError
from mplus.text.files import parsed, read_text


def stored(place: Path, content: bytes) -> Path:
    path = place / "file"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("\ufeffGrüße.\r\nZwei\rDrei".encode(), "Grüße.\nZwei\nDrei"),
        ("漢字".encode(), "漢字"),
        (b"BM is a short word", "BM is a short word"),
        (b"GGUF is a file form; ID3 too", "GGUF is a file form; ID3 too"),
        (b"OggS " + "é".encode() * 40_000, "OggS " + "é" * 40_000),
        (b"\x1b[31mred\x1b[0m and a tab\t", "\x1b[31mred\x1b[0m and a tab\t"),
        (b"x", "x"),
    ],
)
def test_text_comes_as_it_is(tmp_path: Path, content: bytes, text: str) -> None:
    assert read_text(stored(tmp_path, content)) == text


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\x89PNG\r\n\x1a\n\x00\x00", "is a PNG picture, not text; give a UTF-8 text file"),
        (b"\xff\xd8\xff\xe0\x00\x10JFIF", "is a JPEG picture"),
        (b"%PDF-1.7\n1 0 obj", "is a PDF, not text; export it as plain text first"),
        (b"PK\x03\x04\x14\x00[Content_Types].xml word/document.xml", r"is a Word document \(.docx\), not text; export it"),
        (b"PK\x03\x04\x14\x00a.txt", "is a ZIP archive, not text; unpack it first"),
        (b"\x1f\x8b\x08\x00", "is a gzip file, not text; unpack it first"),
        (b"PAR1\x15\x04\x15\xff", "is a Parquet file"),
        (b"\x10\x00\x00\x00\x00\x00\x00\x00" + b'{"a":{"dtype":1}', "is a safetensors file"),
        (b"{\\rtf1\\ansi", "is an RTF document, not text; export it"),
        (b"\x80\x04\x95\x10", "is a Python pickle"),
        (b"RIFF\x24\x00\x00\x00WAVEfmt ", "is a WAV recording"),
        ("Grüße".encode("utf-16"), "is not UTF-8 but UTF-16; convert it first, for example with: iconv -f UTF-16 -t UTF-8"),
        ("Hello you".encode("utf-16-le"), "is not UTF-8 but UTF-16LE"),
        ("Hello you".encode("utf-16-be"), "is not UTF-8 but UTF-16BE"),
        ("Hello".encode("utf-32"), "is not UTF-8 but UTF-32"),
        ("Grüße aus Köln".encode("latin-1"), "byte 2 is 0xfc; convert it first, for example with: iconv -f LATIN1 -t UTF-8"),
        ("港口小镇有两个市场".encode("gb18030"), "iconv -f GB18030"),
        ("Grüße".encode()[:3], "the file was cut off"),
        (bytes(range(256)) * 4, "binary data"),
        (b"abc\x00\x01\x02\x03" * 50, "holds binary data, not text"),
    ],
)
def test_what_is_no_text_is_named_with_a_way_out(tmp_path: Path, content: bytes, said: str) -> None:
    with pytest.raises(EncodingError, match=said) as caught:
        read_text(stored(tmp_path, content))
    assert "\n" not in str(caught.value)


def test_reading_has_a_bound_and_refuses_devices(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has more than 10 bytes, the most that is read at once; split it"):
        read_text(stored(tmp_path, b"x" * 11), most_bytes=10)
    assert read_text(stored(tmp_path, b"x" * 10), most_bytes=10) == "x" * 10
    for device in ("/dev/zero", "/dev/null"):
        with pytest.raises(InputError, match="is a device; expected"):
            read_text(device)
    (tmp_path / "zero.txt").symlink_to("/dev/zero")
    with pytest.raises(InputError, match="is a device; expected"):
        read_text(tmp_path / "zero.txt")


def test_a_pipe_is_read_to_its_end(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(b"One. Two.",))
    writer.start()
    assert read_text(pipe) == "One. Two."
    writer.join()


def test_white_space_is_refused_unless_it_may_be_there(tmp_path: Path) -> None:
    path = stored(tmp_path, b" \n")
    with pytest.raises(EmptyTextError, match="all white space"):
        read_text(path)
    assert read_text(path, may_be_empty=True) == " \n"


def test_names_that_no_file_can_have_are_refused() -> None:
    for name in ("a\x00b", "nothing\udcff.txt", "x" * 5000):
        with pytest.raises(InputError) as caught:
            read_text(name)
        str(caught.value).encode()


def test_half_an_emoji_in_json_is_one_replacement_character(tmp_path: Path) -> None:
    assert parsed(r'{"a\ud83d": ["\ud83d\ude00", "\udc00", 1, null]}') == {"a\ufffd": ["😀", "\ufffd", 1, None]}
    line = rb'{"context": "It was Ana \ud83d.", "question": "Who \ud83d?", "answers": ["Ana"], "id": "\ud83d"}'
    path = stored(tmp_path, line)
    asked = read_passages(path).passages[0].questions[0]
    assert (asked.text, asked.id) == ("Who \ufffd?", "\ufffd") and read_records(path)[0].text("context") == "It was Ana \ufffd."


def test_json_too_deep_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nested too deeply"):
        read_records(stored(tmp_path, b"[" * 100_000))


def test_read_text_names_what_is_wrong(tmp_path: Path) -> None:
    good = tmp_path / "good.txt"
    good.write_bytes("\ufeffGrüße.\r\nZwei".encode())
    assert read_text(good) == "Grüße.\nZwei"
    latin = tmp_path / "latin.txt"
    latin.write_bytes("Grüße".encode("latin-1"))
    with pytest.raises(EncodingError, match="byte 2 is 0xfc"):
        read_text(latin)
    blank = tmp_path / "blank.txt"
    blank.write_text(" \n")
    with pytest.raises(EmptyTextError, match="white space"):
        read_text(blank)
    with pytest.raises(InputError, match="there is no file"):
        read_text(tmp_path / "missing.txt")
    with pytest.raises(InputError, match="is a directory"):
        read_text(tmp_path)
