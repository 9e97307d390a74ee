"""Laws of the generated tasks: the same seed gives the same text, answers stand where they are said to, refusals count."""

from __future__ import annotations

from typing import Any

import pytest

from mplus.evaluation.schedule.stream import EvalStream
from mplus.evaluation.scoring.metrics import METRICS
from mplus.evaluation.tasks.builders import settings_of, streams_of
from mplus.evaluation.tasks.context import TaskContext
from mplus.evaluation.tasks.task_file import open_task
from tests.evaluating import Words, tokens_of

TASKS: dict[str, dict[str, Any]] = {
    "updates": {"tokens": 6000},
    "fact-consolidation": {"lengths": "6k"},
    "absent": {"lengths": "6k"},
    "forgotten": {"tokens": 6000},
    "chains": {"tokens": 6000},
    "no-shared-words": {"lengths": "2k"},
    "turns": {"tokens": 6000},
    "everyday": {},
}


def first(name: str, words: Words, seed: int = 1) -> EvalStream:
    task = open_task(name)
    context = TaskContext(task=task, encode=words, chunk_tokens=64, min_tokens=8, limit=4, seed=seed)
    return streams_of(task, settings_of(task, TASKS[name]), context)[0].opened()


@pytest.mark.parametrize("name", TASKS)
def test_answers_stand_where_they_are_said_to_and_a_seed_repeats(name: str) -> None:
    words = Words()
    script, again = first(name, words), first(name, words)
    ids, metric = tokens_of(script), METRICS[open_task(name).metric or ""]
    assert ids == tokens_of(again) and script.sources == again.sources
    for asked in script.due.values():
        for question in (one.question for one in asked):
            assert question.unanswerable or question.answers
            if question.span[1]:
                assert metric(words.text(ids[slice(*question.span)]), question) == 1.0
            if question.unanswerable:
                assert metric("I don't have that in memory.", question) == 1.0
            for value in question.forbidden:
                assert metric(f"It is {value}.", question) == 0.0
