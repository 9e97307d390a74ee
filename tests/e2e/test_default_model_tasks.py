"""The two tasks that train the default model: losses fall, a run goes on bit for bit, and nothing but the named parts changes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from mplus import Geometry, MPlusModel
from mplus.training.objectives import reading as read
from mplus.training.objectives import retrieval as vote
from mplus.training.objectives.retrievers import LateInteractionObjective, Loss
from mplus.training.objectives.task import StepOutput, Task

pytestmark = pytest.mark.e2e

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
GEOMETRY = Geometry().changed(stm_tokens=512, ltm_read_tokens=256, read_order="score")


@pytest.fixture(scope="module")
def data() -> str:
    if not DATA.is_dir():
        if os.environ.get("MPLUS_REQUIRE_SHARED") == "1":
            pytest.fail(f"{DATA} is missing, and this run must not skip")
        pytest.skip(f"needs the public data in {DATA}")
    return str(DATA)


def fresh(base_name: str, **adapters: Any) -> MPlusModel:
    torch.manual_seed(3)
    return MPlusModel.from_base(base_name, geometry=GEOMETRY, key_width=16, voting=(2, 5), **adapters)


def vote_settings(data: str, loss: Loss, bank_steps: int) -> vote.Settings:
    return vote.Settings(
        data=data, loss=loss, chunks=12, banks=2, bank_steps=bank_steps, step_chunks=12, questions=12, step_layers=4
    )


def vote_task(base_name: str, data: str, loss: Loss = "contrastive", bank_steps: int = 60) -> vote.RetrievalTask:
    return vote.build(fresh(base_name), vote_settings(data, loss, bank_steps), 1)


def layer_task(base_name: str, data: str, loss: Loss = "contrastive", bank_steps: int = 60) -> vote.RetrievalTask:
    torch.manual_seed(3)
    geometry = GEOMETRY.changed(read_order="age", drop="per_layer", retrieval="per_layer")
    model = MPlusModel.from_base(base_name, geometry=geometry, key_width=16)
    return vote.build(model, vote_settings(data, loss, bank_steps), 1)


SEARCHES = {"vote": vote_task, "layer": layer_task}


def read_task(base_name: str, data: str, **changes: object) -> read.ReadTask:
    settings = read.Settings.model_validate(
        {
            "data": data,
            "chunks": 12,
            "fresh_chunks": 4,
            "fresh_every": 2,
            "questions": 4,
            "text_rows": 2,
            "text_share": 0.3,
            **changes,
        }
    )
    return read.build(fresh(base_name, read_lora={"r": 4, "lora_alpha": 8}), settings, 1)


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


@pytest.mark.parametrize("loss", ["contrastive", "paper"])
@pytest.mark.parametrize("search", SEARCHES)
def test_a_search_learns_a_bank_and_nothing_else_moves(base_name: str, data: str, search: str, loss: Loss) -> None:
    """One bank; the paper's loss falls for the vote without the right place being found: its means say nothing of the best."""
    task = SEARCHES[search](base_name, data, loss, 1000)
    before = {name: value.clone() for name, value in task.model.attached.decoder.model.state_dict().items()}
    assert {id(value) for group in task.groups() for _, value in group.parameters} == {
        id(value) for value in task.retriever.parameters()
    }
    task.prepare()
    outcomes = steps(task, 60, 5e-3)
    losses = [outcome.loss.item() for outcome in outcomes]
    found = [outcome.metrics["found facts"][0] / outcome.metrics["found facts"][1] for outcome in outcomes]
    assert sum(losses[-10:]) < (0.95 if (search, loss) == ("layer", "contrastive") else 0.8) * sum(losses[:10])
    if (search, loss) != ("vote", "paper"):
        assert sum(found[-10:]) > 1.3 * sum(found[:10])
    for name, value in task.model.attached.decoder.model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_a_right_window_covers_the_statement(base_name: str, data: str) -> None:
    task = vote_task(base_name, data)
    task.prepare()
    batch = task.draw()
    assert isinstance(task.finding, LateInteractionObjective)
    right, known = task.finding.targets(task.banks[0], batch)
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
def test_a_reading_task_gives_losses_and_only_the_adapter_learns(base_name: str, data: str, source: str) -> None:
    task = read_task(base_name, data, source=source)
    assert {name for group in task.groups() for name, _ in group.parameters} == {
        name for name, _ in task.net.named_parameters() if ".lora_" in name
    }
    task.prepare()
    outcomes = steps(task, 3, 1e-4)
    assert all(bool(torch.isfinite(outcome.loss)) and outcome.samples > 0 for outcome in outcomes)


def resumable(base_name: str, data: str, kind: str) -> Task:
    """Where the search learns: stored with two banks, the older of which goes two steps later."""
    if kind == "read":
        return read_task(base_name, data)
    search, _, loss = kind.partition(" ")
    return SEARCHES[search](base_name, data, "paper" if loss else "contrastive", 4)


@pytest.mark.parametrize("kind", ["vote", "vote paper", "layer paper", "read"])
def test_a_task_goes_on_bit_for_bit(base_name: str, data: str, kind: str) -> None:
    task, twin = (resumable(base_name, data, kind) for _ in range(2))
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
