"""Laws of `mplus eval`: files and a table where all is well, one line on stderr and code 2 where it is not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mplus import MPlusModel
from mplus.cli import eval as command
from mplus.cli import main
from tests import tiny
from tests.evaluating import squad_file

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def model() -> MPlusModel:
    """One token per byte, with room for questions."""
    return tiny.text_model(ltm_capacity=3000)


@pytest.fixture
def data(tmp_path: Path, model: MPlusModel, monkeypatch: pytest.MonkeyPatch) -> str:
    """A file of questions; any model that is named is the tiny one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setattr(command, "open_model", lambda name, **_: model)
    return str(squad_file(tmp_path / "dev.json", articles=4, paragraphs=2))


def mistake(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and err.startswith("mplus: ")
    return err


def test_retention_shows_a_table_and_stores_what_it_promises(
    capsys: pytest.CaptureFixture[str], data: str, tmp_path: Path
) -> None:
    options = ["--distances", "0,1k", "--limit", "2", "--max-answer-tokens", "9", "--max-new-tokens", "3", "--out", "out"]
    assert (
        main(["eval", "retention", "--data", data, *options, "--set-geometry", "K0=32", "--systems", "mplus,memoryllm,passage"])
        == 0
    )
    shown = capsys.readouterr().out
    assert "MemoryLLM" in shown and "1k" in shown and "summary.json" in shown
    summary = json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))
    assert summary["schema"] == 2 and set(summary["systems"]) == {"mplus", "memoryllm", "passage"}
    assert summary["systems"]["mplus"]["asked"] == [2, 2] and summary["systems"]["passage"]["distances"] == [0]
    assert summary["geometry"]["ltm_read_tokens"] == 32 and summary["read_budget_tokens"] == 96
    assert summary["settings"]["distances"] == [0, 1000] and summary["fingerprints"]["mplus"]
    drawn = summary["retrieval"]["mplus"]
    assert drawn["distances"] == [0, 1000] and len(drawn["right_share"][1]) == len(drawn["chance"][1]) == 1
    assert 0 < drawn["chance"][1][0] < 0.1
    assert (tmp_path / "out" / "retention.png").stat().st_size > 10_000


def test_facts_shows_a_table_over_seeds_and_raises_the_capacity(
    capsys: pytest.CaptureFixture[str], data: str, tmp_path: Path
) -> None:
    haystack = tmp_path / "text.txt"
    haystack.write_text(" ".join(f"It rains for {number} days now." for number in range(300)), encoding="utf-8")
    options = ["--distances", "400,3k,90k", "--tokens", "3000", "--questions", "2", "--seeds", "0,4", "--max-new-tokens", "2"]
    assert main(["eval", "facts", "--haystack", str(haystack), *options, "--out", "out"]) == 0
    assert "seed" not in capsys.readouterr().out
    summary = json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))
    system = summary["systems"]["mplus"]
    assert system["distances"] == [400, 3000] and system["asked"] == [4, 4]
    assert list(system["streams"]) == ["seed 0", "seed 4"] and len(system["mean"]) == len(system["spread"]) == 2
    assert summary["geometry"]["ltm_capacity"] == max(summary["tokens_read"].values()) > 3000
    assert (tmp_path / "out" / "facts.png").exists()


QUICK = ["--distances", "0,400", "--limit", "2", "--max-answer-tokens", "9", "--max-new-tokens", "2", "--out", "out"]


def test_variants_stand_beside_the_others_everywhere(capsys: pytest.CaptureFixture[str], data: str, tmp_path: Path) -> None:
    variants = ["--variant", "k0-8:K0=8", "--variant", "random:choice=random,neighbour_blocks=0", "--variant", "n-128:N=128"]
    assert main(["eval", "retention", "--data", data, *QUICK, "--systems", "mplus", *variants]) == 0
    shown = capsys.readouterr().out
    assert "right long-term tokens read (chance)" in shown and shown.count("n-128") == 3 and "95 % interval" in shown
    summary = json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))
    assert list(summary["systems"]) == ["mplus", "k0-8", "random", "n-128"]
    assert summary["variants"]["random"] == {"choice": "random", "neighbour_blocks": 0}
    assert summary["variants"]["n-128"] == {"stm_tokens": 128} and "choice" not in summary["geometry"]
    assert all(one["asked"] == [2, 2] for one in summary["systems"].values())
    at = summary["retrieval"]["mplus"]["distances"].index(400)
    assert summary["retrieval"]["k0-8"]["chance"][at][0] == pytest.approx(
        summary["retrieval"]["mplus"]["chance"][at][0] / 2, abs=1e-3
    )
    table = (tmp_path / "out" / "table.md").read_text(encoding="utf-8")
    assert "| k0-8 | random | n-128 |" in table and "`n-128`: M+ with stm_tokens 128." in table


