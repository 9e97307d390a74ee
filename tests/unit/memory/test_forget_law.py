"""The law of forgetting: after it a memory is, bit for bit, the one that never read what it forgot; merging is reading both by time.

Random sequences of writes, forks, saves, forgets, replacements and merges against a plain list of what was written. ``make test`` tries the
same few dozens every time, on kinds of memory in which every two properties occur together; thousands of fresh ones on any kind with
``python -m tests.unit.memory.test_forget_law --examples 3000``.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from mplus import Memory, MPlusModel
from mplus.errors import InputError
from mplus.index.int8_keys import Int8Keys
from mplus.index.pca_sketch import PcaSketch
from mplus.memory import log
from mplus.memory.stores.disk import DiskStorage
from tests import tiny
from tests.tiny import contents, ids, same_contents, search_from

pytestmark = pytest.mark.slow

EXAMPLES = 32
SEED = 5
SEGMENT_ROWS = 12
NAMES: tuple[str | None, ...] = (None, *"abcdefghij")  # more than the sources whose newest rows a memory keeps at hand
SIZES = (1, 2, 3, 5, 8, 9, 16, 24, 40)
MEMORIES = 3


class Kind(NamedTuple):
    """How a memory keeps what it reads."""

    setup: str
    memory_format: str
    ltm_dtype: str
    ltm_capacity: int
    ltm: bool
    on_disk: bool
    indexed: bool

    @property
    def options(self) -> dict[str, Any]:
        return {
            "memory_format": self.memory_format,
            "ltm_dtype": self.ltm_dtype,
            "ltm_capacity": self.ltm_capacity,
            "ltm": self.ltm,
            "seed": SEED,
        }


KINDS = [
    Kind(setup, memory_format, dtype, capacity, ltm, on_disk, indexed)
    for setup in ("shared", "best_last", "recent", "per_layer", "mixed")
    for memory_format in ("kv", "hidden")
    for dtype in ("model", "bfloat16", "int8")
    for capacity in (16, 24, 400)
    for ltm in (True, False)
    for on_disk in (False, True)
    for indexed in (False, True)
    if not (dtype == "int8" and memory_format == "hidden") and not (indexed and not ltm) and (ltm or capacity == 24)
]


def covering(kinds: Sequence[Kind]) -> list[Kind]:
    """Few of the kinds: any two values of two fields that occur together in one of all occur together in one of these."""
    pairs = {kind: set(itertools.combinations(enumerate(kind), 2)) for kind in kinds}
    left, chosen = set[Any]().union(*pairs.values()), list[Kind]()
    while left:
        chosen.append(max(kinds, key=lambda kind: len(pairs[kind] & left)))
        left -= pairs[chosen[-1]]
    return chosen


class Written(NamedTuple):
    """One call of ``write``."""

    source: str | None
    tokens: tuple[int, ...]
    at: float


@dataclass
class Reader:
    """A memory, and the plain list of what it is to have read."""

    memory: Memory
    history: list[Written] = field(default_factory=list)

    @property
    def sources(self) -> list[str]:
        return list(dict.fromkeys(one.source or "" for one in self.history))


@functools.cache
def model_of(setup: str) -> MPlusModel:
    return tiny.tiny_model("llama", setup)


@contextmanager
def small_pieces(indexed: bool) -> Iterator[None]:
    """Slabs of a few rows, and first-stage indexes of a few, so that all that happens to large memories happens to these."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(log, "FIRST_SLAB_ROWS", 8)
        patch.setattr(log, "SLAB_ROWS", 32)
        if indexed:
            search_from(patch, 8, candidates=2)
            for index in (Int8Keys, PcaSketch):
                patch.setattr(index, "slab_rows", 16)
        yield


def text_of(size: int, seed: int) -> tuple[int, ...]:
    return tuple(ids(size, seed).tolist())


