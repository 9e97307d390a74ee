"""Laws of a run: resuming changes nothing, gradients are exact means, and a mishap leaves the last good checkpoint."""

from __future__ import annotations

import errno
import itertools
import json
import os
import resource
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mplus import MPlusModel
from mplus.errors import CheckpointError, TrainingError
from mplus.training.objectives import registry
from mplus.training.objectives.task import ParameterGroup, StepOutput, Task
from mplus.training.run import checkpoint as checkpoints
from mplus.training.run import trainer as loops
from mplus.training.run.checkpoint import Checkpoint, newest, read_checkpoint, write_checkpoint
from mplus.training.run.curves import draw_curves, running_mean
from mplus.training.run.metrics_log import Callback, LogRecord, read_log
from mplus.training.run.optimiser import lr_factor
from mplus.training.run.pytree import flatten, restore
from mplus.training.run.recipe import Recipe, Schedule, make_recipe
from mplus.training.run.recipe_file import read_recipe
from mplus.training.run.session import plan, run
from mplus.training.run.starting_model import open_model
from mplus.training.run.trainer import RunResult, Trainer
from tests.tiny import tiny_decoder, tiny_geometry

pytestmark = pytest.mark.slow

STORED_RUN = Path(__file__).parents[2] / "formats" / "train-run"
ADAPTER = {"rank": 2, "alpha": 4}
Make = Callable[..., Recipe]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stock model in transformers' form."""
    directory = tmp_path_factory.mktemp("base")
    tiny_decoder().save_pretrained(directory)
    return directory


