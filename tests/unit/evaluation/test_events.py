"""Laws of event questions: events are sentences of the read text, the five before the right one are shown, every option happened."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mplus.errors import InputError
from mplus.evaluation.schedule.stream import EvalStream, ScheduledQuestion
from mplus.evaluation.scoring.metrics import METRICS
from mplus.evaluation.tasks.builders import settings_of, streams_of
from mplus.evaluation.tasks.context import StreamSource, TaskContext
from mplus.evaluation.tasks.events.builder import OPTIONS, SHOWN, beginning, characters, is_event
from mplus.evaluation.tasks.task_file import open_task
from tests.evaluating import Words, tokens_of

DULL = "It was quiet on that day, and there is nothing else to tell of Moscow."  # 15 words
SPOKEN = "“Now listen to this. Our Anna opened every door of the house and she kept the keys. That is all.”"  # 20 words


def event(number: int) -> str:  # 15 words
    return f"Then in room {number} our Anna opened a very old box and kept number {number}."


def book(events: int) -> str:
    return "\n\n".join(f"{event(number)} {DULL}\n\n{SPOKEN}" for number in range(events))


PARAGRAPH_WORDS = 15 + 15 + 20


@pytest.fixture
def books(tmp_path: Path) -> Path:
    for name, events in (("one", 70), ("two", 50), ("tale", 8)):
        (tmp_path / f"{name}.txt").write_text(book(events), encoding="utf-8")
    (tmp_path / "notes.json").write_text("[]", encoding="utf-8")
    return tmp_path


def planned(
    books: Path, words: Words | None = None, *, limit: int | None = None, seed: int = 3, **changes: Any
) -> list[StreamSource]:
    task = open_task("event-qa")
    material = TaskContext(
        task=task, encode=words or Words(), chunk_tokens=64, min_tokens=8, data=[books], limit=limit, seed=seed
    )
    return streams_of(task, settings_of(task, {"tokens": [2000], **changes}), material)


def asked(script: EvalStream) -> list[ScheduledQuestion]:
    ((position, due),) = script.due.items()
    assert position == script.tokens, "asked at the end"
    return due


def test_events_are_the_sentences_in_which_somebody_does_something_and_nobody_speaks() -> None:
    words = Words()
    read = beginning(book(60), 2000, words)
    assert [one.text for one in read.events] == [event(number) for number in range(40)], "2000 // 50"
    assert read.events[3].span == (3 * PARAGRAPH_WORDS, 3 * PARAGRAPH_WORDS + 15)
    assert read.goes_on and sum(len(unit.ids) for unit in read.units) <= 2000
    assert not beginning(book(8), 2000, words).goes_on


def test_characters_do_things_and_places_do_not() -> None:
    assert characters(book(60)) == ["Anna"]
    places = " ".join(f"They lived in Moscow and {number} of them loved Moscow." for number in range(40))
    assert characters(places) == []
    titled = " ".join(f"Then Mr. Darcy walked {number} miles. Mr. Darcy smiled." for number in range(40))
    assert characters(titled) == ["Darcy"]


@pytest.mark.parametrize(
    ("sentence", "right"),
    [
        ("Then our Anna opened the door and left the house.", True),
        ("Anna opened it.", False),
        ("Then our Anna opens the door and leaves the house.", False),
        ("Then our Boris opened the door and left the house.", False),
        ("Then our Annabel opened the door and left the house.", False),
        ("“Then our Anna opened the door and left the house.", False),
        ("Then our Anna opened the door and left the house?", False),
        ("then our Anna opened the door and left the house.", False),
        ("Then our Anna opened " + "one more door and " * 10 + "left.", False),
    ],
)
def test_what_an_event_is(sentence: str, right: bool) -> None:
    assert is_event(sentence, ["Anna"]) is right


def test_a_question_shows_the_five_before_and_six_that_happened(books: Path) -> None:
    words = Words()
    events = [event(number) for number in range(40)]
    for stream in planned(books, words, limit=40):
        script = stream.opened()
        text = words.text(tokens_of(script))
        assert 2000 - 20 < script.tokens <= 2000
        for due in asked(script):
            question = due.question
            place = events.index(question.answers[0])
            shown = "\n".join(f"{number}. {one}" for number, one in enumerate(events[place - SHOWN : place], 1))
            assert shown in question.text
            assert len(set(question.options)) == OPTIONS and question.answers[0] in question.options
            assert set(question.options) <= set(events) - set(events[place - SHOWN : place])
            assert all(option in text for option in question.options)
            assert question.answer_span == (place * PARAGRAPH_WORDS, place * PARAGRAPH_WORDS + 15)
            assert question.span == ((place - SHOWN) * PARAGRAPH_WORDS, question.answer_span[1])
            assert due.distance == script.tokens - question.answer_span[1]
            assert question.row == "2k"


def test_the_letter_of_the_right_option_counts(books: Path) -> None:
    letters = set()
    for due in asked(planned(books)[0].opened()):
        question = due.question
        letter = "ABCDEF"[question.options.index(question.answers[0])]
        letters.add(letter)
        assert f"\n{letter}. {question.answers[0]}" in question.text
        assert METRICS["choice"](letter, question) == 1
        assert sum(METRICS["choice"](other, question) for other in "ABCDEF") == 1
    assert len(letters) > 3, "the right option stands anywhere"


def test_questions_are_spread_over_the_books_that_are_long_enough(books: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        streams = planned(books, limit=5)
    assert [stream.name for stream in streams] == ["one 2k", "two 2k"]
    assert [len(asked(stream.opened())) for stream in streams] == [3, 2]
    assert "tale" in caplog.text
    assert [stream.name for stream in planned(books, limit=1, tokens="1k,3k")] == ["one 1k", "one 3k"]


def test_same_seed_same_questions_and_more_of_them_leave_the_first_as_they_were(books: Path) -> None:
    def texts(**changes: Any) -> list[str]:
        return [due.question.text for stream in planned(books, **changes) for due in asked(stream.opened())]

    assert texts(limit=6) == texts(limit=6)
    assert set(texts(limit=6)) < set(texts(limit=12))
    assert set(texts(limit=6)).isdisjoint(texts(limit=6, seed=4))


def test_wrong_settings_and_missing_books_are_named(books: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="500 tokens or more"):
        planned(books, tokens=[10])
    with pytest.raises(InputError, match="no book of 3 has 100k tokens and 11 events in them; give longer novels"):
        planned(books, tokens="100k")
    with pytest.raises(InputError, match=r"asks about books; give \.txt files"):
        planned(books / "notes.json")
    task = open_task("event-qa")
    bare = TaskContext(task=task, encode=Words(), chunk_tokens=64, min_tokens=8)
    with pytest.raises(InputError, match=r"asks about books; give \.txt files"):
        streams_of(task, settings_of(task, {}), bare)


def test_a_haystack_serves_where_no_data_are_given(books: Path) -> None:
    task = open_task("event-qa")
    material = TaskContext(task=task, encode=Words(), chunk_tokens=64, min_tokens=8, haystack=[books], limit=2)
    assert [one.name for one in streams_of(task, settings_of(task, {"tokens": 2000}), material)] == ["one 2k", "two 2k"]
    twice = TaskContext(task=task, encode=Words(), chunk_tokens=64, min_tokens=8, haystack=[books, books / "one.txt"])
    with pytest.raises(InputError, match="two books are named 'one'"):
        streams_of(task, settings_of(task, {}), twice)
