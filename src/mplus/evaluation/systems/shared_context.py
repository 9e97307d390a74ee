"""The plain baseline: the base model behind a context that questions share. Knows nothing of memory.

Legend: P window tokens, T question tokens of a group, Q questions of a group, S tokens seen after the window.

The window is prefilled once. All questions of a group then stand in one row behind it; the mask lets every
question see the window and itself and nothing else, so each is answered as if it stood there alone, and the
window's keys and values are read once for all of them instead of being copied for each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import torch
from torch import Tensor
from transformers import DynamicCache

from mplus.attach.cache import passed
from mplus.errors import InputError
from mplus.evaluation.systems.clock import TokenClock
from mplus.text.literal import literal_ids

_PREFILL_TOKENS: Final = 1024
GROUP_QUESTIONS: Final = 48
"""Questions computed together; changes speed only."""
_MARK: Final = "\u27e6text\u27e7"


class SharedContext:
    """The end of a text in the window of an untouched model, computed once for all questions behind it.

    Each prompt is one user message: as much of the end of the text as the model's positions allow, a blank line, the question.

    Args:
        hf_model: a stock causal language model of transformers.
        questions: all that will be asked, at least one; the longest leaves room for the text.
        max_new_tokens: longest answer.

    Raises:
        InputError: a question alone does not fit the model's positions.
    """

    def __init__(self, hf_model: Any, tokenizer: Any, text: str, questions: Sequence[str], *, max_new_tokens: int) -> None:
        head, tails = _prompts(tokenizer, questions)
        positions, longest = int(hf_model.config.get_text_config().max_position_embeddings), max(map(len, tails))
        room = positions - len(head) - longest - max_new_tokens
        if room < 1:
            raise InputError(f"a question of {longest} tokens does not fit the model's {positions} positions; shorten it")
        seen = literal_ids(tokenizer, text)[-room:]
        self.seen_tokens, self._tokens = len(seen), len(head) + len(seen)
        self._tokenizer, self._max_new_tokens = tokenizer, max_new_tokens
        self._tails = dict(zip(questions, tails, strict=True))
        with torch.inference_mode():
            self._cache = _prefilled(hf_model, head + seen)

    def answer(self, hf_model: Any, questions: Sequence[str], clock: TokenClock | None = None) -> list[list[int]]:
        """Token ids of greedy answers to some of the questions, computed together.

        Args:
            clock: is told when each token is there, and no answer ends before; for one question.
        """
        ends = _end_tokens(hf_model, self._tokenizer) if clock is None else set()
        tails = [self._tails[question] for question in questions]
        with torch.inference_mode():
            return _answer_group(hf_model, ends, self._cache, self._tokens, tails, self._max_new_tokens, clock)


def _prompts(tokenizer: Any, questions: Sequence[str]) -> tuple[list[int], list[list[int]]]:
    """The chat template's tokens before the text, and for every question those after it."""
    heads: set[str] = set()
    tails: list[list[int]] = []
    for question in questions:
        messages = [{"role": "user", "content": f"{_MARK}\n\n{question}"}]
        prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        head, tail = prompt.split(_MARK)
        heads.add(head)
        tails.append(tokenizer(tail, add_special_tokens=False)["input_ids"])
    assert len(heads) == 1, "the chat template's beginning depends on the question"
    return tokenizer(heads.pop(), add_special_tokens=False)["input_ids"], tails


def _prefilled(hf_model: Any, ids: list[int]) -> Any:
    cache = DynamicCache()
    for start in range(0, len(ids), _PREFILL_TOKENS):
        piece = torch.tensor([ids[start : start + _PREFILL_TOKENS]], device=hf_model.device)
        hf_model(input_ids=piece, use_cache=True, logits_to_keep=1, **passed(cache))
    return cache


def _answer_group(
    hf_model: Any, ends: set[int], cache: Any, window: int, tails: list[list[int]], max_new_tokens: int, clock: TokenClock | None
) -> list[list[int]]:
    """Greedy token ids for each question; the cache holds the window alone again afterwards."""
    device = hf_model.device
    lengths = torch.tensor([len(tail) for tail in tails], device=device)
    last_Q = lengths.cumsum(0) - 1
    ids_T = torch.tensor([token for tail in tails for token in tail], device=device)
    owner_S = torch.arange(len(tails), device=device).repeat_interleave(lengths)
    positions_T = torch.cat([torch.arange(window, window + len(tail), device=device) for tail in tails])
    answers: list[list[int]] = [[] for _ in tails]
    open_questions = set(range(len(tails)))
    for step in range(max_new_tokens):
        mask = _own_mask(owner_S, len(ids_T), window, hf_model.dtype)
        keep = last_Q if step == 0 else len(tails)
        output = hf_model(
            input_ids=ids_T[None],
            position_ids=positions_T[None],
            attention_mask=mask,
            use_cache=True,
            **passed(cache),
            logits_to_keep=keep,
        )
        ids_T = output.logits[0].argmax(-1)
        if clock is not None:
            clock.tick()
        for question in sorted(open_questions):
            token = int(ids_T[question])
            if token in ends:
                open_questions.discard(question)
            else:
                answers[question].append(token)
        if not open_questions:
            break
        positions_T = window + lengths + step
        owner_S = torch.cat([owner_S, torch.arange(len(tails), device=device)])
    cache.crop(window - cache.get_seq_length())  # negative: so many tokens fewer
    return answers


def _own_mask(owner_S: Tensor, new: int, window: int, dtype: torch.dtype) -> Tensor:
    """[1, 1, new, P + S] 0 where a token may look: the window, and its own question up to itself."""
    order = torch.arange(len(owner_S), device=owner_S.device)
    own = (owner_S[-new:, None] == owner_S) & (order[-new:, None] >= order)
    seen = torch.cat([own.new_ones(new, window), own], dim=1)
    return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill(~seen, torch.finfo(dtype).min)[None, None]


def _end_tokens(hf_model: Any, tokenizer: Any) -> set[int]:
    configured = getattr(hf_model.generation_config, "eos_token_id", None)
    listed = configured if isinstance(configured, list) else [configured]
    return {token for token in (*listed, tokenizer.eos_token_id) if token is not None}