@pytest.fixture
def recipe(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """``recipe(out, task={...}, **settings)``: six steps of the toy task. The picture is left out, it takes longer than the steps."""
    monkeypatch.setitem(registry.TASKS, "toy", "tests.toy_task")
    monkeypatch.setattr(loops, "draw_curves", lambda *arguments, **named: None)

    def make(
        out: str = "run", *, task: dict[str, Any] | None = None, model: dict[str, Any] | None = None, **settings: Any
    ) -> Recipe:
        geometry = tiny_geometry().flat()
        own = {"base": str(base), "geometry": geometry, "read_adapter": ADAPTER, "dtype": "float32", "device": "cpu"}
        plain = {"steps": 6, "log_every": 1, "save_every": 2, "optimiser": {"lr": 1e-2}, "schedule": {"warmup": 2}}
        raw = {
            "name": "toy",
            "model": own if model is None else model,
            "task": {"kind": "toy", **(task or {})},
            **plain,
            **settings,
        }
        return make_recipe({**raw, "out": str(tmp_path / out)})

    return make


def losses(ended: RunResult) -> list[tuple[int, float]]:
    return [(line.step, line.loss) for line in read_log(ended.delta.parent / "log.jsonl")]


def trained(ended: RunResult) -> dict[str, Tensor]:
    assert ended.checkpoint is not None
    return read_checkpoint(ended.checkpoint).parameters


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def everything(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


# -- going on --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings", [{}, {"precision": "bf16", "accumulation": 2, "gradient_checkpointing": True}], ids=["plain", "bf16"]
)
def test_resumed_run_has_the_losses_of_an_unbroken_one(recipe: Make, settings: dict[str, Any]) -> None:
    straight = run(recipe("straight", **settings))
    run(recipe("parts", **{**settings, "steps": 6, "save_every": 3}), callback=Stop(at=3))
    again = run(recipe("parts", **settings), resume=True)
    assert losses(again) == losses(straight)
    assert [step for step, _ in losses(again)] == [1, 2, 3, 4, 5, 6]
    assert same(trained(again), trained(straight))
    assert (again.delta / "delta.safetensors").read_bytes() == (straight.delta / "delta.safetensors").read_bytes()


def test_run_of_the_first_version_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run of commit c48067e, stored after three of six steps, and the log that it left after the six."""
    monkeypatch.setitem(registry.TASKS, "toy", "tests.toy_task")
    monkeypatch.setattr(loops, "draw_curves", lambda *arguments, **named: None)
    monkeypatch.chdir(tmp_path)
    tiny_decoder().save_pretrained("base")
    shutil.copytree(STORED_RUN, "run")
    ended = run(read_recipe("run/recipe.yaml"), resume=True)
    assert losses(ended) == [(line.step, line.loss) for line in read_log(STORED_RUN / "log.jsonl")]
    assert [line.lr for line in read_log(tmp_path / "run" / "log.jsonl")] == [
        line.lr for line in read_log(STORED_RUN / "log.jsonl")
    ]


def test_lines_of_steps_that_are_done_again_are_taken_out(recipe: Make, tmp_path: Path) -> None:
    run(recipe(), callback=Stop(at=3))
    log = tmp_path / "run" / "log.jsonl"
    with log.open("a", encoding="utf-8") as file:  # what a killed process wrote after its last checkpoint
        for step in (4, 5):
            file.write(json.dumps(vars(LogRecord(step, 1.0, 0.5, 9.0, 0.1, 1.0, 1.0))) + "\n")
        file.write('{"step": 6, "lo')
    ended = run(recipe(), resume=True)
    assert [step for step, _ in losses(ended)] == [1, 2, 3, 4, 5, 6]
    assert 9.0 not in [loss for _, loss in losses(ended)]


def test_half_collected_log_line_survives(recipe: Make) -> None:
    straight = run(recipe("straight", log_every=4, steps=8))
    run(recipe("parts", log_every=4, steps=8), callback=Stop(at=2))
    assert losses(run(recipe("parts", log_every=4, steps=8), resume=True)) == losses(straight)


def test_finished_run_has_nothing_to_go_on_with_unless_it_is_longer(recipe: Make) -> None:
    first = run(recipe(schedule={"kind": "constant"}))
    again = run(recipe(schedule={"kind": "constant"}), resume=True)
    assert (again.step, again.reason, again.checkpoint) == (6, "done", first.checkpoint)
    assert run(recipe(schedule={"kind": "constant"}, steps=8), resume=True).step == 8


def test_run_by_the_clock_goes_on_where_it_stood(recipe: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = itertools.count(0, 3.0)
    monkeypatch.setattr(time, "monotonic", lambda: next(ticks))
    settings = {"steps": None, "minutes": 1.0, "schedule": {"kind": "linear", "floor": 0.0}}
    half = run(recipe(**settings), callback=Stop(at=2))
    assert 0 < half.seconds < 60
    ended = run(recipe(**settings), resume=True)
    assert ended.reason == "done" and ended.seconds >= 60
    rates = [line.lr for line in read_log(ended.delta.parent / "log.jsonl")]
    assert rates == sorted(rates, reverse=True) and rates[0] == 1e-2 and rates[-1] < 1e-2 / 2


# -- arithmetic ------------------------------------------------------------------------------------------------------


class Uneven(Task):
    """Loss ``mean_i w . x_i`` over batches of 1, 3, 1, 3, ... samples; its gradient is the mean sample, whatever w is."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2, dtype=torch.float32))
        self.samples = torch.arange(16.0).view(8, 2)
        self.drawn = 0

    def groups(self) -> list[ParameterGroup]:
        return [ParameterGroup("all", [("weight", self.weight)], lr_factor=3.0)]

    def draw(self) -> Tensor:
        first = [0, 1, 4, 5][self.drawn % 4]
        count = [1, 3, 1, 3][self.drawn % 4]
        self.drawn += 1
        return self.samples[first : first + count]

    def shard(self, batch: Tensor, process: int, processes: int) -> Tensor:
        return batch

    def forward(self, batch: Tensor) -> StepOutput:
        return StepOutput((batch @ self.weight).mean() + 5.0, len(batch), 2 * len(batch), {"hit": (float(len(batch)), 8.0)})

    def state(self) -> dict[str, Any]:
        return {"drawn": self.drawn}

    def load_state(self, state: dict[str, Any]) -> None:
        self.drawn = state["drawn"]

    def save(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)


def looped(recipe: Recipe, task: Task) -> list[LogRecord]:
    place = Path(recipe.directory)
    place.mkdir()
    try:
        Trainer(recipe, task, Accelerator(cpu=True), place, before=None, callback=Callback()).run()
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)
    return read_log(place / "log.jsonl")


