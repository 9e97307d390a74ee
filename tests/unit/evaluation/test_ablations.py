"""Laws of ablations: each is what a memory of its own would be, all are filled by one write pass per chunk."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mplus import MPlusModel
from mplus.errors import GeometryError, InputError
from mplus.evaluation.ablations import Ablation, parse_ablations, parse_sizes
from mplus.evaluation.schedule.stream import Question, ScheduledQuestion
from mplus.evaluation.systems.factory import SystemFactory
from mplus.evaluation.systems.memory import MemorySystem
from tests import tiny


@pytest.fixture(scope="module")
def model() -> MPlusModel:
    """One token per byte; enough is found that other rules read other tokens."""
    return tiny.text_model(ltm_read_tokens=32)


def due() -> list[ScheduledQuestion]:
    asked = [
        Question(
            id=str(n), cluster=str(n), text=f"Who is {n}?", answers=("Ana",), span=(n, n + 9), answer_span=(n, n + 9), passage=""
        )
        for n in range(0, 320, 40)
    ]
    return [ScheduledQuestion(one, 0) for one in asked]


def filled(model: MPlusModel, factory: SystemFactory, tokens: int = 400) -> dict[str, Any]:
    readers, systems = factory.make(seed=3, questions=(), label="seed-3")
    text = torch.randint(97, 122, (tokens,), generator=torch.Generator().manual_seed(1)).tolist()
    size = model.geometry.sizes.chunk_tokens
    for start in range(0, tokens, size):
        for reader in readers:
            reader.read(text[start : start + size], start)
    return {system.name: system for system in systems}


def alone(model: MPlusModel, **changes: Any) -> MemorySystem:
    """A memory that took the same write passes: those of the measured one."""
    factory = SystemFactory(model=model, systems=["mplus"])
    made = filled(model, factory)["mplus"]
    ablation = Ablation(name="own", changes=changes)
    own = MemorySystem("own", model, model.new_memory(seed=3, **ablation.of_geometry))
    own.memory.retriever = ablation.retriever(model.parts.retriever)
    other = model.new_memory(seed=3)
    text = torch.randint(97, 122, (400,), generator=torch.Generator().manual_seed(1)).tolist()
    for start in range(0, 400, model.geometry.sizes.chunk_tokens):
        written = model.encode(text[start : start + model.geometry.sizes.chunk_tokens], other)
        other.update(written)
        own.memory.update(written)
    own.births = made.births
    return own


CHANGES: dict[str, dict[str, Any]] = {
    "k0": {"ltm_read_tokens": 16},
    "none": {"ltm_read_tokens": 0},
    "random": {"choice": "random"},
    "recent": {"choice": "recent"},
    "last": {"read_order": "score", "neighbour_blocks": 1},
    "n": {"stm_tokens": 96},
    "small": {"ltm_capacity": 64},
    "gone": {"ltm": False},
}


@pytest.fixture(scope="module")
def together(model: MPlusModel) -> dict[str, Any]:
    """All of them beside the measured memory, filled at once."""
    ablations = [Ablation(name=name, changes=changes) for name, changes in CHANGES.items()]
    return filled(model, SystemFactory(model=model, systems=["mplus", "memoryllm"], ablations=ablations))


@pytest.mark.parametrize("name", CHANGES)
def test_a_variant_answers_as_a_memory_of_its_own(model: MPlusModel, together: dict[str, Any], name: str) -> None:
    own = alone(model, **CHANGES[name])
    assert together[name].answer(due(), 6) == own.answer(due(), 6)


def test_what_only_reads_differently_shares_the_memory_and_what_does_not_has_its_own(together: dict[str, Any]) -> None:
    shares = {name for name, system in together.items() if system.geometry is not None}
    assert shares == {"k0", "none", "random", "recent", "last"}
    assert list(together) == ["mplus", "memoryllm", *CHANGES]


def test_asking_a_variant_leaves_the_memory_and_its_rules_alone(together: dict[str, Any]) -> None:
    memory = together["mplus"].memory
    before, geometry = tiny.contents(memory), memory.geometry
    for name in CHANGES:
        together[name].answer(due(), 2)
    assert tiny.same_contents(before, tiny.contents(memory)) and memory.geometry is geometry


def test_variants_differ_in_what_they_read(together: dict[str, Any]) -> None:
    read = {name: [one.read for one in together[name].answer(due(), 1)] for name in ("mplus", "k0", "random", "recent")}
    assert all(a.chance[0] == b.chance[0] / 2 for a, b in zip(read["k0"], read["mplus"], strict=True))
    assert read["random"] != read["mplus"] != read["recent"]
    held = together["mplus"].memory.long_term.births(0)
    newest = set(held.sort().values[-32:].tolist())
    for one, found in zip(due(), read["recent"], strict=True):
        assert found.right_read == [len(newest & set(range(*one.question.span)))]


def test_every_chunk_is_encoded_once_for_all(model: MPlusModel, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    encode = model.encode

    def counted(ids: list[int], memory: Any, **options: Any) -> Any:
        calls.append(memory)
        return encode(ids, memory, **options)

    monkeypatch.setattr(model, "encode", counted)
    ablations = [Ablation(name="gone", changes={"ltm": False}), Ablation(name="n", changes={"stm_tokens": 96})]
    made = filled(model, SystemFactory(model=model, systems=["mplus"], ablations=ablations))
    assert len(calls) == 13 and all(memory is made["mplus"].memory for memory in calls)


@pytest.mark.parametrize("source_tokens", [None, 128])
def test_a_variant_of_pooled_rows_reads_the_same_chunks_by_passes_of_its_own(
    model: MPlusModel, source_tokens: int | None
) -> None:
    changes = {"r2": {"tokens_per_row": 2}, "r2 of little": {"tokens_per_row": 2, "stm_tokens": 48}, "r4": {"tokens_per_row": 4}}
    ablations = [Ablation(name=name, changes=own) for name, own in changes.items()]
    factory = SystemFactory(model=model, systems=["mplus", "memoryllm"], ablations=ablations, source_tokens=source_tokens)
    made = filled(model, factory)
    for name, own in changes.items():
        (alone,) = filled(
            model, SystemFactory(model=model, systems=["mplus"], geometry=own, source_tokens=source_tokens)
        ).values()
        system = made[name]
        assert system.memory.now == -(-400 // own["tokens_per_row"])
        assert tiny.same_contents(tiny.contents(system.memory), tiny.contents(alone.memory))
        assert system.answer(due(), 4) == alone.answer(due(), 4)
    assert made["mplus"].memory.now == made["memoryllm"].memory.now == 400


def test_without_the_measured_memory_chunks_are_encoded_for_one_that_searches(model: MPlusModel) -> None:
    ablations = [Ablation(name="gone", changes={"ltm": False}), Ablation(name="random", changes={"choice": "random"})]
    made = filled(model, SystemFactory(model=model, systems=["memoryllm"], ablations=ablations))
    assert len(made["random"].memory.long_term) and "search" not in made["gone"].memory.layout.fields


def test_changes_come_on_top_of_the_measured_sizes(model: MPlusModel) -> None:
    factory = SystemFactory(
        model=model,
        systems=["mplus", "memoryllm"],
        geometry={"stm_tokens": 96},
        ablations=[Ablation(name="k0", changes={"ltm_read_tokens": 16})],
    )
    found = factory.geometries
    assert (found["mplus"].sizes.stm_tokens, found["mplus"].sizes.ltm_read_tokens) == (96, 32)
    assert (found["k0"].sizes.stm_tokens, found["k0"].sizes.ltm_read_tokens) == (96, 16)
    assert (found["memoryllm"].sizes.stm_tokens, found["memoryllm"].sizes.ltm) == (128, False)
    assert filled(model, factory)["k0"].memory.geometry.sizes.stm_tokens == 96


def test_variants_on_disk_live_in_places_of_their_own(model: MPlusModel, tmp_path: Path) -> None:
    ablations = [Ablation(name="n", changes={"stm_tokens": 96}), Ablation(name="k0", changes={"ltm_read_tokens": 16})]
    factory = SystemFactory(model=model, systems=["mplus"], ablations=ablations)
    in_ram, on_disk = filled(model, factory), filled(model, replace(factory, store=tmp_path / "ltm"))
    assert {path.name for path in (tmp_path / "ltm").iterdir()} == {"seed-3", "seed-3-n"}
    for name in ("mplus", "n", "k0"):
        assert in_ram[name].answer(due(), 4) == on_disk[name].answer(due(), 4)


def test_the_published_countdown_needs_a_memory_of_its_own() -> None:
    base = tiny.tiny_geometry(eviction="countdown")
    assert not Ablation(name="k0", changes={"ltm_read_tokens": 4}).only_reads_differently(base)
    assert not Ablation(name="k0", changes={"ltm_read_tokens": 4}).only_reads_differently(tiny.tiny_geometry(ltm=False))


def test_entries_are_read_as_typed() -> None:
    assert parse_ablations(["k0-128:ltm_read_tokens=128", " a.b : N=384, choice=random,ltm=false"]) == [
        Ablation(name="k0-128", changes={"ltm_read_tokens": 128}),
        Ablation(name="a.b", changes={"stm_tokens": 384, "choice": "random", "ltm": False}),
    ]
    assert parse_sizes(["K=8", "recall_decay=0.5"]) == {"new_tokens": 8, "recall_decay": 0.5}


@pytest.mark.parametrize(
    ("entries", "told"),
    [
        (["k0"], "'k0' is no variant; expected NAME:KEY=VALUE"),
        (["k0:"], "is no variant"),
        ([":K0=3"], "'' is no name"),
        (["a b:K0=3"], "'a b' is no name"),
        (["../a:K0=3"], "is no name"),
        (["a:K0=3", "a:N=4"], "variant 'a' is given twice"),
        (["mplus:K0=3"], "variant 'mplus' is the name of something else"),
        (["read:K0=3"], "choose another name"),
        (["a:ltm_read_token=3"], "did you mean 'ltm_read_tokens'"),
        (["a:choise=best"], "did you mean 'choice'"),
        (["a:choice=newest"], "variant 'a': choice is 'newest', expected best, recent or random"),
        (["a:xyzzy=1"], "known: K, N, K0, M"),
        (["a:K0"], "expected KEY=VALUE"),
        (["a:K0="], "expected KEY=VALUE"),
        (["a:K0=1,ltm_read_tokens=2"], "ltm_read_tokens is given twice"),
        (["a:K0=[1"], "cannot be read"),
        (["a:chunk_tokens=8"], "share one write pass; make a run of its own with --set-geometry chunk_tokens=8"),
        (["a:K=8"], "changes new_tokens"),
    ],
)
def test_a_mistake_is_one_sentence(entries: list[str], told: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_ablations(entries)
    assert told in str(caught.value) and "\n" not in str(caught.value)


def test_a_contradiction_names_the_variant(model: MPlusModel) -> None:
    factory = SystemFactory(model=model, systems=["mplus"], ablations=[Ablation(name="odd", changes={"ltm_read_tokens": 7})])
    with pytest.raises(GeometryError, match="variant 'odd': geometry: .*multiple of block_tokens"):
        _ = factory.geometries
