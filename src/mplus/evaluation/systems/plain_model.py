"""The plain model that text systems share: the untouched base, or one with an adapter. Knows prompts, not which text is in them.

Legend: B prompts, T tokens of the longest.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.nn import functional

from mplus.errors import InputError
from mplus.evaluation.systems.clock import TokenClock
from mplus.evaluation.systems.protocol import GREEDY, MemoryModel, Response, as_chat
from mplus.evaluation.systems.shared_context import GROUP_QUESTIONS, SharedContext
from mplus.text.chat_template import templated
from mplus.text.literal import literal_ids
from mplus.text.prompts import encode, tokens_in_front

SPARE_TOKENS = 8
"""Left free behind the longest prompt: joining text and question may cost a token or two more than both apart."""


@dataclass
class _Answered:
    """Answers that were given behind a text, by message; and its context while more may be asked."""

    answers: dict[str, list[int]] = field(default_factory=dict)
    seen_tokens: int = 0
    seconds: float = 0.0
    context: SharedContext | None = None


@dataclass(frozen=True)
class PlainModel:
    """A model of transformers with its tokenizer.

    Args:
        model: whose base it is.
        hf_model: e.g. the base fine-tuned on such questions; None: the untouched base.
    """

    model: MemoryModel
    hf_model: Any = None
    _last: dict[tuple[object, ...], _Answered] = field(default_factory=dict, repr=False, compare=False)

    @contextmanager
    def on(self) -> Iterator[Any]:
        """The model, adapters of the measured one off."""
        if self.hf_model is not None:
            yield self.hf_model
            return
        with self.model.untouched() as hf_model:
            yield hf_model

    @property
    def config(self) -> Any:
        """Of its text part."""
        with self.on() as hf_model:
            return hf_model.config.get_text_config()

    @property
    def positions(self) -> int:
        """Tokens it can take in all."""
        return int(self.config.max_position_embeddings)

    @property
    def token_bytes(self) -> int:
        """Keys and values of one token in all layers."""
        config = self.config
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        return int(2 * config.num_hidden_layers * heads * width * torch.finfo(self.model.dtype).bits // 8)

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, as a memory would be given them."""
        return literal_ids(self.model.tokenizer, text)

    def text_of(self, ids: Sequence[int]) -> str:
        """The text of token ids."""
        return str(self.model.tokenizer.decode(ids))

    def prompt(self, message: str) -> list[int]:
        """Token ids of a message in the chat template."""
        tokenizer = self.model.tokenizer
        return encode(tokenizer, templated(tokenizer, as_chat(message)), templated=True, behind_memory=False)

    @property
    def in_front(self) -> list[int]:
        """What the tokenizer puts before plain text: BOS, or nothing."""
        return tokens_in_front(self.model.tokenizer)

    def room(self, message: str, new_tokens: int) -> int:
        """Tokens of text that fit before a message and an answer."""
        return self.positions - len(self.prompt(f"\n\n{message}")) - new_tokens - SPARE_TOKENS

    def checked_room(self, message: str, new_tokens: int) -> int:
        """The same, at least one token.

        Raises:
            InputError: there is none.
        """
        room = self.room(message, new_tokens)
        if room < 1:
            raise InputError(
                f"a question does not fit the model's {self.positions} positions with {new_tokens} new tokens; shorten it"
            )
        return room

    def answer_behind(
        self,
        text: str,
        messages: Sequence[str],
        new_tokens: int,
        clock: TokenClock | None = None,
        *,
        together: Sequence[str] | None = None,
        said_tokens: int | None = None,
    ) -> list[Response]:
        """Greedy answers to messages that all stand behind the same text, which is computed once.

        The last answers are kept: as long as a whole text fits, its end is all of it, and two systems ask the same.

        Args:
            together: all messages that will be asked behind this text, in several calls; None: these alone.
            said_tokens: of each answer so many tokens count; None: all.
        """
        asked = (text, tuple(together or messages), new_tokens)
        kept = self._last.get(asked, _Answered()) if clock is None else _Answered()
        spared = all(message in kept.answers for message in messages)
        if not spared:
            self._last.clear()  # the context before is not needed any more
            self._last[asked] = kept
            started = time.perf_counter()
            with self.on() as hf_model:
                context = kept.context or SharedContext(hf_model, self.model.tokenizer, text, asked[1], max_new_tokens=new_tokens)
                ids = []
                for start in range(0, len(messages), GROUP_QUESTIONS):
                    ids += context.answer(hf_model, messages[start : start + GROUP_QUESTIONS], clock)
            kept.answers |= dict(zip(messages, ids, strict=True))
            kept.seen_tokens, kept.seconds = context.seen_tokens, (time.perf_counter() - started) / max(len(messages), 1)
            kept.context = context if together else None
        spared_s = kept.seconds if spared else 0.0
        said = [self._said(kept.answers[message][:said_tokens]) for message in messages]
        return [Response(one, seen_tokens=kept.seen_tokens, spared_s=spared_s) for one in said]

    def answer_each(
        self, texts: Sequence[str], messages: Sequence[str], new_tokens: int, clock: TokenClock | None = None
    ) -> list[Response]:
        """Greedy answers to messages, each behind a text of its own."""
        rows = [self.prompt(f"{text}\n\n{message}" if text else message) for text, message in zip(texts, messages, strict=True)]
        width, tokenizer = max(map(len, rows)), self.model.tokenizer
        pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id or 0
        with self.on() as hf_model, torch.inference_mode():
            ids = torch.tensor([[pad] * (width - len(row)) + row for row in rows], device=hf_model.device)
            mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=hf_model.device)
            out = hf_model.generate(
                ids,
                attention_mask=mask,
                max_new_tokens=new_tokens,
                min_new_tokens=None if clock is None else new_tokens,
                **GREEDY,
                pad_token_id=pad,
                streamer=clock,
            )
        return [
            Response(self._said(ids), seen_tokens=len(self.encode(text))) for ids, text in zip(out[:, width:], texts, strict=True)
        ]

    def likelihood(self, before: Sequence[Sequence[int]], continuations: Sequence[Sequence[int]]) -> list[Response]:
        """Likelihood of continuations, each behind plain text of its own (at least one token); one after the other."""
        found, front = [], self.in_front
        with self.on() as hf_model, torch.inference_mode():
            for context, continuation in zip(before, continuations, strict=True):
                ids = torch.tensor([[*front, *context, *continuation]], device=hf_model.device)
                keep = len(continuation) + 1
                logits = hf_model(input_ids=ids, use_cache=False, logits_to_keep=keep).logits[0, -keep:-1]
                nats = functional.cross_entropy(logits.float(), ids[0, -len(continuation) :], reduction="sum")
                found.append(Response(nats=float(nats), tokens=len(continuation), seen_tokens=len(context)))
        return found

    def _said(self, ids: Any) -> str:
        return str(self.model.tokenizer.decode(ids, skip_special_tokens=True)).strip()
