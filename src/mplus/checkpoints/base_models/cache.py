"""The user's cache of base models: where a model lies in it, whether it is whole, who may fetch it.

Knows directories, locks and `source.json`; knows nothing of names, downloads or what weights mean.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from mplus.errors import BaseModelMissingError
from mplus.runtime.atomic import sha256
from mplus.runtime.json_file import read_json_object

SOURCE_FILE = "source.json"
SOURCE_FORMAT = 1
RECORDED_VERSIONS = ("mplus-llm", "torch", "transformers", "gguf", "tokenizers")


def cache_dir() -> Path:
    """Where this user's base models lie: $MPLUS_CACHE, else $XDG_CACHE_HOME/mplus, else ~/.cache/mplus. Makes nothing."""
    if own := os.environ.get("MPLUS_CACHE"):
        return Path(own).expanduser().absolute()
    shared = os.environ.get("XDG_CACHE_HOME", "")
    root = Path(shared) if shared and Path(shared).is_absolute() else Path.home() / ".cache"
    return root / "mplus"


def base_dir(name: str) -> Path:
    """Where a base model of this name lies once it is fetched."""
    return cache_dir() / "base" / name


def describe(model: Path, **about: Any) -> None:
    """Write `source.json` into a model directory: what is told, plus versions and the size and SHA-256 of every file."""
    files = {path.name: {"size_bytes": path.stat().st_size, "sha256": sha256(path)} for path in sorted(model.iterdir())}
    versions = {package: _version(package) for package in RECORDED_VERSIONS}
    record = {"format": SOURCE_FORMAT, **about, "files": files, "versions": versions}
    (model / SOURCE_FILE).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def read_source(model: Path) -> dict[str, Any] | None:
    """The `source.json` of a fetched model, or None if it is missing or not one of ours."""
    try:
        record = read_json_object(model / SOURCE_FILE)
    except (OSError, ValueError):
        return None
    files = record.get("files")
    listed = isinstance(files, dict) and all(
        Path(name).name == name and isinstance(entry, dict) and isinstance(entry.get("size_bytes"), int)
        for name, entry in files.items()
    )
    return record if record.get("format") == SOURCE_FORMAT and listed else None


def damage(model: Path) -> str | None:
    """What is wrong with a cached model, judged by the sizes of its files, or None. An absent model is not damaged."""
    if not model.is_dir():
        return None
    record = read_source(model)
    if record is None:
        return f"{SOURCE_FILE} is missing or unreadable"
    for file, expected in record["files"].items():
        path = model / file
        if not path.is_file():
            return f"{file} is missing"
        if path.stat().st_size != expected["size_bytes"]:
            return f"{file} has {path.stat().st_size:,} bytes, expected {expected['size_bytes']:,}"
    return None


def is_ready(model: Path, source: str | None) -> bool:
    """Whether a whole model lies there, from this source (None: from any)."""
    record = read_source(model)
    return record is not None and damage(model) is None and source in (None, record.get("source"))


@contextlib.contextmanager
def sole_fetcher(target: Path, log: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock of one model while it is fetched; the operating system releases it if this process dies."""
    from filelock import FileLock, Timeout

    lock = FileLock(target.parent / f".{target.name}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log(f"another process is fetching '{target.name}'; waiting for it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def require_space(directory: Path, needed_bytes: int) -> None:
    """Do nothing if the disk of a directory has room.

    Raises:
        BaseModelMissingError: it has not.
    """
    free_bytes = shutil.disk_usage(directory).free
    if free_bytes < needed_bytes:
        raise BaseModelMissingError(
            f"a base model takes {needed_bytes / 1e6:.0f} MB in {directory} while it is made, but {free_bytes / 1e6:.0f} MB "
            "are free; free some or set MPLUS_CACHE to another directory"
        )


@contextlib.contextmanager
def explain_storage_trouble(where: Path) -> Iterator[None]:
    """Tell trouble with the disk (full, not allowed, not a directory) in one sentence."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, SafetensorError) as error:
        place, reason = (error.filename or where, error.strerror or error) if isinstance(error, OSError) else (where, error)
        raise BaseModelMissingError(
            f"cannot store a base model in {place}: {reason}; free space or set MPLUS_CACHE to a directory that you may write"
        ) from error
