"""Law of every task with data: a question of the data is asked, or counted and named with the reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mplus.errors import InputError
from mplus.evaluation.tasks.builders import settings_of, streams_of
from mplus.evaluation.tasks.context import TaskContext
from mplus.evaluation.tasks.left_out import LeftOut
from mplus.evaluation.tasks.task_file import open_task
from tests.evaluating import Words
from tests.training_data import STORY_FILE
from tests.unit.evaluation.test_conversations import incremental, locomo

FILLER = "\n\n".join(f"Paragraph {number} of this text is of no use to anybody at all." for number in range(200))


def planned(
    task: str, place: Path, content: str, *, name: str = "data.jsonl", limit: int | None = None, **changes: Any
) -> tuple[int, LeftOut]:
    """How many are asked, and what is left out."""
    (place / name).write_text(content, encoding="utf-8")
    (place / "filler.txt").write_text(FILLER, encoding="utf-8")
    given = TaskContext(
        task=open_task(task),
        encode=Words(),
        chunk_tokens=20,
        min_tokens=2,
        data=[place / name],
        haystack=[place / "filler.txt"],
        limit=limit,
    )
    scripts = [stream.opened() for stream in streams_of(given.task, settings_of(given.task, changes), given)]
    return len({due.question.id for script in scripts for asked in script.due.values() for due in asked}), given.left_out


def lines(*records: dict[str, Any]) -> str:
    return "\n".join(map(json.dumps, records))


OWN = lines(
    *({"context": f"Town {n} has a mill built by Ana{n}. It is old.", "question": f"Who built mill {n}?", "answers": [f"Ana{n}."]} for n in range(5)),
    {"context": "The sea is wide and deep here.", "question": "How is the sea?", "answers": ["wide and deep here."], "id": "long"},
    {"context": "The hill is high.", "question": "What is high?", "answers": ["A mountain"], "id": "absent"},
    {"context": "The well is dry.", "question": "Is the well dry.", "answers": ["dry."], "id": "given away"},
    {"context": "Two more. Here live Bo. And Cy.", "question": "Who?", "answers": ["Bo."], "id": "first"},
    {"context": "Two more. Here live Bo. And Cy.", "question": "Who else?", "answers": ["Cy."], "id": "second"},
    {"context": "Nobody knows.", "question": "Who?", "answers": {"text": []}, "id": "unanswerable"},
)  # fmt: skip


def test_retention_names_what_it_does_not_ask_and_why(tmp_path: Path) -> None:
    asked, left_out = planned("retention", tmp_path, OWN, distances=[0], per_passage=1)
    assert asked == 6 and sum(left_out.counts.values()) == 5
    reasons = {name: reason for reason, names in left_out.names.items() for name in names}
    assert "more than 3 tokens" in reasons["long"] and "does not stand in its passage" in reasons["absent"]
    assert "the question itself contains" in reasons["given away"] and "has no answer" in reasons["unanswerable"]
    assert "more than 1 about one passage" in (reasons.get("first") or reasons["second"])
    asked, left_out = planned("retention", tmp_path, OWN, distances=[0], limit=2)
    assert asked == 2 and left_out.counts["beyond the limit of 2 (--limit)"] == 5 and sum(left_out.counts.values()) == 9


def test_every_question_of_the_data_is_asked_or_left_out_by_name(tmp_path: Path) -> None:
    conversations = json.dumps(locomo())
    assert planned("locomo", tmp_path, conversations, name="a.json", limit=1)[0] == 5
    asked, left_out = planned("locomo", tmp_path, conversations, name="a.json", rows=["temporal"])
    assert (asked, left_out.counts) == (1, {"of another kind (rows)": 4})
    assert left_out.names["of another kind (rows)"][0] == "conv-1/0"
    contexts = lines(incremental(), incremental(context="Another text.", metadata={"source": "other"}))
    total = 2 * len(incremental()["questions"])
    asked, left_out = planned("memory-agent-bench", tmp_path, contexts, limit=1)
    assert sum(left_out.counts.values()) == total - 2 and asked >= 1
    asked, left_out = planned("memory-agent-bench", tmp_path, contexts, leave_out=["other"])
    assert left_out.counts == {"of source other (sources, leave_out)": total // 2} and left_out.names.popitem()[1] == [
        "context 1"
    ]
    asked, left_out = planned("babilong", tmp_path, STORY_FILE, name="qa1_test.txt", limit=1, subtasks=["qa1"], lengths=[0])
    assert (asked, left_out.counts) == (1, {"beyond 1 of a row (--limit)": 2})
    asked, left_out = planned(
        "ruler", tmp_path, OWN.replace("is old.", "is old" + " and old" * 90), limit=2, families=["qa"], lengths=[500]
    )
    assert asked == 2 and sum(left_out.counts.values()) == 9


def test_documents_leave_out_by_subset_limit_and_document(tmp_path: Path) -> None:
    records = [
        {"context": f"Text {n % 2}.", "input": f"Q {n}?", "answers": ["x"], "_id": f"q{n}", "dataset": "a" if n < 6 else "b"}
        for n in range(8)
    ]
    named: dict[str, Any] = {
        "context": "context",
        "question": "input",
        "id": "_id",
        "subset": "dataset",
        "repair": False,
        "truncate": (),
    }
    asked, left_out = planned("longbench", tmp_path, lines(*records), subsets=["a"], per_document=2, limit=3, **named)
    assert asked == 3 and sum(left_out.counts.values()) == 5
    assert left_out.names["of another subset (subsets)"] == ["q6", "q7"]


def test_a_run_without_a_question_says_what_it_left_out(tmp_path: Path) -> None:
    only = lines({"context": "The hill is high.", "question": "What?", "answers": ["A mountain"], "id": "absent"})
    with pytest.raises(
        InputError, match=r"1 question left out: its answer does not stand in its passage word for word \(absent\)"
    ):
        planned("retention", tmp_path, only, distances=[0])


def test_a_line_names_five_and_counts_the_rest() -> None:
    left_out = LeftOut()
    assert not left_out and str(left_out) == ""
    left_out.take("too long", [str(number) for number in range(1200)])
    left_out.add("empty", "line 3")
    assert left_out.lines() == [
        "1,200 questions left out: too long (0, 1, 2, 3, 4 and 1,195 more)",
        "1 question left out: empty (line 3)",
    ]
    stored = left_out.to_json()
    assert stored["too long"]["questions"] == 1200 and len(stored["too long"]["first"]) == 50
