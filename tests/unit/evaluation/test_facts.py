"""Laws of the stream of facts: every distance gets its questions out of one pass, and each is as far back as it claims."""

from __future__ import annotations

import logging
from collections import Counter
from typing import Any

import pytest

from mplus.errors import EmptyTextError, InputError
from mplus.evaluation.schedule.distances import fact_tolerance
from mplus.evaluation.schedule.stream import EvalStream
from mplus.evaluation.tasks.facts.builder import DEFAULT_DISTANCES, FactsTask
from tests.evaluating import Words, tokens_of

pytestmark = pytest.mark.slow

HAYSTACK = " ".join(f"Sentence {number} goes on and on for {number} days and then ends here." for number in range(3000))
DISTANCES = (400, 1000, 2000, 4000, 8000)


def planned(**changes: Any) -> tuple[Words, EvalStream]:
    words = Words()
    fields: dict[str, Any] = {"haystack": HAYSTACK, "distances": DISTANCES, "questions": 24, "seed": 3}
    (script,) = FactsTask(**{**fields, **changes}).scripts(words, chunk_tokens=64, min_tokens=8)
    return words, script


@pytest.fixture(scope="module")
def plan() -> tuple[Words, EvalStream]:
    return planned()


def test_every_distance_gets_all_its_questions_and_no_fact_twice(plan: tuple[Words, EvalStream]) -> None:
    asked = [(one.distance, one.question.id) for due in plan[1].due.values() for one in due]
    assert Counter(distance for distance, _ in asked) == dict.fromkeys(DISTANCES, 24)
    assert len(set(asked)) == len(asked)
    assert max(Counter(fact for _, fact in asked).values()) > 1, "a fact may be asked at several distances"


def test_every_fact_is_as_far_back_as_it_claims(plan: tuple[Words, EvalStream]) -> None:
    words, script = plan
    ids = tokens_of(script)
    ends, position = set(), 0
    for chunk in script.chunks:
        position += len(chunk)
        ends.add(position)
    assert set(script.due) <= ends
    for position, due in script.due.items():
        for one in due:
            start, end = one.question.span
            assert words.text(ids[start:end]) == one.question.passage
            assert one.question.answers[0].split()[0] in one.question.passage
            assert abs(position - end - one.distance) <= fact_tolerance(one.distance)


def test_nothing_is_asked_before_the_largest_distance_was_read(plan: tuple[Words, EvalStream]) -> None:
    assert min(plan[1].due) >= 8000 * 1.05
    assert plan[1].tokens < 8000 * 1.05 + 300 + 13 * 500


def test_facts_stand_all_along_the_text(plan: tuple[Words, EvalStream]) -> None:
    words, script = plan
    text = words.text(tokens_of(script)).split()
    quarters = [text[start : start + len(text) // 4] for start in range(0, len(text) - 3, len(text) // 4)]
    haystack = set(HAYSTACK.split())
    strange = [sum(word not in haystack for word in quarter) for quarter in quarters]
    assert min(strange) > 60


def test_questions_differ_and_have_one_fact_each(plan: tuple[Words, EvalStream]) -> None:
    questions = {one.question.id: one.question for due in plan[1].due.values() for one in due}
    statements = [question.passage for question in questions.values()]
    assert len(set(statements)) == len(statements)


def test_the_same_seed_gives_the_same_stream_and_another_one_another() -> None:
    first, again, other = (planned(distances=(1000,), questions=4, seed=seed)[1] for seed in (0, 0, 1))
    assert first.chunks == again.chunks and first.chunks != other.chunks


def test_a_short_haystack_is_repeated_with_a_note(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        planned(haystack=HAYSTACK[:14_000], distances=(8000,), questions=2)
    assert any("is repeated" in record.message for record in caplog.records)


@pytest.mark.parametrize(
    ("changes", "kind", "words"),
    [
        ({"haystack": " \n"}, EmptyTextError, "holds no text"),
        ({"haystack": "Too short. Really."}, InputError, "expected at least 2000"),
        ({"distances": (100,)}, InputError, "each of 200 tokens or more"),
        ({"distances": ()}, InputError, "at least one"),
        ({"questions": 0}, InputError, "questions per distance is 0"),
    ],
)
def test_bad_input_is_told(changes: Any, kind: type[InputError], words: str) -> None:
    with pytest.raises(kind, match=words):
        planned(**changes)


def test_the_longest_stream_has_names_enough_for_its_facts() -> None:
    _, script = planned(distances=DEFAULT_DISTANCES[:1] + DEFAULT_DISTANCES[-1:], questions=4)
    assert script.tokens > 1_000_000 and script.about["facts"] > 5000
