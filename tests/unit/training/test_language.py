"""The paper's training: what it reads is what inference reads, gradient goes where it should, every setting works."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mplus import MPlusModel
from mplus.attach.write_pass import keeps_write_kv
from mplus.errors import GeometryError, InputError
from mplus.memory.memory import Memory
from mplus.settings import Geometry
from mplus.text.prompts import Prompts
from mplus.training.bank.chunk_encoder import ChunkEncoder
from mplus.training.bank.memory_bank import MemoryBank
from mplus.training.bank.step_rows import StepRows
from mplus.training.data.document import Document
from mplus.training.data.text_sources import Corpus, Source
from mplus.training.objectives.language import LanguageTask, Settings
from mplus.training.objectives.prefix_read import PrefixRead
from mplus.training.objectives.selection import Selection, searched_layers
from mplus.training.run.recipe_file import read_recipe
from mplus.training.sampling.memory_view import MemoryView
from mplus.training.sampling.samples import KINDS, SampleBatch
from tests import tiny

pytestmark = pytest.mark.slow

CHUNKS = 9


def corpus_file(folder: Path, documents: int = 12, tokens: int = 60) -> Path:
    """Random documents as token ids."""
    path = folder / "ids.jsonl"
    path.write_text("".join(json.dumps({"ids": tiny.ids(tokens, seed).tolist()}) + "\n" for seed in range(documents)))
    return path


def task_of(model: MPlusModel, folder: Path, seed: int = 0, **fields: Any) -> LanguageTask:
    """A small task on random documents, bank filled."""
    settings = {
        "sources": [{"path": str(corpus_file(folder)), "column": "ids"}],
        "batch": 3,
        "read_tokens": 12,
        "bank_chunks": 12,
        "others": 6,
        "wrong": 4,
        "longest_age": 6,
        "longest_chunks": 4,
        **fields,
    }
    torch.manual_seed(seed)
    task = LanguageTask(model, Settings(**settings), seed)
    task.prepare()
    return task


def fresh(setup: str = "shared", **changed: Any) -> MPlusModel:
    """A model of its own for a test that trains."""
    return tiny.tiny_model("llama", setup, **changed)


# -- the read of training is the read of inference -----------------------------------------------------------------------


def streamed(model: MPlusModel, chunks: list[Tensor]) -> tuple[Memory, MemoryBank]:
    """A memory that has read chunks, and the same chunks as columns of a bank."""
    memory = model.new_memory(seed=5)
    for chunk in chunks:
        memory.update(model.encode(chunk, memory))
    kept = searched_layers(model) if model.geometry.sizes.reads_ltm and keeps_write_kv(model.geometry) else ()
    bank = MemoryBank(ChunkEncoder(model, kept), len(chunks), model.device)
    bank.add([Document(tuple(tuple(chunk.tolist()) for chunk in chunks))])
    return memory, bank


def view_of_memory(memory: Memory) -> MemoryView:
    """Which columns the memory's tokens are: a token born as number b stands in column b."""
    short = list(memory.placement.births)
    births = [memory.long_term.births(group).sort().values for group in range(memory.long_term.groups)]
    per_group = births if len(births) == len(short) else [births[0]] * len(short)
    if len(births) > len(short):  # every layer finds its own among the same tokens
        per_group = births[:1]
    return MemoryView(short, short, per_group, per_group, torch.empty(0, dtype=torch.int64), memory.now)


@pytest.mark.parametrize("setup", [*tiny.SETUPS, "two_to_one", "uncertain"])
def test_training_reads_what_inference_reads(setup: str) -> None:
    differing: dict[str, dict[str, Any]] = {"output": {"stm_ages": "since_written"}}
    changed = differing.get(setup, {})
    if setup == "two_to_one":
        setup, changed = "shared", {"new_tokens": 4, "stm_tokens": 16, "drop_tokens": 4}
    if setup == "uncertain":
        setup, changed = "recent", {"certain_score": 1e9}
    model = fresh(setup, **changed)
    memory, bank = streamed(model, [tiny.ids(model.geometry.sizes.chunk_tokens, seed) for seed in range(CHUNKS)])
    assert len(memory.long_term) > model.geometry.sizes.ltm_read_tokens, "the search must have something to choose from"
    # equal tokens have equal keys in layer 0; with these prompts no tie decides who is read
    prompts = Prompts.from_rows([tiny.ids(7, 52).tolist(), tiny.ids(4, 53).tolist()], 0, model.device)
    expected = model(prompts.ids, prompts.mask, memory).logits
    rows = StepRows(bank, searched_layers(model))
    views = [view_of_memory(memory)] * 2
    search = Selection(model, rows, views, prompts.ids, prompts.mask, choice="retriever", put_in=[False, False], seed=0)
    with torch.no_grad():
        got = PrefixRead(model, rows, views, search, prompts.ids, prompts.mask).forward(prompts.mask)
    torch.testing.assert_close(got, expected[prompts.mask], rtol=1e-4, atol=2e-4)


