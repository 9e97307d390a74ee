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

from tests.tiny import tiny_decoder, tiny_geometry

ROOT = Path(__file__).resolve().parents[3]
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
            "geometry": tiny_geometry().model_dump(exclude_defaults=True),
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
    """``train(processes, out, *arguments)``: the command in that many processes of their own."""

    def command(processes: int, out: str, *arguments: str, sharded: bool = False) -> subprocess.CompletedProcess[str]:
        rendezvous = ["--master-addr", "127.0.0.1", "--master-port", str(free_port())]
        launcher = ["-m", "torch.distributed.run", "--nproc-per-node", str(processes), *rendezvous] if processes > 1 else []
        words = [sys.executable, *launcher, "-m", "tests.launched", "train", str(place / "toy.yaml"), "--out", str(place / out)]
        environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}", "OMP_NUM_THREADS": "1"}
        if sharded:
            environment["MPLUS_TEST_SHARDED"] = "1"
        return subprocess.run(
            [*words, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False
        )

    return command


def losses(place: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (place / "log.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def alone(train: Train, place: Path) -> Path:
    """The run of one process."""
    done = train(1, "alone", "--set", "schedule.kind=constant")
    assert done.returncode == 0, done.stderr
    return place / "alone"


@pytest.mark.parametrize("sharded", [False, True], ids=["whole", "pieces"])
def test_two_processes_have_the_losses_of_one_even_when_resumed(train: Train, place: Path, alone: Path, sharded: bool) -> None:
    out = f"two-{sharded}"
    settings = ["--set", "schedule.kind=constant", "--set", "processes=2"]
    first = train(2, out, "--set", "steps=3", *settings, sharded=sharded)
    assert first.returncode == 0, first.stderr
    second = train(2, out, "--resume", *settings, sharded=sharded)
    assert second.returncode == 0, second.stderr
    assert losses(place / out) == pytest.approx(losses(alone), abs=1e-5)
    ours, theirs = (load_file(run / "delta" / "delta.safetensors") for run in (place / out, alone))
    assert ours.keys() == theirs.keys()
    for name in ours:  # stored as bfloat16
        torch.testing.assert_close(ours[name].float(), theirs[name].float(), atol=1e-3, rtol=1e-2)


def test_number_that_is_not_finite_ends_all_processes_with_a_sentence(train: Train) -> None:
    done = train(2, "failing", "--set", "task.nan_loss_at=2")
    assert done.returncode != 0
    assert "mplus: step 2: the loss is nan" in done.stderr
    assert "mplus/training" not in done.stderr  # no traceback of ours
