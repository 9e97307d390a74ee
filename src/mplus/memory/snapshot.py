"""Memories on disk: one manifest (JSON), one data file (safetensors) and, of rows that outgrew RAM, immutable segments in a
directory. Knows nothing of models.

The data file has a name of its own for every save; the manifest is replaced last, in one rename. So a reader sees the
old state or the new one, never a mixture.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mplus.config import make_geometry
from mplus.errors import GeometryError, InputError, SnapshotError, WrongModelError
from mplus.memory import sealed
from mplus.memory.files import flush, sha256
from mplus.memory.identity import check_model, identity_of
from mplus.memory.ledger import Ledger
from mplus.memory.stores.disk import DiskStorage, storage_at
from mplus.memory.stores.home import LOCK, MANIFEST, SegmentHome, is_segment, nobody_writes
from mplus.memory.stores.protocol import Storage

if TYPE_CHECKING:
    from mplus.memory.memory import Host, Memory

PLAIN, WITH_SEGMENTS = FORMATS = (1, 2)
"""Version of a memory without segments, and with them; so a package that knows no segments still opens what has none."""
OURS = re.compile(r"memory-[0-9a-f]{16}\.safetensors|\.?manifest\.json(\.[0-9a-f]+)?")
DAMAGE = (KeyError, IndexError, TypeError, ValueError, AttributeError, RuntimeError, AssertionError, GeometryError, InputError)
"""What a manifest or data of a senseless form makes of the code that reads it."""


def save(memory: Memory, directory: Path) -> None:
    """Store `memory` in `directory` (made if absent).

    Raises:
        SnapshotError: the directory holds something else, or cannot be written; what was there is unchanged.
    """
    if directory.exists() and not directory.is_dir():
        raise SnapshotError(f"{directory} is a file, a memory needs a directory of its own; choose another path")
    if directory.is_dir() and not (directory / MANIFEST).exists() and any(not _is_ours(path) for path in directory.iterdir()):
        raise SnapshotError(f"{directory} holds files but no memory ({MANIFEST} is missing); choose an empty or new directory")
    home = _own_home(memory, directory)
    if home is None:
        with nobody_writes(directory):
            _save(memory, directory, None)
    else:
        _save(memory, directory, home)


def _save(memory: Memory, directory: Path, home: SegmentHome | None) -> None:
    mark = secrets.token_hex(8)
    data_path, aside = directory / f"memory-{mark}.safetensors", directory / f".{MANIFEST}.{mark}"
    groups = [sealed.sealed_of(store) for store in memory.longterm.stores]
    linked: list[Path] = []
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if (directory / MANIFEST).exists():
            read_manifest(directory)  # what is not a memory of this version is not replaced
        if home is None:
            linked = sealed.link_into(groups, directory)
        save_file(_tensors(memory), data_path)
        flush(data_path)
        aside.write_text(json.dumps(_manifest(memory, data_path, groups), indent=1), encoding="utf-8")
        flush(aside)
        os.replace(aside, directory / MANIFEST)
        flush(directory)
    except (OSError, SafetensorError) as error:
        for path in (aside, data_path, *linked):
            path.unlink(missing_ok=True)
        raise SnapshotError(f"memory not stored in {directory}: {error}; the previous state is unchanged") from None
    names = [segment.name for group in groups for segment in group.segments]
    wanted = {MANIFEST, LOCK, data_path.name, *names}
    for path in directory.iterdir():  # the state before this one, and what a crash may have left
        if _is_ours(path) and path.name not in wanted and not (home and is_segment(path.name)):
            path.unlink(missing_ok=True)
    if home is not None:
        home.set_saved(names)


def read_manifest(directory: Path) -> dict[str, Any]:
    """The manifest of a stored memory, checked for form and version.

    Raises:
        SnapshotError: no memory there, damaged, or of a version this package does not know.
    """
    path = directory / MANIFEST
    if not directory.exists():
        raise SnapshotError(f"no memory at {directory}; write one with `mplus write {directory} FILE`")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SnapshotError(f"{directory} is not a memory: {MANIFEST} is missing") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise SnapshotError(f"{path} cannot be read ({error}); restore it from a backup") from None
    if not isinstance(manifest, dict) or "format" not in manifest:
        raise SnapshotError(f"{path} is not a memory's manifest; restore it from a backup")
    if manifest["format"] not in FORMATS:
        raise SnapshotError(
            f"{directory} has memory format {manifest['format']!r}, this version of mplus reads {PLAIN} and {WITH_SEGMENTS}; "
            "update mplus"
        )
    return manifest


def load(directory: Path, model: Host, store: Storage | str | Path | None = None, *, check_rows: bool = False) -> Memory:
    """Open a stored memory with the model that wrote it; see ``Memory.load``."""
    from mplus.memory.memory import Memory

    manifest = read_manifest(directory)
    try:
        check_model(manifest["model"], model, directory)
        geometry = make_geometry(**manifest["geometry"])
        groups = sealed.from_json(manifest["ltm_segments"], directory) if manifest["format"] == WITH_SEGMENTS else []
        if check_rows:
            for segment in (segment for group in groups for segment in group.segments):
                segment.check_content()
        tensors = _read_data(directory, manifest["data"])
        try:
            memory = Memory(
                model,
                geometry,
                manifest["memory_format"],
                manifest["seed"],
                initialised=manifest["initialised_at_start"],
                store=_storage(store, directory, groups),
            )
        except GeometryError as error:
            raise WrongModelError(f"memory {directory} cannot be read by this model: {error}") from None
        _restore(memory, manifest, tensors, groups, in_place=store is None)
    except DAMAGE as error:
        raise SnapshotError(
            f"memory {directory} is damaged ({type(error).__name__}: {error}); restore it from a backup"
        ) from None
    return memory


def _tensors(memory: Memory) -> dict[str, Tensor]:
    out: dict[str, Tensor] = {"stm.births": memory.pool.births, "generator": memory.generator.get_state()}
    for name, value in memory.pool.at_slots(memory.pool.order).items():  # rank order: slots are nobody's business on disk
        out[f"stm.{name}"] = value.contiguous()
    if memory.tail is not None:
        out["tail"] = memory.tail.contiguous()
    for group, store in enumerate(memory.longterm.stores):
        out.update(sealed.loose_tensors(store, group))
    out.update(memory.longterm.index_state())
    return out


def _manifest(memory: Memory, data_path: Path, groups: list[sealed.Sealed]) -> dict[str, Any]:
    from mplus import __version__

    segments = {"ltm_segments": sealed.to_json(groups)} if any(group.segments for group in groups) else {}
    return {
        "format": WITH_SEGMENTS if segments else PLAIN,
        "mplus": __version__,
        "model": identity_of(memory.host),
        "geometry": memory.geometry.model_dump(),
        "memory_format": memory.format,
        "seed": memory.seed,
        "now": memory.now,
        "tokens_read": memory.tokens_read,
        "initialised": memory.initialised,
        "initialised_at_start": memory.initialised_at_start,
        "stm_tokens": len(memory.pool),
        "ltm_tokens": len(memory.longterm),
        "ltm_waiting": memory.longterm.waiting,
        "writes_since_merge": memory.longterm.writes_since_merge,
        "pending": [[source, ids] for source, ids in memory.pending],
        "chunks": memory.ledger.to_json(),
        "sources": memory.ledger.tokens_by_source(),
        **segments,
        "data": {"file": data_path.name, "bytes": data_path.stat().st_size, "sha256": sha256(data_path)},
    }


def _read_data(directory: Path, entry: dict[str, Any]) -> dict[str, Tensor]:
    path = directory / str(entry["file"])
    if path.parent != directory or not path.is_file():
        raise SnapshotError(f"memory {directory} lacks its data file {entry['file']}; restore it from a backup")
    if path.stat().st_size != entry["bytes"] or sha256(path) != entry["sha256"]:
        raise SnapshotError(f"{path} was truncated or altered since it was saved; restore it from a backup")
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise SnapshotError(f"{path} cannot be read ({error}); restore it from a backup") from None


def _restore(
    memory: Memory, manifest: dict[str, Any], tensors: dict[str, Tensor], groups_sealed: list[sealed.Sealed], *, in_place: bool
) -> None:
    from mplus.memory.longterm import LongTerm
    from mplus.memory.pool import Pool

    groups = memory.pool.drop_groups
    memory.pool = Pool(memory.layout, memory.geometry.stm_tokens, groups)
    memory.longterm.close()
    memory.longterm = LongTerm(memory.layout, memory.geometry, memory.storage)
    births = tensors["stm.births"]
    expected = {name: (memory.layout.groups(name), births.shape[1], *shape) for name, shape in memory.layout.fields.items()}
    memory.pool.append({name: _shaped(tensors, f"stm.{name}", shape) for name, shape in expected.items()}, births[0])
    memory.pool.births = _shaped(tensors, "stm.births", (groups, births.shape[1]))
    memory.tail = tensors["tail"].to(memory.layout.device, memory.layout.dtype) if "tail" in tensors else None
    sealed.restore(memory.longterm, groups_sealed, tensors, in_place=in_place)
    for group, store in enumerate(memory.longterm.stores):
        number = 0
        while f"ltm.{group}.birth.{number}" in tensors:
            count = tensors[f"ltm.{group}.birth.{number}"].shape[0]
            store.append(
                {
                    name: _stored(tensors, f"ltm.{group}.{name}.{number}", (count, *shape), dtype)
                    for name, (shape, dtype) in store.fields.items()
                }
            )
            number += 1
    memory.longterm.restore_index(tensors)
    memory.longterm.waiting = [int(count) for count in manifest["ltm_waiting"]]
    memory.longterm.writes_since_merge = int(manifest["writes_since_merge"])
    if len(memory.pool) != manifest["stm_tokens"] or len(memory.longterm) != manifest["ltm_tokens"]:
        raise SnapshotError("the memory's token counts do not match its manifest; restore it from a backup")
    memory.generator.set_state(tensors["generator"])
    memory.now, memory.tokens_read = int(manifest["now"]), int(manifest["tokens_read"])
    memory.initialised = bool(manifest["initialised"])
    memory.pending = [(source, [int(token) for token in ids]) for source, ids in manifest["pending"]]
    memory.ledger = Ledger.from_json(manifest["chunks"])


def _shaped(tensors: dict[str, Tensor], name: str, shape: tuple[int, ...]) -> Tensor:
    if tuple(tensors[name].shape) != shape:
        raise ValueError(f"{name} is {list(tensors[name].shape)}, expected {list(shape)}")
    return tensors[name]


def _stored(tensors: dict[str, Tensor], name: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    value = _shaped(tensors, name, shape)
    if value.is_floating_point() != dtype.is_floating_point:  # levels without their scale, or numbers cut to levels
        raise ValueError(f"{name} is {value.dtype}, expected {dtype}")
    return value


def _own_home(memory: Memory, directory: Path) -> SegmentHome | None:
    """The home of a memory's segments, if it is saved into the very directory they lie in."""
    if not isinstance(memory.storage, DiskStorage) or not directory.is_dir():
        return None
    home = memory.storage.home
    return home if directory.samefile(home.path) else None


def _storage(store: Storage | str | Path | None, directory: Path, groups: list[sealed.Sealed]) -> Storage:
    if store is None:
        return storage_at("ram")
    if isinstance(store, (str, Path)) and store != "ram" and Path(store).is_dir() and Path(store).samefile(directory):
        return DiskStorage(directory, saved=[segment.name for group in groups for segment in group.segments])
    return storage_at(store)


def _is_ours(path: Path) -> bool:
    return OURS.fullmatch(path.name) is not None or is_segment(path.name) or path.name == LOCK
