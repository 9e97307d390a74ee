"""Threads on one model: each must get its own answer, each memory must take its own text, callbacks must not disturb."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from random import Random
from typing import Any

import torch
from transformers import LogitsProcessor, StoppingCriteria

from mplus import Memory, MPlusModel
from tests.abuse import models
from tests.abuse.children import Hang, Round, run_rounds
from tests.abuse.counts import RIGHT, Counts
from tests.abuse.models import answer, bare_answer, ids
from tests.abuse.states import Course, difference, state_of

WAIT_S = 60.0


def run(seed: int, rounds: int, first: int = 0) -> Counts:
    """Each round does every row once."""
    return run_rounds(one_round, seed, rounds, first)


def one_round(this: Round) -> None:
    """All rows; after one that went wrong the next gets models of its own."""
    sys.setswitchinterval(this.random.choice([5e-3, 1e-3, 1e-4, 1e-5]))
    for row in ROWS:
        before = this.wrong
        row(this)
        if this.wrong > before:
            models.forget()


def together(*works: Callable[[], Any]) -> list[Any]:
    """Results of works done at once, exceptions among them.

    Raises:
        Hang: one does not end.
    """
    results: list[Any] = [None] * len(works)
    gate = threading.Barrier(len(works))

    def one(number: int) -> None:
        gate.wait()
        try:
            results[number] = works[number]()
        except BaseException as error:
            results[number] = error

    threads = [threading.Thread(target=one, args=(number,), daemon=True) for number in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
        if thread.is_alive():
            raise Hang("threads wait for each other")
    return results


def memory_of(model: MPlusModel, random: Random, tokens: int = 40) -> Memory:
    """A memory that has read random text."""
    memory = model.new_memory(seed=random.randrange(1000))
    memory.write(ids(tokens, random.randrange(1 << 30)), source="s")
    return memory


def judge(this: Round, row: str, got: Any, expected: Any, others: Any = ()) -> None:
    """Count one answer; `others` are what other threads must get."""
    if isinstance(got, BaseException):
        this.report_error(row, got)
    elif got == expected:
        this.report(row)
    elif got in others:
        this.report(row, "another's answer", f"{got}, expected {expected}")
    else:
        this.report(row, "wrong answer", f"{got}, expected {expected}")


def two_generates(this: Round, setup: str, row: str) -> None:
    """Two threads, two memories, one model."""
    model = models.model_of(setup)
    memories = [memory_of(model, this.random) for _ in range(2)]
    prompt = ids(this.random.randint(2, 9), this.random.randrange(1 << 30))
    alone = [answer(model, memory, prompt) for memory in memories]
    got = together(*(lambda memory=memory: answer(model, memory, prompt) for memory in memories))
    for number in range(2):
        judge(this, row, got[number], alone[number], [alone[1 - number]])


def shared_rules(this: Round) -> None:
    two_generates(this, "shared", "two generates, shared rules")


def per_layer_rules(this: Round) -> None:
    two_generates(this, "per_layer", "two generates, per-layer rules")


def write_beside_generate(this: Round) -> None:
    """One thread writes into a memory while another reads another one."""
    model = models.model_of("shared")
    written, asked = memory_of(model, this.random), memory_of(model, this.random)
    text, prompt = ids(24, this.random.randrange(1 << 30)), ids(4, this.random.randrange(1 << 30))
    alone, twin = answer(model, asked, prompt, 12), written.fork()
    twin.write(text)
    got = together(lambda: written.write(text), lambda: answer(model, asked, prompt, 12))
    judge_memory(this, "write beside generate: the memory", model, got[0], written, twin)
    judge(this, "write beside generate: the answer", got[1], alone)


def judge_memory(this: Round, row: str, model: MPlusModel, result: Any, memory: Memory, twin: Memory) -> None:
    """Count one write."""
    if isinstance(result, BaseException):
        this.report_error(row, result)
    elif found := difference(state_of(memory, model), state_of(twin, model)):
        this.report(row, "another memory", found)
    else:
        this.report(row)


def one_memory_written_and_read(this: Round) -> None:
    """A reader of the memory that is being written sees it before or after a chunk."""
    row = "one memory, written and read"
    model = models.model_of("shared")
    memory, prompt = memory_of(model, this.random), ids(4, this.random.randrange(1 << 30))
    course = Course(model, memory, ids(4 * model.geometry.sizes.chunk_tokens, this.random.randrange(1 << 30)))
    allowed = [answer(model, one, prompt) for one in course.memories.values()]
    got = together(lambda: memory.write(course.text, source="a"), lambda: answer(model, memory, prompt))
    judge_memory(this, f"{row}: the memory", model, got[0], memory, course.memories[len(course.text)])
    judge(this, f"{row}: the answer", got[1], got[1] if got[1] in allowed else allowed[0])


def fork_save_stats(this: Round) -> None:
    """Copies, saves and counts of a memory that is being written are of one moment."""
    row = "fork, save, stats during a write"
    model = models.model_of("shared")
    memory = memory_of(model, this.random)
    course = Course(model, memory, ids(5 * model.geometry.sizes.chunk_tokens, this.random.randrange(1 << 30)))
    place = this.place / "saved"

    def save() -> None:
        memory.save(place)

    def stats() -> list[Any]:
        return [memory.stats() for _ in range(3)]

    got = together(lambda: memory.write(course.text, source="a"), memory.fork, save, stats)
    if isinstance(got[0], BaseException):
        this.report_error(f"{row}: the write", got[0])
        return
    judge_memory(this, f"{row}: the write", model, got[0], memory, course.memories[len(course.text)])
    copies: dict[str, Callable[[], Memory]] = {"fork": lambda: got[1], "save": lambda: Memory.load(place, model)}
    for number, (name, copy) in enumerate(copies.items(), 1):
        if isinstance(got[number], BaseException):
            this.report_error(f"{row}: {name}", got[number])
            continue
        try:
            found = course.fault(copy())
        except Exception as error:
            found = f"{type(error).__name__}: {error}"
        this.report(f"{row}: {name}", f"torn {name}" if found else RIGHT, found or "")
    whole = [one.stats() for one in course.memories.values()]
    counted = got[3] if isinstance(got[3], list) else []
    if isinstance(got[3], BaseException):
        this.report_error(f"{row}: stats", got[3])
    for one in counted:
        known = any(
            (one.chunks, one.stm_tokens, one.ltm_tokens, one.sources) == (w.chunks, w.stm_tokens, w.ltm_tokens, w.sources)
            for w in whole
        )
        this.report(f"{row}: stats", RIGHT if known else "torn stats", str(one))


def two_writes_into_one_memory(this: Round) -> None:
    """Both texts are there whole, in some order of their chunks, and the memory is what that order gives."""
    row = "two writes into one memory"
    model = models.model_of("shared")
    memory = model.new_memory(seed=this.random.randrange(1000))
    texts = {name: ids(24, this.random.randrange(1 << 30)) for name in "ab"}
    got = together(*(lambda name=name: memory.write(texts[name], source=name) for name in "ab"))
    done = {name for name, result in zip("ab", got, strict=True) if not isinstance(result, BaseException)}
    for result in got:
        if isinstance(result, BaseException):
            this.report_error(row, result)
    twin, left = model.new_memory(seed=memory.seed), {name: list(text) for name, text in texts.items()}
    for chunk in memory.ledger.chunks:
        for source, tokens in chunk.sources:
            taken, left[source or ""] = left[source or ""][:tokens], left[source or ""][tokens:]
            twin.write(taken, source=source)
    lost = [name for name in done if left[name]]
    found = f"text of {lost} is lost" if lost else difference(state_of(memory, model), state_of(twin, model))
    this.report(row, "another memory" if found else RIGHT, found or "")


def several_readers(this: Round) -> None:
    """Threads that ask one memory different things."""
    model = models.model_of(this.random.choice(["shared", "per_layer", "output"]))
    memory = memory_of(model, this.random)
    prompts = [ids(this.random.randint(2, 9), this.random.randrange(1 << 30)) for _ in range(3)]
    alone = [answer(model, memory, prompt) for prompt in prompts]
    got = together(*(lambda prompt=prompt: answer(model, memory, prompt) for prompt in prompts))
    for one, expected in zip(got, alone, strict=True):
        judge(this, "one memory, three readers", one, expected, alone)


class Calls:
    """A streamer, logits processor or stopping criterion that does something else once in the middle of an answer."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self.work, self.calls, self.results = work, 0, list[Any]()

    def act(self) -> None:
        self.calls += 1
        if self.calls == 3:
            try:
                self.results.append(self.work())
            except Exception as error:
                self.results.append(error)

    def put(self, value: object) -> None:
        self.act()

    def end(self) -> None:
        """Of a streamer."""


