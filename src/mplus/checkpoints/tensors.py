"""Reading tensors of a checkpoint directory: one safetensors file or an index with shards. Knows no meaning of names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from mplus.errors import CheckpointError


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        CheckpointError: missing, not JSON, or not an object.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing; give the directory of a whole checkpoint") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}); get an undamaged copy") from None
    if not isinstance(data, dict):
        raise CheckpointError(f"{path} does not hold a JSON object; get an undamaged copy")
    return data


def read_tensors(directory: Path, stem: str = "model") -> dict[str, Tensor]:
    """All tensors of ``stem.safetensors`` or of the shards that ``stem.safetensors.index.json`` names.

    Raises:
        CheckpointError: a file is missing or damaged.
    """
    index = directory / f"{stem}.safetensors.index.json"
    if index.exists():
        weight_map = read_json(index).get("weight_map")
        named = weight_map.values() if isinstance(weight_map, dict) else [None]
        if not all(isinstance(name, str) and Path(name).name == name for name in named):
            raise CheckpointError(f"{index} does not name files beside it; get an undamaged copy")
        files = [directory / name for name in sorted(set(named))]
    else:
        files = [directory / f"{stem}.safetensors"]
    tensors: dict[str, Tensor] = {}
    for path in files:
        if not path.is_file():
            raise CheckpointError(f"{path} is missing; give the directory of a whole checkpoint in safetensors form")
        try:
            with safe_open(path, framework="pt") as file:
                tensors.update({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{path} is damaged ({error}); get an undamaged copy") from None
    return tensors
