"""Arguments of a memory's methods, checked before anything changes. Knows no tokenizer.

Legend: T tokens.
"""

from __future__ import annotations

import numbers
import os
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from mplus.errors import InputError
from mplus.runtime.unicode import well_formed

Text = str | Sequence[int] | Tensor
"""A text, or token ids [T]."""
EXPECTED = "a memory takes a text (str) or token ids (whole numbers [T])"


def checked_source(source: Any) -> str | None:
    """The name a text is remembered under: a str, or a path, which gives its text; '' is no name.

    Raises:
        InputError: anything else.
    """
    if isinstance(source, os.PathLike):
        source = os.fspath(source)
    if isinstance(source, str):
        return well_formed(str(source)) or None
    if source is None:
        return None
    raise InputError(f"source is {_named(source)}, expected a str, a path or None; give the name as text, e.g. source=str(name)")


def checked_text(text: Any) -> str | list[int]:
    """A well-formed text, or token ids as plain whole numbers; whether a model knows them is not looked at.

    Raises:
        InputError: what is given is neither.
    """
    if isinstance(text, str):
        return well_formed(text)
    if isinstance(text, os.PathLike):
        raise InputError(f"text is a path ({os.fspath(text)!r:.80}), {EXPECTED}; read it first, e.g. Path(...).read_text()")
    if isinstance(text, (bytes, bytearray, memoryview)):
        raise InputError(f"text is {_named(text)}, {EXPECTED}; decode it first, e.g. text.decode('utf-8')")
    if isinstance(text, Mapping) or hasattr(text, "input_ids"):
        raise InputError(f"text is {_named(text)}, {EXPECTED}; give one of its values, e.g. text['text'] or text['input_ids']")
    if hasattr(text, "read"):
        raise InputError(f"text is an open file ({_named(text)}), {EXPECTED}; give file.read()")
    if isinstance(text, Tensor) or hasattr(text, "__array__"):
        return _ids_of_table(text)
    if isinstance(text, Sequence):
        return _ids_of_list(text)
    raise InputError(f"text is {_named(text)}, {EXPECTED}")


def _ids_of_table(table: Any) -> list[int]:
    ids = table if isinstance(table, Tensor) else torch.as_tensor(table, device="cpu")
    if ids.dtype == torch.bool or ids.is_floating_point() or ids.is_complex():
        raise InputError(f"token ids are of type {ids.dtype}, {EXPECTED}; tokenise the text first")
    if ids.dim() == 2 and ids.shape[0] == 1:
        ids = ids[0]
    if ids.dim() != 1:
        raise InputError(
            f"token ids have shape {list(ids.shape)}, expected [T]; write one text at a time, or use model.write_many"
        )
    found: list[int] = ids.tolist()
    return found


def _ids_of_list(items: Sequence[Any]) -> list[int]:
    for item in items:
        if isinstance(item, str):
            raise InputError(
                f"text is a {type(items).__name__} of {len(items)} texts, {EXPECTED}; write each with its own source, one after the other"
            )
        if isinstance(item, bool) or not isinstance(item, numbers.Integral):
            raise InputError(f"token ids hold {item!r:.40} ({type(item).__name__}), {EXPECTED}; tokenise the text first")
    return [int(item) for item in items]


def _named(value: Any) -> str:
    shown = repr(value)
    return f"{type(value).__name__} {shown}" if len(shown) <= 40 else f"a {type(value).__name__}"


def runs(labelled: Sequence[tuple[str | None, int]]) -> list[tuple[str | None, list[int]]]:
    """Tokens with the names of their sources, joined as far as neighbours have the same name."""
    return [(name, [token for _, token in run]) for name, run in groupby(labelled, key=lambda pair: pair[0])]


def checked_seed(seed: Any) -> int:
    """The seed of a memory's random drops.

    Raises:
        InputError: it is no whole number of 64 bits.
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or not -(2**63) <= seed < 2**64:
        raise InputError(f"seed is {seed!r:.40}, expected a whole number of at most 64 bits")
    return seed
