"""Generator of chunks for distillation: facts, passages, changes, stories, absent facts, instructions and self-study, by shares.

Knows a tokenizer and files, no model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any, Final, Literal

from mplus.corpus.facts import Fact, FactGenerator
from mplus.corpus.names import confusable_pool
from mplus.corpus.stories import Story, read_stories
from mplus.errors import InputError
from mplus.training.data.asking import absent, follow_up, in_a_sentence, sentence_of, worded
from mplus.training.data.changes import ChangeGenerator
from mplus.training.data.document import Question
from mplus.training.data.document_generator import DocumentGenerator
from mplus.training.data.draft import Draft, Place
from mplus.training.data.passages import read_instructions
from mplus.training.data.study_records import StudyRecord, read_study

DraftKind = Literal["facts", "chat", "passage", "changes", "story", "study"]
STORY_FILES: Final = ("qa1_*train.txt", "qa2_*train.txt", "qa3_*train.txt")  # one to three facts needed
STORY_ROOM: Final = 0.8  # of a chunk that a story may fill
SENTENCE_SHARE: Final = 0.2  # of facts asked for a sentence
FOLLOW_UP_SHARE: Final = 0.5  # of chunks whose facts allow it
ABSENT_EACH: Final = 2  # facts of a chunk's world that are asked for and stand nowhere
EARLIER_SHARE: Final = 0.2  # of questions that are asked late in a conversation about other things
MOST_EARLIER: Final = 5  # requests before such a question
EARLIER_CHARACTERS: Final = 160  # of a reply that is shown in such a conversation
PROMPTED_SHARE: Final = 0.5  # of passages that are also asked with the passage in the prompt


class MixedDocuments(DocumentGenerator):
    """Endless fresh chunks of several kinds.

    Args:
        shares: of chunks, by what stands in them.
        study: file of self-study records; needed where `study` has a share.

    Raises:
        InputError: as ``DocumentGenerator``; no self-study file where one is needed.
    """

    def __init__(
        self, tokenizer: Any, data: Path, tokens: int, *, seed: int, shares: Mapping[DraftKind, float], study: Path | None
    ) -> None:
        super().__init__(tokenizer, data, tokens, seed=seed)
        self.shares = dict(shares)
        self.instructions = read_instructions(data)
        self._small_talk = [pair for pair in self.instructions if len(pair[1]) <= EARLIER_CHARACTERS]
        self._stated: list[Fact] = []
        if study is None and self.shares.get("study"):
            raise InputError(
                "a share of the chunks is self-study, but no file of it is named; give task.self_study, or study no share"
            )
        self._stories = _stories(data / "babi" / "en") if self.shares.get("story") else []
        self._study = _by_passage(read_study(study)) if study is not None else []

    def _draft(self, generator: FactGenerator) -> Draft:
        kind = self.random.choices(list(self.shares), list(self.shares.values()))[0]
        match kind:
            case "facts":
                draft = self._with_facts(generator)
            case "chat":
                draft = self._chat(generator)
            case "passage":
                draft = self._with_passage()
            case "changes":
                draft = self._with_changes()
            case "story":
                draft = self._with_story()
            case "study":
                draft = self._with_study()
        draft.places = [self._late(place) for place in draft.places]
        if self.instructions and self.random.random() < 0.5:
            request, reply = self.random.choice(self.instructions)
            draft.placeless.append(Question(request, reply, (0, 0), False, "instruction", "sentence"))
        return draft

    def _late(self, place: Place) -> Place:
        """The question as it is, or behind a conversation about other things."""
        if place.turns or not self._small_talk or self.random.random() >= EARLIER_SHARE:
            return place
        count = min(len(self._small_talk), self.random.randint(1, MOST_EARLIER))
        return replace(place, turns=tuple(self.random.sample(self._small_talk, count)))

    def _with_facts(self, generator: FactGenerator) -> Draft:
        draft = super()._with_facts(generator)
        self._ask_otherwise(draft, self._stated)
        draft.placeless += [absent(self.random, fact) for fact in self._next_facts(generator, ABSENT_EACH)]
        return draft

    def _chat(self, generator: FactGenerator) -> Draft:
        draft = super()._chat(generator)
        self._ask_otherwise(draft, self._stated)
        return draft

    def _next_facts(self, generator: FactGenerator, count: int) -> list[Fact]:
        self._stated = super()._next_facts(generator, count)
        return list(self._stated)

    def _ask_otherwise(self, draft: Draft, facts: list[Fact]) -> None:
        """Some facts asked for a sentence, and one behind a question about the same subject."""
        placed = {place.question: place for place in draft.places}
        for fact in facts:
            place, sentence = placed.get(fact.question), sentence_of(fact)
            if place is not None and sentence is not None and self.random.random() < SENTENCE_SHARE:
                question = in_a_sentence(self.random, fact.question)
                draft.places.append(replace(place, question=question, answer=sentence, style="sentence"))
        if len(facts) > 1 and self.random.random() < FOLLOW_UP_SHARE:
            first, second = self.random.sample(facts, 2)
            asked, place = follow_up(self.random, first, second), placed.get(second.question)
            if asked is not None and place is not None:
                draft.places.append(replace(place, question=asked[0], turns=asked[1]))

    def _with_passage(self) -> Draft:
        draft = super()._with_passage()
        if draft.places and self.random.random() < PROMPTED_SHARE:
            place = self.random.choice(draft.places)
            assert place.within is not None
            passage = draft.text[slice(*place.within)].strip()
            draft.placeless.append(Question(f"{passage}\n\n{place.question}", place.answer, (0, 0), False, "prompt"))
        return draft

    def _with_changes(self) -> Draft:
        """A thing whose value changed, its statements within some two thirds of the chunk, other text between them."""
        draft, around = self._empty()
        change = ChangeGenerator(Random(self.random.getrandbits(64)), confusable_pool(Random(self._world))).change()
        room = self.tokens * self.characters_per_token
        begin = draft.skip * self.characters_per_token + self.random.uniform(0, 0.3) * room
        width = self.random.uniform(0.1, 0.6) * room
        places = sorted(begin + self.random.uniform(0, width) for _ in change.statements)
        waiting, spans = list(change.statements), []
        for sentence in self.running.take(self.random, around):
            while waiting and len(draft.text) + len(sentence) / 2 >= places[-len(waiting)]:
                statement = waiting.pop(0)
                start = draft.add(statement + " ")
                spans.append((start, start + len(statement)))
            draft.add(sentence)
        if not waiting:
            draft.places += [Place(question, answer, "update", *spans[number]) for question, answer, number in change.asked]
        return draft

    def _with_story(self) -> Draft:
        """A story whose facts stand in their order between sentences of other text, with its last question."""
        draft, around = self._empty()
        room = int(self.tokens * self.characters_per_token)
        fitting = [one for one in self.random.choice(self._stories) if sum(map(len, one.facts)) < STORY_ROOM * room]
        if not fitting:
            return draft
        story = self.random.choice(fitting)
        last = (draft.skip + self.tokens) * self.characters_per_token - sum(map(len, story.facts))
        first = draft.skip * self.characters_per_token
        places = sorted(self.random.uniform(first, max(first, last)) for _ in story.facts)
        waiting, spans, written = list(story.facts), [], 0
        for sentence in self.running.take(self.random, around):
            while waiting and written + len(sentence) / 2 >= places[-len(waiting)]:
                fact = waiting.pop(0)
                start = draft.add(fact + " ")
                spans.append((start, start + len(fact)))
            draft.add(sentence)
            written += len(sentence)
        if not waiting:
            question = worded(self.random, "one_word", q=story.question)
            needed = [spans[number] for number in story.supports]
            draft.places.append(Place(question, story.answer, "story", needed[0][0], needed[-1][1]))
        return draft

    def _with_study(self) -> Draft:
        """A passage of self-study between other text, with what was asked about it."""
        draft, around = self._empty()
        records = self.random.choice(self._study)
        text = records[0].text
        room = int(self.tokens * self.characters_per_token) - len(text)
        before = self.random.uniform(0, max(0, room)) + draft.skip * self.characters_per_token
        start: int | None = None
        for sentence in self.running.take(self.random, around):
            if start is None and len(draft.text) + len(sentence) / 2 >= before:
                start = draft.add(text + "\n\n")
            draft.add(sentence)
        assert start is not None
        for record in records:
            self._ask_study(draft, record, start)
        return draft

    def _ask_study(self, draft: Draft, record: StudyRecord, start: int) -> None:
        question = in_a_sentence(self.random, record.question)
        if record.kind == "absent":
            draft.placeless.append(Question(record.question, record.answer, (0, 0), False, "absent", "sentence", is_taught=False))
            return
        kind: Literal["summary", "study"] = "summary" if record.kind == "summary" else "study"
        draft.places.append(Place(question, record.answer, kind, start, start + len(record.text), style="sentence"))


@lru_cache(maxsize=2)
def _stories(folder: Path) -> tuple[tuple[Story, ...], ...]:
    """Questions of each file to train on.

    Raises:
        InputError: a file is missing, or more than one has its name.
    """
    found = []
    for pattern in STORY_FILES:
        files = sorted(folder.glob(pattern))
        if len(files) != 1:
            raise InputError(
                f"a share of the chunks is stories, but {folder} has {len(files)} files {pattern}; expected one, or no story share"
            )
        found.append(tuple(read_stories(files[0])))
    return tuple(found)


def _by_passage(records: list[StudyRecord]) -> list[list[StudyRecord]]:
    found: dict[int, list[StudyRecord]] = {}
    for record in records:
        found.setdefault(record.number, []).append(record)
    return list(found.values())
