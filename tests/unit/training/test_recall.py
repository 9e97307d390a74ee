"""Task `recall`: what it reads is what inference reads at any age, gradient goes where it should, a run resumes."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from mplus import MPlusModel
from mplus.corpus import pair_facts
from mplus.errors import GeometryError, InputError, RecipeError
from mplus.settings import Geometry
from mplus.training.data.pair_chunks import PairChunkGenerator
from mplus.training.objectives.recall import RecallTask, Settings
from mplus.training.run import session
from mplus.training.run.recipe import Scratch
from mplus.training.run.recipe_file import read_recipe
from mplus.training.run.scratch import scratch_decoder
from mplus.training.sampling.drop_table import DropTable
from mplus.training.sampling.recall_view import RecallView, views_of

pytestmark = pytest.mark.slow

SIZES: dict[str, Any] = {
    "new_tokens": 8,
    "chunk_tokens": 16,
    "stm_tokens": 24,
    "ltm_read_tokens": 8,
    "min_write_tokens": 8,
    "write_tap": "output",
    "memory_projection": "read",
    "drop": "per_layer",
    "retrieval": "per_layer",
    "block_tokens": 1,
}
SCRATCH: dict[str, Any] = {"layers": 2, "width": 32, "heads": 2, "kv_heads": 1, "mlp": 32, "positions": 128}
SMALL: dict[str, Any] = {"batch": 3, "bank_chunks": 20, "longest_age": 30, "kinds": {"aged": 1}}

LENGTH: dict[str, Any] = {"steps": 4, "schedule": {"kind": "constant"}}


def small_model(**sizes: Any) -> MPlusModel:
    torch.manual_seed(0)
    decoder, tokenizer = scratch_decoder(Scratch(**SCRATCH))
    return MPlusModel.from_base(decoder, geometry=Geometry().changed(**{**SIZES, **sizes}), tokenizer=tokenizer, key_width=8)


def small_task(model: MPlusModel | None = None, **fields: Any) -> RecallTask:
    task = RecallTask(model or small_model(), Settings(**{**SMALL, **fields}), seed=0)
    task.prepare()
    return task


def recipe(folder: Path, **changes: Any) -> Any:
    raw = {"scratch": SCRATCH, "geometry": SIZES, "retriever": {"key_width": 8, "voting": "per_layer"}, "device": "cpu"}
    folder.mkdir(exist_ok=True)
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump({"name": "small", "model": raw, "task": {"kind": "recall", **SMALL}, **LENGTH, **changes}))
    return read_recipe(path, [f"out={folder / 'run'}", "log_every=1"])


def test_facts_of_chunks_stand_in_them_and_are_never_held_out() -> None:
    made = PairChunkGenerator(16, 8, 320, seed=0)
    generator = torch.Generator().manual_seed(0)
    first, last, value = (
        pair_facts.VOCABULARY.index(words[0]) for words in (pair_facts.FIRST, pair_facts.LAST, pair_facts.VALUE)
    )
    lengths, facts = set[int](), set[int]()
    for _ in range(40):
        chunks = made.draw(5, generator)
        lengths.add(chunks.ids.shape[1])
        for ids, question, answer in zip(chunks.ids.tolist(), chunks.questions.tolist(), chunks.answers.tolist(), strict=True):
            assert any(ids[at : at + 4] == [*question, answer] for at in range(len(ids)))
            assert pair_facts.VOCABULARY[ids[-1]] == pair_facts.STOP
            places = [at for at, token in enumerate(ids) if first <= token < last]
            facts.add(len(places))
            for at in places:
                assert value <= ids[at + 2] < value + pair_facts.VALUES
                assert not pair_facts.is_held_out(ids[at] - first, ids[at + 1] - last)
    assert facts >= {1, 2} and min(lengths) >= 9 and max(lengths) == 16


def test_few_names_make_facts_share_them() -> None:
    chunks = PairChunkGenerator(16, 8, 4, seed=0).draw(64, torch.Generator().manual_seed(0))
    assert len(chunks.questions[:, 0].unique()) <= 4


def test_a_view_puts_the_chunk_asked_about_at_its_age_and_nowhere_else() -> None:
    generator = torch.Generator().manual_seed(0)
    drops = DropTable(Geometry().changed(**SIZES), 2, seed=0)
    back = drops.draw(50, generator)
    own, chunks, rows = torch.full((50,), 7), 23, 8
    view = views_of(back, own, chunks, 12, 8, rows, generator)
    assert int(view.right.sum()) == 50 * rows
    ages = torch.div(view.ages[:, 8 * rows - 1], rows, rounding_mode="floor")
    since = torch.div(back, rows, rounding_mode="floor")
    is_own = torch.div(view.short, rows, rounding_mode="floor") == 7
    assert torch.equal(is_own, since == ages[None, :, None])  # exactly the tokens that drops have left of that write
    assert bool((view.short.sort(-1).values.diff(dim=-1) > 0).all())  # no row stands twice
    assert len(ages.unique()) > 6


def test_a_read_in_training_is_the_read_of_inference() -> None:
    """A memory written in a stream; the rows of its chunks are the task's bank, so a token born as number b stands in column b."""
    model = small_model(search="exact")
    task = small_task(model)
    made, generator = PairChunkGenerator(16, 8, 320, seed=1), torch.Generator().manual_seed(3)
    memory = model.new_memory(seed=5)
    written = []
    for _ in range(9):
        encoded = model.encode(made.draw(1, generator).ids[0], memory)
        assert encoded.hidden is not None
        written.append(encoded.hidden)  # [L, K, D]
        memory.update(encoded)
    assert memory.stats().ltm_tokens > model.geometry.sizes.ltm_read_tokens, "the search must have something to choose from"
    task.bank = torch.cat(written, 1)
    rows = task.bank.shape[1]
    ages = (rows - 1 - torch.arange(rows))[None].float()
    short = torch.stack(list(memory.placement.births))[:, None]
    view = RecallView(short, torch.zeros(1, rows, dtype=torch.bool), ages, model.geometry.sizes.ltm_read_tokens)
    question = next(pair_facts.facts(random.Random(1), "train")).question
    ids = torch.tensor([[pair_facts.VOCABULARY.index(word) for word in question.split()]])
    with torch.no_grad():
        states, _ = task._read(ids, view, task.bank.new_zeros(1, 2, 0, task.bank.shape[2]))
        trained = model.parts.decoder.model.lm_head(states)
    torch.testing.assert_close(trained, model(ids, memory=memory).logits, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", ["young", "aged"])
def test_every_kind_of_step_has_a_gradient_where_it_should(kind: Any) -> None:
    task = small_task()
    outcome = task((kind, task.draw()[1]))
    outcome.loss.backward()
    has = {
        name: value.grad is not None and bool(value.grad.abs().sum() > 0)
        for group in task.groups()
        for name, value in group.parameters
    }
    memory_parts = {name for name in has if name in ("bos", "position") or name.startswith("retriever.")}
    assert all(got for name, got in has.items() if name not in memory_parts and "lm_head" not in name)
    assert {name for name in memory_parts if has[name] and name.startswith("retriever.")} == (
        {name for name in memory_parts if name.startswith("retriever.")} if kind == "aged" else set()
    )
    assert has["bos"] and has["position"]


def test_the_search_learns_from_its_own_loss_only() -> None:
    """Hidden states are detached (paper section 3.3): without the language loss nothing but the retriever gets a gradient."""
    task = small_task()
    _, chunks = task.draw()
    with task.trained.in_place():
        hidden = task._written(chunks)
        view = task._view(torch.arange(3))
        _, search = task._read(chunks.questions, view, hidden)
        torch.stack(search.losses).sum().backward()
    got = {
        name for group in task.groups() for name, value in group.parameters if value.grad is not None and bool(value.grad.any())
    }
    assert got and all(name.startswith("retriever.") for name in got)


def test_a_run_from_random_weights_stores_a_whole_model_and_resumes_alike(tmp_path: Path) -> None:
    whole = session.run(recipe(tmp_path / "a"))
    half = recipe(tmp_path / "b", steps=2)
    session.run(half)
    resumed = session.run(recipe(tmp_path / "b"), resume=True)
    assert whole.step == resumed.step == 4
    one, other = (MPlusModel.from_pretrained(run.delta) for run in (whole, resumed))
    for name, value in one.parts.decoder.model.state_dict().items():
        torch.testing.assert_close(value, other.parts.decoder.model.state_dict()[name], atol=0, rtol=0)
    memory = one.new_memory()
    memory.write(" ".join(pair_facts.filler(random.Random(seed)) for seed in range(12)))
    question = torch.tensor([[pair_facts.VOCABULARY.index(word) for word in ("bird", pair_facts.FIRST[0], pair_facts.LAST[1])]])
    assert bool(one(question, memory=memory).logits.isfinite().all())


def test_a_long_term_memory_that_nobody_reads_is_not_searched() -> None:
    task = small_task(ltm_choice="none")
    assert task._view(torch.arange(3)).long_tokens == 0
    assert "retriever loss" not in task(task.draw()).metrics


def test_young_memories_grow_while_answers_are_right() -> None:
    task = small_task(young_writes=1, grow_at=0.5)
    grown = []
    for right in (0.0, *[1.0] * 30):
        task._grow(right)
        grown.append(task.writes)
    assert grown[0] == 1 and grown[-1] == task.most_writes == 3 and sorted(grown) == grown
    other = small_task(young_writes=1)
    other.load_state(task.state())
    assert (other.writes, other.right) == (task.writes, task.right)


def test_mistakes_are_told_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(GeometryError, match="published rules"):
        small_task(small_model(write_tap="input", write_context="source"))
    with pytest.raises(InputError, match=r"task\.kinds"):
        small_task(kinds={"aged": 0})
    with pytest.raises(InputError, match="chunk_tokens is 8"):
        small_task(small_model(chunk_tokens=8, new_tokens=4, min_write_tokens=4))
    with pytest.raises(GeometryError, match="at least twice new_tokens"):
        small_task(small_model(chunk_tokens=16, new_tokens=12, min_write_tokens=8))
    with pytest.raises(InputError, match="bank_chunks"):
        small_task(bank_chunks=1)
    with pytest.raises(InputError, match="one process"):
        task = small_task()
        task.shard(task.draw(), 0, 2)
    with pytest.raises(RecipeError, match="do not divide"):
        read_recipe("paper-tiny/1", ["model.scratch.heads=3"])
    with pytest.raises(RecipeError, match="give one of"):
        read_recipe("paper-tiny/1", ["model.base=x"])
