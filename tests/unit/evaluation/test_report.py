"""Laws of a joined report: only seeds are averaged, whatever differs otherwise stays apart, numbers are those of the runs."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mplus.errors import InputError
from mplus.evaluation.report.comparison import Report, read_report


def run(path: Path, accuracy: dict[str, list[float]], *, seed: int = 0, task: str = "retention", **changed: Any) -> Path:
    """A finished run at distances 0 and 4,000."""
    systems = {
        name: {
            "rows": ["0", "4k"],
            "distances": [0, 4000],
            "accuracy": shares,
            "asked": [20, 20],
            "low": [share - 0.1 for share in shares],
            "high": [share + 0.1 for share in shares],
        }
        for name, shares in accuracy.items()
    }
    data: dict[str, Any] = {
        "schema": 2,
        "task": task,
        "model": "small",
        "systems": systems,
        "fingerprints": {"mplus": "f1"},
        "geometry": {"stm_tokens": 512, "ltm_capacity": 900 + seed},
        "variants": {},
        "tokens_read": {"pass 1": 800},
        "seeds": {f"seed {seed}": seed},
        "max_new_tokens": 10,
        "settings": {"data": "dev.json", "seed": seed},
    }
    path.mkdir()
    (path / "summary.json").write_text(json.dumps({**data, **changed}), encoding="utf-8")
    return path


def column(report: Report, heading: str) -> list[str]:
    headings, rows = report.rows()
    return [row[headings.index(heading)] for row in rows]


def test_seeds_are_joined_to_mean_and_spread(tmp_path: Path) -> None:
    shares = [0.5, 0.6, 0.85]
    runs = [run(tmp_path / str(seed), {"mplus": [1.0, share]}, seed=seed) for seed, share in enumerate(shares)]
    report = read_report(runs)
    assert column(report, "M+, 3 seeds") == ["1.000 ± 0.000", f"{statistics.fmean(shares):.3f} ± {statistics.stdev(shares):.3f}"]
    assert report.series[0].asked == {"0": 60, "4k": 60} and column(report, "distance") == ["0", "4k"]
    low, high = report.series[0].band("4k")
    assert (low + high) / 2 == pytest.approx(statistics.fmean(shares))
    assert (high - low) / 2 == pytest.approx(statistics.stdev(shares))
    assert report.series[0].band("0") == (1.0, 1.0)


def test_one_seed_keeps_its_interval(tmp_path: Path) -> None:
    report = read_report([run(tmp_path / "a", {"mplus": [0.5, 0.25]})])
    assert column(report, "M+") == ["0.500 [0.40, 0.60]", "0.250 [0.15, 0.35]"]


def test_systems_of_several_runs_stand_side_by_side(tmp_path: Path) -> None:
    runs = [
        run(tmp_path / "a", {"mplus": [1.0, 0.5]}),
        run(tmp_path / "b", {"memoryllm": [1.0, 0.0]}),
        run(tmp_path / "c", {"random": [1.0, 0.1]}, variants={"random": {"choice": "random"}}),
    ]
    report = read_report(runs)
    assert report.rows()[0] == ["distance", "M+", "MemoryLLM", "random"]
    report.draw(tmp_path / "all.png")
    with Image.open(tmp_path / "all.png") as image:
        assert image.format == "PNG"
    assert "| distance | M+ | MemoryLLM | random |" in report.to_markdown()


@pytest.mark.parametrize(
    "changed",
    [
        {"fingerprints": {"mplus": "f2"}},
        {"geometry": {"stm_tokens": 256, "ltm_capacity": 900}},
        {"geometry": {"stm_tokens": 512, "ltm_capacity": 700}},  # it was full
        {"settings": {"data": "other.json", "seed": 1}},
        {"max_new_tokens": 20},
        {"version": 2},
        {"digest": "other"},
        {"text_budget_tokens": {"mplus": 512}},
        {"variants": {"mplus": {"choice": "recent"}}},
        {"settings": {"data": "dev.json", "seed": 0}},  # the same seed again is no further sample
    ],
)
def test_what_differs_otherwise_is_not_averaged(tmp_path: Path, changed: dict[str, Any]) -> None:
    first = run(tmp_path / "a", {"mplus": [1.0, 0.5]})
    second = run(tmp_path / "b", {"mplus": [1.0, 0.7]}, seed=1, **changed)
    report = read_report([first, second])
    assert column(report, f"M+ ({first})")[1][:5] == "0.500" and column(report, f"M+ ({second})")[1][:5] == "0.700"


def test_streams_of_facts_are_seeds_and_join_with_those_of_other_runs(tmp_path: Path) -> None:
    first = run(tmp_path / "a", {"mplus": [0.6, 0.4]}, task="facts", seeds={"seed 0": 0, "seed 1": 1})
    data = json.loads((first / "summary.json").read_text(encoding="utf-8"))
    data["systems"]["mplus"]["streams"] = {"seed 0": [0.5, 0.4], "seed 1": [0.7, None]}
    (first / "summary.json").write_text(json.dumps(data), encoding="utf-8")
    second = run(tmp_path / "b", {"mplus": [0.9, 0.5]}, task="facts", seed=2)
    report = read_report([first, second])
    assert [sorted(one.shares) for one in report.series] == [["seed 0", "seed 1", "seed 2"]]
    assert report.series[0].at("0") == [0.5, 0.7, 0.9] and report.series[0].at("4k") == [0.4, 0.5]


def test_a_directory_given_twice_counts_once(tmp_path: Path) -> None:
    one = run(tmp_path / "a", {"mplus": [1.0, 0.5]})
    assert read_report([one, one]).series[0].runs == [str(one)]


def test_runs_of_two_tasks_make_no_report(tmp_path: Path) -> None:
    runs = [run(tmp_path / "a", {"mplus": [1.0, 0.5]}), run(tmp_path / "b", {"mplus": [1.0, 0.5]}, task="facts")]
    with pytest.raises(InputError, match="one report holds one task.*retention in .*a, facts in .*b"):
        read_report(runs)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "cannot be read"),
        ("[]", "has schema None"),
        ('{"schema": 1}', "has schema 1"),
        ('{"schema": 2}', "KeyError: 'systems'"),
    ],
)
def test_a_damaged_summary_is_one_sentence(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "summary.json").write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as caught:
        read_report([tmp_path])
    assert told in str(caught.value) and "\n" not in str(caught.value)


def test_a_system_that_was_never_asked_has_no_bars(tmp_path: Path) -> None:
    empty: dict[str, Any] = {"rows": [], "accuracy": [], "asked": [], "low": [], "high": []}
    path = run(tmp_path / "a", {"mplus": [1.0, 0.5]})
    data = json.loads((path / "summary.json").read_text())
    data["systems"]["full"] = {**empty, "distances": []}
    (path / "summary.json").write_text(json.dumps(data))
    report = read_report([path])
    assert column(report, "full context") == ["-", "-"]
    report.draw(tmp_path / "all.png")


def test_times_are_not_joined(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="measured times, which a report does not join"):
        read_report([run(tmp_path / "a", {"mplus": [0.0, 0.0]}, measure="speed")])


def test_the_score_is_named(tmp_path: Path) -> None:
    report = read_report([run(tmp_path / "a", {"mplus": [9.0, 8.0]}, measure="likelihood")])
    assert report.score == "perplexity" and "Perplexity: mean" in report.to_markdown()


def test_an_adapter_tells_systems_of_one_name_apart(tmp_path: Path) -> None:
    plain = run(tmp_path / "a", {"bm25": [0.1, 0.2], "mplus": [0.5, 0.5]})
    tuned = run(tmp_path / "b", {"bm25": [0.3, 0.4]}, settings={"data": "dev.json", "seed": 0, "plain_adapter": "some/tuned"})
    headings, _ = read_report([plain, tuned]).rows()
    assert headings == ["distance", "BM25", "M+", "BM25 with tuned"]
