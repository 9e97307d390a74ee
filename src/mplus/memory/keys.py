"""Keys of encrypted memories: one home key in a file, and a data key per source, wrapped by it, in a file per memory. Knows no memory.

The directory of keys lies outside of the memories', so that a backup of a memory holds no key. Forgetting a source removes its data key
from here; then no copy of the memory, however old, can be read as far as that source goes. Who keeps old copies of this directory keeps
the keys too.
"""

from __future__ import annotations

import base64
import json
import os
import re
import secrets
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from mplus.errors import InputError, SnapshotError
from mplus.memory.encryption import FEATURE, KEY_BYTES, new_key
from mplus.memory.home import default_home
from mplus.runtime.atomic import replace_files
from mplus.runtime.extras import require
from mplus.runtime.input_file import absolute_directory
from mplus.runtime.json_file import UnreadableJsonError, read_json_object

HOME_KEY, LOCK = "home-key.json", ".lock"
VERSION = 1
VARIABLE = "MPLUS_KEYS"
ID = re.compile(r"[0-9a-f]{32}")
"""Of a memory and of a source: random, so that it says nothing of either."""
_NONCE_BYTES = 12
_PATIENCE_S = 30.0


def new_id() -> str:
    """A name for a memory or a source in the files of keys."""
    return secrets.token_hex(16)


def default_directory() -> Path:
    """Where the keys of this user's memories lie: $MPLUS_KEYS, else ``keys`` in the home. Makes nothing."""
    own = os.environ.get(VARIABLE)
    return absolute_directory(own) if own else default_home() / "keys"


class Keys:
    """The keys of one home.

    Args:
        directory: where they lie; made by ``make``.

    Raises:
        InputError: there are none, others may read them, or the file is damaged.
    """

    def __init__(self, directory: Path) -> None:
        require("cryptography", FEATURE)
        self.directory = directory
        self._current, self._home_keys = _read_home_keys(directory / HOME_KEY)

    @classmethod
    def make(cls, directory: Path) -> Keys:
        """Make a home key, in a directory that only its owner may read.

        Raises:
            InputError: there is one already, or it cannot be stored.
        """
        require("cryptography", FEATURE)
        if (directory / HOME_KEY).exists():
            raise InputError(f"{directory} holds a home key already; use it, or change it with `mplus key --rotate`")
        try:
            directory.mkdir(parents=True, exist_ok=True)
            directory.chmod(0o700)
            name = secrets.token_hex(8)
            _store_home_keys(directory / HOME_KEY, name, {name: new_key()})
        except OSError as error:
            raise InputError(f"no key can be stored in {directory} ({error.strerror}); choose another home") from None
        return cls(directory)

    def of_memory(self, memory: str) -> SourceKeys:
        """The data keys of one memory, by its id."""
        assert ID.fullmatch(memory)
        return SourceKeys(self, memory)

    def memories(self) -> list[str]:
        """Ids of the memories that have keys here."""
        return sorted(path.stem for path in self.directory.glob("*.json") if ID.fullmatch(path.stem))

    def rotate(self) -> int:
        """Replace the home key by a new one and wrap all data keys anew; returns how many. What is encrypted stays as it is.

        The file of the home key holds both until all are wrapped anew: a kill at any moment costs nothing, the next one finishes it.

        Raises:
            InputError, SnapshotError: a file of keys is damaged, or cannot be stored; all keys can still be used.
        """
        with self.changing():
            name = secrets.token_hex(8)
            both = {**self._home_keys, name: new_key()}
            _store_home_keys(self.directory / HOME_KEY, name, both)
            self._current, self._home_keys = name, both
            count = 0
            for memory in self.memories():
                source_keys = self.of_memory(memory)
                held = source_keys.read()
                source_keys.store(held)
                count += len(held)
            _store_home_keys(self.directory / HOME_KEY, name, {name: both[name]})
            self._home_keys = {name: both[name]}
        return count

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Be the only one that changes files of keys, with the home key as it is now.

        Raises:
            SnapshotError: another process does it all the time.
        """
        try:
            with FileLock(self.directory / LOCK, timeout=_PATIENCE_S):
                self._current, self._home_keys = _read_home_keys(self.directory / HOME_KEY)
                yield
        except Timeout:
            raise SnapshotError(
                f"the keys in {self.directory} are in use by another process; try again when it has ended"
            ) from None

    def wrap(self, key: bytes, memory: str, source: str) -> dict[str, str]:
        """A data key encrypted with the home key, bound to the ids of its memory and source."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        wrapped = nonce + _aead(self._home_keys[self._current]).encrypt(nonce, key, f"{memory} {source}".encode())
        return {"by": self._current, "key": base64.b64encode(wrapped).decode()}

    def unwrap(self, entry: Mapping[str, Any], memory: str, source: str) -> bytes:
        """The data key again.

        Raises:
            SnapshotError: it was wrapped by another home key, or altered.
        """
        from cryptography.exceptions import InvalidTag

        try:
            if entry["by"] not in self._home_keys:  # another process has changed the home key
                self._current, self._home_keys = _read_home_keys(self.directory / HOME_KEY)
            home_key = self._home_keys[entry["by"]]
            wrapped = base64.b64decode(entry["key"], validate=True)
            key: bytes = _aead(home_key).decrypt(wrapped[:_NONCE_BYTES], wrapped[_NONCE_BYTES:], f"{memory} {source}".encode())
        except (KeyError, TypeError, ValueError, InvalidTag):
            raise SnapshotError(
                f"a key in {self.directory} was altered, or wrapped by another home key; put the home key back that belongs to it"
            ) from None
        return key


