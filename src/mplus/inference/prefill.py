"""Prompts on their way through the model, a piece at a time, so that other work can run between pieces. Chooses no token.

The memories are searched and their rows are placed at the beginning; their turns are held for that long only, so they may be written to
while the pieces pass. Hooks, adapter and attention are on while a piece passes. Where each layer searches for itself, the prompts are one
piece. Several prompts share each pass: the weights of a model are read once for all of them.

Legend: B prompts, T tokens of the longest prompt, P prefix slots of the longest row, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

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
    """Prompts that pass together, each behind a memory of its own, or all behind nothing but the bare base.

    Args:
        rows: token ids of each prompt.
        memories: one per prompt (the same may stand for several); None: the bare base.
        queries: token ids that search for each prompt; None: tokens of the prompts do, see ``Query.of``.
        rounds: searches, see ``Query.of``.
        new_tokens: that will follow at most; they must fit the model's positions.
        traced: numbers of the prompts for which what they read is kept.
        judged: numbers of those for which it is kept how well that covers them.

    Attributes:
        tokens: of each prompt, text that waits in its memory included.
        memory_tokens: read tokens of each memory, its BOS not counted.
        traces: by number of the prompt; empty before the prompts have passed where each layer searches for itself.
        judgements: by number of the prompt, as the traces.
        logits: [B, V], behind the last token of each; None before the prompts have passed.

    Raises:
        PromptTooLongError, InputError, CapacityError: see ``MPlusModel.generate``.
    """

    def __init__(
        self,
        reader: Reader,
        rows: Sequence[list[int]],
        memories: Sequence[Memory] | None,
        *,
        queries: Sequence[Sequence[int]] | None = None,
        rounds: int = 1,
        new_tokens: int,
        traced: Sequence[int] = (),
        judged: Sequence[int] = (),
    ) -> None:
        self.reader, self.parts = reader, reader.parts
        self.traces: dict[int, Trace] = {}
        self.judgements: dict[int, Judgement] = {}
        self.logits: Tensor | None = None
        self.passed = 0
        prompts = Prompts.from_rows(rows, reader.pad_id, reader.writer.device)
        held = None if memories is None else list(memories)
        with reader.request(prompts, held, query=queries, rounds=rounds, separate=True) as request:
            request.check_positions(new_tokens, self.parts.decoder)
            self.request, self.columns = request, request.tokens
            self.tokens: list[int] = request.prompts.mask.sum(1).tolist()
            self.reading = None if held is None else self._read(request)
            lengths = [0] * len(rows) if self.reading is None else self.reading.lengths
            self.prefix_pass = (
                PrefixPass(self.parts.decoder, lengths, request.prompts.mask)
                if self.reading is None
                else self.reading.prefix_pass
            )
            self.memory_tokens = [max(0, length - 1) for length in lengths]
            if self.reading is not None and not self.reading.shared:
                self._pass(self.columns)
            if self.reading is not None and held is not None:
                retrieved = self.reading.retrieved()
                self.traces = {number: trace_of(held[number], retrieved[number].layers) for number in traced}
                known = judgements_of(self.reading, reader.checkpoint.calibration, request.tokenizer) if judged else []
                self.judgements = {number: known[number] for number in judged}

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def is_done(self) -> bool:
        """Tell whether the whole prompts have passed."""
        return self.logits is not None

    @property
    def left(self) -> int:
        """Columns of the prompts that have not passed yet."""
        return self.columns - self.passed

    @property
    def adapter(self) -> str | None:
        """The adapter of these prompts and of the tokens that follow."""
        return None if self.reading is None else self.reading.adapter

    @property
    def cache(self) -> PrefixCache:
        """Keys and values of memories and of what has passed."""
        return self.prefix_pass.cache

    @property
    def seen(self) -> Tensor:
        """[B, P + T] False at slots that nobody sees."""
        return self.prefix_pass.mask.bool()

    def advance(self, columns: int) -> int:
        """Pass the next piece of at most so many columns; gives how many passed."""
        with self.reader.writer.turn.held():
            sweep(self.parts)
            return self._pass(columns)

    def release(self) -> None:
        """Leave the buffers to a later read; the cache must not be used any more."""
        if self.reading is not None:
            self.reading.release()

    def _read(self, request: Request) -> Reading:
        with self.reader.for_reading(request, request.tokens):
            reading = self.reader.reading(request, room=request.tokens)
            reading.place()
            return reading

    def _pass(self, columns: int) -> int:
        first, stop = self.passed, min(self.columns, self.passed + max(columns, SMALLEST_PIECE))
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
            if stop < self.columns:
                decoder.body(**arguments)
            else:
                model = decoder.model
                self.logits = model(**arguments, logits_to_keep=1).logits[:, -1]
        self.passed = stop
        return stop - first


def passages_of(
    reader: Reader, row: list[int], memory: Memory, *, query: Sequence[Sequence[int]] | None = None, rounds: int = 1
) -> Trace:
    """Trace what a prompt would read of a memory; nothing is decoded, and no layer runs for it but those that the search needs.

    Args:
        query: token ids that search, one list of them; None: tokens of the prompt do.
        rounds: searches, see ``Query.of``.
    """
    prompts = Prompts.from_rows([row], reader.pad_id, reader.writer.device)
    if not reader.checkpoint.geometry.read.is_shared:
        return Prefill(reader, [row], [memory], queries=query, rounds=rounds, new_tokens=0, traced=[0]).traces[0]
    with reader.request(prompts, memory, query=query, rounds=rounds, separate=True) as request:
        request.check_positions(0, reader.parts.decoder)
        with reader.for_reading(request, request.tokens):
            return trace_of(memory, reader.reading(request, room=request.tokens).retrieved()[0].layers)
