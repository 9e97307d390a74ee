"""Checkpoints of a run: directories ``step-000120`` that appear whole or not at all. Knows files, no model and no task.

``state.json`` (format, step, clock, structure) and ``state.safetensors`` (every tensor it names). Nothing is pickled.
"""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from mplus.checkpoints.tensors import read_json, read_tensors
from mplus.errors import CheckpointError, TrainingError
from mplus.runtime.atomic import replace_directory
from mplus.training.run.pytree import Tensors, flatten, restore

FORMAT_VERSION = 2  # 2: tasks also store the small world that they tell of
NAME = re.compile(r"step-(\d{6,})")


@dataclass
class Checkpoint:
    """Everything a run needs to go on as if it had not stopped.

    Attributes:
        parameters: trained parameters by name.
        optimiser: per parameter name what the optimiser keeps of it.
        randomness: global generators, one entry per process.
        task: the task's own state.
        journal: sums of the log line that was being collected.
        recipe: resolved settings.
    """

    step: int
    elapsed_s: float
    recipe: dict[str, Any]
    parameters: Tensors
    optimiser: dict[str, dict[str, Tensor]]
    randomness: list[Any]
    task: dict[str, Any]
    journal: dict[str, Any] = field(default_factory=dict)


def write_checkpoint(directory: Path, checkpoint: Checkpoint, keep: int) -> Path:
    """Store a checkpoint in `directory` and then remove all but the newest `keep`.

    Raises:
        TrainingError: it cannot be stored (disk full, no permission); earlier checkpoints are unchanged.
    """
    final = directory / f"step-{checkpoint.step:06d}"
    try:
        with replace_directory(final) as fresh:
            _fill(fresh, checkpoint)
    except (OSError, SafetensorError) as error:
        before = newest(directory)
        good = f"the last good checkpoint is {before}" if before else "there is no earlier checkpoint"
        reason = getattr(error, "strerror", None) or error
        raise TrainingError(
            f"checkpoint of step {checkpoint.step} not stored in {directory}: {reason}; {good}; "
            "make room there and go on with --resume"
        ) from None
    for _, old in _all(directory)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    return final


def newest(directory: Path) -> Path | None:
    """The checkpoint of the highest step, if there is one."""
    found = _all(directory)
    return found[-1][1] if found else None


def clear_leftovers(directory: Path) -> None:
    """Remove what a killed process was writing."""
    for place in directory.glob(".step-*"):
        shutil.rmtree(place, ignore_errors=True)


def read_checkpoint(path: Path) -> Checkpoint:
    """Open a checkpoint.

    Raises:
        TrainingError: damaged, or of another version.
    """
    try:
        described = read_json(path / "state.json")
        if described.get("format") != FORMAT_VERSION:
            raise TrainingError(
                f"{path} has checkpoint format {described.get('format')!r}, this version of mplus reads {FORMAT_VERSION}; "
                "go on with the version that wrote it"
            )
        tree = restore(described["state"], read_tensors(path, "state"))
        return Checkpoint(**tree)
    except (CheckpointError, KeyError, TypeError) as error:
        raise TrainingError(
            f"checkpoint {path} is damaged ({error}); remove that directory to go on from the one before"
        ) from None


def _fill(directory: Path, checkpoint: Checkpoint) -> None:
    tensors: Tensors = {}
    tree = {name: flatten(value, name, tensors) for name, value in vars(checkpoint).items()}
    tensors = {**_own_storage(tensors), "format": torch.tensor(FORMAT_VERSION)}  # never empty: a safetensors file needs one
    save_file(tensors, directory / "state.safetensors")
    text = json.dumps({"format": FORMAT_VERSION, "state": tree})
    (directory / "state.json").write_text(text + "\n", encoding="utf-8")


def _own_storage(tensors: Tensors) -> Tensors:
    """Each tensor contiguous in a storage of its own, as safetensors wants it; copied only where it is not so already."""
    seen: set[int] = set()
    out: Tensors = {}
    for name, value in tensors.items():
        storage = value.untyped_storage()
        alone = value.is_contiguous() and storage.nbytes() == value.nbytes and storage.data_ptr() not in seen
        out[name] = value if alone else value.clone(memory_format=torch.contiguous_format)
        seen.add(storage.data_ptr())
    return out


def _all(directory: Path) -> list[tuple[int, Path]]:
    if not directory.is_dir():
        return []
    matched = ((NAME.fullmatch(place.name), place) for place in directory.iterdir())
    return sorted((int(match[1]), place) for match, place in matched if match is not None)
