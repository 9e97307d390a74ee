"""Laws of scattered stories: facts in their order, distances from the last one that is needed, the same questions at all lengths."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mplus.corpus.stories import read_stories
from mplus.errors import InputError
from mplus.evaluation.schedule.stream import EvalStream, Question
from mplus.evaluation.tasks.builders import settings_of, streams_of
from mplus.evaluation.tasks.context import StreamSource, TaskContext
from mplus.evaluation.tasks.task_file import open_task
from tests.evaluating import Words, tokens_of
from tests.training_data import STORY_FILE


@pytest.fixture
def data(tmp_path: Path) -> Path:
    directory = tmp_path / "en"
    directory.mkdir()
    (directory / "qa1_single-supporting-fact_test.txt").write_text(STORY_FILE, encoding="utf-8")
    (directory / "qa1_single-supporting-fact_train.txt").write_text("nothing", encoding="utf-8")
    (directory / "qa10_indefinite-knowledge_test.txt").write_text(STORY_FILE, encoding="utf-8")
    lines = [f"Line {number} of this text is of no use to anybody." for number in range(300)]
    (tmp_path / "text.txt").write_text("\n\n".join(" ".join(lines[at : at + 5]) for at in range(0, 300, 5)), encoding="utf-8")
    return directory


def planned(
    data: Path, words: Words | None = None, *, limit: int | None = None, seed: int = 3, **changes: Any
) -> list[StreamSource]:
    task = open_task("babilong")
    material = TaskContext(
        task=task,
        encode=words or Words(),
        chunk_tokens=64,
        min_tokens=8,
        data=[data],
        haystack=[data.parent / "text.txt"],
        limit=limit,
        seed=seed,
    )
    return streams_of(task, settings_of(task, {"subtasks": ["qa1"], "lengths": [0, 1000], **changes}), material)


def asked(script: EvalStream) -> Question:
    ((position, (due,)),) = script.due.items()
    assert position == script.tokens, "asked at the end"
    assert due.distance == script.tokens - due.question.end
    return due.question


def test_facts_alone_are_the_shortest_text(data: Path) -> None:
    words = Words()
    found = {}
    for stream in planned(data, words, lengths=[0]):
        script = stream.opened()
        question = asked(script)
        found[question.answers[0]] = (words.text(tokens_of(script)), question.span, script.tokens - question.end)
        assert question.row == "qa1 0k"
    told = "Mary moved to the bathroom. John went to the hallway."
    assert found == {
        "bathroom": (told, (0, 5), 5),
        "hallway": (f"{told} Daniel went back to the hallway. Sandra moved to the garden.", (10, 16), 5),
        "office": ("John took the milk there. John travelled to the office. Mary went home.", (0, 10), 3),
    }


def test_facts_stand_in_their_order_among_running_text(data: Path) -> None:
    words = Words()
    stories = {one.answer: one for one in read_stories(data / "qa1_single-supporting-fact_test.txt")}
    for stream in planned(data, words, lengths=[1000]):
        script = stream.opened()
        question, text = asked(script), words.text(tokens_of(script))
        story = stories[question.answers[0]]
        assert 1000 - 11 < script.tokens <= 1000
        places = [text.index(fact) for fact in story.facts]
        assert places == sorted(places) and min(places) > 0
        last = story.facts[story.supports[-1]]
        assert script.tokens - question.end == len(text[text.index(last) + len(last) :].split())
        assert text.count("Line") == (1000 - sum(len(fact.split()) for fact in story.facts)) // 11
        assert question.text.endswith(f"Answer with one word, the place. {story.question}")


def test_questions_are_the_same_at_every_length_and_the_limit_holds(data: Path) -> None:
    streams = planned(data, limit=2, lengths="0,1k,2k")
    rows: dict[str, list[str]] = {}
    for stream in streams:
        question = asked(stream.opened())
        rows.setdefault(question.row, []).append(question.id)
    assert list(rows) == ["qa1 0k", "qa1 1k", "qa1 2k"]
    assert len({tuple(ids) for ids in rows.values()}) == 1
    assert all(len(ids) == 2 for ids in rows.values())
    assert len({stream.name for stream in streams}) == 6


def test_same_seed_same_text_and_other_seed_other_text(data: Path) -> None:
    words = Words()

    def texts(seed: int) -> dict[str, str]:
        return {one.name: words.text(tokens_of(one.opened())) for one in planned(data, words, seed=seed, lengths=[1000])}

    assert texts(3) == texts(3)
    assert set(texts(3).values()).isdisjoint(texts(4).values())


def test_each_subtask_has_its_file_and_its_instruction(data: Path) -> None:
    stream = planned(data, subtasks="qa10", lengths=[0])[0]
    assert "yes, no or maybe" in asked(stream.opened()).text
    train = data / "qa1_single-supporting-fact_train.txt"
    with pytest.raises(InputError, match="line 1 has no number"):
        planned(train)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"subtasks": ["qa8"]}, "lists, which are not scored"),
        ({"subtasks": ["qa99"]}, "expected some of qa1"),
        ({"subtasks": []}, "expected some of qa1"),
        ({"subtasks": ["qa4"]}, r"'qa4' has no file among 3; expected one named like qa4_\.\.\._test\.txt"),
        ({"lengths": [-1]}, "none below 0"),
        ({"lengths": [0, 4]}, "no story of .* fits into 4 tokens; name larger lengths"),
    ],
)
def test_wrong_settings_are_named(data: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        planned(data, **changes)


def test_stories_longer_than_the_smallest_length_are_left_out(data: Path) -> None:
    answers = [asked(stream.opened()).answers[0] for stream in planned(data, lengths=[15, 1000])]
    assert sorted(answers) == ["bathroom", "bathroom", "office", "office"], "the story of 21 words does not fit into 15 tokens"


def test_data_must_be_given(data: Path) -> None:
    task = open_task("babilong")
    material = TaskContext(task=task, encode=Words(), chunk_tokens=64, min_tokens=8)
    with pytest.raises(InputError, match="task 'babilong' brings no data; give a file with --data FILE"):
        streams_of(task, settings_of(task, {}), material)
