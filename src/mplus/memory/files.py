"""Files that must be whole: their hashes, written aside and renamed, on the disk. Knows nothing of memories."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from mplus.errors import InputError


def sha256(path: Path) -> str:
    """Hex digest of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def absolute_directory(path: str | os.PathLike[str]) -> Path:
    """The absolute path that a user's word for a directory means, `~` expanded; the working directory may change afterwards.

    Raises:
        InputError: it is empty or no path.
    """
    text = os.fspath(path) if isinstance(path, (str, os.PathLike)) else None
    if not isinstance(text, str):
        raise InputError(f"a directory is a path as text, got {type(path).__name__}; give a str or a pathlib.Path")
    if not text or "\0" in text:
        raise InputError(f"{text!r} names no directory; give the path of one, for example 'my-memory'")
    try:
        return Path(text).expanduser().absolute()
    except (RuntimeError, OSError) as error:  # an unknown user's home, a working directory that is gone
        raise InputError(f"the directory {text!r} cannot be found ({error}); give an absolute path") from None


def replace_files(writers: Mapping[Path, Callable[[Path], object]]) -> list[Path]:
    """Have several files replaced together: written aside, flushed, then renamed. Where a step fails all are as before.

    Args:
        writers: path to what writes its content to the path it is given. Their folders are there.

    Returns:
        the paths.
    """
    mark = secrets.token_hex(4)
    aside = {path: path.with_name(f".{path.stem}.{mark}{path.suffix}") for path in writers}
    before = {path: path.with_name(f".{path.stem}.{mark}-before{path.suffix}") for path in writers} if len(writers) > 1 else {}
    try:
        for path, write in writers.items():
            write(aside[path])
        for written in aside.values():
            flush(written)
        for path, kept in before.items():
            if path.exists():
                _link_or_copy(path, kept)
        try:
            for path, written in aside.items():
                os.replace(written, path)
        except BaseException:
            for path, kept in before.items():
                if not aside[path].exists():  # it was renamed
                    os.replace(kept, path) if kept.exists() else path.unlink(missing_ok=True)
            raise
        for folder in {path.parent for path in writers}:
            with contextlib.suppress(OSError):  # the renames are the commit
                flush(folder)
    finally:
        for left in (*aside.values(), *before.values()):
            with contextlib.suppress(OSError):
                left.unlink(missing_ok=True)
    return list(writers)


@contextlib.contextmanager
def temporary_directory(directory: Path, prefix: str = ".aside-") -> Iterator[Path]:
    """A new directory in `directory` to make files in; gone at the end, and after a kill known as ours by its name."""
    aside = directory / f"{prefix}{secrets.token_hex(8)}"
    try:
        aside.mkdir()
        yield aside
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def honour_umask(path: Path, directory: Path, *, read_only: bool = False) -> None:
    """Give a file the mode that `directory`, which was just made, got by the umask; writers of their own may have another idea."""
    mode = stat.S_IMODE(directory.stat().st_mode) & (0o444 if read_only else 0o666)
    with contextlib.suppress(OSError):  # a file system without modes
        path.chmod(mode)


def flush(path: Path) -> None:
    """Wait until a file or a directory is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def flush_names(directory: Path) -> None:
    """Wait until the names in a directory are on the disk, where the file system can do that."""
    try:
        flush(directory)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS):
            raise


def _link_or_copy(path: Path, target: Path) -> None:
    try:
        os.link(path, target)
    except OSError:  # a file system without links
        shutil.copy2(path, target)
