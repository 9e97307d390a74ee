"""Laws of the worker: answers as one by one, writes whole or not at all and in order, tenants in turn, faults stay where they are."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest

from mplus import Memory, MPlusModel
from mplus.errors import EmptyTextError, InputError, ReentryError
from mplus.inference.prefill import Prefill
from mplus.server.answers import Answering, AnswerRequest, AnswerResult, Sampling
from mplus.server.errors import BadRequestError, UnavailableError
from mplus.server.settings import ServerSettings
from mplus.server.texts import SourceText
from mplus.server.worker import Worker, WorkerEvents
from tests.tiny import contents, same_contents, text_model

T = TypeVar("T")
NOTES = ["The lamp is kept by Anna. ", "The boat is kept by Bert. ", "The door is kept by Carl. ", "The oven is kept by Dora. "]


class Seen(WorkerEvents):
    """The most rows of one step, and the order in which things happened."""

    def __init__(self) -> None:
        self.most = 0
        self.happened: list[str] = []

    def step(self, rows: int, seconds: float) -> None:
        self.most = max(self.most, rows)
        self.happened.append("step")

    def wrote(self, tokens: int, seconds: float) -> None:
        self.happened.append("wrote")

    def first_token(self, seconds: float) -> None:
        self.happened.append("first")


@pytest.fixture(scope="module")
def model() -> MPlusModel:
    return text_model(positions=1024, read_order="score")


@pytest.fixture
def worker(model: MPlusModel, tmp_path: Path) -> Iterator[Worker]:
    own = Worker(model, settings(tmp_path), Seen())
    yield own
    own.stop(drain=False)


def settings(home: Path, **changed: Any) -> ServerSettings:
    return ServerSettings(home=home, batch=4, prefill_tokens=32, **changed)


def memory_of(model: MPlusModel, number: int = 0) -> Memory:
    memory = model.new_memory()
    memory.write(NOTES[number] * 3, source="notes")
    return memory


def question(number: int = 0, *, tenant: str = "a", tokens: int = 10, **sampling: Any) -> AnswerRequest:
    messages = [{"role": "user", "content": f"Who keeps thing {number}?"}]
    return AnswerRequest(tenant=tenant, messages=messages, sampling=Sampling(max_tokens=tokens, **sampling), trace=True)


def expected(model: MPlusModel, request: AnswerRequest, memory: Memory | None) -> str:
    assert request.messages is not None
    return str(model.chat(list(request.messages), memory=memory, max_new_tokens=request.sampling.max_tokens, do_sample=False))


def run(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    return asyncio.run(asyncio.wait_for(main(), 120))


def ask(worker: Worker, request: AnswerRequest, memory: Memory | None, answering: Answering) -> None:
    worker.answer(request, memory, answering, worker.prompt_of(request, memory))


async def answers(worker: Worker, asked: list[tuple[AnswerRequest, Memory | None]]) -> list[AnswerResult]:
    """All of them at once."""
    running = []
    for request, memory in asked:
        answering = Answering(asyncio.get_running_loop())
        ask(worker, request, memory, answering)
        running.append(answering)
    return [await one.result() for one in running]


def worker_prompt(model: MPlusModel, request: AnswerRequest, memory: Memory) -> list[int]:
    assert request.messages is not None
    return model.reader.chat_row(list(request.messages), behind_memory=memory is not None)[0]


@contextmanager
def passes(model: MPlusModel, home: Path, prefill_tokens: int = 1024) -> Iterator[tuple[Worker, list[int]]]:
    """A worker that has not begun, and how many prompts begin to pass together."""
    sizes, begin = list[int](), Prefill.__init__

    def counted(self: Prefill, reader: Any, rows: Any, *args: Any, **kwargs: Any) -> None:
        sizes.append(len(rows))
        begin(self, reader, rows, *args, **kwargs)

    worker = Worker(model, ServerSettings(home=home, batch=8, prefill_tokens=prefill_tokens))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Prefill, "__init__", counted)
        yield worker, sizes


def together(
    worker: Worker, asked: Sequence[tuple[AnswerRequest, Memory | None]], answering: list[Answering] | None = None
) -> list[Any]:
    """Answers, or errors, to what waits when the worker begins; it is stopped at the end."""

    async def main() -> list[Any]:
        running = [] if answering is None else answering
        for request, memory in asked:
            running.append(Answering(asyncio.get_running_loop()))
            ask(worker, request, memory, running[-1])
        worker.start()
        return await asyncio.gather(*(one.result() for one in running), return_exceptions=True)

    try:
        return run(main)
    finally:
        worker.stop(drain=False)


def block(worker: Worker) -> tuple[threading.Event, Future[Any]]:
    """Hold the worker until the event is set, so that what is asked meanwhile waits together."""
    gate = threading.Event()
    return gate, worker.call("gate", lambda: gate.wait(60))


def test_answers_are_those_of_one_by_one_with_memories_and_without(model: MPlusModel, worker: Worker) -> None:
    memories: list[Memory | None] = [memory_of(model, 0), memory_of(model, 1), None, model.new_memory()]
    asked = [(question(number, tokens=4 + 3 * number), memories[number % 4]) for number in range(9)]
    wanted = [expected(model, request, memory) for request, memory in asked]
    gate, _ = block(worker)
    worker.start()

    async def main() -> list[AnswerResult]:
        asyncio.get_running_loop().call_later(0.1, gate.set)
        return await answers(worker, asked)

    results = run(main)
    assert [one.text for one in results] == wanted
    assert isinstance(worker.events, Seen) and worker.events.most > 1
    assert worker.waiting == 0
    for result, (request, memory) in zip(results, asked, strict=True):
        assert result.finish == "length" and result.completion_tokens == request.sampling.max_tokens
        assert result.prompt_tokens > 10
        assert (result.trace is not None) == (memory is not None)
        assert (result.memory_tokens > 0) == (memory is not None and memory.tokens_read > 0)
    assert results[1].trace is not None and "Bert" in "".join(one.text or "" for one in results[1].trace.passages)


def test_pieces_are_the_text_and_a_stop_string_ends_it(model: MPlusModel, worker: Worker) -> None:
    memory, whole = memory_of(model), ""
    whole = expected(model, question(tokens=40), memory)
    stop = next(letter for letter in whole[5:] if letter.isascii() and letter.isprintable() and letter != " ")
    worker.start()

    async def main() -> tuple[list[str], AnswerResult]:
        answering = Answering(asyncio.get_running_loop())
        ask(worker, question(tokens=40, stop=(stop,)), memory, answering)
        return [piece async for piece in answering], await answering.result()

    pieces, result = run(main)
    assert "".join(pieces) == result.text == whole.partition(stop)[0].rstrip()
    assert result.finish == "stop"


def test_a_prompt_that_cannot_be_answered_is_refused_before_it_waits(model: MPlusModel, worker: Worker) -> None:
    memory, most = memory_of(model), worker.settings.most_prompt_tokens
    wrong = {
        AnswerRequest(tenant="a", prompt=""): EmptyTextError,
        AnswerRequest(tenant="a"): BadRequestError,
        AnswerRequest(tenant="a", prompt="x" * (most + 1)): BadRequestError,
        AnswerRequest(tenant="a", prompt="x" * 1020): BadRequestError,
    }
    codes = []
    for request, kind in wrong.items():
        with pytest.raises(kind) as refused:
            worker.prompt_of(request, memory)
        codes.append(getattr(refused.value, "code", None))
    assert codes[2:] == ["context_length_exceeded"] * 2


def test_short_prompts_that_wait_pass_together_and_are_answered_as_alone(model: MPlusModel, tmp_path: Path) -> None:
    memories = [memory_of(model, number) for number in range(3)]
    asked = [(question(number), None if number == 4 else memories[number % 3]) for number in range(6)]
    wanted = [expected(model, request, memory) for request, memory in asked]
    with passes(model, tmp_path) as (worker, sizes):
        results = together(worker, asked)
    assert [result.text for result in results] == wanted
    assert sizes == [5, 1]  # that without a memory alone
    assert [result.trace is None for result in results] == [number == 4 for number in range(6)]
    alone = together(Worker(model, settings(tmp_path)), asked[1:2])[0]
    assert (results[1].prompt_tokens, results[1].memory_tokens) == (alone.prompt_tokens, alone.memory_tokens)
    assert results[1].trace == alone.trace


def test_prompts_that_cannot_pass_together_pass_alone_and_only_the_wrong_one_ends(
    model: MPlusModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memories = [memory_of(model, number) for number in range(3)]
    asked = [(question(number), memories[number]) for number in range(3)]
    wanted = [expected(model, request, memory) for request, memory in asked]
    advance = Prefill.advance

    def broken(self: Prefill, columns: int) -> int:
        if self.reading is not None and memories[1] in self.reading.memories:
            raise RuntimeError("this memory cannot be read")
        return advance(self, columns)

    monkeypatch.setattr(Prefill, "advance", broken)
    with passes(model, tmp_path) as (worker, sizes):
        first, second, third = together(worker, asked)
    assert sizes == [3, 1, 1, 1]
    assert [first.text, third.text] == [wanted[0], wanted[2]]
    assert isinstance(second, RuntimeError)


def test_long_prompts_do_not_pass_together(model: MPlusModel, tmp_path: Path) -> None:
    memory = memory_of(model)
    asked = [(question(number), memory) for number in range(4)]
    with passes(model, tmp_path, prefill_tokens=2 * len(worker_prompt(model, asked[0][0], memory))) as (worker, sizes):
        together(worker, asked)
    assert sizes == [2, 2]


def test_who_goes_leaves_the_others_of_the_pass_their_answers(
    model: MPlusModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory, waiting = memory_of(model), list[Answering]()
    wanted = expected(model, question(1), memory)
    search = Prefill._read

    def leaving(self: Prefill, request: Any) -> Any:
        waiting[0].cancel()
        return search(self, request)

    monkeypatch.setattr(Prefill, "_read", leaving)
    with passes(model, tmp_path) as (worker, sizes):
        gone, there = together(worker, [(question(0), memory), (question(1), memory)], waiting)
    assert sizes == [2] and gone.finish == "cancelled" and there.text == wanted


def test_an_answer_that_nobody_wants_ends_with_what_there_is(model: MPlusModel, worker: Worker) -> None:
    memory = memory_of(model)
    worker.start()

    async def main() -> tuple[AnswerResult, AnswerResult, str]:
        long, never = (Answering(asyncio.get_running_loop()) for _ in range(2))
        ask(worker, question(tokens=700), memory, long)
        never.cancel()
        ask(worker, question(tokens=700), memory, never)
        first = await anext(aiter(long))
        long.cancel()
        return await long.result(), await never.result(), first

    result, never, first = run(main)
    assert result.finish == never.finish == "cancelled"
    assert result.text.startswith(first.strip()) and 0 < result.completion_tokens < 700
    assert never.text == ""


def test_tenants_take_turns(model: MPlusModel, worker: Worker) -> None:
    memory, done = memory_of(model), list[str]()
    gate, _ = block(worker)
    worker.start()

    async def main() -> None:
        async def one(tenant: str) -> None:
            await answers(worker, [(question(tenant=tenant, tokens=5), memory)])
            done.append(tenant)

        tasks = [asyncio.create_task(one("busy")) for _ in range(12)]
        await asyncio.sleep(0)
        tasks.append(asyncio.create_task(one("other")))
        await asyncio.sleep(0.05)
        gate.set()
        await asyncio.gather(*tasks)

    run(main)
    assert done.index("other") <= worker.settings.batch


def test_a_write_is_that_of_memory_write_and_is_seen_whole_or_not_at_all(model: MPlusModel, worker: Worker) -> None:
    own, twin = memory_of(model), memory_of(model)
    texts = [SourceText(source=f"s{number % 3}", text=NOTES[number % 4] * 4, at=5.0 + number) for number in range(5)]
    told, seen = list[int](), list[int]()
    before = own.tokens_read

    def progress(tokens: int) -> None:
        told.append(tokens)
        seen.append(own.tokens_read)

    worker.start()
    counts = worker.write("a", own, texts, progress=progress).result(60)
    assert counts == [twin.write(one.text, one.source, at=one.at) for one in texts]
    assert same_contents(contents(own), contents(twin))
    assert told == sorted(told) and told[-1] == sum(counts) and set(seen) == {before}


def test_a_note_is_written_with_its_text(model: MPlusModel, worker: Worker) -> None:
    memory = model.new_memory()
    worker.start()
    worker.write("a", memory, [SourceText(source="m", text="A word.", note={"role": "user"})]).result(60)
    assert memory.notes == {"m": {"role": "user"}}


def test_writes_with_the_memory_before_them_as_context_are_those_of_memory_write(tmp_path: Path) -> None:
    model = text_model(write_context="memory")
    worker = Worker(model, settings(tmp_path))
    memories, twins = [model.new_memory() for _ in range(2)], [model.new_memory() for _ in range(2)]
    texts = [SourceText(source=f"s{number}", text=note * 2, at=1.0) for number, note in enumerate(NOTES)]
    futures = [worker.write("a", memory, texts) for memory in memories]
    worker.start()
    for future, memory, twin in zip(futures, memories, twins, strict=True):
        assert future.result(60) == [twin.write(one.text, one.source, at=1.0) for one in texts]
        assert same_contents(contents(memory), contents(twin))
    worker.stop()


def test_a_write_that_is_cancelled_or_wrong_changes_nothing(model: MPlusModel, worker: Worker) -> None:
    memory = memory_of(model)
    before = contents(memory)
    worker.start()
    passes = iter([False, True])
    texts = [SourceText(source="x", text=NOTES[0] * 20)]
    with pytest.raises(InputError, match="cancelled"):
        worker.write("a", memory, texts, cancelled=lambda: next(passes, True)).result(60)
    with pytest.raises(EmptyTextError):
        worker.write("a", memory, [*texts, SourceText(source="y", text="  ")]).result(60)
    assert same_contents(contents(memory), before)
    assert worker.change("a", [memory], lambda: memory.write("More.", "z")).result(60) > 0


def test_changes_of_one_memory_happen_in_order_and_others_do_not_wait(model: MPlusModel, worker: Worker) -> None:
    memory, other, happened = model.new_memory(), model.new_memory(), list[str]()

    def note(name: str) -> None:
        happened.append(name)

    def forget() -> None:
        note("forget")
        memory.forget("one")

    def merge() -> None:
        note("merge")
        other.merge(memory)

    gate, _ = block(worker)
    futures: list[Future[Any]] = [
        worker.write("a", memory, [SourceText(source="one", text=NOTES[0] * 10)], progress=lambda _: note("one")),
        worker.change("a", [memory], forget),
        worker.write("a", memory, [SourceText(source="one", text=NOTES[1])], progress=lambda _: note("two")),
        worker.change("a", [memory, other], merge),
        worker.call("a", happened.append, "call"),
    ]
    gate.set()
    worker.start()
    for future in futures:
        future.result(60)
    assert happened[0] == "call" or "one" not in happened[: happened.index("call")][1:]
    rest = [one for one in happened if one != "call"]
    assert rest == ["one"] * rest.count("one") + ["forget", "two", "merge"]
    assert memory.text("one") == other.text("one") == NOTES[1]


def test_writes_go_on_while_answers_are_made_and_answers_do_not_wait_for_their_end(model: MPlusModel, worker: Worker) -> None:
    memory, other = memory_of(model), model.new_memory()
    gate, _ = block(worker)
    writes = [worker.write("w", other, [SourceText(source="long", text=NOTES[2] * 60)])]
    worker.start()

    async def main() -> None:
        asyncio.get_running_loop().call_later(0.05, gate.set)
        await answers(worker, [(question(number, tokens=20), memory) for number in range(3)])

    run(main)
    counts = writes[0].result(60)
    assert counts[0] > 1000 and isinstance(worker.events, Seen)
    happened = worker.events.happened
    assert "wrote" in happened[: happened.index("first", 2)] or happened.index("first") < len(happened) - 1 - happened[
        ::-1
    ].index("wrote")
    assert other.text("long") == NOTES[2] * 60


def test_a_memory_that_somebody_else_changes_meanwhile_is_not_overwritten(model: MPlusModel, worker: Worker) -> None:
    memory = model.new_memory()
    worker.start()

    def foreign(_: int) -> None:
        if memory.tokens_read == 0:
            thread = threading.Thread(target=lambda: memory.become(memory_of(model).state))
            thread.start()
            thread.join()

    with pytest.raises(ReentryError, match="changed while"):
        worker.write("a", memory, [SourceText(source="x", text=NOTES[0])], progress=foreign).result(60)
    assert [one.name for one in memory.sources()] == ["notes"]


def test_a_search_gives_the_passages_an_answer_reads(model: MPlusModel, worker: Worker) -> None:
    memory = memory_of(model, 1)
    worker.start()
    found = worker.search("a", memory, "Who keeps thing 0?").result(60)
    result = run(lambda: answers(worker, [(question(), memory)]))[0]
    assert result.trace is not None and found
    assert found == list(result.trace.passages) and found[0].score is not None
    with pytest.raises(EmptyTextError):
        worker.search("a", memory, "").result(60)


def test_a_function_that_fails_leaves_the_worker_working(worker: Worker) -> None:
    worker.start()
    with pytest.raises(ZeroDivisionError):
        worker.call("a", lambda: 1 // 0).result(60)
    assert worker.call("a", divmod, 7, 2).result(60) == (3, 1)


def test_a_step_that_fails_ends_only_the_rows_that_cannot_go_on(
    model: MPlusModel, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = memory_of(model)
    wanted = expected(model, question(tokens=30), memory)
    forward, decoder = model.parts.decoder.model.forward, model.parts.decoder

    def broken(*args: Any, **kwargs: Any) -> Any:
        out = forward(*args, **kwargs)
        if kwargs["input_ids"].shape == (2, 1):
            out.logits[1] = float("nan")
        return out

    monkeypatch.setattr(decoder.model, "forward", broken)
    gate, _ = block(worker)
    worker.start()

    async def main() -> list[Any]:
        asyncio.get_running_loop().call_later(0.1, gate.set)
        running = [Answering(asyncio.get_running_loop()) for _ in range(2)]
        for one in running:
            ask(worker, question(tokens=30), memory, one)
        return await asyncio.gather(*(one.result() for one in running), return_exceptions=True)

    good, bad = run(main)
    assert good.text == wanted
    assert isinstance(bad, FloatingPointError)


def test_stopping_finishes_what_was_accepted_or_gives_it_up(model: MPlusModel, tmp_path: Path) -> None:
    memory = memory_of(model)

    async def asked(worker: Worker, *, drain: bool) -> tuple[AnswerResult, Future[list[int]]]:
        answering = Answering(asyncio.get_running_loop())
        ask(worker, question(tokens=300), memory, answering)
        write = worker.write("a", memory, [SourceText(source=f"late {drain}", text=NOTES[3])])
        await anext(aiter(answering))
        await asyncio.to_thread(worker.stop, drain=drain)
        return await answering.result(), write

    for drain in (True, False):
        worker = Worker(model, settings(tmp_path))
        worker.start()
        result, write = run(lambda worker=worker, drain=drain: asked(worker, drain=drain))  # type: ignore[misc]
        assert result.finish == ("length" if drain else "cancelled")
        assert write.done()
        with pytest.raises(UnavailableError):
            worker.call("a", print)
        assert not worker._thread.is_alive()


def test_a_foreign_thread_gets_its_own_answers_meanwhile(model: MPlusModel, worker: Worker) -> None:
    memory, other = memory_of(model, 0), memory_of(model, 1)
    wanted = expected(model, question(tokens=20), memory)
    mine = expected(model, question(1), other)
    found = list[str]()
    worker.start()
    thread = threading.Thread(target=lambda: found.extend(expected(model, question(1), other) for _ in range(3)))

    async def main() -> list[AnswerResult]:
        thread.start()
        return await answers(worker, [(question(tokens=20), memory)] * 3)

    results = run(main)
    thread.join()
    assert [one.text for one in results] == [wanted] * 3
    assert found == [mine] * 3
