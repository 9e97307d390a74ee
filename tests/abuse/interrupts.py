"""Ctrl-C at any line of a write, an answer, a save or a load, and by a real signal: the memory is of one moment, the next answer right."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import torch

import mplus
from mplus import Memory, MPlusModel
from tests.abuse import models
from tests.abuse.children import Round, run_rounds
from tests.abuse.counts import REFUSED, RIGHT, Counts, verdict_of
from tests.abuse.models import answer, ids
from tests.abuse.states import Course, State, difference, state_of, which

SOURCES = str(Path(mplus.__file__).parent)
INTERRUPTS = 12
"""Interrupts of one round, in one step of one memory."""


def run(seed: int, rounds: int, first: int = 0) -> Counts:
    """Each round interrupts one kind of step several times."""
    return run_rounds(one_round, seed, rounds, first)


class Lines:
    """Lines of the package that run, counted; what is to happen at the chosen one."""

    def __init__(self, at: int = 0, act: Callable[[], None] = lambda: None) -> None:
        self.count, self.at, self.act = 0, at, act
        self.where = ""

    def _call(self, frame: FrameType, event: str, argument: Any) -> Any:
        return self._line if frame.f_code.co_filename.startswith(SOURCES) else None

    def _line(self, frame: FrameType, event: str, argument: Any) -> Any:
        if event == "line":
            self.count += 1
            if self.count == self.at:
                self.where = f"{frame.f_code.co_filename[len(SOURCES) + 1 :]}:{frame.f_lineno}"
                self.act()
        return self._line

    @contextmanager
    def traced(self) -> Iterator[None]:
        """Count the lines that run inside."""
        sys.settrace(self._call)
        try:
            yield
        finally:
            sys.settrace(None)


def interrupt() -> None:
    """What Ctrl-C does."""
    raise KeyboardInterrupt


@contextmanager
def interrupted_at(line: int) -> Iterator[Lines]:
    """A KeyboardInterrupt at the given line, counted from here."""
    lines = Lines(line, interrupt)
    with lines.traced():
        yield lines


@contextmanager
def interrupted_after(delay_s: float) -> Iterator[Lines]:
    """A KeyboardInterrupt from a signal."""
    lines = Lines()

    def handler(number: int, frame: FrameType | None) -> None:
        if frame is not None:
            lines.where = f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}, by a signal"
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, max(delay_s, 1e-5))
        yield lines
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class Attack(Protocol):
    """A step that is interrupted."""

    name: str

    def prepared(self) -> Any:
        """What the step is done to, each time anew where the step changes it."""

    def step(self, subject: Any) -> None:
        """What is interrupted."""

    def fault(self, subject: Any) -> str | None:
        """What is wrong afterwards; None if nothing is."""


def one_round(this: Round) -> None:
    """One kind of step on one setup."""
    models.use_small_segments()
    setup = this.random.choice(["shared", "shared", "per_layer", "output", "recent"])
    model = models.model_of(setup)
    kinds: list[Callable[[Round, MPlusModel], Attack]] = [Writing, Writing, Writing, Answering, Saving, Loading, WritingMany]
    attack = this.random.choice(kinds)(this, model)
    lines, begun = Lines(), time.perf_counter()
    with lines.traced():
        attack.step(attack.prepared())
    begun = time.perf_counter()
    attack.step(attack.prepared())
    took_s = time.perf_counter() - begun
    plain, bystander, prompt = Plain(model), model.new_memory(seed=5), ids(4, 77)
    bystander.write(ids(40, 78))
    expected = answer(model, bystander, prompt)
    for _ in range(INTERRUPTS):
        before, subject = this.wrong, attack.prepared()
        by_signal = this.random.random() < 0.4
        how = (
            interrupted_after(this.random.uniform(0, took_s))
            if by_signal
            else interrupted_at(this.random.randint(1, lines.count))
        )
        row, where = f"{attack.name}, {'by a signal' if by_signal else 'at a line'}", ""
        try:
            with how as place:
                attack.step(subject)
        except KeyboardInterrupt:
            pass
        except BaseException as error:
            this.report_error(row, error, f"at {place.where}: ")
            continue
        where = f"{setup}, at {place.where or 'no line: it was done'}: "
        try:
            fault = attack.fault(subject)
            fault = fault or plain.fault(model)
            if not fault and (got := answer(model, bystander, prompt)) != expected:
                fault = f"next answer: {got}, expected {expected}"
        except BaseException as error:
            fault = f"{verdict_of(error)[0].replace(REFUSED, 'refused')} afterwards: {type(error).__name__}: {error}"
        this.report(row, fault.split(":")[0] if fault else RIGHT, where + (fault or ""))
        if this.wrong > before:
            models.forget()
            return


class Plain:
    """The bare model, which must be after an interrupt what it was before."""

    def __init__(self, model: MPlusModel) -> None:
        self.prompt = torch.tensor([ids(6, 76)])
        self.logits, self.stock = self._read(model)

    def _read(self, model: MPlusModel) -> tuple[torch.Tensor, torch.Tensor]:
        logits = model(self.prompt).logits
        with model.untouched() as stock, torch.no_grad():
            return logits, stock(self.prompt).logits

    def fault(self, model: MPlusModel) -> str | None:
        logits, stock = self._read(model)
        same = torch.equal(logits, self.logits) and torch.equal(stock, self.stock)
        return None if same else "left on: the bare model gives other logits"


class Writing:
    """``memory.write``, into RAM or a directory."""

    name = "write"

    def __init__(self, this: Round, model: MPlusModel) -> None:
        self.model, self.place, self.number = model, this.place, 0
        self.on_disk = this.random.random() < 0.4
        self.seed = this.random.randrange(1000)
        self.first = ids(model.geometry.sizes.chunk_tokens * this.random.randint(0, 5) or 8, this.random.randrange(1 << 30))
        text = ids(model.geometry.sizes.chunk_tokens * this.random.randint(1, 4), this.random.randrange(1 << 30))
        memory = model.new_memory(seed=self.seed)
        memory.write(self.first)
        self.course = Course(model, memory, text)

    def prepared(self) -> Memory:
        self.number += 1
        store: Any = self.place / f"store-{self.number}" if self.on_disk else "ram"
        memory = self.model.new_memory(seed=self.seed, store=store)
        memory.write(self.first)
        return memory

    def step(self, subject: Memory) -> None:
        subject.write(self.course.text, source="a")

    def fault(self, subject: Memory) -> str | None:
        if fault := self.course.fault(subject):
            return fault
        now, place = state_of(subject, self.model), self.place / f"saved-{self.number}"
        subject.save(place)
        found = difference(state_of(Memory.load(place, self.model), self.model), now)
        return found and f"saved otherwise: {found}"


class WritingMany(Writing):
    """``model.write_many`` into two memories."""

    name = "write_many"

    def prepared(self) -> Any:
        return [super(WritingMany, self).prepared() for _ in range(2)]

    def step(self, subject: Any) -> None:
        self.model.write_many(subject, [self.course.text] * 2, sources=["a", "a"])

    def fault(self, subject: Any) -> str | None:
        return super().fault(subject[0]) or self.course.fault(subject[1])


class Answering:
    """``generate``, a forward pass, or likelihoods."""

    name = "generate"

    def __init__(self, this: Round, model: MPlusModel) -> None:
        self.model, self.way = model, this.random.randrange(3)
        self.memory = model.new_memory(seed=3)
        self.memory.write(ids(this.random.choice([12, 50]), this.random.randrange(1 << 30)))
        self.prompt = ids(5, this.random.randrange(1 << 30))
        self.expected, self.state = answer(model, self.memory, self.prompt), state_of(self.memory, model)

    def prepared(self) -> Memory:
        return self.memory

    def step(self, subject: Memory) -> None:
        if self.way == 0:
            answer(self.model, subject, self.prompt)
        elif self.way == 1:
            self.model(torch.tensor([self.prompt]), memory=subject, output_hidden_states=True, return_retrieved=True)
        else:
            self.model.log_likelihood([self.prompt], [self.prompt], memory=subject)

    def fault(self, subject: Memory) -> str | None:
        if (got := answer(self.model, subject, self.prompt)) != self.expected:
            return f"next answer: {got}, expected {self.expected}"
        found = difference(state_of(subject, self.model), self.state)
        return found and f"changed by a read: {found}"


class Saving:
    """``memory.save`` over an older state, from RAM or from the store that the memory lies in."""

    name = "save"

    def __init__(self, this: Round, model: MPlusModel) -> None:
        self.model, self.place, self.number = model, this.place, 0
        self.in_place = this.random.random() < 0.5
        self.texts = [ids(40, this.random.randrange(1 << 30)) for _ in range(2)]
        memory = model.new_memory(seed=4)
        self.states: list[State] = []
        for text in self.texts:
            memory.write(text, source="a")
            self.states.append(state_of(memory, model))

    def prepared(self) -> tuple[Memory, Path]:
        self.number += 1
        place = self.place / f"memory-{self.number}"
        memory = self.model.new_memory(seed=4, store=place if self.in_place else "ram")
        memory.write(self.texts[0], source="a")
        memory.save(place)
        memory.write(self.texts[1], source="a")
        return memory, place

    def step(self, subject: tuple[Memory, Path]) -> None:
        subject[0].save(subject[1])

    def fault(self, subject: tuple[Memory, Path]) -> str | None:
        memory, place = subject
        stored = state_of(Memory.load(place, self.model), self.model)
        if which(stored, self.states) is None:
            return f"neither old nor new: {difference(stored, self.states[1])}"
        if found := difference(state_of(memory, self.model), self.states[1]):
            return f"changed by a save: {found}"
        memory.save(place)
        found = difference(state_of(Memory.load(place, self.model), self.model), self.states[1])
        return found and f"saved again, otherwise: {found}"


class Loading(Saving):
    """``Memory.load``, into RAM or to go on in place; what is stored is the old state afterwards."""

    name = "load"

    def prepared(self) -> tuple[Memory, Path]:
        memory, place = super().prepared()
        memory.save(place)
        del memory
        return self.model.new_memory(), place

    def step(self, subject: tuple[Memory, Path]) -> None:
        Memory.load(subject[1], self.model, store=subject[1] if self.in_place else None)

    def fault(self, subject: tuple[Memory, Path]) -> str | None:
        memory = Memory.load(subject[1], self.model, store=subject[1] if self.in_place else None)
        found = difference(state_of(memory, self.model), self.states[1])
        return found and f"not what was stored: {found}"
