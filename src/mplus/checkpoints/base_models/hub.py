"""Base weights from the Hugging Face hub, told in our own errors. Knows nothing of our cache or of wheels."""

from __future__ import annotations

import errno
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mplus.errors import BaseModelMissingError, InputError
from mplus.runtime.json_file import read_json_object

# Only what lies at the top of a repository: subfolders hold other formats of the same weights.
WANTED = ["*.json", "*.safetensors", "*.jinja", "*.txt", "*.model"]
UNWANTED = ["*/*"]
STORAGE_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS}


@dataclass(frozen=True, kw_only=True)
class HubArguments:
    """How a hub id is looked up.

    Attributes:
        may_download: False where nobody named the model on purpose.
    """

    revision: str | None = None
    token: str | bool | None = field(default=None, repr=False)
    cache_dir: str | None = None
    local_files_only: bool = False
    may_download: bool = True

    def __post_init__(self) -> None:
        for name in ("revision", "cache_dir"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, str):
                raise InputError(f"{name} is {value!r:.80}, expected a text")
        if not isinstance(self.token, (str, bool, type(None))):
            raise InputError("token is neither a text nor True, False or None; give the hub's token")


HUB_DEFAULTS = HubArguments()


def cached(hub_id: str, asked: HubArguments = HUB_DEFAULTS) -> Path | None:
    """The complete copy of a model that lies in the hub's own cache on this machine, or None. Asks no network."""
    from huggingface_hub import snapshot_download

    try:
        found = Path(
            snapshot_download(
                hub_id,
                revision=asked.revision,
                cache_dir=asked.cache_dir,
                local_files_only=True,
                allow_patterns=WANTED,
                ignore_patterns=UNWANTED,
            )
        )
    except (OSError, ValueError):
        return None
    return found if is_complete(found) else None


def download(hub_id: str, asked: HubArguments = HUB_DEFAULTS) -> Path:
    """Download a model into the hub's own cache; returns its directory.

    Raises:
        BaseModelMissingError: the hub cannot be reached, refuses, or has no such model.
        OSError: the cache cannot be written.
    """
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(
                hub_id,
                revision=asked.revision,
                cache_dir=asked.cache_dir,
                token=asked.token,
                allow_patterns=WANTED,
                ignore_patterns=UNWANTED,
                tqdm_class=_terminal_bars(),
            )
        )
    except Exception as error:
        raise _error_for(hub_id, error, asked.revision) from error


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
        raise _error_for(hub_id, error) from error
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
        shards = set(read_json_object(index)["weight_map"].values())
        return all((model / shard).is_file() for shard in shards)
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return False


def _error_for(hub_id: str, error: Exception, revision: str | None = None) -> Exception:
    """What to raise for a failed download: storage trouble as it is, all else as one sentence."""
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

    if isinstance(error, OSError) and error.errno in STORAGE_ERRNOS:
        return error
    here = "if you have the model as files, give their directory instead"
    if isinstance(error, GatedRepoError):
        return BaseModelMissingError(
            f"'{hub_id}' is gated on the hub; accept its terms there and log in with `hf auth login`; {here}"
        )
    if isinstance(error, RevisionNotFoundError):
        return BaseModelMissingError(
            f"'{hub_id}' has no revision {revision!r:.80} on the hub; give a branch, tag or commit that it has"
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
