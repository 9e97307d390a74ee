"""Generator of chunks and questions about them: facts in running text, conversations, passages with questions.

Knows a tokenizer and files, no model. Legend: T tokens of a chunk.
"""

from __future__ import annotations

import math
from collections import deque
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any, Final

from mplus.corpus.facts import Fact, FactGenerator
from mplus.corpus.names import confusable_pool
from mplus.errors import InputError
from mplus.training.data.conversation import Conversations
from mplus.training.data.document import Document, Kind
from mplus.training.data.draft import BEFORE_ANSWER, Draft, Place, documents
from mplus.training.data.passages import Part, Passage, read_passages, read_small_talk
from mplus.training.data.running import DOCSTRING_CHARACTERS, DOCUMENTED_PACKAGES, RunningText, book_texts, docstrings

FEWEST_TOKENS, MOST_TOKENS = 300, 30  # tokens per fact, at the thinnest and at the densest
REMEMBERED_KEYS: Final = 6_000  # facts of earlier calls that are not told again; about 10 calls of 192 chunks
WORLD_CHUNKS: Final = 192  # chunks that share a world's names
_SMALL_WORLD_SHARE: Final = 0.7
_SAMPLE_CHARACTERS: Final = 20_000
_LONGEST_SKIP: Final = 48  # tokens left out before a chunk that begins anywhere
_CHAT_SHARE: Final = 0.15  # of chunks with facts
_SHARE_FROM_START: Final = 0.6  # of chunks that begin where a sentence begins, as in a stream


@lru_cache(maxsize=2)
def _running_text(data: Path, docstring_characters: int) -> RunningText:
    """Novels and documentation as sentences; cutting them takes seconds."""
    return RunningText([*book_texts(data), docstrings(DOCUMENTED_PACKAGES, docstring_characters)])


_passages = lru_cache(maxsize=2)(read_passages)


def placed(question: str, answer: str, at: int | None, kind: Kind, within: tuple[int, int]) -> Place:
    """A question about a passage that stands at `within`: its answer begins `at` characters into it, or the whole of it tells it."""
    first, last = within if at is None else (within[0] + at, within[0] + at + len(answer))
    return Place(question, answer, kind, first, last, within)


