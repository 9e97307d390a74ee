"""A safetensors file looked at without torch: its head, and whether its numbers are finite. Knows no memory.

The form: 8 bytes with the size of the head, the head (JSON: per tensor its dtype, shape, first byte and the one behind its last), then the
tensors without gaps.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

MOST_HEAD_BYTES = 100_000_000
"""As the safetensors library has it."""
SCANNED_AT_ONCE = 8 << 20
BYTES_OF = {
    "BOOL": 1,
    "U8": 1,
    "I8": 1,
    "F8_E4M3": 1,
    "F8_E5M2": 1,
    "U16": 2,
    "I16": 2,
    "F16": 2,
    "BF16": 2,
    "U32": 4,
    "I32": 4,
    "F32": 4,
    "U64": 8,
    "I64": 8,
    "F64": 8,
}
"""Bytes of a number."""
EXPONENTS = {
    "F64": ("<u8", 0x7FF0_0000_0000_0000),
    "F32": ("<u4", 0x7F80_0000),
    "F16": ("<u2", 0x7C00),
    "BF16": ("<u2", 0x7F80),
    "F8_E5M2": ("u1", 0x7C),
}
"""How a float's bytes are read as a whole number, and the bits of its exponent: all set, it is infinite or no number."""


class TensorFileError(ValueError):
    """A file is not of the form; the text is the reason and names no file."""


@dataclass(frozen=True)
class TensorEntry:
    """One tensor of a file.

    Attributes:
        start, stop: its bytes in the file.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


def tensors_in(path: Path) -> list[TensorEntry]:
    """All tensors of a file, in the order of their bytes.

    Raises:
        TensorFileError: it is no safetensors file, or its head does not fit its size.
        OSError: it cannot be read.
    """
    size_bytes = path.stat().st_size
    with path.open("rb") as file:
        head_bytes = int.from_bytes(file.read(8), "little")
        if size_bytes < 8 or head_bytes > min(size_bytes - 8, MOST_HEAD_BYTES):
            raise TensorFileError(f"its head would have {head_bytes:,} bytes, the file has {size_bytes:,}")
        try:
            head = json.loads(file.read(head_bytes))
            first = 8 + head_bytes
            entries = [_entry(name, value, first) for name, value in head.items() if name != "__metadata__"]
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise TensorFileError(f"its head is not of the form ({type(error).__name__}: {error})") from None
    entries.sort(key=lambda entry: (entry.start, entry.stop))
    at = first
    for entry in entries:
        if entry.start != at:
            raise TensorFileError(f"tensor {entry.name} begins at byte {entry.start:,}, expected {at:,}")
        at = entry.stop
    if at != size_bytes:
        raise TensorFileError(f"its tensors end at byte {at:,}, the file at {size_bytes:,}")
    return entries


def _entry(name: str, value: dict[str, Any], first: int) -> TensorEntry:
    shape, (start, stop), dtype = tuple(value["shape"]), value["data_offsets"], value["dtype"]
    if any(type(size) is not int or size < 0 for size in shape) or dtype not in BYTES_OF:
        raise ValueError(f"tensor {name} is {dtype} {list(shape)}")
    if type(start) is not int or stop - start != math.prod(shape) * BYTES_OF[dtype] or start < 0:
        raise ValueError(f"tensor {name} {dtype} {list(shape)} has bytes {start} to {stop}")
    return TensorEntry(name, dtype, shape, first + start, first + stop)


def not_finite(path: Path, entry: TensorEntry) -> int:
    """How many numbers of a tensor are infinite or no numbers (0 where its dtype has none)."""
    if entry.dtype not in (*EXPONENTS, "F8_E4M3"):
        return 0
    count = 0
    with path.open("rb") as file:
        file.seek(entry.start)
        left = entry.stop - entry.start
        while left and (block := file.read(min(left, SCANNED_AT_ONCE))):
            left -= len(block)
            count += _not_finite(block, entry.dtype)
    return count


def _not_finite(block: bytes, dtype: str) -> int:
    if dtype == "F8_E4M3":  # no infinity; one pattern, of either sign, is no number
        return int(np.count_nonzero((np.frombuffer(block, np.uint8) & 0x7F) == 0x7F))
    form, exponent = EXPONENTS[dtype]
    numbers = np.frombuffer(block, form)
    mask = numbers.dtype.type(exponent)
    return int(np.count_nonzero((numbers & mask) == mask))
