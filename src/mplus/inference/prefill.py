"""A prompt on its way through the model, a piece at a time, so that other work can run between pieces. Chooses no token.

The memory is searched and its rows are placed at the beginning; its turn is held for that long only, so it may be written to while the
pieces pass. Hooks, adapter and attention are on while a piece passes. Where each layer searches for itself, the prompt is one piece.

Legend: T prompt tokens, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mplus.attach.attention import grouped_on_cpu
from mplus.attach.cache import PrefixCache, passed
from mplus.attach.hooks import Hooks
from mplus.attach.prefix_pass import PrefixPass
from mplus.attach.read_pass import Reading
from mplus.attach.sweep import sweep
from mplus.inference.confidence import Judgement, judgements_of
from mplus.inference.reader import Reader
from mplus.inference.request import Request
from mplus.memory.memory import Memory
from mplus.text.prompts import Prompts
from mplus.trace.passages import trace_of
from mplus.trace.trace import Trace

SMALLEST_PIECE = 2
"""Tokens of a piece at least: for a single one the attention has no mask in which earlier turns could be hidden."""


class Prefill:
    """One prompt behind a memory, or behind nothing but the bare base.

    Args:
        row: token ids of the prompt.
        query: see ``Query.of``.
        new_tokens: that will follow; they must fit the model's positions.
        trace: also keep what the prompt read.
        judged: also keep how well that covers the prompt.

    Attributes:
        tokens: of the prompt, text that waits in the memory included.
        memory_tokens: read tokens of the memory, its BOS not counted.
        trace: None unless asked for, or before the prompt has passed where each layer searches for itself.
        judgement: None unless asked for.
        logits: [V], behind the last token; None before the prompt has passed.

    Raises:
        PromptTooLongError, InputError, CapacityError: see ``MPlusModel.generate``.
    """

    def __init__(
        self,
        reader: Reader,
        row: list[int],
        memory: Memory | None,
        *,
        query: object = None,
        new_tokens: int,
        trace: bool = False,
        judged: bool = False,
    ) -> None:
        self.reader, self.parts = reader, reader.parts
        self.trace: Trace | None = None
        self.judgement: Judgement | None = None
        self.logits: Tensor | None = None
        self.passed = 0
        prompts = Prompts.from_rows([row], reader.pad_id, reader.writer.device)
        with reader.request(prompts, memory, query=query, separate=True) as request:
            request.check_positions(new_tokens, self.parts.decoder)
            self.request, self.tokens = request, request.tokens
            self.reading = self._read(request) if memory is not None else None
            self.prefix_pass = (
                PrefixPass(self.parts.decoder, [0], request.prompts.mask) if self.reading is None else self.reading.prefix_pass
            )
            self.memory_tokens = max(0, self.prefix_pass.prefix - 1)
            if self.reading is not None and not self.reading.shared:
                self._pass(self.tokens)
            if trace and self.reading is not None and memory is not None:
                self.trace = trace_of(memory, self.reading.retrieved()[0].layers)
            if judged and self.reading is not None:
                (self.judgement,) = judgements_of(self.reading, reader.checkpoint.calibration, request.tokenizer)

    @property
    def is_done(self) -> bool:
        """Whether the whole prompt has passed."""
        return self.logits is not None

    @property
    def left(self) -> int:
        """Tokens that have not passed yet."""
        return self.tokens - self.passed

    @property
    def adapter(self) -> str | None:
        """The adapter of this prompt and of the tokens that follow."""
        return None if self.reading is None else self.reading.adapter

    @property
    def cache(self) -> PrefixCache:
        """Keys and values of memory and of what has passed."""
        return self.prefix_pass.cache

    @property
    def seen(self) -> Tensor:
        """[P + T] False at slots that nobody sees."""
        return self.prefix_pass.mask[0].bool()

    def advance(self, tokens: int) -> int:
        """Pass the next piece of at most so many tokens; gives how many passed."""
        with self.reader.writer.turn.held():
            sweep(self.parts)
            return self._pass(tokens)

    def release(self) -> None:
        """Leave the buffers to a later read; the cache must not be used any more."""
        if self.reading is not None:
            self.reading.release()

    def _read(self, request: Request) -> Reading:
        with self.reader.for_reading(request, request.tokens):
            reading = self.reader.reading(request, room=request.tokens)
            reading.place()
            return reading

    def _pass(self, tokens: int) -> int:
        first, stop = self.passed, min(self.tokens, self.passed + max(tokens, SMALLEST_PIECE))
        pass_, decoder = self.prefix_pass, self.parts.decoder
        arguments = {
            **passed(pass_.cache),
            "input_ids": self.request.prompts.ids[:, first:stop],
            "attention_mask": pass_.mask[:, : pass_.prefix + stop],
            "position_ids": pass_.positions[:, first:stop],
            "use_cache": True,
        }
        with torch.no_grad(), grouped_on_cpu(decoder), self.parts.adapters.on(self.adapter), Hooks() as hooks:
            if self.reading is not None:
                self.reading.install(hooks)
            else:
                pass_.install(hooks, lambda layer, normed: None)
            if stop < self.tokens:
                decoder.body(**arguments)
            else:
                model = decoder.model
                self.logits = model(**arguments, logits_to_keep=1).logits[0, -1]
        self.passed = stop
        return stop - first


def passages_of(reader: Reader, row: list[int], memory: Memory, *, query: object = None) -> Trace:
    """What a prompt would read of a memory; nothing is decoded, and no layer runs for it but those that the search needs."""
    prompts = Prompts.from_rows([row], reader.pad_id, reader.writer.device)
    if not reader.checkpoint.geometry.read.is_shared:
        traced = Prefill(reader, row, memory, query=query, new_tokens=0, trace=True).trace
        assert traced is not None
        return traced
    with reader.request(prompts, memory, query=query, separate=True) as request:
        request.check_positions(0, reader.parts.decoder)
        with reader.for_reading(request, request.tokens):
            return trace_of(memory, reader.reading(request, room=request.tokens).retrieved()[0].layers)
