"""Cutting long text into chunks at paragraph or sentence ends. Knows a tokenizer, nothing of memory."""

from __future__ import annotations

import re
from typing import Any

PARAGRAPH = re.compile(r"\n\s*\n\s*$")
SENTENCE = re.compile(r"[.!?…。！？][\"'”’)\]]*\s+$")
LINE = re.compile(r"\n\s*$")
EARLIEST_SHARE = 0.5  # a chunk is at least half full before a boundary may end it


def cut(tokenizer: Any, text: str, size: int) -> list[list[int]]:
    """Token ids of `text` in chunks of at most `size` tokens.

    A chunk ends at the last paragraph end in its second half, else at the last sentence end, else at a line end, else anywhere.

    Returns:
        chunks that, joined, are exactly the tokens of `text`.
    """
    if not getattr(tokenizer, "is_fast", False):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        return [ids[start : start + size] for start in range(0, len(ids), size)]
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    ids, offsets = encoded["input_ids"], encoded["offset_mapping"]
    chunks, start = [], 0
    while start < len(ids):
        end = start + size
        if end < len(ids):
            end = _boundary(text, offsets, start + max(1, int(size * EARLIEST_SHARE)), end)
        chunks.append(ids[start:end])
        start = end
    return chunks


def _boundary(text: str, offsets: list[tuple[int, int]], earliest: int, latest: int) -> int:
    best: dict[int, int] = {}
    for end in range(latest, earliest - 1, -1):
        upto = offsets[end][0]  # white space belongs to the token that follows in most vocabularies
        before = text[max(0, upto - 8) : upto] + _leading_space(text, upto)
        for rank, pattern in enumerate((PARAGRAPH, SENTENCE, LINE)):
            if rank not in best and pattern.search(before):
                best[rank] = end
        if 0 in best:
            break
    return best[min(best)] if best else latest


def _leading_space(text: str, position: int) -> str:
    end = position
    while end < len(text) and end < position + 4 and text[end].isspace():
        end += 1
    return text[position:end]
