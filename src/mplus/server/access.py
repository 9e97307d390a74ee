"""The check of every request before its route: whose it is, and whether a browser was tricked into it. Opens no memory.

Without keys a server answers on loopback only, to one tenant. Then a web page of elsewhere is the danger: it may send requests to
this machine (refused by ``Origin``), or have its own name resolve to it (refused by ``Host``).
"""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as Connection

from mplus.errors import InputError
from mplus.server.errors import ApiError, BadRequestError, ForbiddenError, UnauthorisedError
from mplus.server.keys import Keys, Principal
from mplus.server.refusal import below, refusal
from mplus.server.scope import LOCAL

log = logging.getLogger(__name__)
PUBLIC = frozenset({"/", "/health", "/v1/health", "/ready", "/favicon.ico"})
PUBLIC_BELOW = ("/page",)
"""The static page's files: they hold nothing of anybody."""
LONGEST_KEY = 512


def is_loopback(host: str) -> bool:
    """Whether a name or an address is this machine and nothing else."""
    name = host.strip("[]").lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name.split("%")[0]).is_loopback
    except ValueError:
        return False


def check_binding(host: str, *, has_keys: bool) -> None:
    """Refuse a server without keys that others can reach.

    Raises:
        InputError: says how to make a key.
    """
    if not has_keys and not is_loopback(host):
        raise InputError(
            f"--host {host} can be reached from elsewhere, and there are no keys; make one with "
            "`mplus serve keys add TENANT --api-keys FILE` and give --api-keys FILE, or bind to 127.0.0.1"
        )


class Authenticated:
    """ASGI middleware: sets ``state.principal``, or refuses.

    Args:
        keys: None: everybody who gets here is the tenant "local".
        origins: of browsers that may ask although they show a page of elsewhere.
        failed: called with the client's address for each wrong key; gives the error to answer with.
    """

    def __init__(
        self, app: ASGIApp, *, keys: Keys | None, origins: Sequence[str] = (), failed: Callable[[str], ApiError]
    ) -> None:
        self._app, self._keys, self._origins, self._failed = app, keys, frozenset(origins), failed

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
        """Pass on what may pass."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            self._check(scope)
        except ApiError as error:
            await refusal(error, scope["path"])(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _check(self, scope: Connection) -> None:
        headers = Headers(scope=scope)
        state = scope.setdefault("state", {})
        is_public = scope["path"] in PUBLIC or below(scope["path"], PUBLIC_BELOW)
        if self._keys is None:
            self._check_browser(scope, headers, is_public=is_public)
            state["principal"] = Principal(LOCAL, is_admin=True)
        elif not is_public:
            key = given_key(headers)
            found = self._keys.principal(key)
            if found is None:
                raise self._failed((scope.get("client") or ("unknown", 0))[0])
            state["principal"] = found

    def _check_browser(self, scope: Connection, headers: Headers, *, is_public: bool) -> None:
        host = headers.get("host", "")
        if not is_loopback(_host_name(host)):
            raise ForbiddenError(
                "this server has no keys, so it answers to localhost only; use that name, or start it with --api-keys",
                code="wrong_host",
            )
        origin = headers.get("origin")
        if origin is not None and origin not in self._origins and origin != f"{scope.get('scheme', 'http')}://{host}":
            raise ForbiddenError(
                "this server has no keys, so it takes no requests of other web pages; allow theirs with --cors",
                code="wrong_origin",
            )
        if origin is None and not is_public and headers.get("sec-fetch-site") in ("cross-site", "same-site"):
            raise ForbiddenError("this server has no keys, so it takes no requests of other web pages", code="wrong_origin")


def _host_name(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def given_key(headers: Headers) -> str:
    """The key of a request: ``Authorization: Bearer`` or ``Token``, or ``X-API-Key``.

    Raises:
        UnauthorisedError: there is none.
        BadRequestError: there are two.
    """
    found = {key.strip() for key in headers.getlist("x-api-key") if key.strip()}
    for value in headers.getlist("authorization"):
        kind, _, key = value.strip().partition(" ")
        if kind.lower() in ("bearer", "token") and key.strip():
            found.add(key.strip())
        elif value.strip():
            raise UnauthorisedError("the header Authorization must be 'Bearer KEY' or 'Token KEY'")
    if not found:
        raise UnauthorisedError("this needs a key; send it as 'Authorization: Bearer KEY'", code="missing_api_key")
    if len(found) > 1:
        raise BadRequestError("the request has two different keys; send one")
    key = found.pop()
    if len(key) > LONGEST_KEY:
        raise UnauthorisedError("this key is not one of the server's")
    return key