@dataclass(frozen=True)
class SourceKeys:
    """Data keys of the sources of one memory, by their ids.

    Attributes:
        keys: whose home key wraps them.
        memory: id.
    """

    keys: Keys
    memory: str

    @property
    def path(self) -> Path:
        """Their file."""
        return self.keys.directory / f"{self.memory}.json"

    def read(self) -> dict[str, bytes]:
        """All data keys by source id; those that were destroyed are not among them.

        Raises:
            SnapshotError: the file is damaged.
        """
        try:
            data = read_json_object(self.path)
        except FileNotFoundError:
            return {}
        except UnreadableJsonError as error:
            raise SnapshotError(f"{self.path} cannot be read ({error}); put the newest copy of it back") from None
        _check_version(data, self.path)
        entries = data.get("sources")
        if not isinstance(entries, dict) or not all(ID.fullmatch(source) for source in entries):
            raise SnapshotError(f"{self.path} holds no keys of sources; put the newest copy of it back")
        return {source: self.keys.unwrap(entry, self.memory, source) for source, entry in entries.items()}

    def store(self, held: Mapping[str, bytes]) -> None:
        """Replace all data keys by these, on the disk when it returns; the file goes with its last key."""
        entries = {source: self.keys.wrap(key, self.memory, source) for source, key in held.items()}
        if entries:
            _replace(self.path, {"format": VERSION, "sources": entries})
        else:
            self.path.unlink(missing_ok=True)

    def with_keys_for(self, sources: Iterable[str]) -> dict[str, bytes]:
        """All data keys, new ones for sources without, which are stored before anything is encrypted with them."""
        with self.keys.changing():
            held = self.read()
            fresh = {source: new_key() for source in sources if source not in held}
            if fresh:
                self.store({**held, **fresh})
        return {**held, **fresh}

    def destroy(self, sources: Iterable[str]) -> list[str]:
        """Destroy the data keys of some sources; returns the ids of those that had one."""
        with self.keys.changing():
            held = self.read()
            gone = sorted(held.keys() & set(sources))
            if gone:
                self.store({source: key for source, key in held.items() if source not in gone})
        return gone


def _read_home_keys(path: Path) -> tuple[str, dict[str, bytes]]:
    try:
        mode = path.stat().st_mode
        data = read_json_object(path)
    except FileNotFoundError:
        raise InputError(f"there is no home key in {path.parent}; make one with `mplus key`, or put yours back") from None
    except (UnreadableJsonError, OSError) as error:
        raise InputError(f"{path} cannot be read ({error}); put a copy of the home key back") from None
    if os.name != "nt" and stat.S_IMODE(mode) & 0o077:
        raise InputError(f"{path} may be read by others (mode {stat.S_IMODE(mode):o}); run: chmod 600 {path}")
    _check_version(data, path)
    try:
        keys = {name: base64.b64decode(text, validate=True) for name, text in data["keys"].items()}
        if data["current"] not in keys or any(len(key) != KEY_BYTES for key in keys.values()):
            raise ValueError("a key is missing or has another length")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path} is damaged ({error}); put a copy of the home key back") from None
    return str(data["current"]), keys


def _store_home_keys(path: Path, current: str, keys: Mapping[str, bytes]) -> None:
    texts = {name: base64.b64encode(key).decode() for name, key in keys.items()}
    _replace(path, {"format": VERSION, "current": current, "keys": texts})


def _check_version(data: Mapping[str, Any], path: Path) -> None:
    if data.get("format") != VERSION:
        raise SnapshotError(f"{path} has format {data.get('format')!r:.40}, this version of mplus reads {VERSION}; update mplus")


def _replace(path: Path, data: Mapping[str, Any]) -> None:
    """Whole, and for its owner alone from the first byte on. What killed processes left is removed: it holds keys."""

    def write(aside: Path) -> None:
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(data, file, indent=1)

    for left in path.parent.glob(f".{path.stem}.*{path.suffix}"):
        with suppress(OSError):
            left.unlink()
    replace_files({path: write})


def _aead(key: bytes) -> Any:
    return require("cryptography.hazmat.primitives.ciphers.aead", FEATURE).AESGCM(key)
