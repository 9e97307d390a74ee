"""The one thread that computes. First version: one thing after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

from mplus.errors import InputError
from mplus.inference.streaming import PieceStream
from mplus.memory.memory import Memory
from mplus.model import MPlusModel
from mplus.server.answers import Answering, AnswerRequest, AnswerResult
from mplus.server.settings import ServerSettings
from mplus.server.texts import SourceText
from mplus.server.worker.events import WorkerEvents
from mplus.trace.trace import Passage

P = ParamSpec("P")
T = TypeVar("T")


class Worker:
    """The only door to the model: answers, writes and short changes, in one thread called ``mplus-model``."""

    def __init__(self, model: MPlusModel, settings: ServerSettings, events: WorkerEvents | None = None) -> None:
        self.model, self.settings, self.events = model, settings, events or WorkerEvents()
        self._thread = ThreadPoolExecutor(1, "mplus-model")

    def start(self) -> None:
        """Begin to work."""

    def stop(self, *, drain: bool = True) -> None:
        """End the thread; waits for it.

        Args:
            drain: first finish what was accepted; False: answers end as cancelled, writes as if they had never begun.
        """
        self._thread.shutdown(cancel_futures=not drain)

    def answer(self, request: AnswerRequest, memory: Memory | None, answering: Answering) -> None:
        """Answer a prompt from a memory, or from the bare model; from any thread."""
        self._thread.submit(self._answer, request, memory, answering)

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
        """Write texts at the end of sources of a memory, all of them or none; from any thread. Gives the text tokens of each.

        Nothing of them is seen before all are written. Changes of one memory happen in the order in which they were asked for.

        Args:
            share: take rows of chunks that other memories hold; default: what the settings say.
            progress: called by the worker with the text tokens encoded so far.
            cancelled: asked by the worker between passes; True: nothing of them stays, and the future has an InputError.
        """

        def run() -> list[int]:
            twin = memory.fork()
            done = [twin.write(one.text, one.source, at=one.at, share=self.settings.share) for one in texts]
            if cancelled is not None and cancelled():
                raise InputError("this write was cancelled; nothing of it was kept")
            memory.become(twin.state)
            return done

        return self._thread.submit(run)

    def call(self, tenant: str, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run something short between two steps, from any thread; see ``change`` for what changes a memory."""
        return self._thread.submit(function, *args, **kwargs)

    def change(self, tenant: str, memories: Sequence[Memory], function: Callable[[], T]) -> Future[T]:
        """Run something short that changes or stores memories, behind the writes and changes of these that were asked for before."""
        return self._thread.submit(function)

    def search(self, tenant: str, memory: Memory, query: str, top_k: int) -> Future[list[Passage]]:
        """The passages that a query retrieves, best score first; from any thread."""

        def run() -> list[Passage]:
            answer = self.model.generate(query, memory=memory, trace=True, max_new_tokens=1)
            return list(answer.trace.passages)

        return self._thread.submit(run)

    def _answer(self, request: AnswerRequest, memory: Memory | None, answering: Answering) -> None:
        stream = PieceStream(self.model.tokenizer, answering.put)
        options: dict[str, Any] = {"max_new_tokens": request.sampling.max_tokens or 64, "streamer": stream}
        if memory is not None:
            options["trace"] = True
        try:
            if request.messages is not None:
                out: Any = self.model.chat(list(request.messages), memory=memory, **options)
            else:
                out = self.model.generate(request.prompt, memory=memory, **options)
            text = str(out)
            trace = out.trace if request.trace and memory is not None else None
            count = len(self.model.tokenizer(text)["input_ids"])
            answering.end(AnswerResult(text=text, finish="stop", prompt_tokens=0, completion_tokens=count, trace=trace))
        except BaseException as error:
            answering.fail(error)