class DocumentGenerator:
    """Endless fresh chunks.

    Args:
        tokenizer: a fast one (it must tell where its tokens stand).
        data: directory of ``shared/data`` form (books, squad, squadshifts; natural_questions and instructions if there).
        tokens: T.
        seed: the same seed and the same calls give the same documents.
        fact_share: share of chunks that carry generated facts; the rest carry a passage with questions.
        part: which published passages; ``dev`` holds those kept back from training.

    Raises:
        InputError: there is no such directory, a file is missing in it, or the tokenizer gives no offsets.
    """

    def __init__(
        self, tokenizer: Any, data: Path, tokens: int, *, seed: int, fact_share: float = 0.6, part: Part = "train"
    ) -> None:
        if not data.is_dir():
            raise InputError(
                f"training data directory {data} does not exist; give --data with books, squad and squadshifts in it"
            )
        self.tokenizer, self.tokens, self.fact_share = tokenizer, tokens, fact_share
        self.random = Random(seed)
        self.running = _running_text(data, DOCSTRING_CHARACTERS)
        self.passages = _passages(data, part)
        self._conversations = Conversations(tokenizer, read_small_talk(data))
        sample = book_texts(data)[0][:_SAMPLE_CHARACTERS]
        self.characters_per_token = len(sample) / len(tokenizer(sample, add_special_tokens=False, verbose=False)["input_ids"])
        self._stated_before: deque[str] = deque(maxlen=REMEMBERED_KEYS)
        self._facts: list[Fact] = []
        self._world, self._world_left = 0, 0  # seed of its words, and chunks to come

    def make(self, count: int) -> list[Document]:
        """`count` new chunks, each with something to ask; facts of one world share names and relations on purpose."""
        if self._world_left <= 0:
            self._world, self._world_left = self.random.getrandbits(64), WORLD_CHUNKS
        self._world_left -= count
        generator = self._fact_generator()
        self._facts = []
        done: list[Document] = []
        while len(done) < count:
            drafts = [self._draft(generator) for _ in range(count - len(done))]
            done += [document for document in documents(self.tokenizer, drafts, self.tokens) if document is not None]
        return done

    def state(self) -> dict[str, Any]:
        """The random state, so that another maker with the same arguments goes on with the same documents."""
        version, numbers, gauss = self.random.getstate()
        world = [self._world, self._world_left]
        return {"random": [version, list(numbers), gauss], "told_before": list(self._stated_before), "world": world}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on where ``state`` was taken."""
        version, numbers, gauss = state["random"]
        self.random.setstate((version, tuple(numbers), gauss))
        self._stated_before = deque(state["told_before"], maxlen=REMEMBERED_KEYS)
        self._world, self._world_left = state["world"]

    def _fact_generator(self) -> FactGenerator:
        world = Random(self._world)
        return FactGenerator(
            Random(self.random.getrandbits(64)),
            facts_per_subject=self.random.choice([1.5, 3.0, 5.0]),
            relation_share=self.random.uniform(0.35, 0.75),
            focus=self.random.choice([0.2, 0.5, 0.8]),
            known_keys=self._stated_before,
            pool=confusable_pool(world) if world.random() < _SMALL_WORLD_SHARE else None,
        )

    def _draft(self, generator: FactGenerator) -> Draft:
        if self.random.random() >= self.fact_share and self.passages:
            return self._with_passage()
        return self._chat(generator) if self.random.random() < _CHAT_SHARE else self._with_facts(generator)

    def _with_facts(self, generator: FactGenerator) -> Draft:
        """Facts between sentences of running text; the text is longer than the chunk, so that facts fall across its end."""
        draft, around = self._empty()
        room = int((self.tokens + draft.skip) * self.characters_per_token)
        places = sorted(self.random.uniform(0, room) for _ in range(self._fact_count(draft.skip)))
        if self.random.random() < 0.2:  # all in one place, as in a list
            places = [places[0] * 0.7] * len(places)
        facts = self._next_facts(generator, len(places))
        after = self.random.choices((" ", "\n\n", "\n"), (85, 8, 7))[0]
        for sentence in self.running.take(self.random, around):
            while facts and len(draft.text) + len(sentence) / 2 >= places[-len(facts)]:
                fact = facts.pop(0)
                draft.add_asked(fact.statement + after, fact.question, fact.value, fact.kind)
            draft.add(sentence)
        return draft

    def _chat(self, generator: FactGenerator) -> Draft:
        draft, around = self._empty()
        facts = self._next_facts(generator, self._fact_count(draft.skip)) + generator.make_own(self.random.randint(0, 2))
        names = generator.speakers()
        self._conversations.fill(draft, self.random, facts, around, names)
        return draft

    def _with_passage(self) -> Draft:
        draft, around = self._empty()
        passage = self._passage()
        text = passage.text
        room = int(self.tokens * self.characters_per_token) - len(text)
        before = self.random.uniform(0, max(0, room)) + draft.skip * self.characters_per_token
        start: int | None = None
        for sentence in self.running.take(self.random, around):
            if start is None and len(draft.text) + len(sentence) / 2 >= before:
                start = draft.add(text + self.random.choice((" ", "\n\n")))
            draft.add(sentence)
        assert start is not None
        within = (start, start + len(text))
        for question, answer, at in self.random.sample(passage.asked, min(4, len(passage.asked))):
            draft.places.append(placed(question, answer, at, passage.kind, within))
        return draft

    def _passage(self) -> Passage:
        """One that fits into a chunk, nearly always."""
        longest = self.tokens * self.characters_per_token * 0.95
        for _ in range(20):
            passage = self.random.choice(self.passages)
            if len(passage.text) <= longest:
                break
        return passage

    def _empty(self) -> tuple[Draft, int]:
        """A draft without text, and the characters of running text that surely fill its chunk."""
        skip = self._skip()
        return Draft(skip=skip), self._room(skip + self.tokens)

    def _skip(self) -> int:
        """Tokens to leave out: none where a chunk begins with a sentence."""
        return 0 if self.random.random() < _SHARE_FROM_START else self.random.randint(1, min(_LONGEST_SKIP, self.tokens))

    def _room(self, tokens: int) -> int:
        """Characters that nearly always make `tokens` tokens."""
        return int((tokens + BEFORE_ANSWER) * self.characters_per_token * 1.25)

    def _fact_count(self, skip: int) -> int:
        """At least one; as many as a density between the thinnest and the densest gives, even on a logarithmic scale."""
        per_token = math.exp(self.random.uniform(math.log(1 / FEWEST_TOKENS), math.log(1 / MOST_TOKENS)))
        wanted = per_token * (self.tokens + skip)
        return max(1, int(wanted) + (self.random.random() < wanted % 1))

    def _next_facts(self, generator: FactGenerator, count: int) -> list[Fact]:
        """Facts of this call: mixed, so that those of one subject lie in many chunks, or a run that shares subjects."""
        if self.random.random() < 0.25:
            return generator.make(count)
        if len(self._facts) < count:
            self._facts = generator.make(max(400, count))
            self.random.shuffle(self._facts)
        return [self._facts.pop() for _ in range(count)]
