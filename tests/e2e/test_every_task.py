"""Every task that comes with the package runs from its data to its table, on a tiny model and two samples, through the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests import tiny
from tests.evaluating import squad_file

from mplus import MPlusModel
from mplus.cli import eval as command
from mplus.cli import main
from mplus.evaluation.scoring.text_match import contains_answer
from mplus.evaluation.tasks.task_file import known_tasks

NAMES = ("Alice", "Bertram", "Clara", "Dorian")


def book(sentences: int = 260) -> str:
    """A novel of sorts: named people, past tense, no sentence twice."""
    acts = (
        "walked slowly to the old mill",
        "opened the letter by the window",
        "carried the lamp into the cellar",
        "counted every coin twice",
    )
    return " ".join(
        f"On that day number {n} the tired {NAMES[n % 4]} {acts[n // 4 % 4]} and said nothing more." for n in range(sentences)
    )


def chat_turn(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "content": text}


def longmemeval_record(name: str) -> dict[str, Any]:
    session = [chat_turn("user", "I live in Oslo."), chat_turn("assistant", "Noted.")]
    return {
        "question_id": name, "question_type": "single-session-user", "question": "Where do I live?", "answer": "Oslo",
        "question_date": "2023/05/02 (Tue) 10:00", "haystack_dates": ["2023/05/01 (Mon) 10:00"], "haystack_session_ids": ["s1"],
        "haystack_sessions": [session], "answer_session_ids": ["s1"],
    }  # fmt: skip


LOCOMO = {
    "sample_id": "c1",
    "conversation": {
        "speaker_a": "Ann", "speaker_b": "Bo", "session_1_date_time": "1:00 pm on 1 May, 2023",
        "session_1": [{"speaker": "Ann", "dia_id": "D1:1", "text": "I moved to Oslo."}, {"speaker": "Bo", "dia_id": "D1:2", "text": "Good!"}],
    },
    "qa": [
        {"question": "Where did Ann move?", "answer": "Oslo", "evidence": ["D1:1"], "category": 4},
        {"question": "Where did Bo move?", "adversarial_answer": "Oslo", "evidence": ["D1:1"], "category": 5},
    ],
}  # fmt: skip


def lines(path: Path, *records: dict[str, Any]) -> str:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return str(path)


def open_question(number: int) -> dict[str, Any]:
    """A question with a gold passage and another one."""
    passages = [
        {"title": f"Town {number}", "text": f"Town {number} was built by Ann{number}. {'It has a mill. ' * 12}", "isgold": True},
        {"title": f"Hill {number}", "text": f"Hill {number} is green. {'Sheep live there. ' * 12}", "isgold": False},
    ]
    return {"question": f"who built the town of number {number}", "answers": [f"Ann{number}"], "ctxs": passages}


@pytest.fixture(scope="module")
def model() -> MPlusModel:
    """One token per byte; room for a choice of six sentences."""
    return tiny.text_model(positions=6000, ltm_capacity=9000)


@pytest.fixture
def place(tmp_path: Path, model: MPlusModel, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Data of every form."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, "open_model", lambda name, **_: model)
    squad_file(tmp_path / "squad.json", articles=4, paragraphs=2)
    (tmp_path / "book.txt").write_text(book(), encoding="utf-8")
    lines(tmp_path / "nq.jsonl", *map(open_question, range(6)))
    story = [
        "1 Mary went to the garden.",
        "2 John went to the hall.",
        "3 Where is Mary? \tgarden\t1",
        "4 Mary took the ball.",
        "5 Where is John? \thall\t2",
    ]
    (tmp_path / "babi").mkdir()
    for name in ("qa1_single-supporting-fact", "qa2_two-supporting-facts", "qa3_three-supporting-facts"):
        (tmp_path / "babi" / f"{name}_test.txt").write_text("\n".join(story * 4) + "\n", encoding="utf-8")
    asked = {"question": "Who ran?", "answers": ["Ann", "Ann Lee"]}
    lines(
        tmp_path / "nqa.jsonl",
        {"document_id": "d", "summary": "Ann ran home . Bo sat .", "qas": [asked, {**asked, "question": "Who sat?"}]},
    )
    lines(
        tmp_path / "squality.jsonl",
        {
            "document": "Ann ran home. Bo sat.",
            "questions": [{"question_text": "Who ran?", "question_number": 1, "responses": [{"response_text": "Ann ran."}]}],
        },
    )  # fmt: skip
    long = {"context": "Ann ran home. " * 4, "input": "Who ran?", "answers": ["Ann"], "dataset": "hotpotqa", "_id": "1"}
    lines(tmp_path / "longbench.jsonl", long, {**long, "_id": "2", "dataset": "qasper"})
    lines(tmp_path / "longbook.jsonl", {"id": 1, "context": "Ann ran home. " * 4, "input": "Who ran?", "answer": ["Ann"]})
    (tmp_path / "locomo.json").write_text(json.dumps([LOCOMO]), encoding="utf-8")
    (tmp_path / "lme.json").write_text(json.dumps([longmemeval_record("q1"), longmemeval_record("q2_abs")]), encoding="utf-8")
    lines(
        tmp_path / "mab.jsonl",
        {
            "context": "Ann ran home. " * 4,
            "questions": ["Who ran?", "Who sat?"],
            "answers": [["Ann"], ["Bo"]],
            "metadata": {"source": "ruler_qa1_197K"},
        },
    )  # fmt: skip
    return tmp_path


OPTIONS: dict[str, list[str]] = {
    "retention": ["--data", "squad.json", "--distances", "0,400", "--max-answer-tokens", "9"],
    "retention-squad": ["--data", "squad.json", "--distances", "0,400", "--max-answer-tokens", "9"],
    "retention-nq": ["--data", "nq.jsonl", "--distances", "0,400", "--max-answer-tokens", "9", "--nq-half", "all"],
    "facts": ["--haystack", "book.txt", "--distances", "400,1k"],
    "demo": ["--haystack", "book.txt", "--tokens", "2000", "--distances", "1k"],
    "retrieval": ["--haystack", "book.txt", "--distances", "400,1k"],
    "needle": ["--haystack", "book.txt", "--lengths", "2k"],
    "ruler": ["--haystack", "book.txt", "--lengths", "4k", "--set", "families=[niah_single, vt]"],
    "babilong": ["--data", "babi", "--haystack", "book.txt", "--lengths", "0,1k"],
    "event-qa": ["--haystack", "book.txt", "--set", "tokens=[8000]"],
    "perplexity": ["--haystack", "book.txt", "--set", "before=[0,256]", "--set", "after=32"],
    "efficiency": ["--haystack", "book.txt", "--lengths", "100,400"],
    "narrativeqa": ["--data", "nqa.jsonl"],
    "squality": ["--data", "squality.jsonl"],
    "longbench": ["--data", "longbench.jsonl"],
    "longbook-qa": ["--data", "longbook.jsonl"],
    "locomo": ["--data", "locomo.json"],
    "longmemeval": ["--data", "lme.json"],
    "memory-agent-bench": ["--data", "mab.jsonl"],
    "updates": ["--haystack", "book.txt", "--tokens", "8000", "--systems", "mplus,window,bm25"],
    "fact-consolidation": ["--lengths", "6k"],
    "absent": ["--haystack", "book.txt", "--lengths", "4k"],
    "forgotten": ["--haystack", "book.txt", "--tokens", "8000"],
    "chains": ["--haystack", "book.txt", "--tokens", "4000"],
    "no-shared-words": ["--haystack", "book.txt", "--lengths", "4k"],
    "turns": ["--haystack", "book.txt", "--tokens", "4000"],
    "everyday": ["--systems", "mplus,bm25"],
}


IN_WORDS_OF_ITS_OWN = ("pairs",)
"""Tasks that only a model trained on them can take; tests/unit/evaluation/test_pairs.py runs them."""


@pytest.mark.parametrize("task", [name for name in known_tasks() if name not in IN_WORDS_OF_ITS_OWN])
def test_a_task_gives_its_table_summary_and_picture(task: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", task, *OPTIONS[task], "--limit", "2", "--max-new-tokens", "3", "--out", "out"]) == 0, (
        capsys.readouterr().err
    )
    shown = capsys.readouterr().out
    summary = json.loads((place / "out" / "summary.json").read_text(encoding="utf-8"))
    assert summary["task"] == task and summary["version"] == 1 and summary["digest"] and "M+" in shown
    assert all(system["rows"] and min(system["asked"]) > 0 for system in summary["systems"].values())
    samples = [json.loads(line) for line in (place / "out" / "samples.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {one["system"] for one in samples} == set(summary["systems"]) and all(one["question"] for one in samples)
    for one in samples if summary["metric"] == "contained" else ():
        assert one["unanswerable"] or one["score"] == contains_answer(one["given"], one["answers"])
    assert (place / "out" / f"{task}.png").read_bytes().startswith(b"\x89PNG")
    before = (place / "out" / "samples.jsonl").read_bytes()
    assert main(["eval", task, *OPTIONS[task], "--limit", "2", "--max-new-tokens", "3", "--out", "out", "--resume"]) == 0
    assert (place / "out" / "samples.jsonl").read_bytes() == before  # finished: nothing is asked again


def test_several_tasks_get_a_directory_each_and_only_settings_they_know(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    usual = ["--haystack", "book.txt", "--limit", "1", "--max-new-tokens", "2", "--systems", "mplus", "--out", "out"]
    assert main(["eval", "needle,facts", *usual, "--lengths", "2k", "--distances", "400"]) == 0
    assert {path.name for path in (place / "out").iterdir()} == {"needle", "facts"}
    capsys.readouterr()
    assert main(["eval", "needle,facts", *usual, "--set", "depth=[1]", "--overwrite"]) == 2
    assert "has no setting 'depth'; did you mean 'depths'?" in capsys.readouterr().err


def test_a_hub_id_without_a_network_says_how_to_use_a_file(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert main(["eval", "longbook-qa", "--out", "out"]) == 2
    told = capsys.readouterr().err
    assert "xinrongzhang2022/InfiniteBench" in told and "--data FILE" in told and told.count("\n") == 1
