"""Random steps on several memories beside obvious twins, which are in RAM and only ever written one text after the other."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mplus import Memory, MPlusModel
from tests.abuse import models
from tests.abuse.children import Round, run_rounds
from tests.abuse.counts import RIGHT, Counts, verdict_of
from tests.abuse.models import answer, ids
from tests.abuse.states import difference, state_of
from tests.tiny import SETUPS

STEPS = 20
Text = tuple[tuple[int, ...], str | None]


def run(seed: int, rounds: int, first: int = 0) -> Counts:
    """One sequence a round."""
    return run_rounds(one_round, seed, rounds, first)


@dataclass
class Pair:
    """A memory and its history; the twin is made of that."""

    memory: Memory
    seed: int
    geometry: dict[str, Any]
    history: list[Text] = field(default_factory=list)

    def twin(self, model: MPlusModel) -> Memory:
        memory = model.new_memory(seed=self.seed, **self.geometry)
        for text, source in self.history:
            memory.write(list(text), source=source)
        return memory


def one_round(this: Round) -> None:
    """Twenty steps, each checked where it is cheap, all memories at the end."""
    models.use_small_segments()
    setup = this.random.choice(sorted(SETUPS))
    model = models.model_of(setup)
    sequence = Sequence(this, model, setup)
    done: list[str] = []
    try:
        for _ in range(STEPS):
            step = this.random.choice(sequence.steps)
            done.append(step.__name__)
            fault = step()
            if fault:
                break
        else:
            fault = next(filter(None, map(sequence.compared, sequence.pairs)), None)
    except Exception as error:
        verdict, says = verdict_of(error)
        fault = f"{verdict} in {done[-1]}: {says}"
    this.report(f"sequence, {setup}", fault.split(":")[0] if fault else RIGHT, f"{fault} after {' '.join(done)}")


class Sequence:
    """The memories of one sequence and the steps on them."""

    def __init__(self, this: Round, model: MPlusModel, setup: str) -> None:
        self.this, self.random, self.model = this, this.random, model
        self.geometry: dict[str, Any] = {"ltm_capacity": self.random.choice([400, 400, 40])}
        if setup in ("shared", "recent", "per_layer") and self.random.random() < 0.3:
            self.geometry["ltm_dtype"] = "int8"
        self.places = 0
        self.pairs = [self._new(), self._new()]
        self.steps = [self.write, self.write, self.write, self.write_many, self.fork, self.save_and_load, self.read, self.clear]

    def _place(self) -> Path:
        self.places += 1
        return self.this.place / f"memory-{self.places}"

    def _new(self) -> Pair:
        seed, store = self.random.randrange(1000), self._place() if self.random.random() < 0.4 else "ram"
        options = {"memory_format": "kv"} if "ltm_dtype" in self.geometry else {}
        geometry = {**self.geometry, **options}
        return Pair(self.model.new_memory(seed=seed, store=store, **geometry), seed, geometry)

    def _text(self) -> Text:
        size = self.random.choice([1, 3, self.random.randint(4, 30), self.random.randint(4, 60)])
        return tuple(ids(size, self.random.randrange(1 << 30))), self.random.choice(["a", "b", None])

    def write(self) -> str | None:
        pair, (text, source) = self.random.choice(self.pairs), self._text()
        taken = pair.memory.write(list(text), source=source)
        pair.history.append((text, source))
        return None if taken == len(text) else f"write says {taken}: of {len(text)} tokens"

    def write_many(self) -> str | None:
        texts = [self._text() for _ in self.pairs]
        taken = self.model.write_many([pair.memory for pair in self.pairs], [list(t) for t, _ in texts], [s for _, s in texts])
        for pair, text in zip(self.pairs, texts, strict=True):
            pair.history.append(text)
        return None if taken == [len(text) for text, _ in texts] else f"write_many says {taken}: expected {texts}"

    def fork(self) -> str | None:
        pair = self.random.choice(self.pairs)
        twin = Pair(pair.memory.fork(), pair.seed, pair.geometry, list(pair.history))
        self.pairs = [*self.pairs, twin][-3:]
        return self.invariant(twin)

    def save_and_load(self) -> str | None:
        pair, place = self.random.choice(self.pairs), self._place()
        before = state_of(pair.memory, self.model)
        pair.memory.save(place)
        if self.random.random() < 0.5:
            pair.memory.save(place)
        store: Any = self.random.choice([None, place, "ram", self._place()])
        pair.memory = Memory.load(place, self.model, store=store, check_rows=self.random.random() < 0.3)
        found = difference(state_of(pair.memory, self.model), before)
        return found and f"another memory after save and load: {found}"

    def read(self) -> str | None:
        pair, prompt = self.random.choice(self.pairs), ids(self.random.randint(1, 6), self.random.randrange(1 << 30))
        before = state_of(pair.memory, self.model)
        first, second = (answer(self.model, pair.memory, prompt, 3) for _ in range(2))
        if first != second:
            return f"two answers: {first} and {second}"
        found = difference(state_of(pair.memory, self.model), before)
        return found and f"changed by a read: {found}"

    def clear(self) -> str | None:
        pair = self.random.choice(self.pairs)
        if self.random.random() < 0.5:
            return self.invariant(pair)
        pair.memory.clear()
        pair.history.clear()
        return self.invariant(pair)

    def invariant(self, pair: Pair) -> str | None:
        """What holds of any memory at any time."""
        stats = pair.memory.stats()
        total = sum(len(text) for text, _ in pair.history)
        if stats.tokens_read + stats.pending_tokens != total:
            return f"tokens do not add up: {stats.tokens_read} + {stats.pending_tokens}, written {total}"
        if stats.stm_tokens > stats.stm_capacity or sum(stats.sources.values()) != stats.tokens_read:
            return f"counts contradict each other: {stats}"
        return None

    def compared(self, pair: Pair) -> str | None:
        """A memory and its twin."""
        if fault := self.invariant(pair):
            return fault
        found = difference(state_of(pair.memory, self.model), state_of(pair.twin(self.model), self.model))
        return found and f"another memory than its twin: {found}"
