"""Laws of documents: what a person reads in one comes out as text, and what cannot be read is one sentence."""

from __future__ import annotations

import io
import logging
import sys
from pathlib import Path

import pytest

from mplus.errors import BinaryFileError, EmptyTextError, EncodingError, InputError, MissingExtraError
from mplus.text import converters, documents
from mplus.text.documents import document_text, read_document
from tests.unit.text.making import docx, pdf

PAGE = b"""<?xml version="1.0"?><!DOCTYPE html><html><head><title>Boats &amp; ports</title><style>p {}</style></head><body>
<h1>Porto</h1><p>Ilse keeps <a href="https://example.org">two</a> <b>grey</b> cats_and_dogs.<script>alert("no")</script>
<ul><li>one<li>two</ul><table><tr><th>boat<th>colour<tr><td>Nora<td>red</table><pre>x = 1
  y = 2</pre></body></html>"""


@pytest.mark.parametrize(
    ("name", "data", "text"),
    [
        ("a.txt", "\ufeffGrüße.\r\n".encode(), "Grüße.\n"),
        ("a.md", b"# Title\n\n- one", "# Title\n\n- one"),
        ("a.py", b"def f():\n    return '<p>'\n", "def f():\n    return '<p>'\n"),
        ("a.pdf", pdf("Ana lives in Seville.", "She sails."), "Ana lives in Seville.\n\nShe sails."),
        ("stdin", pdf("Ana lives in Seville."), "Ana lives in Seville."),
        ("a.docx", docx("Ana lives in Seville.", "a * b_c"), "Ana lives in Seville.\n\na * b_c"),
        ("stdin", docx("Ana"), "Ana"),
        ("a.html", "<p>Málaga".encode(), "Málaga"),
        ("a.html", "<html><meta charset=iso-8859-1><p>Málaga".encode("latin-1"), "Málaga"),
        ("a.htm", "<p>Málaga".encode("utf-16"), "Málaga"),
        ("a.html", b"words alone", "words alone"),
        ("stdin", b"  <!-- made --> <!doctype HTML><p>Porto</p>", "Porto"),
    ],
)
def test_the_text_of_a_document_comes_out(name: str, data: bytes, text: str, tmp_path: Path) -> None:
    assert document_text(data, name) == text
    (tmp_path / name).write_bytes(data)
    assert read_document(tmp_path / name) == text


def test_a_page_is_what_a_reader_sees_of_it() -> None:
    text = document_text(PAGE, "page.html")
    assert text.startswith("Boats & ports\n\n# Porto\n\nIlse keeps two **grey** cats_and_dogs.")
    assert "- one\n- two" in text
    assert "| Nora | red |" in text
    assert "x = 1\n  y = 2" in text
    assert not any(hidden in text for hidden in ("alert", "p {}", "example.org", "<"))


@pytest.mark.parametrize(
    ("name", "data", "kind", "said"),
    [
        ("a.pdf", b"%PDF-1.7\n1 0 obj", EncodingError, "'a.pdf' is a damaged PDF"),
        ("a.pdf", pdf("Ana")[:300], EncodingError, "'a.pdf' is a damaged PDF"),
        ("a.pdf", pdf(""), EmptyTextError, "holds no text in its 1 pages, perhaps pictures of text; recognise"),
        ("a.docx", docx("Ana")[:-40], EncodingError, "'a.docx' is a damaged Word document"),
        ("a.docx", docx("Ana", more=b" " * 3000), InputError, "'a.docx' unpacks to"),
        ("a.docx", docx(""), EmptyTextError, "'a.docx' holds no text"),
        ("a.html", b"<html><script>x()</script>", EmptyTextError, "shows no text"),
        ("a.html", "<html><p>Málaga".encode("latin-1"), EncodingError, "names no encoding that fits; convert it"),
        ("a.html", b"<div>" * 9000 + b"x", EncodingError, "'a.html' is a damaged HTML page"),
        ("a.txt", b"", EmptyTextError, "'a.txt' is empty (0 bytes)"),
        ("a.txt", b" \n", EmptyTextError, "'a.txt' holds no text (2 bytes, all white space)"),
        ("a.txt", "Málaga".encode("latin-1"), EncodingError, "iconv -f LATIN1"),
        ("a.txt", b"x" * 5000, InputError, "'a.txt' has more than 4,000 bytes, the most that is read at once; split it"),
        ("a.pdf", pdf(*["word " * 100] * 10), InputError, "'a.pdf' holds 5,0"),
        ("a.png", b"\x89PNG\r\n\x1a\n" + b"\0" * 9000, BinaryFileError, "is a PNG picture, not text"),
        ("a.bin", b"abc\x00\x01\x02\x03" * 3000, BinaryFileError, "holds binary data"),
        ("a.odt", b"PK\x03\x04\x14\x00mimetypeapplication/vnd.oasis.opendocument.text", BinaryFileError, "export it as plain text"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, data: bytes, kind: type[Exception], said: str
) -> None:
    monkeypatch.setattr(documents, "LARGEST_PLAIN_BYTES", 4000)
    monkeypatch.setattr(converters, "LARGEST_UNPACKED_BYTES", 2000)
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(data)
    with pytest.raises(kind) as caught:
        read_document(name)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert type(caught.value) is kind


def test_a_locked_pdf_is_told_and_one_with_an_empty_password_is_read() -> None:
    from pypdf import PdfWriter

    for password, alone in (("secret", False), ("", True)):
        writer, held = PdfWriter(clone_from=io.BytesIO(pdf("Ana sails."))), io.BytesIO()
        writer.encrypt(password, "owner", algorithm="RC4-128")
        writer.write(held)
        if alone:
            assert document_text(held.getvalue(), "a.pdf") == "Ana sails."
        else:
            with pytest.raises(EncodingError, match="'a.pdf' is locked with a password; store it without one"):
                document_text(held.getvalue(), "a.pdf")


@pytest.mark.parametrize(
    ("module", "name", "data"), [("pypdf", "a.pdf", pdf("x")), ("mammoth", "a.docx", docx("x")), ("lxml", "a.html", PAGE)]
)
def test_a_missing_library_is_one_sentence_with_the_command(
    monkeypatch: pytest.MonkeyPatch, module: str, name: str, data: bytes
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=rf"needs the package {module}, .*pip install {module} \(extra 'files'"):
        document_text(data, name)


def test_a_library_says_nothing_by_itself(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(EncodingError):
        document_text(b"%PDF-1.7\n1 0 obj", "a.pdf")
    assert not caplog.records
    assert logging.getLogger("pypdf").level == logging.NOTSET
