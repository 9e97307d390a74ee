"""JSON and tensors of a checkpoint directory: one safetensors file or an index with shards. Knows no meaning of names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from mplus.errors import CheckpointError
from mplus.runtime.json_file import UnreadableJsonError, read_json_object

PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        CheckpointError: missing, not JSON, not an object, or beyond the bounds of ``read_json_object``.
    """
    try:
        return read_json_object(path)
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing; give the directory of a whole checkpoint") from None
    except UnreadableJsonError as error:
        raise CheckpointError(f"{path} cannot be read: {error}; get an undamaged copy") from None


def tensor_files(directory: Path, stem: str = "model") -> list[Path]:
    """``stem.safetensors``, or the shards that ``stem.safetensors.index.json`` names; all lie in `directory`.

    Raises:
        CheckpointError: one is missing or no regular file, or the index names a file elsewhere.
    """
    index, whole = directory / f"{stem}.safetensors.index.json", directory / f"{stem}.safetensors"
    files = [whole]
    if is_there(index):
        weight_map = read_json(index).get("weight_map")
        named = list(weight_map.values()) if isinstance(weight_map, dict) else []
        if not named or not all(isinstance(name, str) and _is_plain(name) for name in named):
            raise CheckpointError(f"{index} does not name safetensors files beside it; get an undamaged copy")
        files = [directory / name for name in sorted(set(named))]
    for path in files:
        if path.is_file():
            continue
        pickle = next((found.name for pattern in PICKLES for found in sorted(directory.glob(pattern))), None)
        if pickle is not None:
            raise CheckpointError(
                f"{directory} holds its weights in {pickle}, a pickle, which can run code and is not opened; convert it to safetensors"
            )
        what = "is no regular file" if is_there(path) else "is missing"
        raise CheckpointError(f"{path} {what}; give the directory of a whole checkpoint in safetensors form")
    return files


def read_shapes(directory: Path, stem: str = "model") -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor, from the headers of the files.

    Raises:
        CheckpointError: a file is missing or damaged.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for path in tensor_files(directory, stem):
        try:
            with safe_open(path, framework="pt") as file:
                shapes.update({name: tuple(file.get_slice(name).get_shape()) for name in file.keys()})  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise _damaged(path, error) from None
    return shapes


def read_tensors(directory: Path, stem: str = "model") -> dict[str, Tensor]:
    """All tensors of a checkpoint.

    Raises:
        CheckpointError: a file is missing or damaged.
    """
    tensors: dict[str, Tensor] = {}
    for path in tensor_files(directory, stem):
        try:
            with safe_open(path, framework="pt") as file:
                tensors.update({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise _damaged(path, error) from None
    return tensors


def check_bounds(wanted: Mapping[str, Any], shapes: Iterable[Sequence[int]]) -> None:
    """Do nothing if no size that a file of settings asks for is larger than the tensors beside it, so that nothing large is made.

    Raises:
        ValueError: one is; it is named.
    """
    largest = max((int(size) for shape in shapes for size in shape), default=0)
    for name, size in wanted.items():
        if isinstance(size, (int, float)) and size > largest:
            raise ValueError(f"{name} is {size!r:.40}, the largest size of a tensor {largest}")


def is_there(path: Path) -> bool:
    """Whether a path names anything, be it a broken link."""
    return path.is_symlink() or path.exists()


def _is_plain(name: str) -> bool:
    return Path(name).name == name and name.endswith(".safetensors") and "\0" not in name and "\\" not in name


def _damaged(path: Path, error: Exception) -> CheckpointError:
    return CheckpointError(f"{path} is damaged ({' '.join(str(error).split())[:200]}); get an undamaged copy")
