"""The one thread that computes: in each round a decode step of all answers, pieces of prompts, and a write pass if no prompt waits.

Knows no memory by name: who asks gives the memory itself.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, ParamSpec, TypeVar

import torch

from mplus.memory.memory import Memory
from mplus.model import MPlusModel
from mplus.server.answers import Answering, AnswerRequest
from mplus.server.errors import UnavailableError
from mplus.server.settings import ServerSettings
from mplus.server.texts import SourceText
from mplus.server.worker.changes import CHUNKS, Change, Changes
from mplus.server.worker.events import WorkerEvents, WorkerLoad
from mplus.server.worker.reads import Prompt, Reads, prompt_of
from mplus.trace.trace import Passage

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")
WRITE_EVERY = 4
"""Rounds after which writes have a pass though prompts wait."""


class Worker:
    """The only door to the model: answers, writes and short changes, in one thread called ``mplus-model``.

    Another thread may use the same model; it waits for the end of a pass, and the worker for it.

    Attributes:
        load: counts after the newest round.
    """

    def __init__(self, model: MPlusModel, settings: ServerSettings, events: WorkerEvents | None = None) -> None:
        self.model, self.settings, self.events = model, settings, events or WorkerEvents()
        self._reads = Reads(model, settings, self.events)
        self._changes = Changes(model, self.events)
        self.load = WorkerLoad()
        self._wake = threading.Condition()
        self._asked: deque[Callable[[], None]] = deque()
        self._drains = self._stops = False
        self._round = self._accepted = 0
        self._torch_threads: int | None = None
        self._thread = threading.Thread(target=self._run, name="mplus-model", daemon=True)

    # -- from any thread ---------------------------------------------------------------------------------------------

    def start(self, torch_threads: int | None = None) -> None:
        """Begin to work.

        Args:
            torch_threads: that a pass may use; default: as torch has it.
        """
        self._torch_threads = torch_threads
        self._thread.start()

    def stop(self, *, drain: bool = True, timeout_s: float | None = None) -> None:
        """End the thread; waits for it, so not from the event loop.

        Args:
            drain: first finish what was accepted; False: answers end as cancelled, writes as if they had never begun.
            timeout_s: of draining; what is left then ends as without.
        """
        with self._wake:
            self._drains, self._stops = True, not drain
            self._wake.notify()
        if not self._thread.is_alive():
            self._end_all()
            return
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            self.stop(drain=False)

    @property
    def waiting(self) -> int:
        """Answers and searches that wait or run."""
        return self._accepted - self._reads.ended

    def prompt_of(self, request: AnswerRequest, memory: Memory | None) -> Prompt:
        """Tokenise and check a request, so that what is wrong with it is said before it waits.

        Raises:
            MPlusError: says what is wrong with it.
        """
        return prompt_of(self.model, request, memory, self.settings)

    def answer(self, request: AnswerRequest, memory: Memory | None, answering: Answering, prompt: Prompt) -> None:
        """Answer a prompt from a memory as it is when the prompt's turn comes, or from the bare model.

        Args:
            prompt: from ``prompt_of``.
        """
        self._ask(lambda: self._reads.ask(request, memory, answering, prompt), read=True)

    def search(self, tenant: str, memory: Memory, query: str) -> Future[list[Passage]]:
        """The passages that a question would read, those that were scored first; nothing is decoded."""
        future: Future[list[Passage]] = Future()
        future.add_done_callback(lambda _: self.events.searched())
        self._ask(lambda: self._reads.search(tenant, memory, query, future), read=True)
        return future

    def write(
        self,
        tenant: str,
        memory: Memory,
        texts: Sequence[SourceText],
        *,
        share: bool | None = None,
        progress: Callable[[int], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> Future[list[int]]:
        """Write texts at the end of sources of a memory, with their notes, all of them or none. Gives the text tokens of each.

        Nothing of them is seen before all are written. Changes of one memory happen in the order in which they were asked for.

        Args:
            share: take rows of chunks that other memories hold; default: what the settings say.
            progress: called by the worker with the text tokens encoded so far.
            cancelled: asked by the worker between passes; True: nothing of them stays, and the future has an InputError.
        """
        future: Future[list[int]] = Future()
        change = Change(
            tenant=tenant,
            memories=[memory],
            future=future,
            texts=list(texts),
            share=self.settings.share if share is None else share,
            progress=progress,
            cancelled=cancelled,
        )
        self._ask(lambda: self._changes.add(change))
        return future

    def call(self, tenant: str, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run something short between two steps; see ``change`` for what changes or stores a memory."""
        return self.change(tenant, [], lambda: function(*args, **kwargs))

    def change(self, tenant: str, memories: Sequence[Memory], function: Callable[[], T]) -> Future[T]:
        """Run something short that changes or stores memories, behind the writes and changes of these that were asked for before."""
        future: Future[Any] = Future()
        change = Change(tenant=tenant, memories=list(memories), future=future, function=function)
        self._ask(lambda: self._changes.add(change))
        return future

    def _ask(self, request: Callable[[], None], *, read: bool = False) -> None:
        with self._wake:
            if self._drains:
                raise UnavailableError("the server stops; try again later", retry_after_s=5)
            self._accepted += read
            self._asked.append(request)
            self._wake.notify()

    # -- the thread --------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        if self._torch_threads is not None:
            torch.set_num_threads(self._torch_threads)
        while self._wait():
            try:
                self._do_round()
            except Exception as error:  # of the worker itself: what it was about cannot be told
                log.exception("a round of the worker failed; what was being done ends")
                self._reads.end_all(error)
                self._changes.end_all(error)
        self._end_all()

    def _wait(self) -> bool:
        """Wait for something to do; False: it is to end."""
        with self._wake:
            while not (self._asked or self._reads.is_busy or self._changes.is_busy or self._drains):
                self._wake.wait()
            while self._asked:
                self._asked.popleft()()
            return not self._stops and (self._reads.is_busy or self._changes.is_busy or not self._drains)

    def _do_round(self) -> None:
        self._round += 1
        reads, changes = self._reads, self._changes
        reads.end_cancelled()
        changes.run_short()
        reads.pass_prompts(self.settings.prefill_tokens)
        reads.decode()
        if len(changes.writing) and (not reads.has_prompts or self._round % WRITE_EVERY == 0):
            alone = CHUNKS * self.model.geometry.sizes.chunk_tokens
            changes.write(self.settings.prefill_tokens if reads.is_busy else alone)
        self.load = WorkerLoad(
            waiting=len(reads.waiting),
            prefilling=reads.prefilling,
            running=reads.running,
            writes=len(changes.writing),
            calls=len(changes.waiting),
        )
        self.events.load(self.load)

    def _end_all(self) -> None:
        with self._wake:
            while self._asked:
                self._asked.popleft()()
        self._reads.end_all()
        self._changes.end_all(UnavailableError("the server stops; try again later", retry_after_s=5))
