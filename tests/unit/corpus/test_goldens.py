"""Laws of what never changes: facts, names and values of a seed are those that the published weights were trained on."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterable
from random import Random

import pytest

from mplus.corpus.facts import Fact, FactGenerator
from mplus.corpus.names import OTHER_KINDS, RELATION_KINDS, NameGenerator, confusable_pool
from mplus.corpus.values import ValueGenerator, kinds

pytestmark = pytest.mark.slow


def digest(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def lines_of(facts: Iterable[Fact]) -> list[str]:
    return [f"{f.subject}|{f.relation}|{f.value}|{f.statement}|{f.question}|{f.kind}" for f in facts]


@pytest.mark.parametrize(("seed", "expected"), [(0, "0d6e96b8773e159c"), (1, "cac107eda7a566a2"), (7, "b190d5263a93e5fa")])
def test_generated_facts_never_change(seed: int, expected: str) -> None:
    generator = FactGenerator(Random(seed))
    facts = generator.make(1500) + generator.make_own(500)
    assert digest([*lines_of(facts), *generator.speakers()]) == expected


@pytest.mark.parametrize(("seed", "expected"), [(0, "cacea2230ad5a958"), (5, "7bb6ff083a84f52c")])
def test_facts_of_a_confusable_pool_never_change(seed: int, expected: str) -> None:
    keys: deque[str] = deque(maxlen=2000)
    pool = confusable_pool(Random(seed))
    lines: list[str] = []
    for call in range(3):
        generator = FactGenerator(Random(10 * seed + call), facts_per_subject=1.5 + call, focus=0.8, known_keys=keys, pool=pool)
        lines += lines_of(generator.make(500))
    assert digest([*lines, *keys]) == expected


def test_values_and_names_of_every_kind_never_change() -> None:
    rng = Random(3)
    names = NameGenerator(rng)
    values = ValueGenerator(rng, names)
    lines = [values.draw(kind) for kind in sorted(kinds()) for _ in range(200)]
    lines += [names.subject(kind).name for kind in RELATION_KINDS + OTHER_KINDS for _ in range(200)]
    assert digest(lines) == "b50843596a9dccaf"
