"""Chunks of the made-up language of ``corpus.pair_facts`` as whole tensors, facts drawn anew for each. Knows token ids, no model.

Legend: B chunks, T tokens of a chunk, F facts that fit into a chunk.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from mplus.corpus import pair_facts
from mplus.errors import InputError

TEMPLATES: Final = 8192
"""Chunks whose sentences are laid out once; their facts are drawn anew each time."""

_ID: Final = {word: number for number, word in enumerate(pair_facts.VOCABULARY)}
_FIRST, _LAST, _VALUE = (_ID[words[0]] for words in (pair_facts.FIRST, pair_facts.LAST, pair_facts.VALUE))
_RELATION, _STOP = _ID[pair_facts.RELATIONS[0]], _ID[pair_facts.STOP]


@dataclass(frozen=True)
class PairChunks:
    """Chunks [B, T], and a question [B, 3] with its answer [B] on one fact of each."""

    ids: Tensor
    questions: Tensor
    answers: Tensor


class PairChunkGenerator:
    """Draws chunks with at least one fact, cut from endless text as a write cuts it: at the last end of a sentence that fits.

    Args:
        longest: T at most.
        shortest: T at least; chunks that are shorter are not drawn.
        names: first and last names that may appear in one draw. The fewer, the more facts share a name with another.
        fact_share: of the sentences that are facts.
        seed: of sentences; facts come from the generator that ``draw`` is given.

    Raises:
        InputError: a chunk has no room for the longest sentence in its second half.
    """

    def __init__(self, longest: int, shortest: int, names: int, seed: int, fact_share: float = pair_facts.FACT_SHARE) -> None:
        if longest < 2 * pair_facts.LONGEST_SENTENCE:
            raise InputError(
                f"chunk_tokens is {longest}, task recall needs {2 * pair_facts.LONGEST_SENTENCE} at least, so that every chunk ends "
                "with a sentence; raise model.geometry.chunk_tokens"
            )
        self.names = names
        self.pools = _pools(longest, shortest, fact_share, random.Random(f"pair chunks {seed}"))
        self.lengths = list(self.pools)
        self.shares = torch.tensor([float(len(texts)) for texts, _ in self.pools.values()])

    def draw(self, count: int, generator: torch.Generator) -> PairChunks:
        """`count` chunks of one length."""
        length = self.lengths[int(torch.multinomial(self.shares, 1, generator=generator))]
        texts, places = self.pools[length]
        chosen = torch.randint(len(texts), (count,), generator=generator)
        ids, starts = texts[chosen], places[chosen]
        facts = self._facts(starts.shape, generator)
        at = starts[:, :, None] + torch.arange(pair_facts.FACT_WORDS)
        ids = ids.scatter(1, at.flatten(1), facts.flatten(1))[:, :length]
        used = (starts < length).float()
        asked = torch.multinomial(used, 1, generator=generator)
        fact = facts[torch.arange(count), asked[:, 0]]
        return PairChunks(ids, fact[:, : pair_facts.VALUE_AT], fact[:, pair_facts.VALUE_AT])

    def _facts(self, shape: torch.Size, generator: torch.Generator) -> Tensor:
        """[*shape, 5] token ids; no pair of names is held out."""
        pools = [torch.randperm(pair_facts.NAMES, generator=generator)[: self.names] for _ in range(2)]
        first, last = (pool[torch.randint(len(pool), shape, generator=generator)] for pool in pools)
        last = torch.where((first + last) % pair_facts.HELD_OUT_EVERY == 0, (last + 1) % pair_facts.NAMES, last)
        relation = torch.randint(len(pair_facts.RELATIONS), shape, generator=generator)
        value = torch.randint(pair_facts.VALUES, shape, generator=generator)
        stop = torch.full(shape, _STOP)
        return torch.stack([relation + _RELATION, first + _FIRST, last + _LAST, value + _VALUE, stop], -1)


def _pools(longest: int, shortest: int, fact_share: float, randomness: random.Random) -> dict[int, tuple[Tensor, Tensor]]:
    """By length: texts [n, T + 5] and the places of their facts [n, F], T where there are fewer; what stands from T on is cut off."""
    words = pair_facts.FACT_WORDS
    found: dict[int, list[tuple[list[int], list[int]]]] = {}
    text, starts = list[int](), list[int]()
    for _ in range(TEMPLATES * longest // words):
        is_fact = randomness.random() < fact_share
        sentence = [_STOP] * words if is_fact else [_ID[word] for word in pair_facts.filler(randomness).split()]
        if len(text) + len(sentence) > longest:
            if starts and len(text) >= shortest:
                found.setdefault(len(text), []).append((text, starts))
            text, starts = [], []
        starts += [len(text)] if is_fact else []
        text += sentence
    most = longest // words
    return {
        length: (
            torch.tensor([text + [_STOP] * words for text, _ in chunks]),
            torch.tensor([starts + [length] * (most - len(starts)) for _, starts in chunks]),
        )
        for length, chunks in sorted(found.items())
    }
