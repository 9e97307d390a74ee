"""Base weights from the Hugging Face hub, told in our own errors. Knows nothing of our cache or of wheels."""

from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path
from typing import Any

from mplus.errors import BaseModelMissingError

# Only what lies at the top of a repository: subfolders hold other formats of the same weights.
WANTED = ["*.json", "*.safetensors", "*.jinja", "*.txt", "*.model"]
UNWANTED = ["*/*"]
STORAGE_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS}


def cached(hub_id: str) -> Path | None:
    """The complete copy of a model that lies in the hub's own cache on this machine, or None. Asks no network."""
    from huggingface_hub import snapshot_download

    try:
        found = Path(snapshot_download(hub_id, local_files_only=True, allow_patterns=WANTED, ignore_patterns=UNWANTED))
    except (OSError, ValueError):
        return None
    return found if is_complete(found) else None


def download(hub_id: str) -> Path:
    """Download a model into the hub's own cache; returns its directory.

    Raises:
        BaseModelMissingError: the hub cannot be reached, refuses, or has no such model.
        OSError: the cache cannot be written.
    """
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(hub_id, allow_patterns=WANTED, ignore_patterns=UNWANTED, tqdm_class=_terminal_bars()))
    except Exception as error:
        raise _told(hub_id, error) from error


def export(hub_id: str, into: Path) -> str:
    """Download a model as plain files into a directory; returns the commit that was taken.

    Raises:
        BaseModelMissingError: the hub cannot be reached, refuses, or has no such model.
        OSError: the directory cannot be written.
    """
    from huggingface_hub import HfApi, snapshot_download

    try:
        commit = str(HfApi().model_info(hub_id).sha)
        bars = _terminal_bars()
        snapshot_download(
            hub_id, revision=commit, local_dir=into, allow_patterns=WANTED, ignore_patterns=UNWANTED, tqdm_class=bars
        )
    except Exception as error:
        raise _told(hub_id, error) from error
    shutil.rmtree(into / ".cache", ignore_errors=True)
    return commit


def is_complete(model: Path) -> bool:
    """Whether a directory has a config and every safetensors file that its index, if any, names."""
    if not (model / "config.json").is_file():
        return False
    index = model / "model.safetensors.index.json"
    if not index.is_file():
        return any(model.glob("*.safetensors"))
    try:
        shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (OSError, ValueError, KeyError, AttributeError):
        return False
    return all((model / shard).is_file() for shard in shards)


def _told(hub_id: str, error: Exception) -> Exception:
    """What to raise for a failed download: storage trouble as it is, all else as one sentence."""
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError

    if isinstance(error, OSError) and error.errno in STORAGE_ERRNOS:
        return error
    here = "if you have the model as files, give their directory instead"
    if isinstance(error, GatedRepoError):
        return BaseModelMissingError(
            f"'{hub_id}' is gated on the hub; accept its terms there and log in with `hf auth login`; {here}"
        )
    if isinstance(error, (RepositoryNotFoundError, HFValidationError)):
        return BaseModelMissingError(f"'{hub_id}' is no local directory, and the hub has no such model open to you; {here}")
    return BaseModelMissingError(
        f"'{hub_id}' is neither a local directory nor in the hub's cache here, and the hub cannot be reached "
        f"({type(error).__name__}); {here}"
    )


def _terminal_bars() -> Any:
    """A tqdm class whose bars show on a terminal only."""
    from huggingface_hub.utils.tqdm import tqdm

    class TerminalBars(tqdm):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            kwargs.setdefault("disable", None)
            super().__init__(*args, **kwargs)  # type: ignore[no-untyped-call]

    return TerminalBars