@pytest.mark.parametrize("clip", [None, 1.0])
def test_gradient_is_the_mean_over_all_samples_of_a_step(recipe: Make, clip: float | None) -> None:
    settings = recipe(accumulation=2, steps=2, log_every=2, optimiser={"lr": 1e-3, "clip": clip}, schedule={"kind": "constant"})
    task = Uneven()
    (line,) = looped(settings, task)
    assert line.gradient == pytest.approx(float(task.samples[4:].mean(0).norm()), rel=1e-6)  # of the second step
    first = float((task.samples[:4] @ torch.zeros(2)).mean() + 5)
    second = float((task.samples[4:] @ torch.full((2,), -3e-3)).mean() + 5)  # AdamW's first step is the rate, times 3 here
    assert line.loss == pytest.approx((4 * first + 4 * second) / 8, rel=1e-4)
    assert line.metrics == {"hit": 0.25}
    assert line.lr == pytest.approx(3e-3)


@pytest.mark.parametrize(
    ("settings", "step", "progress", "expected"),
    [
        ({"kind": "constant", "warmup": 4}, 0, 0.0, 0.25),
        ({"kind": "constant", "warmup": 4}, 9, 0.9, 1.0),
        ({"kind": "linear", "floor": 0.0}, 9, 0.25, 0.75),
        ({"kind": "linear", "floor": 0.2}, 9, 1.0, 0.2),
        ({"kind": "cosine", "floor": 0.0}, 9, 0.5, 0.5),
        ({"kind": "cosine", "floor": 0.1}, 9, 1.0, 0.1),
        ({"kind": "warmup_stable_decay", "hold": 0.4, "floor": 0.0}, 9, 0.4, 1.0),
        ({"kind": "warmup_stable_decay", "hold": 0.4, "floor": 0.0}, 9, 0.7, 0.5),
        ({"kind": "warmup_stable_decay", "hold": 0.4, "floor": 0.1}, 9, 1.0, 0.1),
    ],
)
def test_schedule(settings: dict[str, Any], step: int, progress: float, expected: float) -> None:
    assert lr_factor(Schedule(**settings), step, progress) == pytest.approx(expected)


def test_what_is_trained_is_float32_on_a_bfloat16_base(recipe: Make, base: Path) -> None:
    model = {"base": str(base), "geometry": tiny_geometry().flat(), "read_adapter": ADAPTER}
    settings = recipe(model={**model, "dtype": "bfloat16", "device": "cpu"}, precision="bf16", optimiser={"lr": 1e-6}, steps=2)
    ended = run(settings)
    assert {value.dtype for value in trained(ended).values()} == {torch.float32}
    assert ended.checkpoint is not None
    moments = read_checkpoint(ended.checkpoint).optimiser
    assert {value.dtype for kept in moments.values() for value in kept.values()} == {torch.float32}


def test_gradient_checkpointing_changes_no_loss(recipe: Make) -> None:
    assert losses(run(recipe("with", gradient_checkpointing=True))) == losses(run(recipe("without")))


def test_plan_counts_what_is_trained(recipe: Make) -> None:
    found = plan(recipe())
    ended = run(recipe(steps=1))
    assert found.count == sum(value.numel() for value in trained(ended).values())
    assert [(name, rate) for name, _, rate in found.groups] == [("adapter", 1e-2), ("bos", pytest.approx(1e-3))]


# -- what is left behind ---------------------------------------------------------------------------------------------


