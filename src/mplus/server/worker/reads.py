"""Answers and searches: prompts that wait, pass in pieces, and are decoded together. Used by the worker's thread alone."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from mplus.inference.answer_text import AnswerText
from mplus.inference.confidence import Judgement
from mplus.inference.continuation import Continuation
from mplus.inference.decode_batch import DecodeBatch
from mplus.inference.generation import CHAT_TOKENS
from mplus.inference.prefill import Prefill, passages_of
from mplus.inference.sampling import Sampler, end_tokens
from mplus.inference.tracing import is_refused
from mplus.memory.memory import Memory
from mplus.model import MPlusModel
from mplus.retrieval.protocol import planned_tokens
from mplus.server.answers import Answering, AnswerRequest, AnswerResult, Finish
from mplus.server.errors import BadRequestError, UnavailableError
from mplus.server.settings import ServerSettings
from mplus.server.worker.events import WorkerEvents
from mplus.server.worker.tenants import TenantQueue
from mplus.settings.calibration import NO_CALIBRATION, REFUSAL
from mplus.trace.trace import Passage, Trace

log = logging.getLogger(__name__)

PASSING = 4
"""Groups of prompts that pass at the same time: a short one does not wait for the end of a long one."""
PIECE_TOKENS = 64
"""Tokens of a piece at least: smaller ones cost the model's weights more often than they save time."""


@dataclass(frozen=True)
class Prompt:
    """A tokenised prompt.

    Attributes:
        query: that searches memory; None: tokens of the prompt.
        new_tokens: that an answer may have.
    """

    row: list[int]
    query: Sequence[Sequence[int]] | None
    new_tokens: int


def prompt_of(model: MPlusModel, request: AnswerRequest, memory: Memory | None, settings: ServerSettings) -> Prompt:
    """Tokenise and check a request; from any thread.

    Where the model has fewer positions left than tokens are wanted, the answer is as long as it can be.

    Raises:
        EmptyTextError, InputError, BadRequestError: says what is wrong with it.
    """
    reader, behind, query = model.reader, memory is not None, None
    if (request.messages is None) == (request.prompt is None):
        raise BadRequestError("a request has either messages or a prompt; give one of them")
    if request.messages is not None:
        row, query = reader.chat_row(list(request.messages), behind_memory=behind)
    else:
        (row,) = reader.text_rows([request.prompt or ""], behind_memory=behind)
    if request.is_judged and model.calibration is None:
        raise BadRequestError(
            NO_CALIBRATION, param="memory.confidence" if request.min_confidence is None else "memory.min_confidence"
        )
    if len(row) > settings.most_prompt_tokens:
        raise BadRequestError(
            f"the prompt has {len(row):,} tokens, this server takes {settings.most_prompt_tokens:,}; shorten it, or write the long "
            "text into memory and ask about it",
            code="context_length_exceeded",
        )
    slots = 0 if memory is None else 1 + len(memory.short_term) + planned_tokens(memory) + memory.pending_tokens
    limit = model.parts.decoder.positions
    if slots + len(row) + 1 > limit:
        raise BadRequestError(
            f"the prompt has {len(row):,} tokens; with {slots:,} of memory that is more than the model's {limit:,} positions; shorten it, "
            "or write the long text into memory and ask about it",
            code="context_length_exceeded",
        )
    wanted = request.sampling.max_tokens or CHAT_TOKENS
    return Prompt(row, query, min(wanted, settings.most_new_tokens, limit - slots - len(row)))


@dataclass(eq=False)
class _Read:
    """A prompt that is answered."""

    request: AnswerRequest
    memory: Memory | None
    answering: Answering
    prompt: Prompt
    asked_at: float = field(default_factory=time.monotonic)
    answer: Continuation | None = None
    prompt_tokens: int = 0
    memory_tokens: int = 0
    trace: Trace | None = None
    judgement: Judgement | None = None

    @property
    def columns(self) -> int:
        """Tokens that will pass, text that waits in the memory included."""
        return len(self.prompt.row) + (0 if self.memory is None else self.memory.pending_tokens)

    @property
    def kind(self) -> tuple[bool, bool, int]:
        """What prompts that pass together have in common: a memory or none, a query or none, how often they search."""
        return self.memory is None, self.prompt.query is None, self.request.rounds


