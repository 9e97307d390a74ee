"""Immutable files of long-term rows: one safetensors file per segment, mapped when first used. Knows no directory rules.

Legend: M rows of a segment.
A segment is written aside, flushed, renamed, and never changes again; so forks and snapshots share it by reference or hard
link, and what was read of it is clean page cache that the system takes back when it needs RAM.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mplus.errors import StoreError
from mplus.memory.file_names import is_segment
from mplus.memory.stores.fields import FieldSpec, field_bytes
from mplus.memory.tensor_file import tensors_in
from mplus.runtime.atomic import flush, flush_names, honour_umask, sha256, temporary_directory

PAGE_BYTES = 4096
"""A field with as much per row is read a few rows at a time; smaller ones are scanned from end to end."""


_guard = threading.Lock()
_living: weakref.WeakSet[Segment] = weakref.WeakSet()
"""All segments of this process."""


@dataclass(eq=False)
class Segment:
    """One immutable file of `rows` rows. Making the object touches no file; ``tensors`` maps it.

    Attributes:
        rows: M.
        size_bytes: of the whole file.
        sha256: of the whole file, as it was written.
        is_copy: whether all of its rows lie in RAM of this process too, so that nobody here misses the file.
    """

    path: Path
    rows: int
    size_bytes: int
    sha256: str
    is_copy: bool = False
    _mapped: dict[str, Tensor] | None = field(default=None, repr=False)
    _starts: dict[str, tuple[int, int]] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        with _guard:
            _living.add(self)

    @property
    def name(self) -> str:
        """File name, the same wherever the segment is linked to."""
        return self.path.name

    def tensors(self, fields: FieldSpec) -> dict[str, Tensor]:
        """All fields [M, ...], mapped from the file and copied by nobody.

        Raises:
            StoreError: the file is missing, truncated or of another form.
        """
        if self._mapped is None:
            mapped = self._map(fields)
            for name, (shape, dtype) in fields.items():
                got = mapped[name]
                if got.shape != (self.rows, *shape) or got.dtype != dtype:
                    raise StoreError(
                        f"segment {self.path} holds {name} as {list(got.shape)} {got.dtype}, expected {[self.rows, *shape]} {dtype}; "
                        "restore the memory from a backup, or open it with the model and dtype that wrote it"
                    )
            self._mapped = mapped
        return self._mapped

    def stored_as(self, fields: FieldSpec) -> FieldSpec:
        """These fields with the number types that the file has, where a model of another real number type wrote it.

        Raises:
            StoreError: the file is missing, truncated or lacks a field.
        """
        if self._mapped is not None:
            return fields
        types = {name: value.dtype for name, value in self._map(fields).items()}
        real = {name for name, (_, dtype) in fields.items() if dtype.is_floating_point and types[name].is_floating_point}
        return {name: (shape, types[name] if name in real else dtype) for name, (shape, dtype) in fields.items()}

    def _map(self, fields: FieldSpec) -> dict[str, Tensor]:
        self.check_size()
        try:
            with safe_open(self.path, framework="pt") as file:
                return {name: file.get_tensor(name) for name in fields}
        except (OSError, SafetensorError) as error:
            raise StoreError(f"segment {self.path} cannot be read ({error}); restore the memory from a backup") from None

    def announce(self, places: Tensor, fields: FieldSpec, names: tuple[str, ...]) -> None:
        """Ask the system to fetch rows that will be read next, all at once instead of page by page (a hint: nothing waits).

        Args:
            places: [k] rows of this segment.
            names: fields to be read; those with less than a page per row are left to the system.
        """
        large = [name for name in names if field_bytes(fields, name) >= PAGE_BYTES]
        if not large or not hasattr(os, "posix_fadvise"):
            return
        ordered = places.unique()
        run = torch.cat([torch.ones(1, dtype=torch.bool), ordered.diff() != 1]).nonzero().flatten().tolist()
        with contextlib.suppress(OSError, ValueError, KeyError), self.path.open("rb") as file:
            self._starts = self._starts or _data_starts(self.path)
            for name in large:
                size_bytes = field_bytes(fields, name)
                for begin, end in zip(run, [*run[1:], len(ordered)], strict=True):
                    offset = self._starts[name][0] + int(ordered[begin]) * size_bytes
                    os.posix_fadvise(file.fileno(), offset, (end - begin) * size_bytes, os.POSIX_FADV_WILLNEED)

    def check_size(self) -> None:
        """Raise StoreError unless the file is there and has its size; reads nothing of it."""
        try:
            size_bytes = self.path.stat().st_size
        except OSError as error:
            raise StoreError(
                f"segment {self.path} is missing ({error.strerror}); load the memory again if another process has saved it meanwhile, "
                "else restore it from a backup"
            ) from None
        if size_bytes != self.size_bytes:
            raise StoreError(
                f"segment {self.path} was truncated or altered ({size_bytes:,} bytes, expected {self.size_bytes:,}); "
                "restore the memory from a backup"
            )

    def check_content(self) -> None:
        """Raise StoreError unless every byte is as it was written; reads the whole file."""
        self.check_size()
        if sha256(self.path) != self.sha256:
            raise StoreError(f"segment {self.path} was altered since it was written; restore the memory from a backup")

    def to_json(self) -> dict[str, Any]:
        """What a manifest says of a segment."""
        return {"file": self.name, "rows": self.rows, "bytes": self.size_bytes, "sha256": self.sha256}

    @staticmethod
    def from_json(entry: Mapping[str, Any], directory: Path) -> Segment:
        """A segment that a manifest in `directory` names.

        Raises:
            ValueError, KeyError, TypeError: the entry is not of that form.
        """
        name, rows, size_bytes, digest = (entry[key] for key in ("file", "rows", "bytes", "sha256"))
        counts = (rows, size_bytes)
        if (
            not isinstance(name, str)
            or not is_segment(name)
            or name.startswith(".")
            or any(type(count) is not int or count < 1 for count in counts)
        ):
            raise ValueError(f"{entry!r:.200} names no segment")
        return Segment(directory / name, rows, size_bytes, str(digest))


def write_segment(directory: Path, rows: Mapping[str, Tensor], fields: FieldSpec) -> Segment:
    """Store rows [M, ...] as a new segment file; a crash leaves the whole file or a hidden one that nobody names.

    Raises:
        OSError, SafetensorError: it cannot be written; nothing is left behind.
    """
    with temporary_directory(directory) as folder:
        aside = folder / "segment"
        save_file({name: rows[name].contiguous() for name in fields}, aside)
        honour_umask(aside, folder, read_only=True)  # hard links share it: nobody writes here again
        flush(aside)
        digest, size_bytes = sha256(aside), aside.stat().st_size
        path = directory / f"segment-{digest[:16]}.safetensors"  # the same rows have the same name
        if path.exists() and path.stat().st_size == size_bytes:
            return Segment(path, next(iter(rows.values())).shape[0], size_bytes, digest)
        _forget_pages(aside, fields)
        try:
            os.replace(aside, path)
            flush_names(directory)
        except BaseException:  # no manifest names it yet
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
            raise
    return Segment(path, next(iter(rows.values())).shape[0], size_bytes, digest)


def link_segment(segment: Segment, directory: Path) -> Segment:
    """The same segment in another directory: a hard link where the file system can, else a copy.

    Raises:
        OSError: neither is possible; nothing is left behind.
    """
    path = directory / segment.name
    if not path.exists() or path.stat().st_size != segment.size_bytes:
        try:
            os.link(segment.path, path)
        except FileNotFoundError:
            raise
        except OSError:  # another file system, or one without links
            with temporary_directory(directory) as folder:
                aside = folder / segment.name
                shutil.copyfile(segment.path, aside)
                honour_umask(aside, folder, read_only=True)
                flush(aside)
                os.replace(aside, path)
    return Segment(path, segment.rows, segment.size_bytes, segment.sha256, _mapped=segment._mapped)


def unmapped_in(directory: Path) -> set[str]:
    """Names of the files there that a segment of this process has yet to map, and would miss."""
    with _guard:
        paths = [segment.path for segment in _living if segment._mapped is None and not segment.is_copy]
    parents = {parent: _is_same(parent, directory) for parent in {path.parent for path in paths}}
    return {path.name for path in paths if parents[path.parent]}


def _is_same(first: Path, second: Path) -> bool:
    try:
        return first == second or first.samefile(second)
    except OSError:
        return False


def _forget_pages(path: Path, fields: FieldSpec) -> None:
    """Let the page cache drop what is read a few rows at a time; what is scanned stays warm."""
    if not hasattr(os, "posix_fadvise"):
        return
    starts = _data_starts(path)
    rows = {name: field_bytes(fields, name) for name in fields}
    with path.open("rb") as file:
        for name, size_bytes in rows.items():
            if size_bytes >= PAGE_BYTES:
                start, end = starts[name]
                os.posix_fadvise(file.fileno(), start, end - start, os.POSIX_FADV_DONTNEED)


def _data_starts(path: Path) -> dict[str, tuple[int, int]]:
    """First byte in the file, and the one behind the last, of each tensor."""
    return {entry.name: (entry.start, entry.stop) for entry in tensors_in(path)}
