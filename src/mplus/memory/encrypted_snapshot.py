"""Encrypted memories on disk: each source in a file under its own data key, so that a destroyed key forgets every copy. Knows no cipher.

A save writes the files of sources that changed, then data file and manifest as any save does. The manifest lists the sources that went;
their keys are destroyed when it is on the disk, and again at the next opening, should a crash have come between.
"""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import save_file

from mplus.errors import GeometryError, InputError, MPlusError, SnapshotError, WrongModelError
from mplus.memory import leftovers, source_files
from mplus.memory.file_names import MANIFEST
from mplus.memory.identity import check_model
from mplus.memory.keys import Keys, SourceKeys, default_directory, new_id
from mplus.memory.manifest import ENCRYPTED, as_file, check_numbers
from mplus.memory.parts import check_size, parts_of
from mplus.memory.snapshot import DAMAGE, Save, as_reader, described, note, read_data
from mplus.memory.source_files import GONE, OpenSource, SourceContent
from mplus.memory.stores.lock import identity
from mplus.runtime.atomic import flush, honour_umask
from mplus.settings import Geometry

if TYPE_CHECKING:
    from mplus.memory.memory import Encoder, Memory

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StoredSource:
    """A source in a directory.

    Attributes:
        id: of its key.
        content: what its file was made of.
        entry: what the manifest says of the file.
    """

    id: str
    content: SourceContent
    entry: Mapping[str, Any]


EncryptedFiles = Mapping[str | None, StoredSource]
"""Sources of one directory by name."""


class EncryptedSave(Save):
    """One save of an encrypted memory.

    Args:
        before: the manifest that is there.
    """

    def __init__(self, memory: Memory, directory: Path, before: dict[str, Any] | None) -> None:
        assert memory.keys is not None
        source_files.check_can_be_encrypted(memory)
        super().__init__(memory, directory, None)
        earlier = before.get("encrypted", {}) if before else {}
        self.keys = memory.keys.of_memory(earlier.get("memory") or new_id())
        self.contents = source_files.contents_of(memory.state)
        self.known = memory.encrypted.get(self.place, {}) if earlier else {}
        self.ids = {name: self._id_of(name, content) for name, content in self.contents.items()}
        gone = {str(entry["source"]) for entry in earlier.get("files", [])} - set(self.ids.values())
        self.forgotten = sorted(gone | (set(earlier.get("forgotten", [])) & self.keys.read().keys()))
        self.files: dict[str | None, StoredSource] = {}

    def _id_of(self, name: str | None, content: SourceContent) -> str:
        """The id it has here; a new one where its text was replaced, so that the key of the old text can go."""
        known = self.known.get(name)
        return known.id if known is not None and content.goes_on(known.content) else new_id()

    @property
    def names(self) -> set[str]:
        return {self.name, *(str(stored.entry["file"]) for stored in self.files.values())}

    def keep_rows(self) -> None:
        """Rows are written with their sources."""

    def write_aside(self, aside: Path, manifest: dict[str, Any]) -> None:
        data_keys = self.keys.with_keys_for(self.ids.values())
        targets: dict[str | None, tuple[bytes, Path]] = {}
        for name, content in self.contents.items():
            known = self.known.get(name)
            if known is not None and known.id == self.ids[name] and known.content == content:
                self.files[name] = known
            else:
                targets[name] = (data_keys[self.ids[name]], aside / f"source-{secrets.token_hex(8)}.encrypted")
        source_files.write_sources(self.memory.state, targets)
        data = aside / self.name
        save_file(source_files.common_tensors(self.memory.state), data)
        for path in (data, *(path for _, path in targets.values())):
            honour_umask(path, aside)
            flush(path)
        for name, (_, path) in targets.items():
            entry = {**described(path), "source": self.ids[name]}
            self.files[name] = StoredSource(self.ids[name], self.contents[name], entry)
        encrypted = {
            "memory": self.keys.memory,
            "forgotten": self.forgotten,
            "files": [dict(self.files[name].entry) for name in self.contents],
        }
        named = {"format": ENCRYPTED, "encrypted": encrypted, "data": described(data)}
        (aside / MANIFEST).write_bytes(as_file({**source_files.public_json(manifest, self.ids), **named}))
        flush(aside / MANIFEST)

    def commit(self, aside: Path) -> None:
        for path in aside.glob("source-*.encrypted"):
            self._new_files.append(self.directory / path.name)
            os.replace(path, self.directory / path.name)
        super().commit(aside)

    def finish(self) -> bool:
        self.memory.encrypted = {**self.memory.encrypted, self.place: self.files}
        is_on_disk = super().finish()
        if is_on_disk:
            _destroy(self.keys, self.forgotten)
        return is_on_disk