# -- steps -------------------------------------------------------------------------------------------------------------

ADAPTERS: dict[str, Any] = {"read_lora": {"r": 2, "lora_alpha": 4}, "write_lora": {"r": 2, "lora_alpha": 4}}
RUNS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "input, shared, untrained search": ("shared", {}, {}),
    "input, shared, best last": ("best_last", {"drop_tokens": 8, "stm_tokens": 32}, {}),
    "input, shared, in text order": ("in_text_order", {"drop_tokens": 8, "stm_tokens": 32}, {}),
    "input, per layer": ("per_layer", {}, {"retriever_loss": "paper"}),
    "input, shared drops, per-layer search": ("mixed", {}, {"retriever_layers": 1}),
    "output, per layer": ("output", {"stm_ages": "since_written"}, {}),
    "2:1": ("shared", {"new_tokens": 4, "drop_tokens": 4}, {}),
    "4:1, per layer": ("per_layer", {"new_tokens": 2, "stm_tokens": 12}, {"ages": "streamed"}),
    "without long-term memory": ("shared", {"ltm": False}, {"ages": "streamed"}),
}


def trainable(setup: str, **changed: Any) -> MPlusModel:
    """A tiny model with both adapters and, where memory is searched, a trained search."""
    fields, parts = tiny.SETUPS[setup]
    parts = {**parts, **ADAPTERS, "key_width": parts.get("key_width", 4)}
    torch.manual_seed(11)
    geometry = tiny.tiny_geometry(**{**fields, **changed})
    return MPlusModel.from_base(tiny.tiny_decoder(), geometry=geometry, **parts)


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "question"])
def test_every_subtask_trains_under_every_rule(run: str, kind: str, tmp_path: Path) -> None:
    setup, changed, settings = RUNS[run]
    task = task_of(trainable(setup, **changed), tmp_path, subtasks={kind: 1.0}, **settings)
    outcome = task(task.draw())
    outcome.loss.backward()
    assert outcome.samples == 3 and outcome.tokens > 0
    assert {f"loss {kind}", f"right tokens {kind}", f"forward tokens/s {kind}"} <= set(outcome.metrics)
    names = {name for name, value in task.named_parameters() if value.grad is not None and bool(value.grad.any())}
    reads = {name for name in names if ".read." in name}
    assert reads, "the read adapter learns in every sub-task"
    writes = any(".write." in name and "mlp" in name for name in names)  # BOS alone goes through its k_proj and v_proj
    assert writes == (kind in ("two_chunk", "repeat")), "the write adapter learns exactly where a write keeps its graph"
    base = [name for name, value in task.named_parameters() if "decoder" in name and ".lora_" not in name and value.requires_grad]
    assert not base


@pytest.mark.parametrize("setup", ["shared", "output"])
def test_gradient_through_the_write_is_that_of_finite_differences(setup: str, tmp_path: Path) -> None:
    changed: dict[str, Any] = {"stm_ages": "since_written"} if setup == "output" else {}
    task = task_of(trainable(setup, **changed), tmp_path, subtasks={"two_chunk": 1.0}, ltm_choice="none", pool_share=0.0)
    with torch.no_grad():
        for name, value in task.named_parameters():
            if ".lora_B." in name:
                value.copy_(torch.randn_like(value) * 0.1)
    batch = task.draw()
    task(batch).loss.backward()
    name, weight = next(
        (name, value) for name, value in task.named_parameters() if "layers.0" in name and "v_proj.lora_B.write" in name
    )
    assert weight.grad is not None
    direction = torch.randn_like(weight)
    slope = float((weight.grad * direction).sum())
    losses = []
    for step in (1e-2, -1e-2):
        with torch.no_grad():
            weight.add_(step * direction)
            losses.append(task(batch).loss.item())
            weight.sub_(step * direction)
    assert slope == pytest.approx((losses[0] - losses[1]) / 2e-2, rel=0.05, abs=1e-4), name


def test_multi_chunk_keeps_no_graph_of_its_writes(tmp_path: Path) -> None:
    task = task_of(trainable("shared"), tmp_path, subtasks={"multi_chunk": 1.0})
    batch = task.draw()
    assert all(len(sample.chunks) > 1 and sample.live == 0 for sample in batch.samples)