def test_run_leaves_recipe_log_curves_and_a_delta_that_opens(
    recipe: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loops, "draw_curves", draw_curves)
    ended = run(recipe())
    place = tmp_path / "run"
    assert (place / "curves.png").read_bytes().startswith(b"\x89PNG")
    lines = (place / "log.txt").read_text(encoding="utf-8").splitlines()
    assert len([line for line in lines if not line.startswith(" ")]) == 6 and max(map(len, lines)) <= 80
    assert list((place / "tensorboard").iterdir())
    (part,) = json.loads((place / "circumstances.json").read_text(encoding="utf-8"))
    assert part["versions"]["torch"] == torch.__version__ and part["hardware"]["processes"] == 1
    model = MPlusModel.from_pretrained(ended.delta, dtype="float32", device="cpu")
    assert model.name == "toy"
    assert all(bool(value.any()) for name, value in trained(ended).items() if ".lora_B." in name)  # they begin at zero
    torch.testing.assert_close(model.parts.bos, trained(ended)["bos"], atol=4e-3, rtol=4e-3)  # stored as bfloat16


def test_only_the_newest_checkpoints_are_kept(recipe: Make, tmp_path: Path) -> None:
    run(recipe(save_every=1, keep=3))
    assert sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir()) == [
        "step-000004",
        "step-000005",
        "step-000006",
    ]


def test_nothing_is_pickled(recipe: Make, tmp_path: Path) -> None:
    run(recipe())
    suffixes = {path.suffix for path in (tmp_path / "run" / "checkpoints").rglob("*") if path.is_file()}
    assert suffixes == {".json", ".safetensors"}


def test_run_without_tensorboard_goes_on(recipe: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    assert run(recipe()).step == 6
    assert not (tmp_path / "run" / "tensorboard").exists()


def test_recipes_chain(recipe: Make) -> None:
    first = run(recipe("first"))
    second = run(recipe("second", model={"start": str(first.delta), "dtype": "float32", "device": "cpu"}, optimiser={"lr": 1e-9}))
    before, after = (load_file(ended.delta / "delta.safetensors") for ended in (first, second))
    assert before.keys() == after.keys()
    assert all(torch.allclose(before[name].float(), after[name].float(), atol=1e-6) for name in before)


def test_start_gets_the_parts_it_lacks_and_keeps_those_it_has(recipe: Make) -> None:
    first = run(recipe("first"))
    start = {"start": str(first.delta), "dtype": "float32", "device": "cpu"}
    more = {
        **start,
        "write_adapter": {"rank": 3, "alpha": 3},
        "retriever": {"key_width": 5, "voting": [0, 1]},
        "read_adapter": ADAPTER,
    }
    model = open_model(recipe("second", model=more), torch.device("cpu"))
    assert model.parts.adapters.write == "write" and model.checkpoint.adapter_configs["write"]["r"] == 3
    assert model.parts.retriever is not None and model.parts.retriever.key_width == 5
    state = model.parts.decoder.model.state_dict()
    stored = load_file(first.delta / "delta.safetensors")
    name = next(name for name in stored if name.startswith("adapter.read."))
    assert torch.equal(state[name.removeprefix("adapter.read.")], stored[name].float())
    with pytest.raises(TrainingError, match="rank 2 and alpha 4.*asks for 9 and 4"):
        open_model(recipe("third", model={**start, "read_adapter": {"rank": 9, "alpha": 4}}), torch.device("cpu"))


def test_trained_retriever_is_not_replaced(recipe: Make, base: Path, tmp_path: Path) -> None:
    model = MPlusModel.from_base(base, geometry=tiny_geometry(), key_width=6, dtype="float32", device="cpu")
    model.save_pretrained(tmp_path / "vote")
    start = {"start": str(tmp_path / "vote"), "dtype": "float32", "device": "cpu"}
    kept = open_model(recipe(model={**start, "retriever": {"key_width": 6}}), torch.device("cpu"))
    assert kept.parts.retriever is not None and kept.parts.retriever.key_width == 6
    with pytest.raises(TrainingError, match=r"key_width 6 .*asks for 7"):
        open_model(recipe(model={**start, "retriever": {"key_width": 7}}), torch.device("cpu"))


# -- mishaps ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mishap", "named"), [({"nan_loss_at": 5}, "the loss is nan"), ({"nan_gradient_at": 5}, "the gradient of bos is not finite")]
)
def test_number_that_is_not_finite_stops_the_run_and_overwrites_nothing(
    recipe: Make, tmp_path: Path, mishap: dict[str, int], named: str
) -> None:
    good = run(recipe("good", steps=4, schedule={"kind": "constant"}))
    with pytest.raises(TrainingError) as caught:
        run(recipe(task=mishap, schedule={"kind": "constant"}))
    last = tmp_path / "run" / "checkpoints" / "step-000004"
    assert f"step 5: {named}" in str(caught.value) and f"the last good checkpoint is {last}" in str(caught.value)
    assert newest(last.parent) == last
    assert same(read_checkpoint(last).parameters, trained(good))
    assert everything(tmp_path / "run" / "delta") == everything(good.delta)


