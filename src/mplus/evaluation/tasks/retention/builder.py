"""The paper's retention experiment: a passage, then text of other articles, then a question about the passage. Knows no model.

One stream serves all samples: asking changes no memory, so the sample whose passage ended d tokens ago is asked as the stream
goes by, and the same sample is asked at every distance. Everything behind a passage is of other articles: a stream holds at
most one passage of an article, and none of its distractors are of a sampled article. What does not fit goes into another pass.

Asked are questions with an answer that stands in the passage, is short, and does not stand in the question.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import cycle
from pathlib import Path
from random import Random
from typing import Final, Literal

from pydantic import Field

from mplus.corpus.passages import MAX_ANSWER_TOKENS, Passage, PassageFile, PassageQuestion, article_key, read_passages
from mplus.corpus.splits import nq_split
from mplus.errors import InputError
from mplus.evaluation.schedule.distances import Distances, Texts, passage_tolerance
from mplus.evaluation.schedule.query_points import QueryWindow, choose_query_points
from mplus.evaluation.schedule.stream import Encode, EvalStream, Question, ScheduledQuestion, Span, Unit, cut_chunks, units_of
from mplus.evaluation.scoring.text_match import contains_answer
from mplus.evaluation.tasks.context import Settings, StreamSource, TaskContext
from mplus.evaluation.tasks.left_out import LeftOut

log = logging.getLogger(__name__)

DEFAULT_DISTANCES: Final = (0, 4000, 16_000, 64_000, 160_000)
DEFAULT_PER_PASSAGE: Final = 4
DEFAULT_LIMIT: Final = 100


class RetentionSettings(Settings):
    """Settings of the task file; see ``RetentionTask``.

    Attributes:
        distractors: files of more text.
    """

    distances: Distances = DEFAULT_DISTANCES
    distractors: Texts = ()
    per_passage: int = Field(default=DEFAULT_PER_PASSAGE, ge=1)
    max_answer_tokens: int | None = Field(default=None, ge=1)
    nq_half: Literal["eval", "all"] = "eval"


def streams(settings: RetentionSettings, context: TaskContext) -> list[StreamSource]:
    """One stream per pass over the sampled articles."""
    files = context.files()
    task = RetentionTask(
        data=read_passages(files[0]),
        distractors=[read_passages(file) for file in (*files[1:], *map(Path, settings.distractors))],
        distances=settings.distances,
        limit=DEFAULT_LIMIT if context.limit is None else context.limit,
        per_passage=settings.per_passage,
        max_answer_tokens=settings.max_answer_tokens,
        nq_half=settings.nq_half,
        seed=context.seed,
        message=context.task.message,
        left_out=context.left_out,
    )
    scripts = task.scripts(context.encode, chunk_tokens=context.chunk_tokens, min_tokens=context.min_tokens)
    return [
        StreamSource(name=f"pass {n} of {len(scripts)}", seed=context.seed, script=script) for n, script in enumerate(scripts, 1)
    ]


@dataclass(frozen=True, kw_only=True)
class RetentionTask:
    """Passages, distracting text behind them, and the questions about them.

    Attributes:
        data: passages with questions.
        distractors: more text to put behind them.
        distances: tokens behind the passage; 0 is right after it.
        limit: samples (questions) at most.
        per_passage: questions about one passage at most.
        nq_half: which articles of a Natural Questions file are asked about; "eval" are those the default model never trained on.
        message: how a question is asked.
        max_answer_tokens: samples whose shortest answer is longer are left out; None: 3, for Natural Questions 4 (paper).
        left_out: gets the questions that are not asked.
    """

    data: PassageFile
    distractors: Sequence[PassageFile] = ()
    distances: Sequence[int] = DEFAULT_DISTANCES
    limit: int = 100
    per_passage: int = DEFAULT_PER_PASSAGE
    max_answer_tokens: int | None = None
    nq_half: Literal["eval", "all"] = "eval"
    seed: int = 0
    message: Callable[[str], str] = str
    left_out: LeftOut = field(default_factory=LeftOut)

    def scripts(self, encode: Encode, *, chunk_tokens: int, min_tokens: int) -> list[EvalStream]:
        """One stream per pass, each to be read by a memory of its own.

        Args:
            encode: token ids of a text, without special tokens.
            chunk_tokens: largest chunk.
            min_tokens: shortest chunk, if it can be helped.

        Raises:
            InputError: a number is out of range, no sample is left, or there is no text of other articles.
        """
        if self.limit < 1 or self.per_passage < 1:
            name = "limit" if self.limit < 1 else "questions per passage"
            raise InputError(f"{name} is {min(self.limit, self.per_passage)}, expected 1 or more")
        if not self.distances or min(self.distances) < 0:
            raise InputError(f"distances are {list(self.distances)}, expected at least one, none below 0")
        rng = Random(f"mplus retention {self.seed}")
        passes = self._passes(self._samples(encode), rng)
        asked = sum(len(passage.questions) for chosen in passes for passage in chosen)
        if asked < self.limit:
            log.warning("'%s' has %d samples with short answers; %d were asked for", self.data.path, asked, self.limit)
        return [_Pass(self, chosen, rng, encode).script(chunk_tokens, min_tokens) for chosen in passes]

    def _samples(self, encode: Encode) -> list[Passage]:
        """Passages with those of their questions that have a short answer standing in them."""
        longest = MAX_ANSWER_TOKENS[self.data.form] if self.max_answer_tokens is None else self.max_answer_tokens
        kept = []
        self.left_out.take("the data say that it has no answer", list(self.data.unanswerable))
        halved = self.data.form == "natural_questions" and self.nq_half == "eval"
        for passage in self.data.passages:
            if halved and nq_split(passage.article) != "eval":
                self.left_out.take(
                    "of an article of the half that the default model was trained on", [one.id for one in passage.questions]
                )
                continue
            asked = []
            for one in map(_not_given_away, passage.questions):
                reason = _reason_against(one, passage.text, encode, longest)
                if reason is None:
                    asked.append(one)
                else:
                    self.left_out.add(reason, one.id)
            if asked:
                kept.append(replace(passage, questions=tuple(asked)))
        if not kept:
            why = f" ({self.left_out})" if self.left_out else ""
            raise InputError(
                f"'{self.data.path}' has no question with an answer of at most {longest} tokens that stands in its passage{why}; "
                "give another file, or allow longer answers with --max-answer-tokens"
            )
        return kept

    def _passes(self, samples: list[Passage], rng: Random) -> list[list[Passage]]:
        """Samples, one passage of an article in each pass; half of the articles at most where distractors come from the others."""
        by_article: dict[str, list[Passage]] = {}
        for passage in samples:
            by_article.setdefault(article_key(passage.article), []).append(passage)
        everything = {article_key(passage.article) for passage in self.data.passages}
        room = len(by_article) if self.distractors else min(len(by_article), len(everything) // 2)
        if room < 1:
            raise InputError(
                f"'{self.data.path}' holds one article only, so there is no text of other articles; give some with --distractors FILE"
            )
        for passages in by_article.values():
            rng.shuffle(passages)
        queue = list(by_article)
        rng.shuffle(queue)
        left, passes = self.limit, list[list[Passage]]()
        while queue and left:
            chosen: list[Passage] = []
            for article in queue[:room]:
                passage = by_article[article].pop()
                asked = rng.sample(passage.questions, min(len(passage.questions), self.per_passage, left))
                left -= len(asked)
                self._note_rest(passage, asked)
                chosen.append(replace(passage, questions=tuple(asked)))
                if not left:
                    break
            passes.append(chosen)
            queue = [article for article in [*queue[room:], *queue[:room]] if by_article[article]]
        unread = [one.id for passages in by_article.values() for passage in passages for one in passage.questions]
        self.left_out.take(self._limit, unread)
        return passes

    @property
    def _limit(self) -> str:
        return f"beyond the limit of {self.limit} (--limit)"

    def _note_rest(self, passage: Passage, asked: Sequence[PassageQuestion]) -> None:
        """Note the questions of a passage that are not asked, for the passage has its share or the run all of its."""
        names = {one.id for one in asked}
        full = len(asked) == self.per_passage
        reason = f"more than {self.per_passage} about one passage (--questions-per-passage)" if full else self._limit
        self.left_out.take(reason, [one.id for one in passage.questions if one.id not in names])


@dataclass
class _Pass:
    """One pass in the making."""

    task: RetentionTask
    chosen: list[Passage]
    rng: Random
    encode: Encode
    units: list[Unit] = field(default_factory=list)
    questions: list[Question] = field(default_factory=list)
    articles: list[tuple[int, str]] = field(default_factory=list)
    tokens: int = 0

    def script(self, chunk_tokens: int, min_tokens: int) -> EvalStream:
        """The stream in chunks, every question due at every distance."""
        distances = sorted(set(self.task.distances))
        others = self._distractors()
        distracting, used, once = cycle(others), 0, 0
        for passage in self.chosen:
            self._add_sample(passage)
            used, once = used + 1, once + self._add(next(distracting))
        sampled = self.questions[-1].end
        while self.tokens < sampled + distances[-1] + passage_tolerance(distances[-1]):
            tokens = self._add(next(distracting))
            used, once = used + 1, once + (tokens if used < len(others) else 0)
        if used > len(others):
            log.warning(
                "the text of other articles has %d tokens and is repeated to reach %d; give more with --distractors FILE",
                once,
                self.tokens,
            )
        due = [ScheduledQuestion(question, distance) for question in self.questions for distance in distances]
        windows = [self._window(one) for one in due]
        places, position = [], 0
        for unit in self.units:
            position += len(unit.ids)
            places.append(position)
        ends = {question.end for question in self.questions} if distances[0] == 0 else set()
        stops = choose_query_points(windows, ends, places, apart=min_tokens)
        script = EvalStream(cut_chunks(self.units, chunk_tokens, min_tokens, stops))
        for stop, one in sorted(zip(stops, due, strict=True), key=lambda pair: pair[0]):
            script.due.setdefault(stop, []).append(one)
        script.about = {"articles": self.articles, "repeated": used > len(others)}
        return script

    def _window(self, due: ScheduledQuestion) -> QueryWindow:
        best, tolerance = due.question.end + due.distance, passage_tolerance(due.distance)
        return QueryWindow(max(due.question.end, best - tolerance), best, min(self.tokens, best + tolerance))

    def _add(self, passage: Passage) -> int:
        """Append a text; returns its tokens."""
        before = self.tokens
        for _, unit in units_of(passage.text, self.encode, starts_paragraph=bool(self.units)):
            self.units.append(unit)
            self.tokens += len(unit.ids)
        self.articles.append((before, passage.article))
        return self.tokens - before

    def _add_sample(self, passage: Passage) -> None:
        start, first = self.tokens, len(self.units)
        parts = units_of(passage.text, self.encode, starts_paragraph=bool(self.units))
        self._add(passage)
        span = (start, self.tokens)
        number = len(self.questions)
        for asked in passage.questions:
            where = _place(asked, passage.text)
            self.questions.append(
                Question(
                    id=asked.id,
                    cluster=f"{passage.article}: {number}",
                    text=self.task.message(asked.text),
                    query=asked.text,
                    answers=asked.answers,
                    span=span,
                    answer_span=self._tokens_at(where, start, first, [text for text, _ in parts]),
                    passage=passage.text,
                    begins=start,
                )
            )

    def _tokens_at(self, where: Span, start: int, first: int, texts: list[str]) -> Span:
        """Token positions of characters of a passage whose sentences begin at unit ``first`` and position ``start``."""
        found = []
        for character in where:
            position, rest = start, character + len(texts[0]) - len(texts[0].lstrip())
            for text, unit in zip(texts, self.units[first:], strict=False):
                if rest <= len(text):
                    before = text[:rest].rstrip()  # a space belongs to the token behind it
                    position += len(self.encode(before)) if before else 0
                    break
                position, rest = position + len(unit.ids), rest - len(text)
            found.append(position)
        return found[0], max(found[1], found[0] + 1)

    def _distractors(self) -> list[Passage]:
        """Text of other articles: the rest of the file in random order, then the further files, plain text in its own order."""
        sampled = {article_key(passage.article) for passage in self.chosen}
        taken = {passage.text for passage in self.task.data.passages if article_key(passage.article) in sampled}
        usable: dict[str, Passage] = {}
        for file in (self.task.data, *self.task.distractors):
            passages = list(file.passages)
            if file.form == "text":
                start = self.rng.randrange(len(passages))
                passages = passages[start:] + passages[:start]
            else:
                self.rng.shuffle(passages)
            for passage in passages:
                if article_key(passage.article) not in sampled and passage.text not in taken:
                    usable.setdefault(passage.text, passage)
        if not usable:
            raise InputError(
                f"every text of '{self.task.data.path}' and of the distractors is of a sampled article; "
                "give text of other articles with --distractors FILE"
            )
        return list(usable.values())


def _not_given_away(asked: PassageQuestion) -> PassageQuestion:
    """Without the answers that the question itself contains: a model that repeats it would be right."""
    return replace(asked, answers=tuple(one for one in asked.answers if not contains_answer(asked.text, [one])))


def _short_answer(asked: PassageQuestion, text: str, encode: Encode, longest: int) -> str | None:
    """The first answer that stands in the text and has at most ``longest`` tokens as it stands there, behind a space."""
    return next((one for one in asked.answers if one in text and len(encode(" " + one)) <= longest), None)


def _reason_against(asked: PassageQuestion, text: str, encode: Encode, longest: int) -> str | None:
    """Why a question is not asked; None where it is."""
    if not asked.answers:
        return "the question itself contains its answer"
    if not any(one in text for one in asked.answers):
        return "its answer does not stand in its passage word for word"
    if _short_answer(asked, text, encode, longest) is None:
        return f"its answer has more than {longest} tokens (--max-answer-tokens)"
    return None


def _place(asked: PassageQuestion, text: str) -> Span:
    """Characters of an answer that stands in the text; where the file says, else the first place."""
    present = [one for one in asked.answers if one in text]
    lead = len(text) - len(text.lstrip())
    for one in present:
        if asked.answer_start is not None and text[asked.answer_start : asked.answer_start + len(one)] == one:
            return asked.answer_start - lead, asked.answer_start + len(one) - lead
    start = text.index(present[0])
    return start - lead, start + len(present[0]) - lead
