"""Generator of chunks of many kinds by shares: facts, passages, articles, tables, code, changes, stories, absent facts, self-study.

Knows a tokenizer and files, no model.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any, Final, Literal

from mplus.corpus.facts import Fact, FactGenerator
from mplus.corpus.names import confusable_pool
from mplus.corpus.stories import Story, read_stories
from mplus.errors import InputError
from mplus.text.sentences import sentences
from mplus.training.data.asking import absent, follow_up, in_a_sentence, sentence_of, worded
from mplus.training.data.changes import Change, ChangeGenerator
from mplus.training.data.document import Document, Kind, Question
from mplus.training.data.document_generator import DocumentGenerator, placed
from mplus.training.data.draft import Draft, Place
from mplus.training.data.functions import functions
from mplus.training.data.passages import Passage, read_articles, read_instructions, read_summaries
from mplus.training.data.rewordings import REMEMBERED, RewordingGenerator
from mplus.training.data.running import DOCUMENTED_PACKAGES
from mplus.training.data.study_records import StudyRecord, read_study
from mplus.training.data.tables import TableGenerator

DraftKind = Literal[
    "facts", "chat", "passage", "articles", "narrative", "changes", "corrections", "story", "table", "code", "reworded", "study"
]
STORY_FILES: Final = ("qa1_*train.txt", "qa2_*train.txt", "qa3_*train.txt")  # one to three facts needed
STORY_ROOM: Final = 0.8  # of a chunk that a story may fill
SENTENCE_SHARE: Final = 0.2  # of facts asked for a sentence
FOLLOW_UP_SHARE: Final = 0.5  # of chunks whose facts allow it
ABSENT_EACH: Final = 2  # facts of a chunk's world that are asked for and stand nowhere
EARLIER_SHARE: Final = 0.2  # of questions that are asked late in a conversation about other things
MOST_EARLIER: Final = 5  # requests before such a question
EARLIER_CHARACTERS: Final = 160  # of a reply that is shown in such a conversation
PROMPTED_SHARE: Final = 0.5  # of passages that are also asked with the passage in the prompt
ARTICLE_SOURCES: Final[dict[Kind, float]] = {"passage": 0.08, "nq": 0.47, "boolq": 0.4, "dolly": 0.05}  # a run is of one of them
ARTICLE_RUN: Final = 8  # passages of one article that follow one another at most
ARTICLE_QUESTIONS: Final = 2  # about one of them at most
TYPED_SHARE: Final = 0.5  # of a search engine's questions are asked as they were typed
REWORDED_EACH: Final = (2, 6)  # reworded facts of a chunk
CORRECTIONS_EACH: Final = (2, 4)  # statements of a chunk whose things other chunks tell of too
CORRECTED_SHARE: Final = 0.6  # of them go on with a thing that an earlier chunk told of
FUNCTION_RUN: Final = 8  # functions of one module that follow one another at most


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
        self._articles = read_articles(data, "train") if self.shares.get("articles") else {}
        self._article_shares = {kind: share for kind, share in ARTICLE_SOURCES.items() if self._articles.get(kind)}
        self._summaries = read_summaries(data) if self.shares.get("narrative") else []
        self._functions = functions(DOCUMENTED_PACKAGES) if self.shares.get("code") else ()
        self._check(data)
        self._run: list[Passage] = []  # of an article, the next one last
        self._shown: set[str] = set()  # passages of this call
        self._changing: list[tuple[str, Change, int]] = []  # things of this call, with the statement that comes next
        self._asked_lately: deque[str] = deque(maxlen=REMEMBERED)
        self._study = _by_passage(read_study(study)) if study is not None else []

    def _check(self, data: Path) -> None:
        """Refuse shares of what there is nothing of."""
        found: dict[DraftKind, object] = {
            "articles": self._article_shares,
            "narrative": self._summaries,
            "code": self._functions,
        }
        needs: dict[DraftKind, str] = {
            "articles": "passages",
            "narrative": "narrativeqa/valid.jsonl",
            "code": ", ".join(DOCUMENTED_PACKAGES),
        }
        for kind, there in found.items():
            if self.shares.get(kind) and not there:
                raise InputError(
                    f"a share of the chunks is {kind}, but nothing to ask was found (data {data}, needed {needs[kind]}); "
                    f"add it, or give no {kind} share"
                )

    def make(self, count: int) -> list[Document]:
        """As ``DocumentGenerator``; no passage of articles comes twice, and what is corrected is so within the call."""
        self._run, self._shown, self._changing = [], set(), []
        return super().make(count)

    def state(self) -> dict[str, Any]:
        """As ``DocumentGenerator``."""
        return {**super().state(), "asked_lately": list(self._asked_lately)}

    def load_state(self, state: dict[str, Any]) -> None:
        """As ``DocumentGenerator``."""
        super().load_state(state)
        self._asked_lately = deque(state.get("asked_lately", ()), maxlen=REMEMBERED)  # none in states of the first version

    def _draft(self, generator: FactGenerator) -> Draft:
        kind = self.random.choices(list(self.shares), list(self.shares.values()))[0]
        match kind:
            case "facts":
                draft = self._with_facts(generator)
            case "chat":
                draft = self._chat(generator)
            case "passage":
                draft = self._with_passage()
            case "articles":
                draft = self._with_articles()
            case "narrative":
                draft = self._with_summary()
            case "table":
                draft = self._with_table()
            case "code":
                draft = self._with_code()
            case "reworded":
                draft = self._with_reworded()
            case "changes":
                draft = self._with_changes()
            case "corrections":
                draft = self._with_corrections()
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
        spans = self._lay(draft, around, change.statements, places)
        if len(spans) == len(change.statements):
            for question, answer, number in change.asked:
                others = tuple(span for at, span in enumerate(spans) if at != number)
                draft.places.append(Place(question, answer, "update", *spans[number], also=others))
        return draft

    def _with_corrections(self) -> Draft:
        """Statements about things that changed, one each; the others are in other chunks, the older in earlier ones."""
        draft, around = self._empty()
        told = [self._next_statement() for _ in range(self.random.randint(*CORRECTIONS_EACH))]
        room = (draft.skip + self.tokens) * self.characters_per_token
        places = sorted(self.random.uniform(0, room) for _ in told)
        spans = self._lay(draft, around, [change.statements[at] for _, change, at in told], places)
        for (slot, change, at), span in zip(told, spans, strict=False):
            draft.places.append(Place(change.asked[0][0], change.values[at], "update", *span, slot=slot))
        return draft

    def _next_statement(self) -> tuple[str, Change, int]:
        """A thing and its next statement: of one that was told of before, or of a new one."""
        if self._changing and self.random.random() < CORRECTED_SHARE:
            slot, change, at = self._changing.pop(self.random.randrange(len(self._changing)))
        else:
            seed = self.random.getrandbits(64)
            slot, change, at = f"{seed:016x}", ChangeGenerator(Random(seed), confusable_pool(Random(self._world))).change(), 0
        if at + 1 < len(change.statements):
            self._changing.append((slot, change, at + 1))
        return slot, change, at

    def _lay(self, draft: Draft, around: int, pieces: Sequence[str], places: Sequence[float]) -> list[tuple[int, int]]:
        """Running text with pieces at ascending places; gives the characters of those that came in."""
        waiting, spans = list(pieces), []
        for sentence in self.running.take(self.random, around):
            while waiting and len(draft.text) + len(sentence) / 2 >= places[-len(waiting)]:
                piece = waiting.pop(0)
                start = draft.add(piece + " ")
                spans.append((start, start + len(piece)))
            draft.add(sentence)
        return spans

    def _with_reworded(self) -> Draft:
        """Facts asked for in words that they lack, between other text."""
        draft, around = self._empty()
        pool = confusable_pool(Random(self._world))
        maker = RewordingGenerator(Random(self.random.getrandbits(64)), self._asked_lately, pool)
        facts = [maker.make() for _ in range(self.random.randint(*REWORDED_EACH))]
        room = (draft.skip + self.tokens) * self.characters_per_token
        places = sorted(self.random.uniform(0, room) for _ in facts)
        spans = self._lay(draft, around, [fact.statement for fact in facts], places)
        for fact, span in zip(facts, spans, strict=False):
            draft.places.append(Place(fact.question, fact.answer, "reworded", *span))
        return draft

    def _with_table(self) -> Draft:
        """A table between other text, asked for some of its cells."""
        draft, around = self._empty()
        maker = TableGenerator(Random(self.random.getrandbits(64)), self._stated_before, confusable_pool(Random(self._world)))
        text, cells = maker.table()
        start = self._amid(draft, around, text)
        for cell in cells:
            draft.places.append(Place(cell.question, cell.answer, "table", start + cell.first, start + cell.last))
        return draft

    def _with_code(self) -> Draft:
        """Functions of one module after the other, asked for by what they do."""
        draft, around = self._empty()
        while len(draft.text) < around:
            module = self.random.choice(self._functions)
            first = self.random.randrange(len(module))
            for function in module[first : first + FUNCTION_RUN]:
                text, head = function.shown(self.random)
                start = draft.add(text)
                draft.places.append(Place(function.question(self.random), function.name, "code", start, start + head))
        return draft

    def _with_articles(self) -> Draft:
        """Passages of articles with no other text between them, as near to one another as in an encyclopaedia."""
        draft, around = self._empty()
        while len(draft.text) < around:
            passage = self._next_passage()
            start = draft.add(passage.text)
            within = (start, len(draft.text))
            draft.text += self.random.choice(("\n\n", "\n\n", "\n", " "))
            for question, answer, at in self.random.sample(passage.asked, min(ARTICLE_QUESTIONS, len(passage.asked))):
                draft.places.append(placed(self._typed(question, passage.kind), answer, at, passage.kind, within))
        return draft

    def _next_passage(self) -> Passage:
        """The next one of an article, or of another one; none twice in a call, nearly always."""
        for _ in range(20):
            while not self._run:
                kind = self.random.choices(list(self._article_shares), list(self._article_shares.values()))[0]
                article = self.random.choice(self._articles[kind])
                first = self.random.randrange(len(article))
                self._run = article[first : first + ARTICLE_RUN][::-1]
            passage = self._run.pop()
            if passage.text not in self._shown:
                break
        self._shown.add(passage.text)
        return passage

    def _typed(self, question: str, kind: Kind) -> str:
        """A search engine's question as it is written, or as it was typed."""
        if kind not in ("nq", "boolq") or self.random.random() >= TYPED_SHARE:
            return question
        return question[:1].lower() + question[1:].removesuffix("?")

    def _with_summary(self) -> Draft:
        """Part of a summary of a book or film, cut so that a question's answer stands in it."""
        draft, around = self._empty()
        passage = self.random.choice(self._summaries)
        _, _, at = self.random.choice(passage.asked)
        assert at is not None
        before = at - self.random.uniform(0, 0.8) * self.tokens * self.characters_per_token
        first = max((begin for begin in _beginnings(passage.text) if begin <= max(0, before)), default=0)
        start = draft.add(passage.text[first:]) - first
        within = (start + first, len(draft.text))
        for sentence in self.running.take(self.random, around) if len(draft.text) < around else ():
            draft.add(sentence)
        for question, answer, at in passage.asked:
            if at is not None and at >= first:
                draft.places.append(placed(question, answer, at, "narrative", (start, within[1])))
        draft.places = [replace(place, within=within) for place in draft.places]
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
        start = self._amid(draft, around, records[0].text + "\n\n")
        for record in records:
            self._ask_study(draft, record, start)
        return draft

    def _amid(self, draft: Draft, around: int, text: str) -> int:
        """Running text with a longer text at a random place; gives where that starts."""
        room = int(self.tokens * self.characters_per_token) - len(text.rstrip())
        before = self.random.uniform(0, max(0, room)) + draft.skip * self.characters_per_token
        start: int | None = None
        for sentence in self.running.take(self.random, around):
            if start is None and len(draft.text) + len(sentence) / 2 >= before:
                start = draft.add(text)
            draft.add(sentence)
        assert start is not None
        return start

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


@lru_cache(maxsize=256)
def _beginnings(text: str) -> tuple[int, ...]:
    """The characters at which the sentences of a text begin."""
    found = [0]
    for sentence in sentences(text):
        found.append(found[-1] + len(sentence))
    return tuple(found[:-1])


def _by_passage(records: list[StudyRecord]) -> list[list[StudyRecord]]:
    found: dict[int, list[StudyRecord]] = {}
    for record in records:
        found.setdefault(record.number, []).append(record)
    return list(found.values())
