"""Search keys where the model computes. Changes no memory.

On an accelerator keys are copied once and kept there until the memory changes, if they fit; else each piece is copied for each
read, as the published code copies all of them. On the CPU there is nothing to do.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from mplus.index.pieces import recut
from mplus.memory.budget import free_bytes
from mplus.memory.long_term import LongTerm

PIECE_ROWS = 16_384
"""Keys scored at once, so that the table of prompt tokens and keys stays in the processor's cache."""

LARGEST_SHARE = 0.5
"""Of the free memory of a device that search keys may take."""


def keys_on(longterm: LongTerm, group: int, device: torch.device, *, block: int = 1) -> Iterator[Tensor]:
    """Search keys of all rows of a group as real numbers on a device, in pieces [m, F] of ``PIECE_ROWS``, rounded to whole blocks."""
    return recut(_parts_on(longterm, group, device), max(1, PIECE_ROWS // block) * block)


def _parts_on(longterm: LongTerm, group: int, device: torch.device) -> Iterator[Tensor]:
    """The same in pieces as they lie in their store."""
    if device.type == "cpu":
        yield from longterm.search_parts(group)
        return
    name = f"search keys of {group} on {device}"
    held = longterm.cache.get(name)
    if held is None and _fits(longterm, group, device):
        held = longterm.cache[name] = [part.to(device, non_blocking=True) for part in longterm.search_parts(group)]
    if isinstance(held, list):
        yield from held
        return
    for part in longterm.search_parts(group):
        yield part.to(device, non_blocking=True)


def _fits(longterm: LongTerm, group: int, device: torch.device) -> bool:
    numbers = torch.Size(longterm.layout.fields["search"]).numel() * longterm.tokens(group)
    free = free_bytes(device)
    groups_left = longterm.groups - group  # the others want their share as well
    return free is not None and numbers * longterm.layout.dtype.itemsize * groups_left <= LARGEST_SHARE * free
