"""Where one memory of a server lies on disk, and its small record. Opens no memory and knows no model.

    HOME/tenants/<tenant>/memories/<memory>             the stored memory, as ``mplus`` keeps one (``mplus list --home HOME/tenants/...``)
    HOME/tenants/<tenant>/records/<memory>.json         its record: whose it is, its id, metadata, counts; there is a memory where it is
    HOME/tenants/<tenant>/records/<memory>.removed      the record of one that is being made or removed; after a kill it is removed
    HOME/tenants/<tenant>/journals/<memory>.journal     changes that the stored memory does not hold yet

<tenant> and <memory> are hashes (``Scope.directory``), so nothing of a client's is ever part of a path.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mplus.errors import SnapshotError
from mplus.memory.home import MEMORIES
from mplus.memory.manifest import MANIFEST
from mplus.memory.stores.lock import exclusive_change
from mplus.runtime.atomic import clear_leftovers, flush_names, replace_files
from mplus.runtime.folder import file_bytes, folder_bytes
from mplus.runtime.json_file import UnreadableJsonError, read_json_object
from mplus.server.errors import BadRequestError
from mplus.server.scope import Scope, digest_of

FORMAT = 1
TENANTS, RECORDS, JOURNALS = "tenants", "records", "journals"
DEEPEST, LONGEST_NUMBER, MOST_JSON_BYTES = 16, 40, 64 << 10
"""What a note or metadata may have: what is stored is read again, whose limits are wider."""


@dataclass(frozen=True, kw_only=True)
class MemoryRecord:
    """What is known of a memory without opening it.

    Attributes:
        tokens, sources: when it was stored, bytes: of its files then; as the engine tells it, of the open memory where it is open.
    """

    tenant: str
    id: str
    created_at: float
    metadata: Mapping[str, Any] = field(default_factory=dict)
    tokens: int = 0
    sources: int = 0
    bytes: int = 0
    last_used_at: float = 0.0


class Place:
    """Paths of one memory."""

    def __init__(self, home: Path, scope: Scope) -> None:
        self.scope, root, name = scope, tenant_root(home, scope.tenant), scope.directory
        self.directory = root / MEMORIES / name
        self.record = root / RECORDS / f"{name}.json"
        self.removed = self.record.with_suffix(".removed")
        self.journal = root / JOURNALS / f"{name}.journal"

    @property
    def is_stored(self) -> bool:
        """Whether a memory was ever saved there."""
        return (self.directory / MANIFEST).exists()

    def make_rooms(self) -> None:
        """Make the directories that its files lie in, on the disk too."""
        for room in (self.directory.parent, self.record.parent, self.journal.parent):
            missing = [path for path in (room, *room.parents) if not path.exists()]
            room.mkdir(parents=True, exist_ok=True)
            for made in missing:
                flush_names(made.parent)

    def write(self, record: MemoryRecord) -> None:
        """Keep its record: it exists from now on.

        Raises:
            SnapshotError: it cannot be written; what was there is unchanged.
        """
        self.make_rooms()
        _write(self.record, record)

    def begin(self, record: MemoryRecord) -> None:
        """Announce a memory that is being made: killed before ``finish``, it is removed at the next start."""
        self.make_rooms()
        _write(self.removed, record)

    def finish(self, record: MemoryRecord) -> None:
        """Let a memory exist whose files are all there, with its record as it is now."""
        _write(self.removed, record)
        os.replace(self.removed, self.record)
        flush_names(self.record.parent)

    def remove(self) -> None:
        """Remove the memory: it is gone in one step, then its files are removed, for which the next start answers too.

        Raises:
            OSError: files cannot be removed.
            StoreError: another process changes it.
        """
        if self.record.exists():
            os.replace(self.record, self.removed)
            flush_names(self.record.parent)
        self.journal.unlink(missing_ok=True)
        clear_leftovers(self.directory)
        if self.directory.exists():
            with exclusive_change(self.directory):
                shutil.rmtree(self.directory)
            flush_names(self.directory.parent)
        if self.journal.parent.exists():
            flush_names(self.journal.parent)
        self.removed.unlink(missing_ok=True)
        flush_names(self.removed.parent)

    def size_bytes(self) -> int:
        """Bytes of all its files."""
        return folder_bytes(self.directory) + file_bytes(self.journal)


def tenant_root(home: Path, tenant: str) -> Path:
    """The directory of all that is a tenant's."""
    return home / TENANTS / digest_of(tenant)


def read_record(path: Path) -> MemoryRecord:
    """A record from its file.

    Raises:
        SnapshotError: it is damaged or of a newer version.
    """
    try:
        data = read_json_object(path)
        if data.pop("format", None) != FORMAT:
            raise ValueError(f"it is no record of format {FORMAT}")
        record = MemoryRecord(**data)
        if Scope(record.tenant, record.id).directory != path.stem:
            raise ValueError("it is the record of another memory")
    except (UnreadableJsonError, OSError, TypeError, ValueError, AttributeError, BadRequestError) as error:
        raise SnapshotError(f"the record {path} cannot be read ({error}); restore it from a backup") from None
    return record


def records_in(home: Path, tenant: str, suffix: str = ".json") -> Iterator[Path]:
    """Record files of a tenant."""
    folder = tenant_root(home, tenant) / RECORDS
    return iter(sorted(folder.glob(f"*{suffix}"))) if folder.is_dir() else iter(())


def all_files(home: Path, room: str, suffix: str) -> Iterator[Path]:
    """Files of all tenants in a room (records, journals)."""
    return iter(sorted((home / TENANTS).glob(f"*/{room}/*{suffix}")))


def _write(path: Path, record: MemoryRecord) -> None:
    content = json.dumps({"format": FORMAT, **asdict(record)}, indent=1)
    try:
        replace_files({path: lambda aside: aside.write_text(content, encoding="utf-8")})
        flush_names(path.parent)
    except OSError as error:
        raise SnapshotError(f"the record {path} was not written: {error}; look at the disk") from None


def checked_json(value: Any, what: str) -> dict[str, Any]:
    """A JSON object of a client's, as plain values, small enough to be stored and read again.

    Raises:
        BadRequestError: says what is wrong with it.
    """
    if not isinstance(value, Mapping):
        raise BadRequestError(f"{what} is a {type(value).__name__}, expected a JSON object")
    try:
        content = json.dumps(dict(value), allow_nan=False)
        plain: dict[str, Any] = json.loads(content)
        _check_values(plain, what, DEEPEST)
    except (TypeError, ValueError, RecursionError) as error:
        raise BadRequestError(f"{what} is no JSON object that can be stored ({error}); give plain values") from None
    if len(content) > MOST_JSON_BYTES:
        raise BadRequestError(f"{what} has {len(content):,} bytes as JSON, at most {MOST_JSON_BYTES:,} are kept; give less")
    return plain


def _check_values(value: Any, what: str, deep: int) -> None:
    if isinstance(value, (dict, list)):
        if not deep:
            raise ValueError(f"it is nested deeper than {DEEPEST} levels")
        for one in value.values() if isinstance(value, dict) else value:
            _check_values(one, what, deep - 1)
    elif isinstance(value, int) and len(str(value)) > LONGEST_NUMBER:
        raise ValueError(f"it holds a number of more than {LONGEST_NUMBER} digits")
