"""Ids that were given out, and quotas, in one SQLite file. Knows no memory and keeps no text.

An entry is always looked up by tenant, kind and id. What clients wrote is in the memories alone: if this file is lost, the memories, their
sources, notes and texts are whole, but ids given out before (responses, conversations, mem0's, files, jobs) lead nowhere, writes that are
sent again under their ``Idempotency-Key`` are written again, and quotas have to be set again. It cannot be made anew from the memories.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mplus.errors import InputError, StoreError

VERSION = 1
BUSY_S = 10.0
MOST_NAMES = 500
"""Names in one statement; SQLite takes some thousand."""
SCHEMA = """
CREATE TABLE entries (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant TEXT NOT NULL, kind TEXT NOT NULL, id TEXT NOT NULL,
    memory TEXT, source TEXT, created_at REAL NOT NULL, data TEXT NOT NULL,
    UNIQUE (tenant, kind, id)
);
CREATE INDEX entries_of_source ON entries (tenant, memory, source);
CREATE INDEX entries_of_kind ON entries (tenant, kind, seq);
CREATE TABLE quotas (tenant TEXT PRIMARY KEY, bytes INTEGER NOT NULL);
"""
COLUMNS = "tenant, kind, id, memory, source, created_at, data"


@dataclass(frozen=True, kw_only=True)
class IndexEntry:
    """One id that was given out.

    Attributes:
        kind: "response", "conversation", "mem0", "file", "job" ...; an id is unique within a tenant and a kind.
        memory, source: what it names; it is deleted with them.
        data: JSON without text of users.
    """

    tenant: str
    kind: str
    id: str
    memory: str | None = None
    source: str | None = None
    created_at: float = field(default_factory=time.time)
    data: Mapping[str, Any] = field(default_factory=dict)


Entries = list[IndexEntry]


class Index:
    """The file, open. Calls are short and may come from any thread; a change is on the disk when its method returns.

    Raises:
        StoreError: the file is damaged, of a newer version, or cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._base = sqlite3.connect(path, timeout=BUSY_S, check_same_thread=False, isolation_level=None)
            for name, value in (
                ("journal_mode", "WAL"),
                ("synchronous", "FULL"),
                ("secure_delete", "ON"),
                ("foreign_keys", "ON"),
            ):
                self._base.execute(f"PRAGMA {name} = {value}")
            self._make_tables()
        except (sqlite3.Error, OSError) as error:
            raise StoreError(
                f"the index of ids {path} cannot be used ({error}); restore it from a backup, or move it away: the memories stay whole, "
                "but ids given out before are lost"
            ) from None

    def _make_tables(self) -> None:
        (version,) = self._base.execute("PRAGMA user_version").fetchone()
        if version not in (0, VERSION):
            raise StoreError(f"the index of ids {self._path} has version {version}, this one reads {VERSION}; update mplus")
        if version == 0:
            self._base.executescript(f"BEGIN IMMEDIATE; {SCHEMA} PRAGMA user_version = {VERSION}; COMMIT;")

    def close(self) -> None:
        """Give the file back."""
        with self._lock:
            self._base.close()

    # -- entries ---------------------------------------------------------------------------------------------------

    def put(self, entry: IndexEntry) -> None:
        """Keep an entry, in place of one of the same tenant, kind and id.

        Raises:
            InputError: its data is no JSON.
        """
        self.put_all([entry])

    def put_all(self, entries: Sequence[IndexEntry]) -> None:
        """Keep several entries, all or none; see ``put``."""
        rows = [
            (one.tenant, one.kind, one.id, one.memory, one.source, one.created_at, _as_json(one.data, one.kind))
            for one in entries
        ]
        with self._change() as base:
            base.executemany(
                f"INSERT INTO entries ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (tenant, kind, id) DO UPDATE SET "
                "memory = excluded.memory, source = excluded.source, created_at = excluded.created_at, data = excluded.data",
                rows,
            )

    def get(self, tenant: str, kind: str, id_: str) -> IndexEntry | None:
        """The entry of an id; None where this tenant has none of that kind."""
        found = self._rows("SELECT {} FROM entries WHERE tenant = ? AND kind = ? AND id = ?", [tenant, kind, id_])
        return found[0] if found else None

    def list(
        self,
        tenant: str,
        kind: str,
        *,
        memory: str | None = None,
        source: str | None = None,
        after: str | None = None,
        limit: int | None = None,
        newest_first: bool = False,
    ) -> Entries:
        """Entries of a kind in the order in which they came.

        Args:
            memory, source: only of this one.
            after: the id behind which to begin; one that is not there begins at the front.
        """
        asked = "tenant = ? AND kind = ?"
        values: Sequence[Any] = [tenant, kind]
        for column, value in (("memory", memory), ("source", source)):
            if value is not None:
                asked, values = f"{asked} AND {column} = ?", [*values, value]
        if after is not None:
            asked += f" AND seq {'<' if newest_first else '>'} coalesce("
            asked += "(SELECT seq FROM entries WHERE tenant = ? AND kind = ? AND id = ?), ?)"
            values = [*values, tenant, kind, after, 2**62 if newest_first else 0]
        order = "DESC" if newest_first else "ASC"
        return self._rows(
            f"SELECT {{}} FROM entries WHERE {asked} ORDER BY seq {order} LIMIT ?", [*values, -1 if limit is None else limit]
        )

    def delete(self, tenant: str, kind: str, id_: str) -> bool:
        """Forget an id; whether it was there."""
        return self._delete("tenant = ? AND kind = ? AND id = ?", [tenant, kind, id_]) > 0

    def delete_source(self, tenant: str, memory: str, source: str | Sequence[str]) -> int:
        """Forget all ids of one source, or of several; how many there were."""
        names = [source] if isinstance(source, str) else [*source]
        parts = [names[start : start + MOST_NAMES] for start in range(0, len(names), MOST_NAMES)]
        return sum(
            self._delete(f"tenant = ? AND memory = ? AND source IN ({', '.join('?' * len(part))})", [tenant, memory, *part])
            for part in parts
        )

    def delete_memory(self, tenant: str, memory: str) -> int:
        """Forget all ids of a memory; how many there were."""
        return self._delete("tenant = ? AND memory = ?", [tenant, memory])

    def expire(self, kind: str, before: float) -> int:
        """Forget all entries of a kind that were made before a time, of all tenants; how many there were."""
        return self._delete("kind = ? AND created_at < ?", [kind, before])

    # -- quotas ----------------------------------------------------------------------------------------------------

    def quota(self, tenant: str) -> int | None:
        """Bytes that a tenant may store; None where nothing was set."""
        with self._lock:
            found = self._base.execute("SELECT bytes FROM quotas WHERE tenant = ?", [tenant]).fetchone()
        return None if found is None else int(found[0])

    def quotas(self) -> dict[str, int]:
        """Tenants for which one was set, by name."""
        with self._lock:
            return {tenant: int(size) for tenant, size in self._base.execute("SELECT tenant, bytes FROM quotas ORDER BY tenant")}

    def set_quota(self, tenant: str, size_bytes: int) -> None:
        """Say how many bytes a tenant may store.

        Raises:
            InputError: it is no whole number from 0 on.
        """
        if isinstance(size_bytes, bool) or not isinstance(size_bytes, int) or not 0 <= size_bytes < 2**62:
            raise InputError(f"the quota is {size_bytes!r:.40}, expected bytes as a whole number from 0 on")
        with self._change() as base:
            base.execute("INSERT OR REPLACE INTO quotas VALUES (?, ?)", [tenant, size_bytes])

    def delete_quota(self, tenant: str) -> bool:
        """Let the server's own limit hold for a tenant again; whether there was a quota."""
        with self._change() as base:
            return base.execute("DELETE FROM quotas WHERE tenant = ?", [tenant]).rowcount > 0

    # -- inside ----------------------------------------------------------------------------------------------------

    def _rows(self, query: str, values: Sequence[Any]) -> Entries:
        with self._lock:
            found = self._base.execute(query.format(COLUMNS), values).fetchall()
        return [
            IndexEntry(
                tenant=row[0], kind=row[1], id=row[2], memory=row[3], source=row[4], created_at=row[5], data=json.loads(row[6])
            )
            for row in found
        ]

    def _delete(self, which: str, values: Sequence[Any]) -> int:
        with self._change() as base:
            count = base.execute(f"DELETE FROM entries WHERE {which}", values).rowcount
        if count:  # what was deleted is in the log too: it goes with it
            with self._lock:
                self._base.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        return count

    @contextmanager
    def _change(self) -> Iterator[sqlite3.Connection]:
        """A transaction.

        Raises:
            StoreError: the disk does not take it; nothing changed.
        """
        with self._lock:
            try:
                self._base.execute("BEGIN IMMEDIATE")
                try:
                    yield self._base
                    self._base.execute("COMMIT")
                except BaseException:
                    self._base.execute("ROLLBACK")
                    raise
            except sqlite3.Error as error:
                raise StoreError(f"the index of ids {self._path} was not changed: {error}; look at the disk") from None


def _as_json(data: Mapping[str, Any], kind: str) -> str:
    try:
        return json.dumps(dict(data), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"the data of a {kind} entry is no JSON ({error}); give plain values") from None
