"""Laws of whole documents: what is cut, which questions are asked, how rows are named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mplus.errors import InputError
from mplus.evaluation.schedule.stream import EvalStream
from mplus.evaluation.tasks.builders import settings_of, streams_of
from mplus.evaluation.tasks.context import TaskContext
from mplus.evaluation.tasks.task_file import TaskFile
from tests.evaluating import Words

TEXT = " ".join(f"Sentence {number} ends here." for number in range(10))  # four words each


def planned(
    tmp_path: Path, records: list[dict[str, Any]], *, limit: int | None = None, **settings: Any
) -> list[tuple[str, EvalStream, Words]]:
    file = tmp_path / "data.jsonl"
    file.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    task, words = TaskFile(task="made", version=1, title="made", builder="documents"), Words()
    material = TaskContext(task=task, encode=words, chunk_tokens=8, min_tokens=1, data=[file], limit=limit)
    return [(stream.name, stream.opened(), words) for stream in streams_of(task, settings_of(task, settings), material)]


def record(**changes: Any) -> dict[str, Any]:
    return {"context": TEXT, "question": "What ends?", "answers": ["a sentence"], "id": "q", **changes}


def test_a_document_is_read_whole_and_asked_about_at_its_end(tmp_path: Path) -> None:
    [(name, script, words)] = planned(tmp_path, [record()])
    assert name == "document 0" and words.text([token for chunk in script.chunks for token in chunk]) == TEXT
    [(position, [due])] = script.due.items()
    assert (position, due.distance, due.question.cluster, due.question.row) == (40, 0, "document 0", "data")


def test_of_a_long_document_the_middle_is_left_out_and_the_rest_is_cut_at_sentences(tmp_path: Path) -> None:
    found = planned(tmp_path, [record()], truncate=[18, 1000])
    rows = [due.question.row for _, script, _ in found for asked in script.due.values() for due in asked]
    assert [name for name, *_ in found] == ["document 0 18", "document 0 1000"] and rows == ["data 18", "data 1k"]
    _, script, words = found[0]
    assert [words.text(chunk) for chunk in script.chunks] == [
        "Sentence 0 ends here. Sentence 1 ends here.",
        "Sentence here. Sentence 8 ends here.",  # nine tokens from the front, nine from the end
        "Sentence 9 ends here.",
    ]
    assert sum(map(len, found[1][1].chunks)) == 40
    clusters = {due.question.cluster for _, script, _ in found for asked in script.due.values() for due in asked}
    assert clusters == {"document 0"}  # both lengths are of one text


def test_questions_about_one_text_are_asked_together_as_many_as_wanted(tmp_path: Path) -> None:
    records = [record(id=str(number)) for number in range(4)] + [record(id="other", context="Else. " + TEXT)]
    assert [script.questions for _, script, _ in planned(tmp_path, records)] == [4, 1]
    assert [script.questions for _, script, _ in planned(tmp_path, records, per_document=2)] == [2, 1]
    assert [script.questions for _, script, _ in planned(tmp_path, records, limit=3)] == [3]


def test_rows_are_chosen_and_apostrophes_put_back(tmp_path: Path) -> None:
    records = [
        record(kind="a", question="Whose mother s house , then ?", answers=["the mother s", "did n't say"]),
        record(kind="b", id="r"),
    ]
    [(_, script, _)] = planned(tmp_path, records, subset="kind", subsets=["a"], repair=True)
    [[due]] = script.due.values()
    assert (due.question.row, due.question.text, due.question.answers) == (
        "a",
        "Whose mother's house, then?",
        ("the mother's", "didn't say"),
    )
    with pytest.raises(InputError, match="the data have no c; check subsets"):
        planned(tmp_path, records, subset="kind", subsets=["c"])


@pytest.mark.parametrize("truncate", [[0], [-5]])
def test_lengths_below_one_are_refused(tmp_path: Path, truncate: list[int]) -> None:
    with pytest.raises(InputError, match="truncate"):
        planned(tmp_path, [record()], truncate=truncate)