def test_revisit_asks_for_a_document_written_earlier(tmp_path: Path) -> None:
    task = task_of(trainable("shared"), tmp_path, subtasks={"revisit": 1.0}, aged_share=1.0)
    batch = task.draw()
    for sample in batch.samples:
        document = task.bank.documents[sample.target_places[0]]
        assert not sample.chunks and sample.text == document.rest
        assert not set(sample.target_places) & set(sample.others), "what is asked must not also stand elsewhere in memory"


@pytest.mark.parametrize("setup", ["shared", "per_layer", "output"])
def test_checkpointing_gives_equal_loss_and_gradients(setup: str, tmp_path: Path) -> None:
    changed: dict[str, Any] = {"stm_ages": "since_written"} if setup == "output" else {}
    for kind in ("two_chunk", "multi_chunk"):
        results = []
        for checkpointing in (False, True):
            model = trainable(setup, **changed)
            decoder: Any = model.parts.decoder.model
            task = task_of(model, tmp_path, subtasks={kind: 1.0}).train()
            if checkpointing:
                decoder.activation_checkpointing_enable()
            loss = task(task.draw()).loss
            loss.backward()
            results.append((loss, {name: value.grad for name, value in task.named_parameters() if value.grad is not None}))
            layers = decoder.model.layers
            assert not any("forward" in vars(layer) for layer in layers), "the layers must be as they were"
            assert all(layer.gradient_checkpointing is checkpointing for layer in layers)
        (plain, grads), (saved, again) = results
        assert plain.item() == saved.item()
        assert grads.keys() == again.keys()
        for name, value in grads.items():
            torch.testing.assert_close(again[name], value, rtol=1e-5, atol=1e-7, msg=name)


def test_checkpointing_keeps_less(tmp_path: Path) -> None:
    kept = []
    for checkpointing in (False, True):
        model = trainable("shared")
        if checkpointing:
            decoder: Any = model.parts.decoder.model
            decoder.activation_checkpointing_enable()
        task = task_of(model, tmp_path, subtasks={"two_chunk": 1.0}).train()
        sizes: list[int] = []

        def pack(value: Tensor, sizes: list[int] = sizes) -> Tensor:
            sizes.append(value.numel())
            return value

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
            task(task.draw())
        kept.append(sum(sizes))
    assert kept[1] < 0.6 * kept[0]


def test_shares_of_a_batch_average_to_the_whole(tmp_path: Path) -> None:
    for setup in ("shared", "per_layer"):
        task = task_of(trainable(setup), tmp_path, subtasks={"two_chunk": 1.0}, batch=4)
        batch = task.draw()
        whole = task(batch).loss
        parts = [task(task.shard(batch, process, 2)).loss for process in range(2)]
        torch.testing.assert_close(torch.stack(parts).mean(), whole, rtol=1e-5, atol=1e-6)


def test_a_resumed_task_goes_on_bit_for_bit(tmp_path: Path) -> None:
    def losses(task: LanguageTask, steps: int) -> list[float]:
        out = []
        for step in range(steps):
            out.append(task(task.draw()).loss.item())
            task.finish_step(step / 10)
        return out

    settings: dict[str, Any] = {"subtasks": {"two_chunk": 1, "revisit": 1, "multi_chunk": 1}, "bank_every": 2, "grow_ages": 0.5}
    first = task_of(trainable("per_layer"), tmp_path, **settings)
    losses(first, 3)
    state = {**first.state()}
    state = json.loads(json.dumps({**state, "older": {**state["older"], "fields": {}}})) | {"fields": None}
    state["older"]["fields"] = {name: value.clone() for name, value in first.bank.fields.items()}
    expected = losses(first, 4)
    second = task_of(trainable("per_layer"), tmp_path, **settings)
    second.load_state(state)
    assert losses(second, 4) == expected


def test_saved_delta_opens_with_what_was_trained(tmp_path: Path) -> None:
    base = tiny.tiny_decoder()
    base.save_pretrained(tmp_path / "base")
    model = MPlusModel.from_base(tmp_path / "base", geometry=tiny.tiny_geometry(), dtype=torch.float32, key_width=4, **ADAPTERS)
    task = task_of(model, tmp_path)
    with torch.no_grad():
        task.trained.bos.add_(1.0)
    before = model.fingerprint
    task.save(tmp_path / "delta")
    assert model.fingerprint != before
    again = MPlusModel.from_pretrained(tmp_path / "delta", dtype=torch.float32)
    torch.testing.assert_close(again.parts.bos, task.trained.bos.detach(), rtol=1e-2, atol=1e-2)


