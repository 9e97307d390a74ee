"""One file out of the package index that this machine's pip settings name, where there is no pip. Verifies nothing, see ``wheel.verify``.

Environments that `uv` makes have no pip. What pip would read decides here too: its environment variables before its files, index,
extra indexes, links to files, certificates; proxies as everywhere (``HTTPS_PROXY``).
"""

from __future__ import annotations

import base64
import configparser
import os
import ssl
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import BinaryIO, cast
from urllib.error import URLError
from urllib.parse import unquote, urldefrag, urljoin, urlsplit, urlunsplit
from urllib.request import HTTPSHandler, Request, build_opener, url2pathname

DEFAULT_INDEX = "https://pypi.org/simple"
MOST_PAGE_BYTES = 1 << 26
_SECTIONS = ("global", "install", "download")
_PIECE_BYTES = 1 << 20


class NotInIndexError(Exception):
    """No place has the file; the text says what each answered."""


def fetch_file(project: str, name: str, into: Path, *, most_bytes: int, timeout_s: float) -> Path:
    """Get one file of a project; returns its path.

    Args:
        most_bytes: of the file; a longer one is cut off there.

    Raises:
        NotInIndexError: no configured place has it or can be reached.
        OSError: it cannot be stored.
    """
    settings = _settings()
    certificates = _first(settings, "cert") or os.environ.get("SSL_CERT_FILE") or os.environ.get("REQUESTS_CA_BUNDLE")
    try:
        opener = build_opener(HTTPSHandler(context=ssl.create_default_context(cafile=certificates or None)))
    except (OSError, ssl.SSLError) as error:
        raise NotInIndexError(f"certificates in {certificates} cannot be read: {error}") from None
    complaints = []
    for page in _places(settings, project):
        try:
            where = _link(opener, page, name, timeout_s)
            if where is None:
                complaints.append(f"{_public(page)} has no {name}")
                continue
            with _open(opener, where, timeout_s) as answer:
                return _stored(answer, into / name, most_bytes)
        except (URLError, ValueError, TimeoutError, ConnectionError) as error:
            complaints.append(f"{_public(page)}: {getattr(error, 'reason', None) or error}")
    raise NotInIndexError("; ".join(complaints) or "no index is configured")


def _settings() -> dict[str, list[str]]:
    """Values of pip's settings; of one that is set more than once, the last word."""
    found: dict[str, list[str]] = {}
    for path in _files():
        reader = configparser.RawConfigParser()
        try:
            reader.read(path, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError):
            continue  # pip would say what is wrong with it
        for section in _SECTIONS:
            if reader.has_section(section):
                found.update({key.replace("_", "-"): value.split() for key, value in reader.items(section)})
    for key in ("index-url", "extra-index-url", "find-links", "cert", "no-index"):
        if (given := os.environ.get(f"PIP_{key.upper().replace('-', '_')}")) is not None:
            found[key] = given.split()
    if "index-url" not in found and (other := os.environ.get("UV_DEFAULT_INDEX") or os.environ.get("UV_INDEX_URL")):
        found["index-url"] = [other]
    return found


def _files() -> list[Path]:
    """Of all users, of this one, of this environment, and the one that is named."""
    own = os.environ.get("PIP_CONFIG_FILE")
    if own == os.devnull:
        return []
    home = Path.home()
    system = [
        Path(place) / "pip" / "pip.conf" for place in os.environ.get("XDG_CONFIG_DIRS", "/etc/xdg").split(os.pathsep) if place
    ]
    users = [home / ".pip" / "pip.conf", Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config") / "pip" / "pip.conf"]
    return [*system, Path("/etc/pip.conf"), *users, Path(sys.prefix) / "pip.conf", *([Path(own)] if own else [])]


def _places(settings: dict[str, list[str]], project: str) -> list[str]:
    """Pages or directories that may have the file, in the order they are asked."""
    places = [_as_url(place) for place in settings.get("find-links", [])]
    if (_first(settings, "no-index") or "").lower() not in ("1", "true", "yes", "on"):
        indexes = [*settings.get("index-url", [DEFAULT_INDEX]), *settings.get("extra-index-url", [])]
        places += [f"{_as_url(index).rstrip('/')}/{project}/" for index in indexes]
    return places


def _first(settings: dict[str, list[str]], key: str) -> str | None:
    return next(iter(settings.get(key, [])), None)


def _as_url(place: str) -> str:
    return place if "://" in place else Path(place).expanduser().absolute().as_uri()


def _link(opener: object, page: str, name: str, timeout_s: float) -> str | None:
    """Where a page or directory says that the file is."""
    parts = urlsplit(page)
    if parts.scheme == "file":
        path = Path(url2pathname(parts.path))
        if (path / name).is_file():
            return (path / name).as_uri()
        if not path.is_file():
            path = path / "index.html"
        if not path.is_file():
            return None
        page, text = path.as_uri(), path.read_text(encoding="utf-8", errors="replace")
    else:
        with _open(opener, page, timeout_s) as answer:
            page = getattr(answer, "url", page)
            text = answer.read(MOST_PAGE_BYTES).decode("utf-8", "replace")
    links = _Links()
    links.feed(text)
    wanted = next((link for link in links.found if unquote(urlsplit(link).path).rpartition("/")[2] == name), None)
    return None if wanted is None else urldefrag(urljoin(page, wanted))[0]


class _Links(HTMLParser):
    """The addresses of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.found += [value for key, value in attrs if key == "href" and value]


def _open(opener: object, url: str, timeout_s: float) -> BinaryIO:
    parts = urlsplit(url)
    headers = {"User-Agent": "mplus", "Accept": "text/html, application/octet-stream, */*"}
    if parts.username is not None:  # urllib does not send what stands in an address
        word = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Authorization"] = "Basic " + base64.b64encode(word.encode()).decode()
    return cast("BinaryIO", opener.open(Request(_public(url), headers=headers), timeout=timeout_s))  # type: ignore[attr-defined]


def _public(url: str) -> str:
    """Without user and password."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _stored(answer: BinaryIO, path: Path, most_bytes: int) -> Path:
    left = most_bytes
    with path.open("wb") as file:
        while left > 0 and (piece := answer.read(min(_PIECE_BYTES, left))):
            left -= file.write(piece)
    return path