class Processor(Calls, LogitsProcessor):
    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> Any:
        self.act()
        return scores


class Criterion(Calls, StoppingCriteria):
    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: Any) -> Any:
        self.act()
        return torch.zeros(input_ids.shape[0], dtype=torch.bool)


def callbacks(this: Round) -> None:
    """What is called in the middle of an answer asks, writes, copies or saves: refused in one sentence, or right."""
    model = models.model_of(this.random.choice(["shared", "per_layer"]))
    memory, other = memory_of(model, this.random), memory_of(model, this.random)
    prompt = ids(4, this.random.randrange(1 << 30))
    alone, inner = answer(model, memory, prompt), answer(model, other, prompt)
    plain = bare_answer(model, prompt)
    text = ids(16, this.random.randrange(1 << 30))
    twin = memory.fork()
    twin.write(text)
    after = answer(model, twin, prompt)
    works: dict[str, tuple[Callable[[], Any], Any]] = {
        "asks another memory": (lambda: answer(model, other, prompt), inner),
        "asks the same memory": (lambda: answer(model, memory, prompt), alone),
        "reads another memory": (lambda: model(torch.tensor([prompt]), memory=other).logits[0, -1].argmax().item(), inner[0]),
        "asks the bare model": (lambda: bare_answer(model, prompt), plain),
        "writes into the memory that is read": (lambda: memory.write(text), len(text)),
        "forks and asks": (lambda: answer(model, memory.fork(), prompt), alone),
        "saves": (lambda: memory.save(this.place / "inner"), None),
    }
    name = this.random.choice(list(works))
    work, right = works[name]
    kind = this.random.choice(["streamer", "logits_processor", "stopping_criteria"])
    call: Any = {"streamer": Calls, "logits_processor": Processor, "stopping_criteria": Criterion}[kind](work)
    row = f"a callback that {name}"
    try:
        options: dict[str, Any] = {kind: call if kind == "streamer" else [call]}
        got: Any = answer(model, memory, prompt, 6, **options)
    except Exception as error:
        got = error
    judge(this, f"{row}: the outer answer", got, alone, [inner])
    wrote = name.startswith("writes") and call.results == [len(text)]
    for result in call.results or [RuntimeError("the callback was not called")]:
        judge(this, f"{row}: the inner one", result, right, [alone])
    try:
        judge(this, f"{row}: the next answer", answer(model, memory, prompt), after if wrote else alone)
    except Exception as error:
        this.report_error(f"{row}: the next answer", error)


