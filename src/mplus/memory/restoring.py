"""What a data file holds becomes the content of a memory, field by field. Knows no file.

Whoever calls turns what a senseless form raises here into one sentence.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mplus.errors import SnapshotError
from mplus.memory import segment_manifest
from mplus.memory.ledger import Ledger

if TYPE_CHECKING:
    from mplus.memory.memory import Memory


def restore(
    memory: Memory,
    manifest: dict[str, Any],
    tensors: dict[str, Tensor],
    segments: list[segment_manifest.GroupSegments],
    *,
    in_place: bool,
) -> None:
    """Have a new memory hold what was stored.

    Raises:
        SnapshotError: the counts differ from those of the manifest.
        KeyError, ValueError, TypeError, RuntimeError: a tensor is missing or of another form.
    """
    from mplus.memory.long_term import LongTerm
    from mplus.memory.short_term import ShortTerm

    groups = memory.short_term.drop_groups
    memory.short_term = ShortTerm(memory.layout, memory.geometry.sizes.stm_tokens, groups)
    memory.long_term.close()
    memory.long_term = LongTerm(memory.layout, memory.geometry, memory.storage)
    births = tensors["stm.births"]
    expected = {name: (memory.layout.groups(name), births.shape[1], *shape) for name, shape in memory.layout.fields.items()}
    memory.short_term.append({name: _shaped(tensors, f"stm.{name}", shape) for name, shape in expected.items()}, births[0])
    memory.short_term.births = _shaped(tensors, "stm.births", (groups, births.shape[1]))
    memory.tail = tensors["tail"].to(memory.layout.device, memory.layout.dtype) if "tail" in tensors else None
    segment_manifest.restore(memory.long_term, segments, tensors, in_place=in_place)
    for group, store in enumerate(memory.long_term.stores):
        number = 0
        while f"ltm.{group}.birth.{number}" in tensors:
            count = tensors[f"ltm.{group}.birth.{number}"].shape[0]
            store.append(
                {
                    name: _stored(tensors, f"ltm.{group}.{name}.{number}", (count, *shape), dtype)
                    for name, (shape, dtype) in store.fields.items()
                }
            )
            number += 1
    memory.long_term.restore_index(tensors)
    memory.long_term.waiting = [int(count) for count in manifest["ltm_waiting"]]
    memory.long_term.writes_since_merge = int(manifest["writes_since_merge"])
    if len(memory.short_term) != manifest["stm_tokens"] or len(memory.long_term) != manifest["ltm_tokens"]:
        raise SnapshotError("the memory's token counts do not match its manifest; restore it from a backup")
    memory.generator.set_state(tensors["generator"])
    memory.now, memory.tokens_read = int(manifest["now"]), int(manifest["tokens_read"])
    memory.initialised = bool(manifest["initialised"])
    memory.pending = [(source, [int(token) for token in ids]) for source, ids in manifest["pending"]]
    memory.ledger = Ledger.from_json(manifest["chunks"])


def _shaped(tensors: dict[str, Tensor], name: str, shape: tuple[int, ...]) -> Tensor:
    if tuple(tensors[name].shape) != shape:
        raise ValueError(f"{name} is {list(tensors[name].shape)}, expected {list(shape)}")
    return tensors[name]


def _stored(tensors: dict[str, Tensor], name: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    value = _shaped(tensors, name, shape)
    if value.is_floating_point() != dtype.is_floating_point:  # levels without their scale, or numbers cut to levels
        raise ValueError(f"{name} is {value.dtype}, expected {dtype}")
    return value
