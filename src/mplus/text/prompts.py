"""A batch of prompts as left-padded token ids. Knows tokenizers, nothing of memory but that it has a BOS of its own.

Legend: B prompts, T tokens of the longest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mplus.errors import EmptyTextError, InputError
from mplus.runtime.unicode import well_formed
from mplus.text.chat_template import rendered

SEPARATOR = "\n\n"
"""Stands between the texts of two sources, and between text that waits to be written and a prompt of text, so that "... is 12" and
"34 people ..." are not read as "1234"."""


@dataclass(frozen=True)
class Prompts:
    """Left-padded ids [B, T] and a mask [B, T] that is False at padding."""

    ids: Tensor
    mask: Tensor

    def __len__(self) -> int:
        return self.ids.shape[0]

    @classmethod
    def from_rows(cls, rows: Sequence[Sequence[int]], pad_id: int, device: torch.device) -> Prompts:
        """Pad rows of ids on the left."""
        width = max(map(len, rows))
        ids = torch.tensor([[pad_id] * (width - len(row)) + list(row) for row in rows], device=device)
        mask = torch.tensor([[False] * (width - len(row)) + [True] * len(row) for row in rows], device=device)
        return cls(ids, mask)

    @classmethod
    def from_ids(
        cls, ids: Tensor, mask: Any, device: torch.device, vocabulary: int, *, pad_id: int = 0, tokenizer: Any = None
    ) -> Prompts:
        """Check ids [B, T], each below `vocabulary`, and an attention mask of the same shape.

        Args:
            pad_id: takes the place of padding that `vocabulary` lacks: it is never read, but it is looked up.
        """
        if not ids.numel():
            raise EmptyTextError(f"nothing to answer: token ids have shape {list(ids.shape)}; give at least one token per prompt")
        if ids.dim() != 2:
            raise InputError(f"token ids have shape {list(ids.shape)}, expected [tokens] or [prompts, tokens]")
        known = torch.ones_like(ids, dtype=torch.bool) if mask is None else _table(mask, "attention_mask").bool()
        known = known.view(1, -1) if known.dim() == 1 else known
        if known.shape != ids.shape:
            raise InputError(
                f"attention_mask has shape {list(known.shape)}, the prompts {list(ids.shape)}; give one entry per token"
            )
        if not bool(known[:, -1].all()):
            raise InputError("prompts must be padded on the left: the last token of each must be text; set padding_side='left'")
        check_ids(ids[known], vocabulary, tokenizer)
        return cls(ids.masked_fill(~known & ((ids < 0) | (ids >= vocabulary)), pad_id).to(device), known.to(device))

    def rows(self) -> list[list[int]]:
        """Token ids of each prompt without padding."""
        return [ids[mask].tolist() for ids, mask in zip(self.ids, self.mask, strict=True)]

    def behind_memory(self, tokenizer: Any, bos: int | None) -> Prompts:
        """The same columns, a BOS at the beginning of a prompt masked as padding is: memory's own stands in front."""
        if bos is None or not bool((self.ids == bos).any()):
            return self
        doubles = bos_opens_turns(tokenizer)
        mask = self.mask.clone()
        for row, ids in enumerate(self.rows()):
            columns = mask[row].nonzero()[:, 0]
            mask[row, columns[: leading_bos(ids, bos, doubles)]] = False
        return Prompts(self.ids, mask)

    def after(self, earlier: Sequence[Sequence[int]], pad_id: int) -> Prompts:
        """The prompts with plain text of their own before each (no change where there is none)."""
        if not any(earlier):
            return self
        rows = [[*part, *row] for part, row in zip(earlier, self.rows(), strict=True)]
        wide = self.ids.shape[1] + max(map(len, earlier))
        padded = Prompts.from_rows([*rows, [0] * wide], pad_id, self.ids.device)
        return Prompts(padded.ids[:-1], padded.mask[:-1])

    def repeated(self, times: int) -> Prompts:
        """One prompt, several times."""
        return Prompts(self.ids.expand(times, -1), self.mask.expand(times, -1))


# -- what is given as a prompt -----------------------------------------------------------------------------------------


def texts_of(prompt: Any) -> list[str] | None:
    """The texts of a prompt that is text; None: it is something else."""
    if isinstance(prompt, str):
        return [prompt]
    if isinstance(prompt, np.ndarray) and prompt.dtype.kind == "U":
        prompt = prompt.tolist()
    if isinstance(prompt, (list, tuple)) and prompt and all(isinstance(part, str) for part in prompt):
        return list(prompt)
    return None


def ids_of(prompt: Any, mask: Any = None) -> tuple[Tensor, Any]:
    """Token ids [B, T] of a prompt that is no text, and its attention mask if it has one.

    Args:
        prompt: ids [T] or [B, T] as list, numpy array or tensor; or what a tokenizer gives, a mapping with ``input_ids``.

    Raises:
        InputError.
    """
    if isinstance(prompt, Mapping):
        if "input_ids" not in prompt:
            raise InputError(
                f"a prompt that is a mapping needs 'input_ids', as tokenizers give it; it has {sorted(map(str, prompt))}"
            )
        return ids_of(prompt["input_ids"], prompt.get("attention_mask") if mask is None else mask)
    ids = _table(prompt, "a prompt")
    return (ids.view(1, -1) if ids.dim() == 1 else ids), mask


