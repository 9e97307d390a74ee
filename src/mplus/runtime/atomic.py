"""Files and directories that are replaced whole: filled aside, flushed, then renamed. Knows nothing of what they hold.

Where the system can exchange two names in one step (Linux, macOS) there is no moment without a directory. Elsewhere a process killed
between two renames leaves both states aside, from where ``restored`` brings the old one back.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import re
import secrets
import shutil
import stat
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

NEW, OLD = "model", "old"
"""The two states inside a directory aside."""
_LINUX_HERE, _LINUX_EXCHANGE, _MACOS_SWAP = -100, 2, 2


def sha256(path: Path) -> str:
    """Hex digest of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def flush(path: Path) -> None:
    """Wait until a file or a directory is on the disk."""
    if os.name == "nt" and path.is_dir():  # a directory has no handle to flush there
        return
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


def honour_umask(path: Path, directory: Path, *, read_only: bool = False) -> None:
    """Give a file the mode that `directory`, which was just made, got by the umask; writers of their own may have another idea."""
    mode = stat.S_IMODE(directory.stat().st_mode) & (0o444 if read_only else 0o666)
    with suppress(OSError):  # a file system without modes
        path.chmod(mode)


@contextmanager
def temporary_directory(directory: Path, prefix: str = ".aside-") -> Iterator[Path]:
    """A new directory in `directory` to make files in; gone at the end, and after a kill known as ours by its name."""
    aside = directory / f"{prefix}{secrets.token_hex(8)}"
    try:
        aside.mkdir()
        yield aside
    finally:
        shutil.rmtree(aside, ignore_errors=True)


# -- files ---------------------------------------------------------------------------------------------------------------


def replace_files(writers: Mapping[Path, Callable[[Path], object]]) -> list[Path]:
    """Replace several files together: write them aside, flush, rename. Where a step fails all are as before.

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
            with suppress(OSError):  # the renames are the commit
                flush(folder)
    finally:
        for left in (*aside.values(), *before.values()):
            with suppress(OSError):
                left.unlink(missing_ok=True)
    return list(writers)


def _link_or_copy(path: Path, target: Path) -> None:
    try:
        os.link(path, target)
    except OSError:  # a file system without links
        shutil.copy2(path, target)


# -- directories ---------------------------------------------------------------------------------------------------------


@contextmanager
def replace_directory(directory: Path) -> Iterator[Path]:
    """An empty directory to fill, which takes the place of `directory` at the end; an exception leaves what was there.

    What killed saves have left beside it is removed.

    Raises:
        OSError: it cannot be made, flushed or put in place.
    """
    directory.parent.mkdir(parents=True, exist_ok=True)
    restored(directory)
    clear_leftovers(directory)
    with aside_of(directory) as aside:
        fresh = aside / NEW
        fresh.mkdir()
        yield fresh
        put_in_place(fresh, directory, aside / OLD)


@contextmanager
def aside_of(directory: Path) -> Iterator[Path]:
    """A directory beside `directory` for as long as the block runs; no other process takes it for a leftover."""
    while True:
        aside = directory.with_name(f".{directory.name}.{secrets.token_hex(4)}")
        aside.mkdir()
        lock = _locked(aside)
        if aside.is_dir():  # else somebody cleared it before it was locked
            break
        _unlock(lock)
    try:
        yield aside
    finally:
        shutil.rmtree(aside, ignore_errors=True)
        _unlock(lock)


def put_in_place(fresh: Path, directory: Path, old: Path) -> None:
    """Flush a finished directory to the disk, give its files the modes of the umask, and put it in place.

    What lay there ends up in `fresh` or `old`, for the caller to remove. A failure leaves it where it was.

    Raises:
        OSError: it cannot be flushed or put in place.
    """
    mode = fresh.stat().st_mode & 0o666
    for path in fresh.iterdir():
        if path.is_file():
            path.chmod(mode)
            flush(path)
    flush(fresh)
    if not directory.exists():
        os.replace(fresh, directory)
    elif not exchanged(fresh, directory):
        os.replace(directory, old)
        try:
            os.replace(fresh, directory)
        except OSError:
            os.replace(old, directory)
            raise
    with suppress(OSError):  # the rename is done; whether it survives a power cut changes nothing of what is told
        flush(directory.parent)


def restored(directory: Path) -> bool:
    """Bring a directory back that a killed process had moved aside; whether there was one."""
    if directory.exists() or directory.is_symlink():
        return False
    for aside in _leftovers(directory):
        old = aside / OLD
        if not old.is_dir():
            continue
        lock = _locked(aside)
        try:
            if lock is not None and old.is_dir() and not directory.exists():
                os.replace(old, directory)
                return True
        except OSError:
            continue
        finally:
            _unlock(lock)
    return False


def clear_leftovers(directory: Path) -> None:
    """Remove what killed processes left beside a directory; what a living one works in stays."""
    for aside in _leftovers(directory):
        lock = _locked(aside)
        if lock is None:
            continue
        try:
            shutil.rmtree(aside, ignore_errors=True)
        finally:
            _unlock(lock)


def exchanged(first: Path, second: Path) -> bool:
    """Exchange two names in one step; False where the system or the file system cannot."""
    arguments = os.fsencode(first), os.fsencode(second)
    try:
        library = ctypes.CDLL(None, use_errno=True)
        if sys.platform == "linux":
            done = library.renameat2(_LINUX_HERE, arguments[0], _LINUX_HERE, arguments[1], _LINUX_EXCHANGE)
        elif sys.platform == "darwin":
            done = library.renamex_np(*arguments, _MACOS_SWAP)
        else:
            return False
    except (OSError, AttributeError, TypeError):  # no such library or function
        return False
    return bool(done == 0)


def _leftovers(directory: Path) -> list[Path]:
    form = re.compile(rf"\.{re.escape(directory.name)}\.[0-9a-z_]{{6,12}}")
    try:
        return [
            path for path in directory.parent.iterdir() if form.fullmatch(path.name) and path.is_dir() and not path.is_symlink()
        ]
    except OSError:
        return []


def _locked(aside: Path) -> int | None:
    """A lock on a directory, which ends with the process; None if somebody has it, or where there are none."""
    try:
        import fcntl

        descriptor = os.open(aside, os.O_RDONLY)
    except (ImportError, OSError):
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _unlock(lock: int | None) -> None:
    if lock is not None:
        os.close(lock)