class Trial:
    """One sequence of steps over two or three memories of one kind."""

    def __init__(self, kind: Kind, directory: Path) -> None:
        self.kind, self.directory = kind, directory
        self.model = model_of(kind.setup)
        self.clock, self.number = itertools.count(1000), itertools.count()
        self.counts: Counter[str] = Counter()
        self.readers = [
            self.new_reader(),
            self.new_reader(),
        ]  # two that know nothing of each other, so that merging brings something

    def place(self) -> Path:
        """A directory that nobody has used."""
        return self.directory / str(next(self.number))

    def new_reader(self) -> Reader:
        """An empty memory."""
        store = DiskStorage(self.place(), segment_rows=SEGMENT_ROWS) if self.kind.on_disk else "ram"
        return Reader(self.model.new_memory(store=store, **self.kind.options))

    def reader(self, number: int) -> Reader:
        return self.readers[number % len(self.readers)]

    # -- steps -----------------------------------------------------------------------------------------------------

    def write(self, number: int, name: int, size: int, seed: int, share: bool) -> None:
        reader = self.reader(number)
        one = Written(NAMES[name], text_of(size, seed), float(next(self.clock)))
        assert reader.memory.write(list(one.tokens), one.source, at=one.at, share=share) == size
        reader.history.append(one)

    def fork(self, number: int) -> None:
        reader = self.reader(number)
        twin = Reader(reader.memory.fork(), list(reader.history))
        if len(self.readers) < MEMORIES:
            self.readers.append(twin)
        else:
            self.readers[(number + 1) % MEMORIES] = twin

    def save_and_load(self, number: int, where: str) -> None:
        reader, place = self.reader(number), self.place()
        reader.memory.save(place)
        stores: dict[str, Any] = {"as_saved": None, "ram": "ram", "own": place}
        store = DiskStorage(self.place(), segment_rows=SEGMENT_ROWS) if where == "other" else stores[where]
        reader.memory = Memory.load(place, self.model, store=store)

    def forget(self, number: int, picks: Sequence[int]) -> None:
        reader = self.reader(number)
        if not reader.sources:
            return
        gone = {reader.sources[pick % len(reader.sources)] for pick in picks}
        before = {one.name: one for one in reader.memory.sources()}
        report = reader.memory.forget(sorted(gone))
        assert report.exact and not report.reason and not report.beside and not report.pending
        assert report.tokens == sum(len(one.tokens) for one in reader.history if (one.source or "") in gone)
        for part in ("short_term", "long_term", "evicted"):
            assert getattr(report, part) == sum(getattr(before[name], part) for name in gone)
        self.counts["rows_reencoded"] += bool(report.rows_reencoded)
        reader.history = [one for one in reader.history if (one.source or "") not in gone]
        self.check(reader)

    def replace(self, number: int, pick: int, size: int, seed: int) -> None:
        reader = self.reader(number)
        if not reader.sources:
            return
        name = reader.sources[pick % len(reader.sources)]
        one = Written(name or None, text_of(size, seed), float(next(self.clock)))
        assert reader.memory.replace(name, list(one.tokens), at=one.at).exact
        reader.history = [*(old for old in reader.history if (old.source or "") != name), one]
        self.check(reader)

    def merge(self, number: int, step: int, prefix: str) -> None:
        reader, giver = self.reader(number), self.reader(number % len(self.readers) + 1 + step % (len(self.readers) - 1))
        theirs = [one._replace(source=f"{prefix}{one.source or ''}" or None) for one in giver.history]
        fresh = [one for one in theirs if one not in reader.history]
        if {one.source for one in fresh} & {one.source for one in reader.history}:
            before = contents(reader.memory)
            with pytest.raises(InputError, match="both memories have their own text"):
                reader.memory.merge(giver.memory, prefix=prefix)
            assert same_contents(before, contents(reader.memory))
            self.counts["merge refused"] += 1
            return
        reader.memory.merge(giver.memory, prefix=prefix)
        self.counts["merge of something"] += bool(fresh)
        reader.history = sorted([*reader.history, *fresh], key=lambda one: one.at)
        self.check(reader)

    # -- the law ---------------------------------------------------------------------------------------------------

    def check(self, reader: Reader) -> None:
        """The memory equals one that wrote its history into an empty one, in RAM, without rows of others; and so do both of what follows."""
        memory, twin = reader.memory, self.model.new_memory(**self.kind.options)
        for one in reader.history:
            twin.write(list(one.tokens), one.source, at=one.at, share=False)
        assert same_contents(contents(memory), contents(twin)), differing(memory, twin)
        assert [chunk.at for chunk in memory.ledger.chunks] == [chunk.at for chunk in twin.ledger.chunks]
        assert memory.sources() == twin.sources()
        prompt = ids(5, 77)
        read, wanted = (self.model(prompt[None], memory=one, return_retrieved=True) for one in (memory, twin))
        assert torch.equal(read.logits, wanted.logits)
        assert read.retrieved is not None and wanted.retrieved is not None
        for mine, right in zip(read.retrieved[0].layers, wanted.retrieved[0].layers, strict=True):
            for name in ("indices", "ages", "short", "positions"):
                assert torch.equal(getattr(mine, name), getattr(right, name)), name
        answers = [self.model.generate(prompt[None], memory=one, max_new_tokens=3, do_sample=False) for one in (memory, twin)]
        assert torch.equal(*answers)
        for name in reader.sources[:1] + reader.sources[-1:]:  # each goes on behind the newest of its own text
            after = [one.fork() for one in (memory, twin)]
            for fork in after:
                fork.write(list(text_of(3, 9)), name or None, at=1.0, share=False)
            assert same_contents(*map(contents, after)), f"after a further write of {name!r}"
        self.counts["checks"] += 1