def test_the_whole_base_can_be_trained_and_is_then_stored(tmp_path: Path) -> None:
    model = MPlusModel.from_base(tiny.tiny_decoder(), geometry=tiny.tiny_geometry(), key_width=4)
    task = task_of(model, tmp_path, train=["base"], subtasks={"two_chunk": 1.0})
    task(task.draw()).loss.backward()
    assert all(value.grad is not None for _, value in task.groups()[0].parameters if value.dim() == 2)
    task.save(tmp_path / "whole")
    assert (tmp_path / "whole" / "model.safetensors").exists()


@pytest.mark.parametrize("choice", ["random", "recent", "none"])
def test_ablations_of_the_choice(choice: str, tmp_path: Path) -> None:
    task = task_of(trainable("per_layer"), tmp_path, ltm_choice=choice, put_in_share=0.0, subtasks={"revisit": 1.0})
    outcome = task(task.draw())
    assert "retriever loss" in outcome.metrics or choice == "none"
    assert ("found" in outcome.metrics) is (choice == "random")


def test_the_answer_is_never_searched_with(tmp_path: Path) -> None:
    model = tiny.text_model(chunk_tokens=64, new_tokens=64, stm_tokens=128, min_write_tokens=8)
    passage = {"context": "The lamp of the tower was lit by Mara.", "question": "Who lit it?", "answers": ["Mara"]}
    (tmp_path / "asked.jsonl").write_text(json.dumps(passage) + "\n")
    (tmp_path / "text.txt").write_text("An old story about the sea and a lamp. " * 20)
    sources = (Source(path=str(tmp_path / "asked.jsonl"), questions=True), Source(path=str(tmp_path / "text.txt")))
    corpus = Corpus(sources, model.tokenizer, 0, model.vocabulary)
    settings = Settings(subtasks={"question": 1}, batch=2, read_tokens=48, bank_chunks=4, others=2, wrong=2, train=("bos",))
    task = LanguageTask(model, settings, 0, corpus=corpus)
    task.prepare()
    batch = task.draw()
    for sample in batch.samples:
        assert model.tokenizer.decode(list(sample.text[sample.first_target :])) == "Mara"
        assert sample.searched == sample.first_target
        assert sample.span is not None
        assert model.tokenizer.decode(list(sample.chunks[0][slice(*sample.span)])) == "Mara"
    outcome = task(batch)
    outcome.loss.backward()
    assert task.trained.bos.grad is not None


def test_bad_settings_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no sub-task has a ratio above 0"):
        task_of(trainable("shared"), tmp_path, subtasks={"repeat": 0.0})
    with pytest.raises(InputError, match=r"no data: give task\.data"):
        LanguageTask(trainable("shared"), Settings(), 0)
    with pytest.raises(InputError, match="nothing to train"):
        task_of(fresh("shared", ltm=False), tmp_path, train=["write", "retriever"])
    with pytest.raises(GeometryError, match=r"lower task\.read_tokens"):
        task_of(trainable("shared"), tmp_path, read_tokens=2048)
    with pytest.raises(GeometryError, match="lower block_tokens"):
        task_of(trainable("shared", new_tokens=2, stm_tokens=16), tmp_path)
    with pytest.raises(InputError, match="raise task.batch"):
        task_of(trainable("shared"), tmp_path).shard(SampleBatch("repeat", (), ()), 3, 4)


def test_draws_depend_on_the_seed_alone(tmp_path: Path) -> None:
    first, second, third = (task_of(trainable("shared"), tmp_path, seed=seed) for seed in (1, 1, 2))
    random.seed(5)
    a = first.draw()
    random.seed(6)
    assert a == second.draw() != third.draw()


RECIPES = Path(__file__).parents[3] / "recipes"


@pytest.mark.parametrize(
    "name",
    sorted(str(path.relative_to(RECIPES)) for place in ("adapt", "llama-3.1-8b") for path in (RECIPES / place).glob("*.yaml")),
)
def test_recipes_of_this_task_are_valid(name: str) -> None:
    recipe = read_recipe(RECIPES / name, ["task.data=x.txt"] if "adapt" in name else [])
    assert recipe.task.kind == "language" and isinstance(recipe.task.settings, Settings)
    geometry = recipe.model.geometry
    assert Geometry().changed(**geometry)
    assert set(recipe.task.settings.subtasks) <= set(KINDS)
    assert sum(recipe.task.settings.subtasks.values()) == pytest.approx(1.0)
    if recipe.model.start is not None:
        earlier = recipe.model.start.split("/")[1]
        names = {read_recipe(path, []).name for path in (RECIPES / name).parent.glob("*.yaml")}
        assert earlier in names, "a recipe goes on from one that exists"
