"""A stored memory as one file (`.mplus`): a zip of the manifest and the files it names. Knows no model, no row, and brings no torch.

The parts are stored, not deflated: rows do not shrink, and a part that is stored cannot grow when it is read. All times in the zip are
the same, so that the same state gives the same bytes.
"""

from __future__ import annotations

import io
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import IO, Any, cast

from mplus.errors import InputError, SnapshotError
from mplus.memory.file_names import MANIFEST
from mplus.memory.manifest import CHECKSUM, LARGEST_BYTES, READ_AGAIN, as_file, read_manifest
from mplus.memory.parts import NAME, Part, copy_checked, parts_of
from mplus.runtime.addresses import opened_for_reading, reason_of, write_whole
from mplus.runtime.atomic import aside_of, clear_leftovers, flush, flush_names, honour_umask
from mplus.runtime.folder import names_in
from mplus.runtime.input_file import absolute_directory, expanded, is_address

MADE_AT = (1980, 1, 1, 0, 0, 0)
"""The first moment that a zip knows."""
MOST_READ_BYTES = 64 << 20
"""At once. The list of parts at the end of an archive is read at once: so it has some hundred thousand parts at most."""
_UNIX, _ENCRYPTED = 3, 1
BAD_ARCHIVE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
)
"""The zip library raises these on damaged or foreign bytes, whose fields it trusts."""
Progress = Callable[[int, int], None]
"""Takes bytes done and bytes in all."""


def export_memory(directory: str | Path, target: str | Path, *, progress: Progress | None = None) -> int:
    """Write the memory stored in `directory` to one file, whole or not at all, and return the bytes of its parts.

    Others may read or save the memory meanwhile; what is written is one state of it.

    Args:
        target: a path, or any address that fsspec opens. A file that is there is replaced.
        progress: takes bytes written so far, and in all.

    Raises:
        SnapshotError: no memory there, or one that is damaged.
        InputError: the target cannot be written; what was there is unchanged.
    """
    home = absolute_directory(directory)
    if isinstance(target, (str, Path)) and not is_address(target) and _lies_in(target, home):
        raise InputError(f"'{target}' lies in the memory {home} itself; choose a place outside of it")
    for tries_left in reversed(range(READ_AGAIN)):
        manifest = read_manifest(home)
        try:
            write_whole(target, partial(_write_archive, home, manifest, progress))
        except SnapshotError:
            if not tries_left or read_manifest(home) == manifest:
                raise
            continue  # it was saved meanwhile, and a file that we were about to read is gone
        return sum(part.size_bytes for part in parts_of(manifest, home))
    raise AssertionError("the last try returns or raises")


def _lies_in(target: str | Path, home: Path) -> bool:
    return Path(os.path.realpath(expanded(target))).is_relative_to(os.path.realpath(home))


def _write_archive(home: Path, manifest: dict[str, Any], progress: Progress | None, path: Path) -> None:
    parts = parts_of(manifest, home)
    with zipfile.ZipFile(path, "x", zipfile.ZIP_STORED) as archive:
        archive.writestr(_entry(MANIFEST), as_file({key: manifest[key] for key in manifest if key != CHECKSUM}))
        for part in _counted(parts, progress):
            source = home / part.name
            try:
                with source.open("rb") as file, archive.open(_entry(part.name), "w", force_zip64=True) as entry:
                    copy_checked(part, file, entry, source)
            except FileNotFoundError:
                raise SnapshotError(f"{source} is missing; restore it from a backup") from None


def _counted(parts: list[Part], progress: Progress | None) -> Iterator[Part]:
    done, total = 0, sum(part.size_bytes for part in parts)
    for part in parts:
        yield part
        done += part.size_bytes
        if progress is not None:
            progress(done, total)


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, MADE_AT)
    entry.create_system, entry.external_attr = _UNIX, (stat.S_IFREG | 0o644) << 16
    return entry


# -- import --------------------------------------------------------------------------------------------------------------


def import_memory(archive: str | Path, directory: str | Path, *, progress: Progress | None = None) -> int:
    """Make a stored memory out of one file, whole or not at all, and return the bytes of its parts.

    Args:
        archive: a path, or any address that fsspec opens.
        directory: absent or empty.
        progress: takes bytes read so far, and in all.

    Raises:
        InputError: the archive cannot be read, or the directory holds something.
        SnapshotError: the archive is damaged, of a newer version, or not what `export_memory` writes; there is no directory then.
    """
    home = Path(os.path.realpath(absolute_directory(directory)))
    _check_free(home)
    with opened_for_reading(archive) as file:
        try:
            home.parent.mkdir(parents=True, exist_ok=True)
            clear_leftovers(home)
            with aside_of(home) as aside:  # it becomes the memory, so that nothing else is left behind
                size_bytes = _extract(cast(IO[bytes], _Bounded(file, archive)), archive, aside, progress)
                _put(aside, home)
        except OSError as error:
            raise SnapshotError(f"{archive} cannot be stored in {directory}: {reason_of(error)}; nothing was stored") from None
    return size_bytes