def test_parameter_that_is_not_finite_is_named(recipe: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = torch.optim.AdamW.step

    def spoilt(self: torch.optim.AdamW, closure: None = None) -> None:
        real(self, closure)
        self.param_groups[1]["params"][0].data[0, 0] = float("inf")

    monkeypatch.setattr(torch.optim.AdamW, "step", spoilt)
    with pytest.raises(
        TrainingError, match=r"step 1: parameter bos is not finite; nothing was overwritten, there is no checkpoint yet"
    ):
        run(recipe())


def test_disk_that_is_full_leaves_the_previous_checkpoint(recipe: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(tensors: dict[str, Tensor], path: Path) -> None:
        if "step-000004" in str(path):
            path.write_bytes(b"half of it")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        save_file(tensors, path)

    with monkeypatch.context() as patched:
        patched.setattr(checkpoints, "save_file", full)
        with pytest.raises(TrainingError, match=r"step 4 not stored in .*No space left.*last good checkpoint is .*step-000002;"):
            run(recipe())
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-000002"]
    straight = run(recipe("straight"))
    assert losses(run(recipe(), resume=True)) == losses(straight)


def stored(step: int, size: int = 10) -> Checkpoint:
    return Checkpoint(step, 1.0, {}, {"w": torch.ones(size)}, {}, [{"python": (3, (1, 2), None)}], {"bank": [torch.ones(2)]})


def test_file_that_may_not_grow_leaves_the_previous_checkpoint(tmp_path: Path) -> None:
    """The system itself refuses, in the middle of the file."""
    first = write_checkpoint(tmp_path, stored(1), keep=1)
    before = everything(first)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(TrainingError, match="last good checkpoint is .*step-000001"):
            write_checkpoint(tmp_path, stored(2, size=100_000), keep=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in tmp_path.iterdir()] == ["step-000001"] and everything(first) == before


@pytest.mark.parametrize("file", ["state.json", "state.safetensors"])
@pytest.mark.parametrize("keep", [0, 40, None])
def test_damaged_checkpoint_is_told(tmp_path: Path, file: str, keep: int | None) -> None:
    path = write_checkpoint(tmp_path, stored(1), keep=1) / file
    path.unlink() if keep is None else path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(TrainingError, match="step-000001 is damaged"):
        read_checkpoint(path.parent)


@pytest.mark.parametrize("other", [1, 99])  # 1: before tasks stored their small world
def test_checkpoint_of_another_version_is_told(tmp_path: Path, other: int) -> None:
    path = write_checkpoint(tmp_path, stored(1), keep=1)
    (path / "state.json").write_text(f'{{"format": {other}}}', encoding="utf-8")
    with pytest.raises(TrainingError, match=f"format {other}"):
        read_checkpoint(path)


class Stop(Callback):
    """Sends this process a signal behind a step."""

    def __init__(self, at: int, number: signal.Signals = signal.SIGTERM) -> None:
        self.at, self.number = at, number

    def on_log(self, line: LogRecord) -> None: ...

    def on_step(self, line: LogRecord) -> None:
        if line.step == self.at:
            os.kill(os.getpid(), self.number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_the_run_behind_its_step_with_a_checkpoint(recipe: Make, number: signal.Signals) -> None:
    handlers = [signal.getsignal(caught) for caught in (signal.SIGTERM, signal.SIGINT)]
    ended = run(recipe(save_every=None), callback=Stop(3, number))
    assert (ended.reason, ended.step) == (number.name, 3)
    assert ended.checkpoint is not None and read_checkpoint(ended.checkpoint).step == 3
    assert (ended.delta / "mplus.json").exists()
    assert [signal.getsignal(caught) for caught in (signal.SIGTERM, signal.SIGINT)] == handlers


def test_place_of_another_run_is_refused(recipe: Make, tmp_path: Path) -> None:
    run(recipe(steps=2))
    before = everything(tmp_path / "run")
    with pytest.raises(TrainingError, match="holds a run already up to step-000002; go on with it by --resume"):
        run(recipe())
    assert everything(tmp_path / "run") == before
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(TrainingError, match="is a file"):
        run(recipe("file"))


def test_nothing_to_resume_is_told(recipe: Make) -> None:
    with pytest.raises(TrainingError, match="there is no checkpoint to resume in .*start the run without --resume"):
        run(recipe(), resume=True)


def test_checkpoint_of_another_recipe_is_refused(recipe: Make) -> None:
    run(recipe(steps=2))
    with pytest.raises(TrainingError, match="is of another recipe: task.rows is 4 there and 3 here"):
        run(recipe(task={"rows": 3}), resume=True)


def test_too_few_processes_are_told_before_anything_is_opened(recipe: Make) -> None:
    with pytest.raises(
        TrainingError, match=r"asks for 3 processes, 1 is running; .*accelerate launch --num_processes 3 -m mplus train"
    ):
        run(recipe(processes=3, model={"base": "nowhere"}))


def test_start_that_is_a_run_or_nothing_is_told(recipe: Make, tmp_path: Path) -> None:
    first = run(recipe("first", steps=1))
    with pytest.raises(TrainingError, match=f"its delta is {first.delta}"):
        run(recipe(model={"start": str(first.delta.parent)}))
    with pytest.raises(CheckpointError):
        run(recipe(model={"start": str(tmp_path / "nowhere")}))


def test_task_that_trains_nothing_is_told(recipe: Make) -> None:
    class Idle(Uneven):
        def groups(self) -> list[ParameterGroup]:
            self.weight.requires_grad_(False)
            return []

    with pytest.raises(TrainingError, match="trains no parameter"):
        looped(recipe(), Idle())


# -- parts -----------------------------------------------------------------------------------------------------------


def test_tree_comes_back_as_it_was() -> None:
    slab = torch.arange(12.0).view(3, 4)
    tree: dict[str, Any] = {
        "words": ["a", None, True, 1.5, 10**30, float("inf")],
        "tuple": (1, (2, [3])),
        "numbers": {3: "three", (1, 2): slab[1]},
        "views": [slab[:, 1], slab.T, slab],
        "types": {
            "b": torch.tensor([True]),
            "i": torch.tensor(3),
            "h": torch.ones(2, dtype=torch.bfloat16),
            "e": torch.empty(0, 3),
        },
        "$odd": {"$tensor": "a word"},
    }
    tensors: dict[str, Tensor] = {}
    plain = json.loads(json.dumps(flatten(tree, "tree", tensors)))
    back = restore(plain, checkpoints._own_storage(tensors))
    assert back["words"] == tree["words"] and back["tuple"] == tree["tuple"] and back["$odd"] == tree["$odd"]
    assert back["numbers"][3] == "three" and torch.equal(back["numbers"][1, 2], slab[1])
    assert all(torch.equal(one, other) for one, other in zip(back["views"], tree["views"], strict=True))
    for name, value in tree["types"].items():
        assert torch.equal(back["types"][name], value) and back["types"][name].dtype == value.dtype


def test_tree_refuses_what_it_cannot_give_back() -> None:
    with pytest.raises(TypeError, match="task.seen is a set"):
        flatten({"seen": {1}}, "task", {})


def test_running_mean() -> None:
    assert running_mean([2.0, 4.0]) == [2.0, 4.0]
    assert running_mean([float(value) for value in range(40)])[-1] == 38.5
