"""`mplus bench` from end to end at the smallest size: what it prints, stores, refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mplus.benchmark.ratios import spreads
from mplus.cli import main

SMALL = ["--model", "tiny", "--rounds", "2", "--ltm", "0,100", "--contexts", "64"]


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr("mplus.benchmark.machine.COPY_BYTES", 1 << 20)
    return tmp_path


def run(kind: str, *options: str) -> dict[str, Any]:
    assert main(["bench", kind, *SMALL, "--out", "bench.json", *options]) == 0
    found: dict[str, Any] = json.loads(Path("bench.json").read_text(encoding="utf-8"))
    return found


def test_a_whole_run_stores_ratios_that_follow_from_its_raw_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    found = run("all")
    assert found["schema"] == 1 and found["what"] == "mplus bench" and found["kind"] == "all"
    expected = {name: float(f"{one.median:.4g}") for name, one in spreads(found["raw"]).items()}
    assert found["ratios"] == expected
    assert {"first_token", "decode", "ingest", "ingest_bf16", "memory_bytes", "memory_bytes_int8"} <= set(expected)
    assert "first_token_1m_over_10k" not in expected, "that size was not measured"
    assert {"reuse_prefix off", "short_writes off", "memory_format hidden"} <= set(found["gains"])
    assert found["environment"]["plan"]["rounds"] == 2 and found["environment"]["hardware"]
    assert Path("bench.png").read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    for part in ("first_token", "Bytes per memory token and layer", "Peak", "What each change gives", "bench.json"):
        assert part in printed


@pytest.mark.parametrize(("kind", "ratio"), [("growth", "first_token"), ("quick", "ingest")])
def test_each_kind_gives_its_own_ratios(kind: str, ratio: str) -> None:
    assert ratio in run(kind)["ratios"]


def test_a_profile_is_a_text_of_the_three_hot_paths() -> None:
    assert main(["bench", "profile", *SMALL, "--out", "bench.json"]) == 0
    text = Path("bench.profile.txt").read_text(encoding="utf-8")
    for path in ("first token", "decode", "write of one chunk"):
        assert path in text
    assert "aten::" in text and not Path("bench.json").exists()


def test_a_broken_bound_is_a_sentence_and_exit_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    bounds = {"schema": 1, "model": "tiny", "at_least": {}, "at_most": {"memory_bytes": 0.01}}
    Path("guard.json").write_text(json.dumps(bounds), encoding="utf-8")
    assert main(["bench", "growth", *SMALL, "--out", "bench.json", "--check", "guard.json"]) == 1
    assert "ratio memory_bytes is" in capsys.readouterr().err
    assert Path("bench.json").exists(), "what was measured is kept"


def test_bounds_of_another_model_and_a_foreign_profile_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    bounds = {"schema": 1, "model": "mid", "at_least": {}, "at_most": {}}
    Path("guard.json").write_text(json.dumps(bounds), encoding="utf-8")
    assert main(["bench", "quick", *SMALL, "--out", "bench.json", "--check", "guard.json"]) == 2
    assert "the bounds are for 'mid', this run measures 'tiny'" in capsys.readouterr().err
    Path("bench.profile.txt").write_text("mine", encoding="utf-8")
    assert main(["bench", "profile", *SMALL, "--out", "bench.json"]) == 2
    assert "is no profile of mplus bench" in capsys.readouterr().err
    assert Path("bench.profile.txt").read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["bench", "sped"], "did you mean 'speed'"),
        (["bench", "speed", "--model", "mit"], "did you mean 'mid'"),
        (["bench", "speed", "--model", "8b"], "give --layers 1"),
        (["bench", "speed", "--model", "tiny", "--ltm", "ten"], "expected sizes like 0,10k,1M"),
        (["bench", "speed", "--model", "tiny", "--out", "."], "is a directory"),
        (["bench", "speed", "--model", "tiny", "--check", "none.json"], "cannot be read"),
        (["bench", "speed", "--model", "tiny", "--dtype", "float8"], "dtype 'float8' is not known"),
        (["bench", "speed", "--model", "tiny", "--dtype", "float16"], "runs in float32 or bfloat16"),
        (["bench", "speed", "--model", "tiny", "--ltm", "9M"], "at most 8,000,000 can be filled"),
    ],
)
def test_mistakes_are_one_line_and_nothing_is_stored(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert sentence in said.err and said.err.count("\n") == 1 and not said.out
    assert list(Path().iterdir()) == []