def progress_calls(this: Round) -> None:
    """What is told of the progress of a write asks and copies: refused in one sentence, or right; the write goes on."""
    model = models.model_of("shared")
    memory, other = memory_of(model, this.random), memory_of(model, this.random)
    course = Course(model, memory, ids(3 * model.geometry.sizes.chunk_tokens, this.random.randrange(1 << 30)))
    prompt = ids(4, this.random.randrange(1 << 30))
    alone = answer(model, other, prompt)
    allowed = [answer(model, one, prompt) for one in course.memories.values()]
    call = (
        Calls(lambda: answer(model, memory, prompt))
        if this.random.random() < 0.5
        else Calls(lambda: answer(model, other, prompt))
    )
    try:
        result: Any = memory.write(course.text, source="a", progress=lambda done: call.act())
    except Exception as error:
        result = error
    judge_memory(this, "a progress call that asks: the memory", model, result, memory, course.memories[len(course.text)])
    for got in call.results:
        expected = got if got in [*allowed, alone] else alone
        judge(this, "a progress call that asks: the answer", got, expected)


def streamed_while_another_asks(this: Round) -> None:
    """The usual way to stream: an answer runs in a thread while the main one takes its tokens, and asks something itself."""
    model = models.model_of("shared")
    memory, other = memory_of(model, this.random), memory_of(model, this.random)
    prompt = ids(4, this.random.randrange(1 << 30))
    alone, inner = answer(model, memory, prompt, 16), answer(model, other, prompt)
    begun = threading.Event()

    class Streamer(Calls):
        def act(self) -> None:
            begun.set()

    def second() -> Any:
        begun.wait(WAIT_S)
        return answer(model, other, prompt)

    got = together(lambda: answer(model, memory, prompt, 16, streamer=Streamer(lambda: None)), second)
    judge(this, "an answer that streams while another asks", got[0], alone, [inner])
    judge(this, "an answer that streams while another asks", got[1], inner, [alone])


def everything_at_once(this: Round) -> None:
    """Four threads that do anything a model offers, each on a memory of its own."""
    model = models.model_of(this.random.choice(["shared", "per_layer", "output", "recent"]))
    prompt, text = ids(4, this.random.randrange(1 << 30)), ids(24, this.random.randrange(1 << 30))
    table = torch.tensor([prompt])

    def steps(memory: Memory) -> dict[str, Callable[[], Any]]:
        def written() -> Any:
            memory.write(text)
            return answer(model, memory, prompt)

        def many() -> Any:
            twins = [memory.fork(), memory.fork()]
            model.write_many(twins, [text[:16], text])
            return [answer(model, twin, prompt, 3) for twin in twins]

        return {
            "generate": lambda: answer(model, memory, prompt),
            "write and generate": written,
            "write_many": many,
            "forward": lambda: model(table, memory=memory).logits.argmax(-1).tolist(),
            "no memory": lambda: answer(model, None, prompt),
            "log_likelihood": lambda: [round(float(v), 2) for v in model.log_likelihood([prompt], [text[:3]], memory=memory)[0]],
            "untouched": lambda: bare_answer(model, prompt),
        }

    memories = [memory_of(model, this.random) for _ in range(4)]
    names = [this.random.choice(list(steps(memories[0]))) for _ in memories]
    alone = [steps(memory.fork())[name]() for memory, name in zip(memories, names, strict=True)]
    got = together(*(steps(memory)[name] for memory, name in zip(memories, names, strict=True)))
    for name, one, expected in zip(names, got, alone, strict=True):
        judge(this, f"everything at once: {name}", one, expected)


ROWS = (
    shared_rules,
    per_layer_rules,
    write_beside_generate,
    one_memory_written_and_read,
    fork_save_stats,
    two_writes_into_one_memory,
    several_readers,
    callbacks,
    progress_calls,
    streamed_while_another_asks,
    everything_at_once,
)