def test_a_finished_run_is_replaced_only_when_told(capsys: pytest.CaptureFixture[str], data: str, tmp_path: Path) -> None:
    usual = ["eval", "retention", "--data", data, *QUICK, "--store", "disk"]
    assert main(usual) == 0
    capsys.readouterr()
    path = tmp_path / "out" / "summary.json"
    before = path.read_bytes()
    assert "'out' holds a finished run; give another --out, or --overwrite" in mistake(capsys, *usual)
    assert path.read_bytes() == before
    assert main([*usual, "--seed", "1", "--overwrite"]) == 0
    assert json.loads(path.read_text(encoding="utf-8"))["settings"]["seed"] == 1


def test_questions_that_are_not_asked_are_shown_and_stored(capsys: pytest.CaptureFixture[str], data: str, tmp_path: Path) -> None:
    options = ["--data", data, "--distances", "0", "--limit", "1", "--max-answer-tokens", "9", "--max-new-tokens", "2"]
    run = ["eval", "retention", *options, "--systems", "mplus", "--out", "out"]
    assert main(run) == 0
    assert "15 questions left out: beyond the limit of 1 (--limit) (a0p0-1, " in capsys.readouterr().out
    for name in ("run.json", "summary.json"):
        stored = json.loads((tmp_path / "out" / name).read_text(encoding="utf-8"))["left_out"]
        assert stored["beyond the limit of 1 (--limit)"]["questions"] == 15
    assert "Not asked: 15, beyond the limit" in (tmp_path / "out" / "table.md").read_text(encoding="utf-8")
    assert main([*run, "--resume"]) == 0


def test_a_run_is_not_gone_on_with_over_other_data(capsys: pytest.CaptureFixture[str], data: str, tmp_path: Path) -> None:
    options = ["--data", data, "--distances", "0", "--limit", "1", "--max-answer-tokens", "9", "--max-new-tokens", "2"]
    run = ("eval", "retention", *options, "--systems", "mplus", "--out", "out")
    assert main(run) == 0
    capsys.readouterr()
    assert main([*run, "--resume"]) == 0
    capsys.readouterr()
    file = Path(data)
    file.write_text(file.read_text(encoding="utf-8") + " ", encoding="utf-8")
    assert "was begun with settings.inputs" in mistake(capsys, *run, "--resume")


def test_two_tasks_of_one_name_are_not_run_into_one_directory(
    capsys: pytest.CaptureFixture[str], data: str, tmp_path: Path
) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text("task: needle\nversion: 1\ntitle: mine\nadapter: needle\n", encoding="utf-8")
    assert "two of the tasks are named 'needle'" in mistake(capsys, "eval", f"needle,{mine}", "--out", "out")
    assert not (tmp_path / "out").exists()


def test_a_model_without_a_chat_template_cannot_be_asked(
    capsys: pytest.CaptureFixture[str], data: str, model: MPlusModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model.tokenizer, "chat_template", None)
    told = mistake(capsys, "eval", "retention", "--data", data, "--systems", "bm25", "--out", "out")
    assert "has no chat template, which the questions of 'retention' are asked in" in told


