"""Laws of several processes: two of them have the losses of one, whole or in pieces, and end together."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mplus.cli import main
from mplus.training.objectives import registry
from tests.tiny import tiny_decoder, tiny_geometry

pytestmark = [pytest.mark.slow, pytest.mark.long]

ROOT = Path(__file__).resolve().parents[3]
CONSTANT = ["--set", "schedule.kind=constant"]
RUNS = [[*CONSTANT, "--set", "processes=2", "--set", "steps=3"], [*CONSTANT, "--set", "processes=2", "--resume"]]
FAILING = ["--set", "task.nan_loss_at=2"]
Train = Callable[..., subprocess.CompletedProcess[str]]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a tiny base and a recipe for it."""
    directory = tmp_path_factory.mktemp("processes")
    tiny_decoder().save_pretrained(directory / "base")
    settings = {
        "name": "toy",
        "model": {
            "base": str(directory / "base"),
            "geometry": tiny_geometry().flat(),
            "read_adapter": {"rank": 2, "alpha": 4},
            "dtype": "float32",
            "device": "cpu",
        },
        "task": {"kind": "toy", "rows": 5},  # three for one process, two for the other
        "steps": 6,
        "save_every": 3,
        "log_every": 1,
        "optimiser": {"lr": 1e-2},
    }
    (directory / "toy.yaml").write_text(json.dumps(settings), encoding="utf-8")  # JSON is YAML
    return directory


@pytest.fixture(scope="module")
def train(place: Path) -> Train:
    """``train(arguments, ...)``: the command in two processes of their own, once for each list of arguments."""

    def command(*runs: list[str], sharded: bool = False) -> subprocess.CompletedProcess[str]:
        rendezvous = ["--master-addr", "127.0.0.1", "--master-port", str(free_port())]
        words = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", *rendezvous, "-m", "tests.launched"]
        for number, arguments in enumerate(runs):
            words += ["+"] * (number > 0) + ["train", str(place / "toy.yaml"), *arguments]
        environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}", "OMP_NUM_THREADS": "1"}
        if sharded:
            environment["MPLUS_TEST_SHARDED"] = "1"
        return subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)

    return command


def losses(place: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (place / "log.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def alone(place: Path) -> Path:
    """The run of one process, this one."""
    registry.TASKS["toy"] = "tests.toy_task"
    try:
        assert main(["train", str(place / "toy.yaml"), "--out", str(place / "alone"), *CONSTANT]) == 0
    finally:
        del registry.TASKS["toy"]
    return place / "alone"


@pytest.fixture(scope="module")
def both(train: Train, place: Path) -> subprocess.CompletedProcess[str]:
    """Two processes that train, go on, and begin a run that fails."""
    return train(*(["--out", str(place / "whole"), *words] for words in RUNS), ["--out", str(place / "bad"), *FAILING])


def check_equal(run: Path, alone: Path) -> None:
    assert losses(run) == pytest.approx(losses(alone), abs=1e-5)
    ours, theirs = (load_file(place / "delta" / "delta.safetensors") for place in (run, alone))
    assert ours.keys() == theirs.keys()
    for name in ours:  # stored as bfloat16
        torch.testing.assert_close(ours[name].float(), theirs[name].float(), atol=1e-3, rtol=1e-2)


def test_two_processes_have_the_losses_of_one_even_when_resumed(
    both: subprocess.CompletedProcess[str], place: Path, alone: Path
) -> None:
    assert "step 6 " in both.stderr, both.stderr
    check_equal(place / "whole", alone)


def test_two_processes_with_parameters_in_pieces_have_the_losses_of_one(train: Train, place: Path, alone: Path) -> None:
    done = train(*(["--out", str(place / "pieces"), *words] for words in RUNS), sharded=True)
    assert done.returncode == 0, done.stderr
    check_equal(place / "pieces", alone)


def test_number_that_is_not_finite_ends_all_processes_with_a_sentence(both: subprocess.CompletedProcess[str]) -> None:
    assert both.returncode != 0
    assert "mplus: step 2: the loss is nan" in both.stderr
    assert "mplus/training" not in both.stderr  # no traceback of ours
