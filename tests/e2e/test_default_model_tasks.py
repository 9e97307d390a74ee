"""The two tasks that train the default model: losses fall, a run goes on bit for bit, and nothing but the named parts changes."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedModel

from mplus import Geometry, MPlusModel
from mplus.checkpoints.base_models.base import base_dir
from mplus.training.objectives import reading as read
from mplus.training.objectives import retrieval as vote
from mplus.training.objectives.retrievers import LateInteractionObjective, Loss
from mplus.training.objectives.task import StepOutput, Task

pytestmark = pytest.mark.e2e
Make = Callable[..., Any]
Prepare = Callable[[Any, str], None]

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
GEOMETRY = Geometry().changed(stm_tokens=512, ltm_read_tokens=256, read_order="score")


@pytest.fixture(scope="module")
def data() -> str:
    if not DATA.is_dir():
        if os.environ.get("MPLUS_REQUIRE_SHARED") == "1":
            pytest.fail(f"{DATA} is missing, and this run must not skip")
        pytest.skip(f"needs the public data in {DATA}")
    return str(DATA)


def six_random_layers() -> PreTrainedModel:
    """A decoder for the real tokenizer, for laws that hold whatever the weights are."""
    torch.manual_seed(5)
    config = LlamaConfig(
        vocab_size=49_152, hidden_size=32, intermediate_size=48, num_hidden_layers=6, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=8192, bos_token_id=1, eos_token_id=2, pad_token_id=2,
    )  # fmt: skip
    model: PreTrainedModel = LlamaForCausalLM(config).eval()
    return model


@pytest.fixture(scope="module")
def make(base_name: str, data: str) -> Make:
    """``make(kind, loss, real=..., **settings)``: a task on the one model of its kind, whose parameters are those of the first time
    again; with the base's weights, or with few random ones and its tokenizer."""
    models: dict[tuple[str, bool], tuple[MPlusModel, dict[str, Tensor]]] = {}

    def opened(kind: str, real: bool) -> MPlusModel:
        if (kind, real) not in models:
            torch.manual_seed(3)
            base: Any = base_name if real else six_random_layers()
            own: dict[str, Any] = {"tokenizer": None if real else AutoTokenizer.from_pretrained(base_dir(base_name))}
            if kind == "layer":
                geometry = GEOMETRY.changed(read_order="age", drop="per_layer", retrieval="per_layer")
                model = MPlusModel.from_base(base, geometry=geometry, key_width=16, **own)
            else:
                lora: dict[str, Any] = {"read_lora": {"r": 4, "lora_alpha": 8}} if kind == "read" else {}
                model = MPlusModel.from_base(base, geometry=GEOMETRY, key_width=16, voting=(2, 5), **lora, **own)
            models[kind, real] = (model, {name: value.clone() for name, value in learning(model)})
        model, first = models[kind, real]
        with torch.no_grad():
            for name, value in learning(model):
                value.data = first[name].clone()
        return model

    def build(
        kind: str, loss: Loss = "contrastive", chunks: int = 12, bank_steps: int = 60, *, real: bool = True, **changes: Any
    ) -> Any:
        if kind == "read":
            own = {"fresh_chunks": 4, "fresh_every": 2, "questions": 4, "text_rows": 2, "text_share": 0.3, **changes}
            return read.build(opened(kind, real), read.Settings.model_validate({"data": data, "chunks": chunks, **own}), 1)
        own = {"chunks": chunks, "banks": 2, "bank_steps": bank_steps, "step_chunks": 12, "questions": 12, "step_layers": 4}
        return vote.build(opened(kind, real), vote.Settings.model_validate({"data": data, "loss": loss, **own}), 1)

    return build


def learning(model: MPlusModel) -> list[tuple[str, torch.nn.Parameter]]:
    """What some task trains: the search and the read adapter."""
    assert model.parts.retriever is not None
    adapter = [(name, value) for name, value in model.parts.decoder.model.named_parameters() if ".lora_" in name]
    return [*adapter, *model.parts.retriever.named_parameters()]


@pytest.fixture(scope="module")
def prepared() -> Prepare:
    """``prepared(task, kind)``: what ``task.prepare()`` does, once for tasks that differ in what they learn only."""
    held: dict[str, Any] = {}

    def prepare(task: Any, kind: str) -> None:
        if kind not in held:
            task.prepare()
            state = (task.random.getstate(), task.generator.state())
            held[kind] = copy.deepcopy(task.state()) if kind == "read" else (list(task.banks), list(task.origins), *state)
        elif kind == "read":
            task.load_state(copy.deepcopy(held[kind]))
        else:
            banks, origins, randomness, makers = held[kind]
            task.banks, task.origins = list(banks), list(origins)
            task.random.setstate(randomness)
            task.generator.load_state(makers)

    return prepare


