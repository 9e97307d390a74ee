"""A batch of prompts as left-padded token ids. Knows nothing of memory.

Legend: B prompts, T tokens of the longest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mplus.errors import EmptyTextError, InputError

TRANSFORMERS_DEFAULT_TOKENS = 20


@dataclass(frozen=True)
class Prompts:
    """Left-padded ids [B, T] and a mask [B, T] that is False at padding."""

    ids: Tensor
    mask: Tensor

    def __len__(self) -> int:
        return self.ids.shape[0]

    @classmethod
    def from_texts(cls, texts: list[str], tokenizer: Any, pad_id: int, device: torch.device) -> Prompts:
        """Tokenise without special tokens: the memory's BOS stands in front."""
        rows = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
        for text, row in zip(texts, rows, strict=True):
            if not row:
                raise EmptyTextError(f"nothing to answer: the prompt {text!r} is empty; ask something")
        return cls.from_rows(rows, pad_id, device)

    @classmethod
    def from_rows(cls, rows: list[list[int]], pad_id: int, device: torch.device) -> Prompts:
        """Pad rows of ids on the left."""
        width = max(map(len, rows))
        ids = torch.tensor([[pad_id] * (width - len(row)) + row for row in rows], device=device)
        mask = torch.tensor([[False] * (width - len(row)) + [True] * len(row) for row in rows], device=device)
        return cls(ids, mask)

    @classmethod
    def from_ids(cls, ids: Tensor, mask: Tensor | None, device: torch.device, vocabulary: int) -> Prompts:
        """Check ids [B, T], each below `vocabulary`, and an attention mask of the same shape."""
        if ids.dim() != 2 or not ids.numel():
            raise EmptyTextError(
                f"nothing to answer: token ids have shape {list(ids.shape)}; give [prompts, tokens] with at least one token"
            )
        if ids.is_floating_point():
            raise InputError(f"token ids must be whole numbers, got {ids.dtype}; tokenise the prompt first")
        if int(ids.min()) < 0 or int(ids.max()) >= vocabulary:
            raise InputError(
                f"token ids must lie in 0..{vocabulary - 1}, got {int(ids.min())}..{int(ids.max())}; use this model's tokenizer"
            )
        known = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask.bool()
        if known.shape != ids.shape:
            raise InputError(
                f"attention_mask has shape {list(known.shape)}, the prompts {list(ids.shape)}; give one entry per token"
            )
        if not bool(known[:, -1].all()):
            raise InputError("prompts must be padded on the left: the last token of each must be text; set padding_side='left'")
        return cls(ids.long().to(device), known.to(device))

    def after(self, earlier: list[list[int]]) -> Prompts:
        """The prompts with plain text of their own before each (no change where there is none)."""
        if not any(earlier):
            return self
        rows = [part + self.ids[row][self.mask[row]].tolist() for row, part in enumerate(earlier)]
        wide = self.ids.shape[1] + max(map(len, earlier))
        padded = Prompts.from_rows([*rows, [0] * wide], int(self.ids[0, 0]), self.ids.device)
        return Prompts(padded.ids[:-1], padded.mask[:-1])

    def repeated(self, times: int) -> Prompts:
        """One prompt, several times."""
        return Prompts(self.ids.expand(times, -1), self.mask.expand(times, -1))


def is_texts(prompt: Any) -> bool:
    """Whether a prompt is several texts."""
    return isinstance(prompt, (list, tuple)) and bool(prompt) and all(isinstance(part, str) for part in prompt)


def check_messages(conversation: Any) -> None:
    """Refuse what is no conversation.

    Raises:
        InputError, EmptyTextError.
    """
    if not isinstance(conversation, (list, tuple)) or not conversation:
        raise InputError("a conversation must be a non-empty list of messages like {'role': 'user', 'content': '...'}")
    for message in conversation:
        if not isinstance(message, dict) or not isinstance(message.get("content"), str) or "role" not in message:
            raise InputError(f"a message must look like {{'role': 'user', 'content': '...'}}, got {message!r}")
    if not conversation[-1]["content"].strip():
        raise EmptyTextError("nothing to answer: the last message is empty; ask something")


def tokens_to_make(kwargs: dict[str, Any], prompt_tokens: int) -> int:
    """How many tokens a call of ``generate`` makes at most, as transformers reads its arguments."""
    config = kwargs.get("generation_config")
    for source in (kwargs, {} if config is None else vars(config)):
        if source.get("max_new_tokens") is not None:
            return int(source["max_new_tokens"])
        if source.get("max_length") is not None:
            return int(source["max_length"]) - prompt_tokens
    return TRANSFORMERS_DEFAULT_TOKENS


class OwnPrompt:
    """A streamer that does not show the text standing before the prompt it passes on.

    Args:
        streamer: transformers' ``BaseStreamer`` or anything with ``put`` and ``end``.
        columns: token columns before the prompt.
    """

    def __init__(self, streamer: Any, columns: int) -> None:
        self.streamer = streamer
        self.columns = columns

    def put(self, value: Tensor) -> None:
        """The first call brings the prompts, every later one new tokens."""
        self.streamer.put(value[..., self.columns :])
        self.columns = 0

    def end(self) -> None:
        """Generation is over."""
        self.streamer.end()