def _table(value: Any, what: str) -> Tensor:
    """Whole numbers in rows of one length."""
    form = "expected text, texts, or token ids of one length" if what == "a prompt" else "expected rows of 0 and 1"
    if isinstance(value, (list, tuple)) and value and all(isinstance(row, Tensor) and row.dim() == 1 for row in value):
        value = [row.tolist() for row in value]
    try:
        if not isinstance(value, (list, tuple, np.ndarray, Tensor)):
            raise TypeError
        table = (
            value if isinstance(value, Tensor) else torch.as_tensor(value, device="cpu")
        )  # wherever tensors are made by default
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise InputError(f"{what} cannot be {type(value).__name__} {_shown(value)}; {form}") from None
    if not table.dim():
        raise InputError(f"{what} cannot be a single number; {form}")
    wrong = table.is_floating_point() or table.is_complex() or (table.dtype is torch.bool and what == "a prompt")
    if wrong and table.numel() and what == "a prompt":
        raise InputError(f"token ids must be whole numbers, got {table.dtype}; tokenise the prompt first")
    return table.long()


def _shown(value: Any) -> str:
    return well_formed(f"{value!r:.80}")


def check_ids(ids: Tensor | Iterable[int], vocabulary: int, tokenizer: Any = None) -> None:
    """Refuse token ids that the embedding table of a model lacks.

    Raises:
        InputError: names the token.
    """
    table = ids if isinstance(ids, Tensor) else torch.tensor(list(ids), dtype=torch.long, device="cpu")
    beyond = table[(table < 0) | (table >= vocabulary)]
    if not beyond.numel():
        return
    wrong = int(beyond.flatten()[0])
    name = tokenizer.convert_ids_to_tokens(wrong) if tokenizer is not None and 0 <= wrong < len(tokenizer) else None
    token = f"the token {well_formed(name)!r} (id {wrong})" if isinstance(name, str) else f"token id {wrong}"
    raise InputError(
        f"{token} is not in this model's embedding table, whose ids lie in 0..{vocabulary - 1}; "
        "leave it out, use this model's tokenizer, or resize the table of the base and open it again"
    )


# -- BOS ---------------------------------------------------------------------------------------------------------------


def plain_ids(tokenizer: Any, text: str) -> list[int]:
    """Token ids of a text, no special tokens added."""
    return list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def encode(tokenizer: Any, text: str, *, templated: bool = False, behind_memory: bool = True) -> list[int]:
    """Token ids of a prompt. Special tokens spelled out in it are taken as such, as transformers does.

    Args:
        templated: the text is what a chat template made: it has all special tokens it needs.
        behind_memory: memory stands in front, with a BOS of its own: none is added, one that begins the text is left out. False: as
            transformers tokenises text.
    """
    special = not (templated or behind_memory)
    ids = list(tokenizer(well_formed(text), add_special_tokens=special, verbose=False)["input_ids"])
    return without_bos(tokenizer, ids) if behind_memory else ids


def without_bos(tokenizer: Any, ids: Sequence[int], bos: int | None = None) -> list[int]:
    """Token ids for a pass behind memory's own BOS: one that begins them is left out.

    Args:
        bos: default: the tokenizer's.
    """
    bos = getattr(tokenizer, "bos_token_id", None) if bos is None else bos
    if bos is None or not len(ids) or ids[0] != bos:
        return list(ids)
    return list(ids[leading_bos(ids, bos, bos_opens_turns(tokenizer)) :])


def leading_bos(ids: Sequence[int], bos: int, opens_turns: bool) -> int:
    """Count the tokens at the beginning that are BOS; never all there are.

    Args:
        opens_turns: the token also opens each turn of a conversation; the last of several is then such a mark.
    """
    run = next((place for place, token in enumerate(ids) if token != bos), len(ids))
    return max(0, min(run - opens_turns, len(ids) - 1))


def bos_opens_turns(tokenizer: Any) -> bool:
    """Tell whether the BOS token also opens the turns of the chat template (SmolLM2's is ``<|im_start|>``)."""
    bos = getattr(tokenizer, "bos_token", None)
    if not bos or not getattr(tokenizer, "chat_template", None):
        return False
    turn = [{"role": "user", "content": "?"}]
    question, statement = (rendered(tokenizer, turn, prompt=prompt) for prompt in (True, False))
    return question is not None and statement is not None and question.count(bos) > statement.count(bos)


def tokens_in_front(tokenizer: Any) -> list[int]:
    """Token ids that a tokenizer puts before a text of its own accord: BOS, or nothing."""
    plain = plain_ids(tokenizer, "a")
    full = tokenizer("a", verbose=False)["input_ids"]
    return list(full[: next(at for at in range(len(full)) if full[at : at + len(plain)] == plain)])


# -- text that waits to be written -------------------------------------------------------------------------------------


def separator(tokenizer: Any, before: Sequence[int], prompt: Sequence[int]) -> list[int]:
    """Token ids between waiting text and a prompt of text, both token ids, so that they do not become one word.

    Nothing where the prompt begins with white space or a control token, or the text ends a line.
    """
    if not before or prompt[0] in tokenizer.all_special_ids:
        return []
    begins, ends = (str(tokenizer.decode(list(part))) for part in (prompt[:4], before[-4:]))
    if begins[:1].isspace() or ends[-1:] == "\n":
        return []
    return plain_ids(tokenizer, SEPARATOR)