def differing(first: Memory, second: Memory) -> str:
    one, two = contents(first), contents(second)
    names = [name for name in one.keys() & two.keys() if not same_contents({name: one[name]}, {name: two[name]})]
    return f"{names}: {[(one[name], two[name]) for name in names[:1]]}"


# -- sequences -------------------------------------------------------------------------------------------------------

MEMORY = st.integers(0, MEMORIES - 1)
PICK = st.integers(0, 9)
SIZE, TEXT = st.sampled_from(SIZES), st.integers(0, 3)
NAME = st.sampled_from([*range(len(NAMES)), *range(4), *range(4)])  # some sources are written again and again


def writes(memory: Any) -> Any:
    return st.tuples(st.just(Trial.write), memory, NAME, SIZE, TEXT, st.booleans())


WRITE = writes(MEMORY)
STEP = st.one_of(
    WRITE,
    WRITE,
    WRITE,
    WRITE,
    st.tuples(st.just(Trial.fork), MEMORY),
    st.tuples(st.just(Trial.save_and_load), MEMORY, st.sampled_from(["as_saved", "ram", "own", "other"])),
    st.tuples(st.just(Trial.forget), MEMORY, st.lists(PICK, min_size=1, max_size=3)),
    st.tuples(st.just(Trial.forget), MEMORY, st.lists(PICK, min_size=1, max_size=3)),
    st.tuples(st.just(Trial.replace), MEMORY, PICK, SIZE, TEXT),
    st.tuples(st.just(Trial.merge), MEMORY, MEMORY, st.sampled_from(["", "their/", "old/"])),
)
SHORTEST = 5
"""Steps of the shortest sequence there is."""
STEPS = st.tuples(
    st.lists(writes(st.just(0)), min_size=2, max_size=6),
    st.lists(writes(st.just(1)), min_size=1, max_size=4),
    st.lists(STEP, min_size=2, max_size=14),
).map(lambda parts: [*parts[0], *parts[1], *parts[2]])


def run(kind: Kind, steps: Sequence[tuple[Callable[..., None], *tuple[Any, ...]]]) -> Counter[str]:
    """All steps, then the law for every memory once more; gives how often each thing was done."""
    with small_pieces(kind.indexed), tempfile.TemporaryDirectory() as directory:
        trial = Trial(kind, Path(directory))
        for act, *arguments in steps:
            act(trial, *arguments)
            trial.counts[act.__name__] += 1
        for reader in trial.readers:
            trial.check(reader)
        trial.counts["sequences"] += 1
        return trial.counts


def options(examples: int, *, repeat: bool) -> Any:
    return settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=repeat,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
        print_blob=False,
    )


COVERING = covering(KINDS)
COVERING += covering([kind for kind in KINDS if kind not in COVERING])


@pytest.mark.parametrize(("number", "kind"), list(enumerate(COVERING[:EXAMPLES])))
def test_a_memory_that_forgot_is_the_one_that_never_read_it(number: int, kind: Kind) -> None:
    """One sequence for each kind; the shortest one of all, with which the library begins, is of no use."""

    @seed(number)
    @options(1, repeat=False)  # type: ignore[untyped-decorator]
    @given(steps=STEPS.filter(lambda steps: len(steps) > SHORTEST))
    def tried(steps: Any) -> None:
        run(kind, steps)

    tried()


def main() -> None:
    """Try fresh sequences and print what was done."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--examples", type=int, default=3000)
    wanted, counts, began = parser.parse_args().examples, Counter[str](), time.monotonic()

    @options(wanted, repeat=False)  # type: ignore[untyped-decorator]
    @given(kind=st.sampled_from(KINDS), steps=STEPS)
    def tried(kind: Kind, steps: Any) -> None:
        counts.update(run(kind, steps))

    tried()
    print(", ".join(f"{count:,} {name}" for name, count in sorted(counts.items())), f"in {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
