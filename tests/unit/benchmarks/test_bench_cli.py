"""`mplus bench` from end to end at the smallest size: what it prints, stores, refuses."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from benchmarks import memory
from benchmarks.ratios import spreads
from mplus.cli import main

pytestmark = pytest.mark.slow

SMALL = ["--model", "tiny", "--rounds", "2", "--ltm", "0,100", "--contexts", "64"]


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr("benchmarks.machine.COPY_BYTES", 1 << 20)
    monkeypatch.setattr("benchmarks.machine.TURNS", 2)
    return tmp_path


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Systems whose peak was asked for; one gets a real process, opening the library five times over would take half a minute."""
    real, asked = subprocess.run, []

    def measure(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        if "benchmarks.memory" not in command:
            return real(command, **options)
        spec = json.loads(command[-1])
        asked.append(spec["system"])
        if spec["system"] == "ours":
            return real(command, **options)
        return subprocess.CompletedProcess(command, 0, json.dumps(memory.measure_peak(spec)) + "\n", "")

    monkeypatch.setattr(subprocess, "run", measure)
    return asked


def run(kind: str, *options: str) -> dict[str, Any]:
    assert main(["bench", kind, *SMALL, "--out", "bench.json", *options]) == 0
    found: dict[str, Any] = json.loads(Path("bench.json").read_text(encoding="utf-8"))
    return found


@pytest.mark.long
def test_a_whole_run_stores_ratios_that_follow_from_its_raw_numbers(
    processes: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    found = run("all")
    assert found["schema"] == 1 and found["what"] == "mplus bench" and found["kind"] == "all"
    expected = {name: float(f"{one.median:.4g}") for name, one in spreads(found["raw"]).items()}
    assert found["ratios"] == expected
    assert {"first_token", "decode", "ingest", "ingest_bf16", "memory_bytes", "memory_bytes_int8"} <= set(expected)
    assert "first_token_1m_over_10k" not in expected, "that size was not measured"
    assert {"reuse_prefix off", "short_writes off", "memory_format hidden"} <= set(found["gains"])
    assert found["environment"]["plan"]["rounds"] == 2 and found["environment"]["hardware"]
    assert processes == [one["system"] for one in found["raw"]["peaks"]["figures"]]
    assert set(processes) == {"model", "ours", "literal", "memoryllm", "full"}
    assert all(one["peak_bytes"] >= one["opened_bytes"] > 0 for one in found["raw"]["peaks"]["figures"])
    assert Path("bench.png").read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    for part in ("first_token", "Bytes per memory token and layer", "Peak", "What each change gives", "bench.json"):
        assert part in printed


BYTES = {"memory_bytes", "memory_bytes_int8"}
DECODING = {"decode", "decode_over_static", "decode_over_growing"}
WRITING = {"ingest", "ingest_bf16"}


@pytest.mark.parametrize(
    ("kind", "ratios"),
    [
        ("growth", {*BYTES, "first_token"}),
        ("quick", {*BYTES, "first_token", *DECODING, *WRITING}),
        pytest.param(
            "speed", {"first_token", "first_token_after_write", *DECODING, *WRITING, "ingest_batch"}, marks=pytest.mark.long
        ),
    ],
)
def test_each_kind_gives_its_own_ratios(kind: str, ratios: set[str]) -> None:
    found = run(kind, "--rounds", "1")
    assert set(found["ratios"]) == set(found["spread"]) == ratios
    assert all(low <= found["ratios"][name] <= high for name, (low, high) in found["spread"].items())


def test_what_ram_does_not_hold_is_left_out_with_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mplus.memory.budget.free_bytes", lambda device: 1000)
    found = run("memory")
    assert set(found["ratios"]) == BYTES, "counting the bytes of a row takes no room"
    assert found["raw"]["peaks"]["figures"] == [] and "save_load" not in found["raw"]
    for name in ("ours at 100 long-term tokens", "peak memory of literal at 100 tokens", "peak memory of full at 64 tokens"):
        assert any(note.startswith(f"{name} is left out: it needs 1.5 GB of free RAM") for note in found["notes"])


def test_a_profile_without_room_is_a_mistake_and_leaves_no_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("mplus.memory.budget.free_bytes", lambda device: 1000)
    assert main(["bench", "profile", *SMALL, "--out", "bench.json"]) == 2
    assert "mplus: nothing was profiled: ours at 100 long-term tokens is left out" in capsys.readouterr().err
    assert list(Path().iterdir()) == []


@pytest.mark.long
def test_a_profile_is_a_text_of_the_three_hot_paths_and_replaces_an_earlier_one() -> None:
    Path("bench.profile.txt").write_text("first token, ours: of another day", encoding="utf-8")
    assert main(["bench", "profile", *SMALL, "--out", "bench.json"]) == 0
    text = Path("bench.profile.txt").read_text(encoding="utf-8")
    for path in ("first token", "decode", "write of one chunk"):
        assert path in text
    assert text.startswith("first token, ours") and "another day" not in text
    assert "aten::" in text and not Path("bench.json").exists()


def test_without_a_checkout_one_sentence_says_how_to_get_it(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    package = place / "lib" / "site-packages" / "mplus"
    monkeypatch.setattr("mplus.__file__", str(package / "__init__.py"))
    assert main(["bench", "speed"]) == 2
    said = capsys.readouterr().err
    assert str(package) in said and "clone the repository, run `make setup` there, then `.venv/bin/mplus bench`" in said
    assert said.count("\n") == 1


def test_a_broken_bound_is_a_sentence_and_exit_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    bounds = {"schema": 1, "model": "tiny", "at_least": {}, "at_most": {"memory_bytes": 0.01}}
    Path("thresholds.json").write_text(json.dumps(bounds), encoding="utf-8")
    assert main(["bench", "growth", *SMALL, "--out", "bench.json", "--check", "thresholds.json"]) == 1
    assert "ratio memory_bytes is" in capsys.readouterr().err
    assert Path("bench.json").exists(), "what was measured is kept"


def test_bounds_of_another_model_and_a_foreign_profile_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    bounds = {"schema": 1, "model": "mid", "at_least": {}, "at_most": {}}
    Path("thresholds.json").write_text(json.dumps(bounds), encoding="utf-8")
    assert main(["bench", "quick", *SMALL, "--out", "bench.json", "--check", "thresholds.json"]) == 2
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
        (["bench", "speed", "--model", "tiny", "--ltm", "²"], "expected sizes like 0,10k,1M"),
        (["bench", "speed", "--model", "tiny", "--contexts", "0,64"], "--contexts asks for a text of 0 tokens"),
        (["bench", "speed", "--model", "smollm2-135m", "--layers", "2"], "leave it out"),
        (["bench", "speed", "--model", "tiny", "--out", "."], "is a directory"),
        (["bench", "speed", "--model", "tiny", "--check", "none.json"], "cannot be read"),
        (["bench", "speed", "--model", "tiny", "--dtype", "float8"], "dtype 'float8' is not one"),
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
