"""The page's files, read once and sent with what browsers need to know of them. Knows no memory; anyone may read them."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path
from typing import Annotated, Final

from fastapi import APIRouter, Header, Response

from mplus.server.errors import NotFoundError

FOLDER: Final = Path(__file__).resolve().parent
INDEX: Final = "index.html"
TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
FILES: Final = frozenset(path.name for path in FOLDER.iterdir() if path.suffix in TYPES)
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Scripts, styles and calls of this server only; nothing that a document says can become one."""
HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",  # kept, but asked about each time: after an upgrade all files are of one version
}

router = APIRouter(include_in_schema=False)


@functools.cache
def _file(name: str) -> tuple[bytes, str]:
    """Content and entity tag of a file."""
    content = (FOLDER / name).read_bytes()
    return content, f'"{hashlib.sha256(content).hexdigest()[:32]}"'


def _response(name: str, known: str | None) -> Response:
    content, tag = _file(name)
    headers = {**HEADERS, "ETag": tag}
    if known is not None and tag in (one.strip().removeprefix("W/") for one in known.split(",")):
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=TYPES[Path(name).suffix], headers=headers)


@router.api_route("/", methods=["GET", "HEAD"])
async def index(if_none_match: Annotated[str | None, Header()] = None) -> Response:
    """The page."""
    return _response(INDEX, if_none_match)


@router.api_route("/page/{name}", methods=["GET", "HEAD"])
async def file(name: str, if_none_match: Annotated[str | None, Header()] = None) -> Response:
    """A file of the page.

    Raises:
        NotFoundError: it has none of that name.
    """
    if name not in FILES:
        raise NotFoundError("the page has no file of that name")
    return _response(name, if_none_match)
