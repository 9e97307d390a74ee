"""The trace of one read, made of the memory tokens that stood before a prompt. Knows memories and retrieval results, no model.

Legend: n tokens of a layer, L layers, P slots, p passages.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from mplus.memory.memory import Memory
from mplus.retrieval.result import RetrievalResult
from mplus.trace.prefix_tokens import PrefixTokens, prefix_tokens
from mplus.trace.spans import Spans, TokenSpan, ids_of
from mplus.trace.trace import Passage, Trace, ranked

LONGEST: Final = 64
"""Text tokens of a passage: a window with its neighbours. Else a short text that is all in short-term memory would be one passage."""
NO_IDS: Final = (
    "some passages have no text, for the token ids were not kept (an older version wrote them, or they came with the model)"
)


def trace_of(memory: Memory, results: Sequence[RetrievalResult], *, attention_LP: Tensor | None = None) -> Trace:
    """Trace a read of a memory that has not changed since.

    Args:
        results: what the prompt retrieved (``Retrieved.layers``).
        attention_LP: mean attention on the slots before the prompt (``AttentionMass.mean``), the last of them right before it.
    """
    with torch.device("cpu"):  # whatever the caller's default is
        layers = prefix_tokens(memory, results)
        passages = _Measured(layers, _runs(memory, layers), attention_LP).passages(memory.encoder.decode)
    per_layer = len(results) > 1
    bos = None if attention_LP is None else float(_slots(attention_LP, layers[0], 0)[:, 0].mean())
    passages.sort(key=lambda one: one.to_prompt)
    notes = []
    if any(one.text is None for one in passages):
        notes.append(NO_IDS)
    if memory.pending_tokens:
        notes.append(f"{memory.pending_tokens} tokens that wait for more text stood before the prompt as plain text")
    if any(result.rounds > 1 for result in results):
        notes.append("memory was searched again with what the first search found; scores are those of the first")
    return Trace(passages=ranked(passages, "score"), bos_attention=bos, per_layer=per_layer, note="; ".join(notes))


@dataclass(frozen=True)
class _Run:
    """Neighbouring tokens of one source, all retrieved or none."""

    retrieved: bool
    spans: list[TokenSpan]

    def goes_on_with(self, retrieved: bool, span: TokenSpan) -> bool:
        """Tell whether a token that begins no earlier than the last one belongs to the run."""
        first, last = self.spans[0], self.spans[-1]
        if retrieved != self.retrieved or span.source != first.source or span.start > last.stop:
            return False
        return span.stop - first.start <= LONGEST or span.start == first.start


@dataclass(frozen=True)
class _Runs:
    """All runs of a read.

    Attributes:
        keys: [u] ascending: twice a position, and one more where it was retrieved.
        run: [u] number of the run.
    """

    runs: list[_Run]
    keys: Tensor
    run: Tensor

    def of(self, layer: PrefixTokens) -> Tensor:
        """[n] numbers of the runs of a layer's tokens."""
        return self.run[torch.searchsorted(self.keys, _keys(layer))]


def _keys(layer: PrefixTokens) -> Tensor:
    return 2 * layer.positions + layer.retrieved.long()


def _runs(memory: Memory, layers: Sequence[PrefixTokens]) -> _Runs:
    """Put the tokens of all layers into runs of at most ``LONGEST`` text tokens (a memory token that stands for more is one alone).

    Of one source, what begins where another ends is its neighbour.
    """
    keys = torch.cat([_keys(layer) for layer in layers]).unique()
    spans = Spans(memory)
    found = [(bool(key % 2), spans.of(key // 2)) for key in keys.tolist()]
    order = sorted(
        range(len(found)),
        key=lambda at: (found[at][0], found[at][1].source or "", found[at][1].source is None, found[at][1].start),
    )
    runs: list[_Run] = []
    number = torch.zeros(len(found), dtype=torch.int64)
    for at in order:
        retrieved, span = found[at]
        if runs and runs[-1].goes_on_with(retrieved, span):
            runs[-1].spans.append(span)
        else:
            runs.append(_Run(retrieved, [span]))
        number[at] = len(runs) - 1
    return _Runs(runs, keys, number)


class _Measured:
    """Numbers of the runs, over layers."""

    def __init__(self, layers: Sequence[PrefixTokens], runs: _Runs, attention_LP: Tensor | None) -> None:
        self.runs, count, each = runs.runs, len(runs.runs), len(layers)
        self.read = torch.zeros(count)  # tokens, once in each layer
        self.score, self.scored = torch.zeros(count), torch.zeros(count, dtype=torch.bool)
        self.to_prompt = torch.full((count,), 2**62, dtype=torch.int64)
        self.attention = None if attention_LP is None else torch.zeros(count)
        self.tokens = torch.bincount(runs.run, minlength=count)
        long_term = torch.zeros(runs.keys.shape[0], dtype=torch.bool)
        for number, layer in enumerate(layers):
            run, total = runs.of(layer), layer.positions.shape[0]
            own = torch.searchsorted(runs.keys, _keys(layer))
            long_term[own[layer.long_term]] = True
            self.read += torch.bincount(runs.run[own.unique()], minlength=count) / each
            best = layer.scores(run, count)
            self.scored |= best.isfinite()
            self.score += best.where(best.isfinite(), torch.zeros(())) / each
            self.to_prompt.scatter_reduce_(0, run, total - 1 - torch.arange(total), "amin")
            if self.attention is not None and attention_LP is not None:
                own_LP = attention_LP if each == 1 else attention_LP[number : number + 1]
                self.attention.index_add_(0, run, _slots(own_LP, layer, 1).mean(0), alpha=1 / each)
        self.long_term = torch.bincount(runs.run[long_term], minlength=count)

    def passages(self, decode: Callable[[Sequence[int]], str]) -> list[Passage]:
        """The runs with their numbers."""
        return [self._passage(number, run, decode) for number, run in enumerate(self.runs)]

    def _passage(self, at: int, run: _Run, decode: Callable[[Sequence[int]], str]) -> Passage:
        tokens, ids = int(self.tokens[at]), ids_of(run.spans)
        return Passage(
            source=run.spans[0].source,
            start=run.spans[0].start,
            stop=max(span.stop for span in run.spans),
            text=None if ids is None else decode(ids),
            tokens=tokens,
            long_term=int(self.long_term[at]),
            retrieved=run.retrieved,
            to_prompt=int(self.to_prompt[at]),
            layers=float(self.read[at]) / tokens,
            score=float(self.score[at]) if self.scored[at] else None,
            attention=None if self.attention is None else float(self.attention[at]),
        )


def _slots(attention_LP: Tensor, layer: PrefixTokens, skip: int) -> Tensor:
    """Attention [L, 1 + n] on BOS and the tokens of a layer, or [L, n] without the first `skip`."""
    return attention_LP[:, attention_LP.shape[1] - layer.positions.shape[0] - 1 + skip :]
