"""PDF, Word and HTML documents as Markdown text, by the libraries of the extra `files`. Knows bytes and no place where they lie.

Pictures and the targets of links are left out. The libraries meet files that anybody made, so whatever they raise is one sentence here.
"""

from __future__ import annotations

import io
import logging
import re
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import PurePath
from typing import Any, Final

from mplus.errors import EmptyTextError, EncodingError, InputError
from mplus.runtime.extras import require

Convert = Callable[[bytes, str], str]
"""Bytes of a document and its name, for errors, to text.

Raises:
    EncodingError: they are damaged or cannot be opened.
    EmptyTextError: there is no text in it.
    MissingExtraError: the library is not installed.
"""

LARGEST_UNPACKED_BYTES: Final = 1 << 28
"""Of the parts of a Word document that are read: a small file can unpack to any size."""

_HTML: Final = re.compile(rb"\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)*<(?:!doctype\s+html|html)[\s>]", re.IGNORECASE | re.DOTALL)
_XML_DECLARATION: Final = re.compile(r"^\s*<\?xml[^>]*\?>")
_PDF_BEGINS: Final = 1024
"""Bytes among which readers of PDF look for its mark."""
_SILENT: Final = ("script", "style", "noscript", "template", "head", "svg", "iframe", "object")
"""Elements whose content no page shows as text."""


def converter_of(head: bytes, name: str) -> Convert | None:
    """The converter for a document; None where it is text as it stands, or something that none can read.

    Args:
        head: its first bytes.
        name: of its file, whose ending counts.
    """
    ending = PurePath(name).suffix.lower()
    if head.startswith(b"%PDF-") or (ending == ".pdf" and b"%PDF-" in head[:_PDF_BEGINS]):
        return pdf_text
    if head.startswith(b"PK\x03\x04") and (ending == ".docx" or b"word/" in head):
        return word_text
    if ending in (".html", ".htm", ".xhtml") or _HTML.match(head.removeprefix(b"\xef\xbb\xbf")):
        return html_text
    return None


# -- PDF -----------------------------------------------------------------------------------------------------------------


def pdf_text(data: bytes, name: str) -> str:
    """The text of a PDF, page after page. See ``Convert``."""
    pypdf = require("pypdf", "reading PDF files")
    with _one_sentence(name, "PDF"), _quiet("pypdf"):
        reader = pypdf.PdfReader(io.BytesIO(data))
        if reader.is_encrypted and not reader.decrypt(""):
            raise EncodingError(f"'{name}' is locked with a password; store it without one, for example with: qpdf --decrypt")
        pages = [(page.extract_text() or "").strip() for page in reader.pages]
    text = "\n\n".join(filter(None, pages))
    if not text:
        raise EmptyTextError(
            f"'{name}' holds no text in its {len(pages)} pages, perhaps pictures of text; recognise the text first, for example with ocrmypdf"
        )
    return text


# -- Word ----------------------------------------------------------------------------------------------------------------


def word_text(data: bytes, name: str) -> str:
    """The text of a Word document (.docx) as Markdown. See ``Convert``."""
    mammoth = require("mammoth", "reading Word files")
    with _one_sentence(name, "Word document"):
        with zipfile.ZipFile(io.BytesIO(data)) as parts:
            size_bytes = sum(part.file_size for part in parts.infolist() if part.filename.endswith((".xml", ".rels")))
        if size_bytes > LARGEST_UNPACKED_BYTES:
            raise InputError(
                f"'{name}' unpacks to {size_bytes:,} bytes, more than the {LARGEST_UNPACKED_BYTES:,} that are read; export it as plain text"
            )
        page = mammoth.convert_to_html(io.BytesIO(data), convert_image=lambda image: []).value
    if not page.strip():
        raise EmptyTextError(f"'{name}' holds no text; expected a document with some")
    return html_text(page.encode(), name)


# -- HTML ----------------------------------------------------------------------------------------------------------------


def html_text(data: bytes, name: str) -> str:
    """The text that a page shows, as Markdown, its title first. See ``Convert``."""
    markdownify = require("markdownify", "reading HTML files")
    soup_class = require("bs4", "reading HTML files").BeautifulSoup
    require("lxml", "reading HTML files")
    source = _XML_DECLARATION.sub("", _decoded_page(data, name))
    source = source if "<" in source else f"<body>{source}"  # else it is taken for a file name or an address, which is warned of
    with _one_sentence(name, "HTML page"):
        soup = soup_class(source, "lxml")
        title = soup.title.get_text(" ", strip=True) if soup.title is not None else ""
        for element in soup(_SILENT):
            element.decompose()
        converter = markdownify.MarkdownConverter(
            heading_style="atx",
            bullets="-",
            strip=["a", "img"],
            escape_asterisks=False,
            escape_underscores=False,
            escape_misc=False,
        )
        text = re.sub(r"[ \t]+\n", "\n", str(converter.convert_soup(soup)))
    text = re.sub(r"\n{3,}", "\n\n", text).strip()
    if not text:
        raise EmptyTextError(f"'{name}' shows no text; expected a page with some (a page that a script fills has none)")
    return text if not title or title in text.split("\n\n", 1)[0] else f"{title}\n\n{text}"


def _decoded_page(data: bytes, name: str) -> str:
    """A page by its byte order mark, as UTF-8, or in the encoding that it declares."""
    detector: Any = require("bs4.dammit", "reading HTML files").EncodingDetector
    rest, marked = detector.strip_byte_order_mark(data)
    encodings = (
        [marked] if marked else ["utf-8", detector.find_declared_encoding(data, is_html=True, search_entire_document=False)]
    )
    for encoding in filter(None, encodings):
        try:
            return str(rest, encoding)
        except (UnicodeDecodeError, LookupError):
            continue
    raise EncodingError(
        f"'{name}' is not UTF-8 and names no encoding that fits; convert it first, for example with: iconv -f LATIN1 -t UTF-8"
    )


# -- foreign libraries ---------------------------------------------------------------------------------------------------


@contextmanager
def _one_sentence(name: str, kind: str) -> Iterator[None]:
    """Whatever a library raises on a broken file becomes one sentence; our own errors pass."""
    try:
        yield
    except (InputError, MemoryError):
        raise
    except Exception as error:  # parsers raise anything on bytes they do not expect
        reason = " ".join(str(error).split()) or "no reason given"
        raise EncodingError(
            f"'{name}' is a damaged {kind} ({type(error).__name__}: {reason:.120}); get it again, or export it as plain text"
        ) from None


@contextmanager
def _quiet(logger: str) -> Iterator[None]:
    """Keep a library from printing what it thinks of a file."""
    log = logging.getLogger(logger)
    before = log.level
    log.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        log.setLevel(before)