def _destroy(keys: SourceKeys, forgotten: list[str]) -> None:
    """Destroy the keys of sources that went; what fails is tried again at the next opening."""
    try:
        if keys.read().keys() & set(forgotten):
            keys.destroy(forgotten)
    except (MPlusError, OSError) as error:
        log.warning(
            "keys of forgotten sources were not destroyed (%s); open the memory again where its keys can be written", error
        )


def load_encrypted(directory: Path, model: Encoder, store: object, keys: Keys | None) -> Memory:
    """Open an encrypted memory; see ``Memory.load``."""
    if store not in (None, "ram"):
        raise InputError(f"memory {directory} is encrypted, its rows are kept in RAM; open it without a store")
    keys = Keys(default_directory()) if keys is None else keys
    memory = as_reader(directory, lambda manifest: _load(directory, manifest, model, keys))
    leftovers.clear(directory, set())
    return memory


def _load(directory: Path, manifest: dict[str, Any], model: Encoder, keys: Keys) -> Memory:
    from mplus.memory.memory import Memory

    try:
        check_model(manifest["model"], model, directory)
        check_numbers(manifest, model.vocabulary)
        for part in parts_of(manifest, directory):
            check_size(part, directory)
        encrypted = manifest["encrypted"]
        own = keys.of_memory(str(encrypted["memory"]))
        _destroy(own, list(encrypted["forgotten"]))
        geometry = Geometry(**manifest["geometry"])
        try:
            memory = Memory(
                model, geometry, manifest["memory_format"], manifest["seed"], initialised=manifest["initialised_at_start"]
            )
        except GeometryError as error:
            raise WrongModelError(f"memory {directory} cannot be read by this model: {error}") from None
        sources = _opened(directory, manifest, own)
        memory.become(source_files.state_of(memory, manifest, read_data(directory, manifest["data"]), sources))
        _note_files(memory, directory, encrypted["files"], sources)
        gone = [GONE + one for one in manifest["names"] if one not in sources]
        if gone:
            log.warning("%d sources in %s were forgotten since it was stored; it opens without them", len(gone), directory)
            memory.forget(gone)
    except DAMAGE as error:
        reason = " ".join(str(error).split())
        raise SnapshotError(
            f"memory {directory} is damaged ({type(error).__name__}: {reason:.200}); restore it from a backup"
        ) from None
    memory.keys = keys
    note(memory, str(manifest["data"]["file"]), identity(directory))
    return memory


def _opened(directory: Path, manifest: Mapping[str, Any], keys: SourceKeys) -> dict[str, OpenSource]:
    """Sources whose key is there, by id."""
    held = keys.read()
    if manifest["names"] and not held:
        raise SnapshotError(
            f"no key of memory {directory} is in {keys.keys.directory}: all of it was forgotten, or these are the keys of another home"
        )
    out: dict[str, OpenSource] = {}
    for entry in manifest["encrypted"]["files"]:
        if entry["source"] in held:
            with (directory / str(entry["file"])).open("rb") as file:
                out[entry["source"]] = source_files.read_source(held[entry["source"]], file)
    return out


def _note_files(memory: Memory, directory: Path, entries: list[dict[str, Any]], sources: Mapping[str, OpenSource]) -> None:
    """Remember which source lies in which file, so that the next save writes only what changed."""
    contents = source_files.contents_of(memory.state)
    by_id = {entry["source"]: entry for entry in entries}
    files = {source.said["name"]: StoredSource(one, contents[source.said["name"]], by_id[one]) for one, source in sources.items()}
    memory.encrypted = {identity(directory): files}
