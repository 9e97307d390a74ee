"""How well what a prompt read covers its question: plain numbers, from which a confidence is made. Knows memories and retrieval results, no model.

A look-alike (another name, the same relation) matches most of a question and has the best raw score as often as the right passage, so no
score decides. What tells them apart is whether one short passage matches all of the question: each of its tokens as well as the token
matches itself, as well as anything else that was read, and word for word where the word is rare (decision 0044).

Legend: t tokens of the question, n tokens read, W windows of neighbours.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from mplus.memory.memory import Memory
from mplus.retrieval.result import RetrievalResult
from mplus.text.writing_systems import folded, has_unspaced
from mplus.trace.prefix_tokens import prefix_tokens
from mplus.trace.spans import Spans, TokenSpan, ids_of

EVIDENCE: Final = ("match", "words", "spread", "missing", "spread_at_answer", "missing_at_answer")
"""Kinds of evidence, by the names that a calibration has weights for.

match: mean over the question's tokens, by their weight in the search, of their best match in a passage of 64 tokens, as a share of their
    match with themselves, at most 1; of the passage where it is largest.
words: share of the question's words, by the same weights, that stand in the best passage of 64 tokens.
spread: the largest weighted difference, over the question's tokens, between the best match in all that was read and in the best 24 tokens.
missing: rarity in bits of the rarest word of the question that does not stand in the best 24 tokens.
spread_at_answer, missing_at_answer: the same, in the best 48 tokens that hold the answer instead.
"""
SENTENCE: Final = 24
PASSAGE: Final = 64
AROUND_ANSWER: Final = 48
_STEP: Final = 8
_COMMON_BITS: Final = 9.0
"""A token of a byte-pair vocabulary is the rarer the later it was merged; what is more frequent than this counts as no miss."""
_WORD: Final = re.compile(r"\w+")


@dataclass(frozen=True)
class Asked:
    """The searching tokens of one prompt.

    Attributes:
        ids: token ids, as many as search.
        own: those of them that the user wrote; the others are a chat template's.
    """

    ids: Sequence[int]
    own: slice


@dataclass(frozen=True)
class _Word:
    """A word of the question.

    Attributes:
        weight: share in the search.
        rarity: bits.
    """

    text: str
    weight: float
    rarity: float

    def stands_in(self, text: str, words: frozenset[str]) -> bool:
        return self.text in text if has_unspaced(self.text) else all(part in words for part in _WORD.findall(self.text))


class ReadEvidence:
    """What one read tells of its question; see ``EVIDENCE``. Complete when made: the memory may change afterwards."""

    def __init__(self, matches_tn: Tensor, own_t: Tensor, weights_t: Tensor, words: Sequence[_Word], runs: _Runs) -> None:
        self._weights, self._words = weights_t, words
        self._all = matches_tn.amax(1)
        self._answers = runs.windows(matches_tn, AROUND_ANSWER)
        passages, sentences = runs.windows(matches_tn, PASSAGE), runs.windows(matches_tn, SENTENCE)
        share = (passages.best_tW / own_t.clamp(min=1e-6)[:, None]).clamp(max=1.0)
        self._known = {
            "match": float((weights_t @ share).amax()),
            "words": self._covered(passages.text(self._best(passages.best_tW))),
        }
        at = self._best(sentences.best_tW)
        self._known["spread"] = self._spread(sentences.best_tW[:, at])
        self._known["missing"] = self._missing(sentences.text(at))

    def of_answer(self, answer: str) -> dict[str, float]:
        """All evidence, once the answer is known. An answer that does not stand in what was read has none behind it."""
        wanted = _squeezed(folded(answer))
        holding = [at for at, text in enumerate(self._answers.texts) if wanted and wanted in _squeezed(text)]
        if not holding:
            rarest = max((word.rarity for word in self._words), default=0.0)
            own = {"spread_at_answer": float((self._all * self._weights).amax()) / 2, "missing_at_answer": rarest}
            return {**self._known, **own}
        best = holding[self._best(self._answers.best_tW[:, holding])]
        return {
            **self._known,
            "spread_at_answer": self._spread(self._answers.best_tW[:, best]),
            "missing_at_answer": self._missing(self._answers.texts[best]),
        }

    def _best(self, best_tW: Tensor) -> int:
        return int((self._weights @ best_tW).argmax())

    def _spread(self, best_t: Tensor) -> float:
        return float(((self._all - best_t) * self._weights).amax())

    def _covered(self, text: str) -> float:
        known, total = frozenset(_WORD.findall(text)), sum(word.weight for word in self._words)
        return sum(word.weight for word in self._words if word.stands_in(text, known)) / total if total else 1.0

    def _missing(self, text: str) -> float:
        known = frozenset(_WORD.findall(text))
        return max((word.rarity for word in self._words if not word.stands_in(text, known)), default=0.0)


def evidence_of(memory: Memory, results: Sequence[RetrievalResult], asked: Asked) -> ReadEvidence | None:
    """The evidence of a read of a memory that has not changed since; None: it cannot be told.

    That is so where each layer retrieves for itself, where nothing was searched, or where a memory keeps no token ids.
    """
    result = results[0] if len(results) == 1 else None
    if result is None or result.match is None or result.own_match is None or len(memory.short_term) + len(result.indices) == 0:
        return None
    with torch.device("cpu"):  # whatever the caller's default is
        (layer,) = prefix_tokens(memory, results)
        order = layer.positions.argsort()
        runs = _Runs.of(memory, layer.positions[order].tolist())
        if runs is None:
            return None
        own = asked.own if len(asked.ids[asked.own]) else slice(None)
        weights = layer.weights[own].float()
        words = _words_of(asked.ids[own], (weights / weights.sum()).tolist(), memory.encoder.decode)
        matches = layer.matches[own][:, order].float()
        return ReadEvidence(matches, result.own_match()[own].cpu(), weights / weights.sum(), words, runs)


@dataclass(frozen=True)
class _Windows:
    """Windows of neighbouring tokens of one source.

    Attributes:
        best_tW: each question token's best match in them.
        spans: the tokens of each.
    """

    best_tW: Tensor
    spans: list[list[TokenSpan]]
    decode: Callable[[Sequence[int]], str]

    def text(self, at: int) -> str:
        """The text of one, folded."""
        return folded(self.decode(ids_of(self.spans[at]) or []))

    @cached_property
    def texts(self) -> list[str]:
        """The texts of all."""
        return [self.text(at) for at in range(len(self.spans))]


@dataclass(frozen=True)
class _Runs:
    """Tokens that were read, in the order of writing, cut where a source ends or a token between was not read."""

    runs: list[tuple[int, list[TokenSpan]]]
    decode: Callable[[Sequence[int]], str]
    tokens_per_row: int

    @classmethod
    def of(cls, memory: Memory, positions: list[int]) -> _Runs | None:
        spans, runs = Spans(memory), list[tuple[int, list[TokenSpan]]]()
        for at, position in enumerate(positions):
            span = spans.of(position)
            if span.chunk is None or span.chunk.ids is None:
                return None
            follows = runs and position == positions[at - 1] + 1 and span.source == runs[-1][1][-1].source
            if follows:
                runs[-1][1].append(span)
            else:
                runs.append((at, [span]))
        return cls(runs, memory.encoder.decode, memory.geometry.sizes.tokens_per_row)

    def windows(self, matches_tn: Tensor, width: int) -> _Windows:
        """Windows of at most so many text tokens, one every few tokens."""
        width, step = max(1, width // self.tokens_per_row), max(1, _STEP // self.tokens_per_row)
        best, spans = [], []
        for first, run in self.runs:
            own = matches_tn[:, first : first + len(run)]
            beyond = max(0, len(run) - width)
            padded = functional.pad(own, (0, max(width - len(run), -beyond % step)), value=float("-inf"))
            best.append(padded.unfold(1, width, step).amax(-1))
            spans += [run[start : start + width] for start in range(0, -(-beyond // step) * step + 1, step)]
        return _Windows(torch.cat(best, 1), spans, self.decode)


def _words_of(ids: Sequence[int], weights: Sequence[float], decode: Callable[[Sequence[int]], str]) -> list[_Word]:
    """Words of a question, in its order."""
    groups: list[list[int]] = []
    last = ""
    for at, token in enumerate(ids):
        piece = decode([token])
        starts = piece[:1].isspace() or has_unspaced(piece) or not (_WORD.search(piece) and _WORD.search(last))
        if starts or not groups:
            groups.append([])
        groups[-1].append(at)
        last = piece
    words = []
    for group in groups:
        text = folded(decode([ids[at] for at in group])).strip().removesuffix("'s")
        if _WORD.search(text):
            rarity = max(0.0, sum(math.log2(ids[at] + 2) for at in group) - _COMMON_BITS)
            words.append(_Word(text, sum(weights[at] for at in group), rarity))
    return words


def _squeezed(text: str) -> str:
    """Letters and digits alone: spaces and marks around an answer differ from those in a source."""
    return "".join(_WORD.findall(text))
