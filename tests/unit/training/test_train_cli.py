"""Laws of `mplus train`: what it shows can be read back, and a mistake is one line that changes nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from mplus.cli import main
from mplus.training.objectives import registry
from mplus.training.run import trainer as loops
from mplus.training.run.metrics_log import LogRecord
from mplus.training.run.recipe_file import read_recipe
from tests.tiny import tiny_decoder, tiny_geometry

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stock model in transformers' form."""
    directory = tmp_path_factory.mktemp("base")
    tiny_decoder().save_pretrained(directory)
    return directory


@pytest.fixture(autouse=True)
def place(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a recipe of the toy task; no picture, it takes longer than the steps."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(registry.TASKS, "toy", "tests.toy_task")
    monkeypatch.setattr(loops, "draw_curves", lambda *arguments, **named: None)
    settings = {
        "name": "toy",
        "model": {
            "base": str(base),
            "geometry": tiny_geometry().flat(),
            "read_adapter": {"rank": 2, "alpha": 4},
            "dtype": "float32",
            "device": "cpu",
        },
        "task": {"kind": "toy"},
        "steps": 4,
        "save_every": None,
        "log_every": 2,
    }
    (tmp_path / "toy.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    return tmp_path


def mistake(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run a command that must fail; returns its last line on stderr, without the prefix."""
    assert main(["train", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == "" and "Traceback" not in err
    last = err.strip().splitlines()[-1]
    assert last.startswith("mplus: ")
    return last.removeprefix("mplus: ")


def test_run_shows_lines_and_the_delta(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "toy.yaml", "--set", "optimiser.lr=1e-2", "--set", "schedule.kind=constant"]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[0].startswith("4 steps, ") and out.splitlines()[-1] == "runs/toy/delta"
    told = [line for line in err.splitlines() if line.startswith("step ")]
    assert [line.split()[1] for line in told] == ["2", "4"]
    assert all(word in told[0] for word in ("loss", "tokens/s"))
    assert "    recall " in err and "lr 1.00e-02" in err
    assert all(len(line) <= 80 for line in err.splitlines())
    assert yaml.safe_load((place / "runs" / "toy" / "recipe.yaml").read_text(encoding="utf-8"))["optimiser"]["lr"] == 0.01


def test_dry_run_shows_a_recipe_and_trains_nothing(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "toy.yaml", "--dry-run", "--set", "task.rows=7", "--out", "elsewhere"]) == 0
    out = capsys.readouterr().out
    (place / "again.yaml").write_text(out, encoding="utf-8")
    assert read_recipe("again.yaml").resolved() == read_recipe("toy.yaml", ["task.rows=7", "out=elsewhere"]).resolved()
    assert "# trained parameters: 1,664" in out and "# planned: 4 steps of 1 batches, in elsewhere" in out
    assert sorted(path.name for path in place.iterdir()) == ["again.yaml", "toy.yaml"]


def test_dry_run_without_the_model_still_shows_the_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "toy.yaml", "--dry-run", "--set", "model.base=./nowhere"]) == 0
    out = capsys.readouterr().out
    assert yaml.safe_load(out)["model"]["base"] == "./nowhere" and "# trained parameters: not counted (" in out


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["toi.yaml"], "there is no recipe toi.yaml; did you mean toy.yaml?"),
        (["toy.yaml", "--set", "task.row=3"], "unknown key 'task.row'; did you mean 'task.rows'?"),
        (["toy.yaml", "--set", "steps=soon"], "steps is 'soon', expected a valid integer"),
        (["toy.yaml", "--set", "steps"], "is not key=value"),
        (["toy.yaml", "--resume"], "there is no checkpoint to resume in runs/toy/checkpoints"),
        (["toy.yaml", "--set", "processes=2"], "accelerate launch --num_processes 2 -m mplus train"),
        (["toy.yaml", "--out", "toy.yaml"], "toy.yaml is a file"),
        (["toy.yaml", "--set", "task.nan_loss_at=2"], "step 2: the loss is nan"),
        (["toy.yaml", "--set", "model.base=./nowhere"], "nowhere"),
        (["toy.yaml", "--set", "model.geometry.stm_tokens=-1"], "geometry: stm_tokens"),
        ([], "no recipe is named"),
    ],
)
def test_mistake_is_one_line(capsys: pytest.CaptureFixture[str], arguments: list[str], expected: str) -> None:
    assert expected in mistake(capsys, *arguments)


def test_second_run_in_one_place_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "toy.yaml"]) == 0
    capsys.readouterr()
    assert "runs/toy holds a run already up to step-000004" in mistake(capsys, "toy.yaml")
    assert "is of another recipe: seed is 0 there and 3 here" in mistake(capsys, "toy.yaml", "--resume", "--set", "seed=3")


def test_interrupted_run_says_how_to_go_on(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:

    from mplus.cli import train as command

    def interrupt(line: LogRecord) -> str:
        os.kill(os.getpid(), signal.SIGINT)
        return ""

    monkeypatch.setattr(command, "_short", interrupt)
    assert main(["train", "toy.yaml", "--set", "name=other", "--out", "here it is"]) == 130
    err = capsys.readouterr().err
    assert "stopped by SIGINT at step 1, stored in here it is/checkpoints/step-000001" in err
    assert "mplus train toy.yaml --set name=other --out 'here it is' --resume" in err
    monkeypatch.undo()
    monkeypatch.chdir(place)
    monkeypatch.setitem(registry.TASKS, "toy", "tests.toy_task")
    assert main(["train", "toy.yaml", "--set", "name=other", "--out", "here it is", "--resume"]) == 0
    assert json.loads((place / "here it is" / "log.jsonl").read_text(encoding="utf-8").splitlines()[-1])["step"] == 4


def test_package_runs_as_a_module() -> None:
    """Launchers start it so."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    words = [sys.executable, "-m", "mplus", "train", "--help"]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0 and "--dry-run" in done.stdout