def steps(task: Task, count: int, rate: float = 2e-3) -> list[StepOutput]:
    for group in task.groups():
        for _, value in group.parameters:
            value.data = value.data.float()
    optimiser = torch.optim.AdamW([value for group in task.groups() for _, value in group.parameters], lr=rate)
    out = []
    for number in range(count):
        outcome = task(task.shard(task.draw(), 0, 1))
        optimiser.zero_grad()
        outcome.loss.backward()
        optimiser.step()
        task.finish_step(number / count)
        out.append(outcome)
    return out


@pytest.mark.long
@pytest.mark.parametrize("loss", ["contrastive", "paper"])
@pytest.mark.parametrize("search", ["vote", "layer"])
def test_a_search_learns_a_bank_and_nothing_else_moves(make: Make, prepared: Prepare, search: str, loss: Loss) -> None:
    """One bank; the paper's loss falls for the vote without the right place being found: its means say nothing of the best."""
    task = make(search, loss, bank_steps=1000)
    before = {name: value.clone() for name, value in task.model.parts.decoder.model.state_dict().items()}
    assert {id(value) for group in task.groups() for _, value in group.parameters} == {
        id(value) for value in task.retriever.parameters()
    }
    prepared(task, search)
    outcomes = steps(task, 60, 5e-3)
    losses = [outcome.loss.item() for outcome in outcomes]
    found = [outcome.metrics["found facts"][0] / outcome.metrics["found facts"][1] for outcome in outcomes]
    assert sum(losses[-10:]) < (0.95 if (search, loss) == ("layer", "contrastive") else 0.8) * sum(losses[:10])
    if (search, loss) != ("vote", "paper"):
        assert sum(found[-10:]) > 1.3 * sum(found[:10])
    for name, value in task.model.parts.decoder.model.state_dict().items():
        assert torch.equal(value, before[name]), name


@pytest.mark.long
def test_a_right_window_covers_the_statement(make: Make, prepared: Prepare) -> None:
    task = make("vote")
    prepared(task, "vote")
    batch = task.draw()
    assert isinstance(task.objective, LateInteractionObjective)
    right, known = task.objective.targets(task.banks[0], batch)
    assert bool((right & known).any(1).all()) and bool((~right & known).any(1).all())
    for row, number in enumerate(batch.questions):
        place, question = task.banks[0].questions[number]
        first, last = question.span
        chunk = batch.chunks.tolist().index(place)
        for window in right[row].nonzero()[:, 0].tolist():
            assert window // 16 == chunk
            start = window % 16 * 16
            held = min(last, start + 32) - max(first, start)
            assert held >= min(0.8 * (last - first), 16)


@pytest.mark.parametrize("source", ["vote", "short_term", "prompt"])
def test_a_reading_task_gives_losses_and_only_the_adapter_learns(make: Make, prepared: Prepare, source: str) -> None:
    task = make("read", source=source, real=False)
    assert {name for group in task.groups() for name, _ in group.parameters} == {
        name for name, _ in task.decoder.named_parameters() if ".lora_" in name
    }
    prepared(task, "read")
    outcomes = steps(task, 3, 1e-4)
    assert all(bool(torch.isfinite(outcome.loss)) and outcome.samples > 0 for outcome in outcomes)


@pytest.mark.parametrize("kind", ["vote", "vote paper", "layer paper", "read"])
def test_a_task_goes_on_bit_for_bit(make: Make, kind: str) -> None:
    """Where the search learns: stored with two banks, the older of which goes two steps later. Nothing is trained, so that both
    tasks may have one model."""
    search, _, loss = kind.partition(" ")
    task, twin = (make(search, loss or "contrastive", 8 if search == "read" else 6, 4, real=False) for _ in range(2))
    task.prepare()
    for number in range(3):
        task(task.shard(task.draw(), 0, 1))
        task.finish_step(number / 10)
    twin.load_state(task.state())
    for number in range(4):
        left, right = (one(one.shard(one.draw(), 0, 1)) for one in (task, twin))
        assert left.loss.item() == right.loss.item() and left.metrics == right.metrics
        task.finish_step(number / 10)
        twin.finish_step(number / 10)
