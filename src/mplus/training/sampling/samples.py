"""Samples of the sub-tasks: chunks to encode, their age, and the text read behind them. Knows token ids, nothing of models.

``two_chunk``      a chunk is written with gradient, the text after it is predicted from memory (paper section 3.4)
``multi_chunk``    many chunks are written without gradient, what follows the last is predicted
``revisit``        the same of a document written some steps ago, with others written since
``repeat``         a chunk is written with gradient and has to be repeated
``question``       a passage is written with gradient, a question on it answered
``full_context``   two chunks in plain context, so that the model stays a language model
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal, get_args

from mplus.errors import InputError
from mplus.training.bank.memory_bank import MemoryBank
from mplus.training.data.document import Document
from mplus.training.data.text_sources import Corpus
from mplus.training.sampling.age import age_of

Kind = Literal["two_chunk", "multi_chunk", "revisit", "repeat", "question", "full_context"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One row of a step.

    Attributes:
        chunks: own text to write now, in order.
        live: how many of the newest of them are written with gradient.
        target_places: places of older memories the text is about instead (``revisit``).
        text: token ids read with memory.
        first_target: the loss is over ``text[first_target:]``.
        searched: how many tokens of `text`, from the first, long-term memory is searched with.
        span: first and last + 1 token of the answer in the last chunk, where known.
        age: writes of other text since.
        others: places of older memories that fill the rest of memory; empty: nothing else was ever written.
        past: writes of other text before.
        put_in: right tokens are put among those found.
        seed: of drops.
    """

    kind: Kind
    chunks: tuple[tuple[int, ...], ...] = ()
    live: int = 0
    target_places: tuple[int, ...] = ()
    text: tuple[int, ...]
    first_target: int
    searched: int
    span: tuple[int, int] | None = None
    age: int = 0
    others: tuple[int, ...] = ()
    past: int = 0
    put_in: bool = False
    seed: int = 0


@dataclass(frozen=True)
class SampleBatch:
    """Samples of one kind, and older memories that are right for none of them."""

    kind: Kind
    samples: tuple[Sample, ...]
    wrong: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Rules:
    """Lengths and shares the maker works by; see ``tasks.language.Settings`` for their meaning."""

    chunk_tokens: int
    read_tokens: int
    longest_chunks: int
    past_writes: int
    pool_share: float
    aged_share: float
    put_in_share: float
    query_tokens: int
    others: int
    wrong: int
    instruction: tuple[int, ...]
    cue_tokens: int


