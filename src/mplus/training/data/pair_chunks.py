"""Chunks of the made-up language of ``corpus.pair_facts`` as whole tensors, facts drawn anew for each. Knows token ids, no model.

Legend: B chunks, T tokens of a chunk, Q facts of a chunk.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from mplus.corpus import pair_facts
from mplus.errors import InputError

TEMPLATES: Final = 1024
"""Filler texts of one length with room for facts."""
LEAST_ROOM: Final = 2
"""Words that stand before a chunk's facts, or between them, at least on average."""

_ID: Final = {word: number for number, word in enumerate(pair_facts.VOCABULARY)}
_FIRST, _LAST, _VALUE = (_ID[words[0]] for words in (pair_facts.FIRST, pair_facts.LAST, pair_facts.VALUE))
_VERB: Final = _ID[pair_facts.VERBS[0]]


@dataclass(frozen=True)
class PairChunks:
    """Chunks [B, T], questions [B, Q, 3] and answers [B, Q, 2] (value and full stop) on the facts in them."""

    ids: Tensor
    questions: Tensor
    answers: Tensor


class PairChunkGenerator:
    """Draws chunks.

    Args:
        tokens: T, one of these lengths each time.
        facts: Q.
        seed: of filler text; facts come from the generator that ``draw`` is given.

    Raises:
        InputError: a chunk has no room for its facts.
    """

    def __init__(self, tokens: tuple[int, ...], facts: int, seed: int) -> None:
        if min(tokens) < facts * (pair_facts.FACT_WORDS + LEAST_ROOM):
            raise InputError(
                f"a chunk of {min(tokens)} tokens has no room for {facts} facts of {pair_facts.FACT_WORDS} words between others; "
                "lower task.facts or raise chunk_tokens"
            )
        self.tokens, self.facts = tokens, facts
        randomness = random.Random(seed)
        self.pools = {length: self._pool(length, randomness) for length in tokens}

    def draw(self, count: int, generator: torch.Generator) -> PairChunks:
        """`count` chunks of one length."""
        length = self.tokens[int(torch.randint(len(self.tokens), (), generator=generator))]
        texts, places = self.pools[length]
        chosen = torch.randint(len(texts), (count,), generator=generator)
        facts = self._facts(count, generator)
        at = places[chosen][:, :, None] + torch.arange(pair_facts.FACT_WORDS)
        ids = texts[chosen].scatter(1, at.flatten(1), facts.flatten(1))
        return PairChunks(ids, facts[:, :, :3], facts[:, :, 3:])

    def _facts(self, count: int, generator: torch.Generator) -> Tensor:
        """[count, Q, 5] token ids."""
        shape = (count, self.facts)
        first, last = (torch.randint(pair_facts.NAMES, shape, generator=generator) for _ in range(2))
        last = torch.where((first + last) % pair_facts.HELD_OUT_EVERY == 0, (last + 1) % pair_facts.NAMES, last)
        verb = torch.randint(len(pair_facts.VERBS), shape, generator=generator)
        value = torch.randint(pair_facts.VALUES, shape, generator=generator)
        stop = torch.full(shape, _ID[pair_facts.STOP])
        return torch.stack([first + _FIRST, last + _LAST, verb + _VERB, value + _VALUE, stop], -1)

    def _pool(self, length: int, randomness: random.Random) -> tuple[Tensor, Tensor]:
        """Texts [n, T] and the places of their facts [n, Q]; sentences begin anywhere, as where a stream is cut."""
        texts, places = [], []
        for _ in range(TEMPLATES):
            text, starts = self._template(length, randomness)
            texts.append(text)
            places.append(starts)
        return torch.tensor(texts), torch.tensor(places)

    def _template(self, length: int, randomness: random.Random) -> tuple[list[int], list[int]]:
        words = pair_facts.FACT_WORDS
        free = length - self.facts * words
        gaps = sorted(randomness.randint(0, free) for _ in range(self.facts))
        text: list[int] = []
        starts = []
        for done, gap in enumerate([*gaps, free]):
            text += self._filler(gap - (len(text) - done * words), randomness)
            if done < self.facts:
                starts.append(len(text))
                text += [_ID[pair_facts.STOP]] * words
        return text, starts

    @staticmethod
    def _filler(count: int, randomness: random.Random) -> list[int]:
        """So many words of filler sentences, the first of which may be a part of one."""
        text: list[int] = []
        while len(text) < count:
            text += [_ID[word] for word in pair_facts.filler(randomness).split()]
        return text[len(text) - count :]
