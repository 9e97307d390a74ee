"""The file of API keys: each names a tenant. Holds hashes only; a key itself is shown once, when it is made. Knows no web.

A key is 32 random bytes, so a fast hash is enough: nobody guesses its input.

The file is JSON: ``{"version": 1, "keys": [{"id", "tenant", "admin", "digest", "created_at"}]}``, readable by its owner only.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import secrets
import stat
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mplus.errors import InputError
from mplus.memory.stores.lock import exclusive_change
from mplus.runtime.atomic import replace_files
from mplus.runtime.json_file import UnreadableJsonError, read_json_object
from mplus.server.scope import checked_id

log = logging.getLogger(__name__)
VERSION = 1
PREFIX = "mplus-"
OWNER_ONLY = 0o600


@dataclass(frozen=True)
class Principal:
    """Who asks.

    Attributes:
        is_admin: an operator, who may see metrics and set quotas.
    """

    tenant: str
    is_admin: bool = False


class ApiKey(BaseModel):
    """What is kept of a key."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    tenant: str
    admin: bool = False
    digest: str = Field(pattern="^[0-9a-f]{64}$")
    created_at: str


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    version: int = Field(ge=1, le=VERSION)
    keys: tuple[ApiKey, ...]


def digest_of_key(key: str) -> str:
    """What is kept of a key in the place of itself."""
    return hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=32, person=b"mplus-api-key").hexdigest()


def read_keys(path: Path) -> tuple[ApiKey, ...]:
    """The keys of a file.

    Raises:
        InputError: it is missing, others may read it, or it is no such file.
    """
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        if os.name == "posix" and mode & 0o077:
            raise InputError(f"key file {path} has mode {mode:04o}, so others may read it; run: chmod 600 {path}")
        return _File.model_validate(read_json_object(path)).keys
    except FileNotFoundError:
        raise InputError(f"there is no key file {path}; make it: mplus serve keys add TENANT --api-keys {path}") from None
    except OSError as error:
        raise InputError(f"key file {path} cannot be read: {error.strerror or error}") from None
    except UnreadableJsonError as error:
        raise InputError(f"key file {path} cannot be read: {error}; put back a copy, or make another one") from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise InputError(f"key file {path}, {place}: {first['msg']}; put back a copy, or make another one") from None


def add_key(path: Path, tenant: str, *, admin: bool = False) -> tuple[ApiKey, str]:
    """Make a key, and the file where there is none.

    Returns:
        what is kept of it, and the key itself, which nothing can show again.

    Raises:
        BadRequestError: the tenant's name cannot be used.
        InputError: the file cannot be read.
    """
    checked_id(tenant, "tenant")
    key = PREFIX + secrets.token_urlsafe(32)
    with exclusive_change(path.absolute().parent):
        kept = read_keys(path) if path.exists() else ()
        now = datetime.now(UTC).isoformat(timespec="seconds")
        made = ApiKey(id="key_" + secrets.token_hex(6), tenant=tenant, admin=admin, digest=digest_of_key(key), created_at=now)
        _write(path, (*kept, made))
    return made, key


def revoke_key(path: Path, id: str) -> ApiKey:
    """Take a key out; servers that use the file refuse it from the next request on.

    Raises:
        InputError: there is none of that id.
    """
    with exclusive_change(path.absolute().parent):
        keys = read_keys(path)
        found = next((one for one in keys if one.id == id), None)
        if found is None:
            raise InputError(f"{path} has no key {id!r}; `mplus serve keys list` shows the ids there are")
        _write(path, tuple(one for one in keys if one is not found))
    return found


def _write(path: Path, keys: tuple[ApiKey, ...]) -> None:
    content = _File(version=VERSION, keys=keys).model_dump_json(indent=2).encode() + b"\n"

    def write(aside: Path) -> None:
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_ONLY)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)

    replace_files({path: write})


class Keys:
    """The keys of a running server; a changed file counts from the next request on.

    A file that cannot be read any more leaves the keys as they were, and the log says so.

    Raises:
        InputError: see ``read_keys``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen = self._mark()
        self._keys = read_keys(path)

    def principal(self, key: str) -> Principal | None:
        """Whom a key names; takes the same time for every key."""
        self.refresh()
        digest, found = digest_of_key(key), None
        for one in self._keys:
            if hmac.compare_digest(digest, one.digest):
                found = one
        return None if found is None else Principal(found.tenant, found.admin)

    def refresh(self) -> None:
        """Read the file again where it has changed."""
        mark = self._mark()
        if mark == self._seen:
            return
        self._seen = mark
        try:
            self._keys = read_keys(self.path)
            log.info("read %d keys again", len(self._keys))
        except InputError as error:
            log.error("the keys stay as they were", extra={"fields": {"reason": str(error)}})

    def _mark(self) -> tuple[int, int, int, int] | None:
        try:
            found = self.path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino, found.st_mode