class SampleGenerator:
    """Makes samples; all its randomness is one generator.

    Args:
        tail_tokens: least text after the last chunk.
    """

    def __init__(self, corpus: Corpus, bank: MemoryBank, rules: Rules, randomness: random.Random) -> None:
        self.corpus, self.bank, self.rules, self.randomness = corpus, bank, rules, randomness

    def batch(self, kind: Kind, size: int, longest_age: int) -> SampleBatch:
        """`size` samples of one kind.

        Args:
            longest_age: most writes since a target, for samples that have an age.
        """
        wrong = self._pick(self.rules.wrong, ())
        samples = tuple(self._surrounded(getattr(self, f"_{kind}")(), wrong, longest_age) for _ in range(size))
        return SampleBatch(kind, samples, wrong)

    def documents(self, count: int, chunks: int) -> list[Document]:
        """Fresh documents for the bank, each of `chunks` whole chunks and what follows them."""
        size = self.rules.chunk_tokens
        out = []
        for _ in range(count):
            ids = self._window(chunks * size + 2, chunks * size + self.rules.read_tokens)
            whole = tuple(tuple(ids[at * size : (at + 1) * size]) for at in range(chunks))
            out.append(Document(whole, tuple(ids[chunks * size :])))
        return out

    # -- sub-tasks -------------------------------------------------------------------------------------------------

    def _two_chunk(self) -> Sample:
        size = self.rules.chunk_tokens
        ids = self._window(size + 2, size + self.rules.read_tokens)
        return self._read(kind="two_chunk", chunks=(tuple(ids[:size]),), live=1, text=ids[size:])

    def _multi_chunk(self) -> Sample:
        size = self.rules.chunk_tokens
        ids = self.corpus.document(self.randomness, size + 2)
        most = min(self.rules.longest_chunks, (len(ids) - 2) // size)
        first = self.randomness.randint(0, len(ids) - most * size - 2)
        whole = tuple(tuple(ids[first + at * size : first + (at + 1) * size]) for at in range(most))
        rest = ids[first + most * size :][: self.rules.read_tokens]
        return self._read(kind="multi_chunk", chunks=whole, text=rest)

    def _revisit(self) -> Sample:
        usable = sorted(first for first, document in self.bank.documents.items() if len(document.rest) > 1)
        if not usable:
            raise InputError("sub-task `revisit` needs older memories; set bank_chunks above 0 or its ratio to 0")
        first = self.randomness.choice(usable)
        document = self.bank.documents[first]
        places = tuple(range(first, first + len(document.chunks)))
        return self._read(kind="revisit", target_places=places, text=list(document.rest))

    def _repeat(self) -> Sample:
        chunk = tuple(self._window(self.rules.chunk_tokens, self.rules.chunk_tokens))
        text = (*self.rules.instruction, *chunk)[: self.rules.read_tokens]
        first = len(self.rules.instruction) + self.rules.cue_tokens
        return Sample(kind="repeat", chunks=(chunk,), live=1, text=text, first_target=max(1, first), searched=max(1, first))

    def _question(self) -> Sample:
        passage = self.corpus.passage(self.randomness, self.rules.chunk_tokens, 1)
        return Sample(
            kind="question",
            chunks=(passage.context,),
            live=1,
            text=passage.prompt + passage.answer,
            first_target=len(passage.prompt),
            searched=len(passage.prompt),
            span=passage.span,
        )

    def _full_context(self) -> Sample:
        size = self.rules.chunk_tokens
        ids = self._window(min(size, self.rules.read_tokens // 2) + 2, self.rules.read_tokens)
        first = min(size, len(ids) // 2)
        return Sample(kind="full_context", text=tuple(ids), first_target=first, searched=first)

    # -- what stands around ----------------------------------------------------------------------------------------

    def _read(self, *, kind: Kind, text: list[int], chunks: tuple[tuple[int, ...], ...] = (), **fields: object) -> Sample:
        searched = min(len(text), self.rules.query_tokens) if self.rules.query_tokens else len(text)
        return Sample(kind=kind, chunks=chunks, text=tuple(text), first_target=1, searched=searched, **fields)  # type: ignore[arg-type]

    def _surrounded(self, sample: Sample, wrong: tuple[int, ...], longest_age: int) -> Sample:
        randomness, rules = self.randomness, self.rules
        seed, put_in = randomness.getrandbits(62), randomness.random() < rules.put_in_share
        alone = randomness.random() >= rules.pool_share and not sample.target_places
        aged = sample.kind in ("two_chunk", "revisit", "question") and randomness.random() < rules.aged_share
        age = age_of(randomness, longest_age) if aged else 0
        past = rules.past_writes + randomness.randint(0, max(1, rules.past_writes))
        taken = set(sample.target_places)
        others = (
            ()
            if alone
            else (*(place for place in wrong if place not in taken), *self._pick(rules.others, (*sample.target_places, *wrong)))
        )
        if not others:
            age, past = 0, 0
        order = list(others)
        randomness.shuffle(order)
        values = {**vars(sample), "age": age, "past": past, "others": tuple(order), "put_in": put_in, "seed": seed}
        return Sample(**values)

    def _pick(self, count: int, without: tuple[int, ...]) -> tuple[int, ...]:
        held = [place for place in self.bank.held if place not in set(without)]
        return tuple(self.randomness.sample(held, min(count, len(held))))

    def _window(self, least: int, most: int) -> list[int]:
        """A stretch of a document, of `most` tokens if it has them."""
        ids = self.corpus.document(self.randomness, least)
        first = self.randomness.randint(0, max(0, len(ids) - most))
        return ids[first : first + most]
