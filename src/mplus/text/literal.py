"""Token ids of text as it is spelled: a control token that a document quotes is characters, never the token. Knows no memory."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Sequence
from typing import Any

Offsets = list[tuple[int, int]]
"""First and last character, the latter excluded, of each token."""

_copies: weakref.WeakKeyDictionary[Any, tuple[int, Any]] = weakref.WeakKeyDictionary()
"""Per tokenizer a copy that splits special tokens, with the size of the vocabulary it was made from. The switch lies on the tokenizer
itself, which other threads use for prompts at the same time."""


def literal_ids(tokenizer: Any, text: str) -> list[int]:
    """Token ids of a text, none of them a control token.

    Args:
        tokenizer: of transformers.
    """
    return encoded(tokenizer, text)[0]


def encoded(tokenizer: Any, text: str, *, special_tokens: bool = False) -> tuple[list[int], Offsets | None]:
    """Token ids of a text, nothing added, and where they stand in it.

    Args:
        special_tokens: take a special token that the text spells out (``<|im_end|>``) as that token; else it is characters as others are.

    Returns:
        ids, and their offsets where the tokenizer gives some.
    """
    ids, offsets = _encoded(tokenizer, text)
    if special_tokens:
        return ids, offsets
    return _without_control(tokenizer, control_ids(tokenizer), text, ids, offsets)


def encoded_together(tokenizer: Any, texts: Sequence[str]) -> list[tuple[list[int], Offsets]]:
    """What ``encoded`` gives for each of several texts, tokenised in parallel by a fast tokenizer."""
    found = tokenizer(list(texts), add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    control, out = control_ids(tokenizer), []
    for text, ids, offsets in zip(texts, found["input_ids"], found["offset_mapping"], strict=True):
        ids, places = _without_control(tokenizer, control, text, ids, offsets)
        out.append((ids, places or []))
    return out


def _without_control(
    tokenizer: Any, control: set[int], text: str, ids: list[int], offsets: Offsets | None
) -> tuple[list[int], Offsets | None]:
    """The tokens of a text, tokenised once more where some of them are control tokens."""
    if control.isdisjoint(ids):
        return ids, offsets
    splitting = _splitting(tokenizer)
    ids, offsets = _encoded(splitting, text)
    return (ids, offsets) if control.isdisjoint(ids) else _spelled(splitting, control, ids, offsets)


def control_ids(tokenizer: Any) -> set[int]:
    """Ids of all special tokens but the one for unknown characters, which text may have of its own."""
    added = getattr(tokenizer, "added_tokens_decoder", {})
    special = {int(number) for number, token in added.items() if token.special}
    return (special | set(getattr(tokenizer, "all_special_ids", ()))) - {getattr(tokenizer, "unk_token_id", None)}


def _encoded(tokenizer: Any, text: str) -> tuple[list[int], Offsets | None]:
    if not getattr(tokenizer, "is_fast", False):
        return list(tokenizer(text, add_special_tokens=False)["input_ids"]), None
    found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    return list(found["input_ids"]), list(found["offset_mapping"])


def _splitting(tokenizer: Any) -> Any:
    """A copy of a tokenizer that splits special tokens, made anew when tokens were added."""
    size, made = _copies.get(tokenizer, (-1, None))
    if size != len(tokenizer):
        made = copy.deepcopy(tokenizer)
        made.split_special_tokens = True
        _copies[tokenizer] = (len(tokenizer), made)
    return made


def _spelled(splitting: Any, control: set[int], ids: list[int], offsets: Offsets | None) -> tuple[list[int], Offsets | None]:
    """Write out the control tokens that are left, character by character: some vocabularies have them as ordinary pieces too."""
    out: list[int] = []
    places: Offsets = []
    for number, token in enumerate(ids):
        first, last = (0, 0) if offsets is None else offsets[number]
        if token not in control:
            out.append(token)
            places.append((first, last))
            continue
        for at, character in enumerate(str(splitting.convert_ids_to_tokens(token))):
            part = [one for one in _encoded(splitting, character)[0] if one not in control]
            out += part
            places += [(min(first + at, last), min(first + at + 1, last))] * len(part)
    return out, None if offsets is None else places