@dataclass(eq=False)
class _Group:
    """Prompts that pass together.

    Attributes:
        reads: by number of the prompt; who does not want an answer any more is taken out, though its prompt passes on.
    """

    prefill: Prefill
    reads: dict[int, _Read]


@dataclass(eq=False)
class _Search:
    """A query whose passages are wanted."""

    memory: Memory
    query: str
    future: Future[list[Passage]]


class Reads:
    """All prompts of the worker.

    Attributes:
        ended: answers and searches that have ended since the beginning.
    """

    def __init__(self, model: MPlusModel, settings: ServerSettings, events: WorkerEvents) -> None:
        self.model, self.settings, self.events = model, settings, events
        self.waiting: TenantQueue[_Read | _Search] = TenantQueue()
        self.passing: deque[_Group] = deque()
        self._batches: dict[str | None, tuple[DecodeBatch, list[_Read]]] = {}
        self.ended = 0
        self._ends = end_tokens(model.parts.decoder.model.generation_config)

    @property
    def running(self) -> int:
        """Rows of the next step."""
        return sum(len(rows) for _, rows in self._batches.values())

    @property
    def prefilling(self) -> int:
        """Prompts that pass."""
        return sum(len(group.reads) for group in self.passing)

    @property
    def is_busy(self) -> bool:
        """Whether there is anything to do."""
        return bool(len(self.waiting) or self.passing or self.running)

    @property
    def has_prompts(self) -> bool:
        """Whether a prompt passes, or waits and could begin."""
        return bool(self.passing) or (bool(len(self.waiting)) and self.running < self.settings.batch)

    def ask(self, request: AnswerRequest, memory: Memory | None, answering: Answering, prompt: Prompt) -> None:
        """Put a prompt behind those of its tenant."""
        self.waiting.put(request.tenant, _Read(request, memory, answering, prompt))

    def search(self, tenant: str, memory: Memory, query: str, future: Future[list[Passage]]) -> None:
        """Put a search behind the prompts of its tenant."""
        self.waiting.put(tenant, _Search(memory, query, future))

    # -- a round -----------------------------------------------------------------------------------------------------

    def end_cancelled(self) -> None:
        """End the answers that nobody wants any more."""
        self._end_early(lambda read: read.answering.is_cancelled)

    def end_all(self, error: BaseException | None = None) -> None:
        """End every answer with what there is of it, or with an error; searches with the error."""
        self._end_early(lambda read: True, error)
        for one in self.waiting.take_all():
            if isinstance(one, _Search) and one.future.set_running_or_notify_cancel():
                one.future.set_exception(error or UnavailableError("the server stops; try again later", retry_after_s=5))
                self.ended += 1

    def pass_prompts(self, tokens: int) -> None:
        """Pass pieces of prompts, at most so many tokens together; short prompts that wait begin together."""
        left, served = tokens, 0
        while left > 0 and served < PASSING:
            has_room = len(self.passing) < PASSING and self._room > 0
            one = self.waiting.take() if has_room else self.waiting.take(lambda one: isinstance(one, _Search))
            if one is not None:
                left -= self._searched(one) if isinstance(one, _Search) else self._begin(self._beside(one, tokens))
                continue
            if not self.passing:
                return
            group = self.passing.popleft()
            left -= self._advance(group, min(left, max(PIECE_TOKENS, tokens // (1 + len(self.passing)))))
            served += 1

    def decode(self) -> None:
        """Give every running answer its next token."""
        for batch, rows in list(self._batches.values()):
            if not rows:
                continue
            began = time.monotonic()
            try:
                logits, failed = batch.step([read.answer.tokens[-1] for read in rows if read.answer is not None])
            except Exception as error:
                self._fail_batch(batch, error)
                continue
            self.events.step(len(rows), time.monotonic() - began)
            for row in reversed(range(len(rows))):  # a row that leaves is followed by the last one, which had its turn
                read = rows[row]
                try:
                    if row in failed:
                        raise failed[row]
                    assert read.answer is not None
                    read.answer.take(logits[row])
                except Exception as error:
                    self._fail(read, error)
                    self._leave(batch, rows, row)
                    continue
                if read.answer.ending is not None:
                    self._leave(batch, rows, row)
                    self._end(read, read.answer.ending)

    # -- inside ------------------------------------------------------------------------------------------------------

    @property
    def _room(self) -> int:
        """Prompts that may begin."""
        return self.settings.batch - self.running - self.prefilling

    def _beside(self, first: _Read, tokens: int) -> list[_Read]:
        """A prompt and those that wait and can pass with it, at most so many tokens together with their padding."""
        group, longest = [first], first.columns

        def fits(one: _Read | _Search) -> bool:
            if isinstance(one, _Search) or one.kind != first.kind:
                return False
            return (1 + len(group)) * max(longest, one.columns) <= tokens

        while len(group) < self._room and (one := self.waiting.take(fits)) is not None:
            assert isinstance(one, _Read)
            group.append(one)
            longest = max(longest, one.columns)
        return group

    def _begin(self, reads: list[_Read]) -> int:
        """Search the memories of prompts; gives the tokens that passed for it."""
        prompts = [read.prompt for read in reads]
        queries = [prompt.query[0] for prompt in prompts if prompt.query is not None]
        try:
            for read in reads:
                read.answer = self._answer(read)
            prefill = Prefill(
                self.model.reader,
                [prompt.row for prompt in prompts],
                [read.memory for read in reads if read.memory is not None] or None,
                queries=queries or None,
                rounds=reads[0].request.rounds,
                new_tokens=max(prompt.new_tokens for prompt in prompts),
                traced=[number for number, read in enumerate(reads) if read.request.trace],
                judged=[number for number, read in enumerate(reads) if read.request.is_judged],
            )
        except Exception as error:
            return self._one_by_one(reads, error)
        group = _Group(prefill, dict(enumerate(reads)))
        for number, read in group.reads.items():
            read.prompt_tokens, read.memory_tokens = prefill.tokens[number], prefill.memory_tokens[number]
            read.trace, read.judgement = prefill.traces.get(number), prefill.judgements.get(number)
        if prefill.is_done:
            self._passed(group)
        else:
            self.passing.append(group)
        searching = [len(prompt.row if prompt.query is None else prompt.query[0]) for prompt in prompts]
        return 0 if reads[0].memory is None else sum(searching)

    def _answer(self, read: _Read) -> Continuation:
        """What takes the tokens of an answer."""
        asked = read.request
        text = AnswerText(self.model.tokenizer, asked.sampling.stop, strip=asked.messages is not None)
        on_text = _withheld if asked.min_confidence else read.answering.put
        return Continuation(Sampler(asked.sampling, self.model.device), self._ends, read.prompt.new_tokens, text, on_text)

    def _one_by_one(self, reads: list[_Read], error: Exception) -> int:
        """Begin prompts alone that could not pass together, so that only those end that cannot pass; a prompt alone ends."""
        if len(reads) > 1:
            log.warning("%d prompts could not pass together, each is tried alone", len(reads), exc_info=error)
            return sum(self._begin([read]) for read in reads)
        for read in reads:
            self._fail(read, error)
        return 0

    def _searched(self, one: _Search) -> int:
        self.ended += 1
        if not one.future.set_running_or_notify_cancel():
            return 0
        try:
            row, query = query_of(self.model, one.query)
            trace = passages_of(self.model.reader, row, one.memory, query=query)
        except Exception as error:
            self.events.failed("search", error)
            one.future.set_exception(error)
            return 0
        one.future.set_result(list(trace.passages))
        return len(row)

    def _advance(self, group: _Group, tokens: int) -> int:
        """Pass a piece of a prompt of at most so many tokens, or a group of several, which is short; gives how many passed."""
        prompts = len(group.prefill)
        try:
            passed = prompts * group.prefill.advance(tokens if prompts == 1 else group.prefill.left)
        except Exception as error:
            return tokens + self._one_by_one(list(group.reads.values()), error)
        if group.prefill.is_done:
            self._passed(group)
        else:
            self.passing.append(group)
        return passed

    def _passed(self, group: _Group) -> None:
        """Choose the first tokens, and join the other answers."""
        for number, read in group.reads.items():
            self._join(group.prefill, number, read)
        group.prefill.release()

    def _join(self, prefill: Prefill, number: int, read: _Read) -> None:
        answer = read.answer
        assert answer is not None and prefill.logits is not None
        try:
            answer.take(prefill.logits[number])
        except Exception as error:
            self._fail(read, error)
            return
        self.events.first_token(time.monotonic() - read.asked_at)
        if answer.ending is not None:
            self._end(read, answer.ending)
            return
        batch, rows = self._batches.setdefault(prefill.adapter, (DecodeBatch(self.model.reader, prefill.adapter), []))
        try:
            batch.join(prefill, number)
        except Exception as error:
            self._fail(read, error)
            self._fail_batch(batch, error)
            return
        rows.append(read)

    def _leave(self, batch: DecodeBatch, rows: list[_Read], row: int) -> None:
        batch.leave(row)
        rows[row] = rows[-1]
        rows.pop()

    def _fail_batch(self, batch: DecodeBatch, error: BaseException) -> None:
        """Buffers found no room: they are not to be trusted, so their rows end."""
        for adapter, (one, rows) in list(self._batches.items()):
            if one is batch:
                del self._batches[adapter]
                for read in rows:
                    self._fail(read, error)

    def _end_early(self, ends: Callable[[_Read], bool], error: BaseException | None = None) -> None:
        ended = [one for one in self.waiting.take_all(lambda one: isinstance(one, _Read) and ends(one)) if isinstance(one, _Read)]
        for group in list(self.passing):
            for number in [number for number, read in group.reads.items() if ends(read)]:
                ended.append(group.reads.pop(number))
            if not group.reads:
                self.passing.remove(group)
        for batch, rows in self._batches.values():
            for row in reversed(range(len(rows))):
                if ends(rows[row]):
                    ended.append(rows[row])
                    self._leave(batch, rows, row)
        for read in ended:
            if error is not None:
                self._fail(read, error)
            else:
                if read.answer is not None:
                    read.answer.cut()
                self._end(read, "cancelled")

    def _end(self, read: _Read, finish: Finish) -> None:
        self.ended += 1
        answer = read.answer
        tokens = 0 if answer is None else len(answer.tokens)
        text, confidence = "" if answer is None else answer.text, None
        if read.judgement is not None and finish != "cancelled":
            confidence = read.judgement.of_answer(text)[1]
        refused = is_refused(confidence, read.request.min_confidence)
        text = REFUSAL if refused else text
        if read.request.min_confidence:
            read.answering.put(text)
        read.answering.end(
            AnswerResult(
                text=text,
                confidence=confidence,
                is_refused=refused,
                finish=finish,
                prompt_tokens=read.prompt_tokens,
                completion_tokens=tokens,
                memory_tokens=read.memory_tokens,
                trace=read.trace,
            )
        )
        self.events.answered(tokens, time.monotonic() - read.asked_at, finish)

    def _fail(self, read: _Read, error: BaseException) -> None:
        self.ended += 1
        self.events.failed("answer", error)
        read.answering.fail(error)


def _withheld(piece: str) -> None:
    """Take a piece of an answer that is judged when it is whole, and given then."""


def query_of(model: MPlusModel, query: str) -> tuple[list[int], Sequence[Sequence[int]] | None]:
    """Token ids of a query as a question that is asked alone, and of what searches."""
    if getattr(model.tokenizer, "chat_template", None) is not None:
        return model.reader.chat_row([{"role": "user", "content": query}], behind_memory=True)
    return model.reader.text_rows([query], behind_memory=True)[0], None