def _check_free(home: Path) -> None:
    if home.exists() and not home.is_dir():
        raise InputError(f"{home} is a file, a memory needs a directory of its own; choose another path")
    if home.is_dir() and (held := names_in(home)):
        raise InputError(f"{home} is not empty (it holds {held[0]!r:.80}); choose a new or empty directory")


def _put(fresh: Path, home: Path) -> None:
    """In one step, and only where there is nothing."""
    flush_names(fresh)
    if home.is_dir():
        home.rmdir()  # fails where something came into it meanwhile
    os.rename(fresh, home)
    with suppress(OSError):
        flush_names(home.parent)


def _extract(file: IO[bytes], name: str | Path, fresh: Path, progress: Progress | None) -> int:
    try:
        with zipfile.ZipFile(file) as archive:
            entries = _entries(archive, name)
            with archive.open(entries.pop(MANIFEST)) as source:
                _write(fresh / MANIFEST, lambda target: target.write(source.read(LARGEST_BYTES + 1)))
            parts = parts_of(read_manifest(fresh, name), name)
            _check_names(parts, entries, name)
            for part in _counted(parts, progress):
                with archive.open(entries[part.name]) as source:
                    where = f"{part.name} in {name}"
                    _write(fresh / part.name, partial(copy_checked, part, source, where=where))
    except BAD_ARCHIVE as error:
        raise SnapshotError(
            f"{name} is damaged, or no archive of a memory ({reason_of(error)}); export the memory again"
        ) from None
    return sum(part.size_bytes for part in parts)


def _write(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    with path.open("xb") as file:
        write(file)
    honour_umask(path, path.parent, read_only=path.name != MANIFEST)
    flush(path)


def _entries(archive: zipfile.ZipFile, name: str | Path) -> dict[str, zipfile.ZipInfo]:
    """All parts by name; each as it is written by an export."""
    found: dict[str, zipfile.ZipInfo] = {}
    for entry in archive.infolist():
        said = f"{name} holds {entry.orig_filename!r:.120}"
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if entry.orig_filename != MANIFEST and not NAME.fullmatch(entry.orig_filename):
            raise SnapshotError(f"{said}, which is no file of a memory; nothing of it was stored")
        if entry.filename in found:
            raise SnapshotError(f"{said} twice; nothing of it was stored")
        if kind not in (0, stat.S_IFREG) or entry.flag_bits & _ENCRYPTED:
            raise SnapshotError(f"{said} as a link or encrypted, expected a plain file; nothing of it was stored")
        if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
            raise SnapshotError(f"{said} compressed, an export does not compress; unpack it and export the memory again")
        found[entry.filename] = entry
    if MANIFEST not in found:
        raise SnapshotError(f"{name} is no archive of a memory: {MANIFEST} is missing; make one with `mplus export`")
    if found[MANIFEST].file_size > LARGEST_BYTES:
        raise SnapshotError(
            f"the manifest of {name} would have {found[MANIFEST].file_size:,} bytes, at most {LARGEST_BYTES:,} are read"
        )
    return found


def _check_names(parts: list[Part], entries: dict[str, zipfile.ZipInfo], name: str | Path) -> None:
    """The manifest and the archive name the same files, in the same sizes."""
    for part in parts:
        if part.name not in entries:
            raise SnapshotError(f"{name} lacks {part.name}, which its manifest names; export the memory again")
        if entries[part.name].file_size != part.size_bytes:
            raise SnapshotError(
                f"{part.name} in {name} has {entries[part.name].file_size:,} bytes, its manifest says {part.size_bytes:,}; "
                "export the memory again"
            )
    foreign = entries.keys() - {part.name for part in parts}
    if foreign:
        raise SnapshotError(f"{name} holds {min(foreign)}, which its manifest does not name; nothing of it was stored")


class _Bounded(io.RawIOBase):
    """A file whose reads are bounded, so that a list of parts that never ends is refused, and whose errors are of one kind."""

    def __init__(self, file: IO[bytes], name: str | Path) -> None:
        self._file, self._name = file, name

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._file.tell()

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def read(self, size: int = -1) -> bytes:
        if size > MOST_READ_BYTES:
            raise SnapshotError(f"{self._name} lists more parts than any memory has; nothing of it was stored")
        try:
            return self._file.read(min(size, MOST_READ_BYTES) if size >= 0 else MOST_READ_BYTES)
        except (OSError, ValueError):
            raise
        except Exception as error:  # of a file system elsewhere
            raise InputError(f"'{self._name}' cannot be read on ({reason_of(error)}); try again") from None
