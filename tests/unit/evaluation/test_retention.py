"""Laws of the retention protocol: the distance is what it claims, and nothing behind a passage is of its own article."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mplus.corpus.passages import Passage, PassageFile, PassageQuestion, read_passages
from mplus.corpus.splits import nq_split
from mplus.errors import InputError
from mplus.evaluation.schedule.distances import passage_tolerance
from mplus.evaluation.schedule.stream import EvalStream
from mplus.evaluation.tasks.retention.builder import RetentionTask
from tests.evaluating import Words, squad_file, tokens_of

DISTANCES = (0, 300, 1000)


def planned(task: RetentionTask) -> tuple[Words, list[EvalStream]]:
    words = Words()
    return words, task.scripts(words, chunk_tokens=32, min_tokens=4)


@pytest.fixture
def task(tmp_path: Path) -> RetentionTask:
    data = read_passages(squad_file(tmp_path / "dev.json", articles=8, paragraphs=4))
    more = read_passages(squad_file(tmp_path / "more.json", articles=12, paragraphs=4, first=100))
    return RetentionTask(data=data, distractors=[more], distances=DISTANCES, limit=12, per_passage=1, max_answer_tokens=1)


def test_every_sample_is_asked_once_at_every_distance_and_the_distance_is_true(task: RetentionTask) -> None:
    words, scripts = planned(task)
    asked: list[tuple[str, int]] = []
    for script in scripts:
        ids, ends, position = tokens_of(script), set[int](), 0
        for chunk in script.chunks:
            position += len(chunk)
            ends.add(position)
        assert set(script.due) <= ends, "a question is due where no chunk ends, so nobody would ask it"
        for position, due in script.due.items():
            for one in due:
                start, end = one.question.span
                assert words.text(ids[start:end]) == one.question.passage
                assert position >= end and abs(position - end - one.distance) <= passage_tolerance(one.distance)
                asked.append((one.question.id, one.distance))
                if one.distance == 0:
                    assert position == end
    samples = {sample for sample, _ in asked}
    assert len(samples) == 12 and sorted(asked) == sorted((sample, distance) for sample in samples for distance in DISTANCES)


def test_nothing_of_its_own_article_stands_in_a_stream_beside_a_passage(task: RetentionTask) -> None:
    words, scripts = planned(replace(task, limit=24))
    assert len(scripts) == 3  # eight articles, one passage of each in a pass
    for script in scripts:
        text = words.text(tokens_of(script)).split()
        for due in script.due.values():
            for one in due:
                start, end = one.question.span
                own = one.question.id.split("p")[0] + "p"
                outside = [word for word in text[:start] + text[end:] if word.lower().startswith(own)]
                assert not outside


def test_without_distractor_files_half_of_the_articles_distract(task: RetentionTask, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        _, scripts = planned(replace(task, distractors=[], limit=8))
    assert [len({one.question.cluster for due in script.due.values() for one in due}) for script in scripts] == [4, 4]
    assert any("is repeated to reach" in record.message for record in caplog.records)


def test_a_passage_of_a_distractor_file_that_is_of_a_sampled_article_is_left_out(task: RetentionTask) -> None:
    new = [replace(one, article=one.article.replace("_", " "), text=f"Told again. {one.text}") for one in task.data.passages]
    same = PassageFile("again", "squad", new)
    words, scripts = planned(replace(task, distractors=[*task.distractors, same], limit=8))
    for script in scripts:
        text = words.text(tokens_of(script)).split()
        for due in script.due.values():
            for one in due:
                assert text.count(one.question.answers[0]) == 1


def test_answer_span_is_the_answer(task: RetentionTask) -> None:
    words, scripts = planned(task)
    for script in scripts:
        ids = tokens_of(script)
        for due in script.due.values():
            for one in due:
                assert words.text(ids[slice(*one.question.answer_span)]) == one.question.answers[0]


def test_the_same_seed_gives_the_same_stream_and_another_one_another(task: RetentionTask) -> None:
    first, again, other = (planned(one)[1] for one in (task, task, replace(task, seed=1)))
    assert [script.chunks for script in first] == [script.chunks for script in again]
    assert [script.due for script in other] != [script.due for script in first]


def test_questions_per_passage_are_asked_together(task: RetentionTask) -> None:
    _, scripts = planned(replace(task, per_passage=2, limit=8))
    at_once = [now for due in scripts[0].due.values() if (now := [one for one in due if one.distance == 0])]
    assert len(scripts) == 1 and [len(due) for due in at_once] == [2, 2, 2, 2]
    assert all(len({one.question.cluster for one in due}) == 1 for due in at_once)


def one_passage(text: str, *asked: PassageQuestion, article: str = "T") -> PassageFile:
    more = [Passage(article=f"other {n}", text=f"Other number{n} words stand here in a row.") for n in range(9)]
    return PassageFile("file", "context", [Passage(article=article, text=text, questions=asked), *more])


@pytest.mark.parametrize(
    ("asked", "kept"),
    [
        (PassageQuestion(id="1", text="Who?", answers=("Ana Lopes", "Ana")), True),
        (PassageQuestion(id="1", text="Who?", answers=("Ana Lopes of Seville",)), False),  # four tokens
        (PassageQuestion(id="1", text="Who?", answers=("Ben",)), False),  # not in the passage
        (PassageQuestion(id="1", text="Does ANA, live there?", answers=("Ana",)), False),  # the question gives it away
    ],
)
def test_samples_have_a_short_answer_that_stands_in_the_passage_and_not_in_the_question(
    asked: PassageQuestion, kept: bool
) -> None:
    task = RetentionTask(data=one_passage("Here lives Ana Lopes of Seville.", asked), distances=(0,), limit=1)
    if kept:
        assert planned(task)[1][0].questions == 1
    else:
        with pytest.raises(InputError, match="no question with an answer of at most 3 tokens"):
            planned(task)


def test_only_articles_kept_from_training_are_asked_about(tmp_path: Path) -> None:
    titles = [f"Title {number}" for number in range(40)]
    records = [
        {"question": f"who {n}", "answers": [f"name{n}"], "ctxs": [{"title": title, "text": f"It is name{n}.", "isgold": True}]}
        for n, title in enumerate(titles)
    ]
    file = tmp_path / "nq.jsonl"
    file.write_text("\n".join(map(json.dumps, records)), encoding="utf-8")
    task = RetentionTask(data=read_passages(file), distances=(0,), limit=40)
    kept = {one.question.cluster.split(":")[0] for script in planned(task)[1] for due in script.due.values() for one in due}
    assert kept == {title for title in titles if nq_split(title) == "eval"} != set(titles)
    everything = planned(replace(task, nq_half="all"))[1]
    assert sum(script.questions for script in everything) == 40


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"limit": 0}, "limit is 0"),
        ({"per_passage": 0}, "questions per passage is 0"),
        ({"distances": ()}, "at least one"),
        ({"distances": (-1,)}, "none below 0"),
    ],
)
def test_numbers_out_of_range_are_told(task: RetentionTask, changes: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        planned(replace(task, **changes))


def test_one_article_alone_has_nothing_to_distract_with(tmp_path: Path) -> None:
    data = read_passages(squad_file(tmp_path / "dev.json", articles=1))
    with pytest.raises(InputError, match="one article only.*--distractors"):
        planned(RetentionTask(data=data, distances=(0,), limit=1))


def test_fewer_samples_than_asked_for_are_told(task: RetentionTask, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        _, scripts = planned(replace(task, distances=(0,), limit=1000, per_passage=9))
    assert sum(script.questions for script in scripts) == 64  # 8 articles, 4 paragraphs, 2 short answers
    assert any("has 64 samples" in record.message for record in caplog.records)