def test_a_run_that_ends_early_does_not_look_finished(
    capsys: pytest.CaptureFixture[str], data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = ["eval", "retention", "--data", data, *QUICK]
    assert main(usual) == 0

    def stop(*given: Any, **named: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("mplus.evaluation.task_run.run_stream", stop)
        assert main([*usual, "--overwrite"]) == 130
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"samples.jsonl", "run.json", "sessions.jsonl"}
    assert main(usual) == 0  # there was no sample: nothing has to be said to begin again


def test_report_joins_seeds_and_stores_table_and_picture(capsys: pytest.CaptureFixture[str], data: str, tmp_path: Path) -> None:
    usual = ["eval", "retention", "--data", data, *QUICK[:-1]]
    for seed in ("0", "1"):
        assert main([*usual, f"run{seed}", "--seed", seed, "--systems", "mplus", "--json"]) == 0
        (summary,) = json.loads(capsys.readouterr().out)
        assert summary == json.loads((tmp_path / f"run{seed}" / "summary.json").read_text(encoding="utf-8"))
    assert main(["eval", "report", "run0", "run1", "--out", "joined/all.md", "--out", "joined/all.png"]) == 0
    shown = capsys.readouterr().out
    assert "M+, 2 seeds" in shown and "joined/all.png" in shown
    assert "M+: run0, run1." in (tmp_path / "joined" / "all.md").read_text(encoding="utf-8")
    assert (tmp_path / "joined" / "all.png").read_bytes().startswith(b"\x89PNG")
    assert main(["eval", "report", "run0", "run1", "--json"]) == 0
    joined = json.loads(capsys.readouterr().out)
    assert [row["distance"] for row in joined["rows"]] == ["0", "400"] and set(joined["rows"][0]) == {"distance", "M+, 2 seeds"}
    assert sorted(path.name for path in (tmp_path / "joined").iterdir()) == ["all.md", "all.png"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["nowhere"], "'nowhere' holds no finished run (summary.json is missing)"),
        (["dev.json"], "'dev.json' holds no finished run"),
        (["nowhere", "--out", "all.svg"], "neither a picture nor a table"),
        (["nowhere", "--out", "dev.json/all.md"], "is a file"),
        ([], "missing argument 'DIR...'"),
    ],
)
def test_a_mistake_about_a_report_is_one_line(
    capsys: pytest.CaptureFixture[str], data: str, arguments: list[str], expected: str
) -> None:
    assert expected in mistake(capsys, "eval", "report", *arguments)


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        (["--distances", "near"], "distance 'near' is no number of tokens"),
        (["--limit", "0"], "--limit"),
        (["--systems", "mplus,bm26"], "there is no system 'bm26'"),
        (["--systems", "memorylm"], "did you mean 'memoryllm'"),
        (["--set-geometry", "K0"], "expected KEY=VALUE like K0=512"),
        (["--set-geometry", "rooms=3"], "the memory has no setting 'rooms'"),
        (["--set-geometry", "N=many"], "geometry: stm_tokens"),
        (["--set-geometry", "N=4000"], "memory needs"),
        (["--variant", "k0"], "'k0' is no variant"),
        (["--variant", "k0:rooms=3"], "the memory has no setting 'rooms'"),
        (["--variant", "k0:K0=7"], "variant 'k0': geometry: "),
        (["--variant", "big:N=4000"], "variant 'big': memory needs"),
        (["--variant", "other:block_tokens=2"], "variant 'other': block_tokens belongs to the model"),
        (["--variant", "other:retrieval=per_layer"], "variant 'other': retrieval belongs to the model"),
        (["--store", "tape"], "--store is 'tape', expected ram or disk"),
        (["--nq-half", "best"], "--nq-half is 'best', expected eval or all"),
        (["--distractors", "none.txt"], "there is no file 'none.txt'"),
        (["--data", "none.json"], "there is no file 'none.json'"),
        (["--max-answer-tokens", "1"], "no question with an answer of at most 1 tokens"),
        (["--passage-adapter", ".", "--systems", "passage"], "holds no adapter"),
        (["--out", "dev.json"], "dev.json is a file"),
    ],
)
def test_a_mistake_is_one_line_and_stores_nothing(
    capsys: pytest.CaptureFixture[str], data: str, tmp_path: Path, changed: list[str], expected: str
) -> None:
    usual = ["eval", "retention", "--data", data, "--distances", "0", "--limit", "1", "--out", "out", *changed]
    assert expected in mistake(capsys, *usual)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        (["--seeds", "0,one"], "seeds are '0,one', expected whole numbers"),
        (["--distances", "100"], "distances are [100], expected at least one, each of 200 tokens or more"),
        (["--tokens", "500"], "no distance is left within 500 tokens"),
        (["--haystack", "none.txt"], "there is no file 'none.txt'"),
        (["--questions", "0"], "--questions"),
    ],
)
def test_a_mistake_about_facts_is_one_line(
    capsys: pytest.CaptureFixture[str], data: str, changed: list[str], expected: str
) -> None:
    assert expected in mistake(capsys, "eval", "facts", "--out", "out", *changed)


def test_help_names_all_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "--help"]) == 0
    shown: Any = capsys.readouterr().out
    assert "retention" in shown and "facts" in shown and "report" in shown
