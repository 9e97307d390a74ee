"""Laws of needles: where each stands, how far back it is, and that reading depends on the seed alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mplus.errors import InputError
from mplus.evaluation.schedule.stream import EvalStream, Question, Unit
from mplus.evaluation.tasks.builders import settings_of, streams_of
from mplus.evaluation.tasks.context import StreamSource, TaskContext
from mplus.evaluation.tasks.haystack import Haystack, laid, place_of
from mplus.evaluation.tasks.needle.builder import CITIES
from mplus.evaluation.tasks.task_file import open_task
from tests.evaluating import Words, tokens_of

SENTENCE_WORDS = 13
KINDS_WORDS = 7 + 17 + 15 + 11  # a needle of each kind: number, goods, password, box


def sentence(number: int) -> str:
    return f"Sentence {number} goes on and on for {number} days and then ends here."


@pytest.fixture
def haystack(tmp_path: Path) -> Path:
    paragraphs = [" ".join(sentence(4 * number + at) for at in range(4)) for number in range(200)]
    (tmp_path / "text.txt").write_text("\n\n".join(paragraphs), encoding="utf-8")
    return tmp_path / "text.txt"


def planned(
    haystack: Path, words: Words | None = None, *, limit: int | None = None, seed: int = 3, **changes: Any
) -> list[StreamSource]:
    task = open_task("needle")
    material = TaskContext(
        task=task, encode=words or Words(), chunk_tokens=64, min_tokens=8, haystack=[haystack], limit=limit, seed=seed
    )
    return streams_of(task, settings_of(task, {"lengths": [1000], **changes}), material)


def questions(script: EvalStream) -> list[Question]:
    (due,) = script.due.values()
    return [one.question for one in due]


def text_of(stream: StreamSource, words: Words) -> str:
    return words.text(tokens_of(stream.opened()))


def test_needles_stand_at_their_depths_and_distances_are_exact(haystack: Path) -> None:
    words = Words()
    (stream,) = planned(haystack, words, needles_per_cell=1)
    script = stream.opened()
    # five needles: one of each kind and a second number; 1000 - 57 leaves room for 72 sentences, 18 between two needles
    lengths = [end - start for start, end in (one.span for one in questions(script))]
    assert sorted(lengths) in [sorted([7, 17, 15, 11, kind]) for kind in (7,)]
    assert script.tokens == 72 * SENTENCE_WORDS + KINDS_WORDS + 7
    assert list(script.due) == [script.tokens]
    for number, due in enumerate(script.due[script.tokens]):
        assert due.question.span[0] == sum(lengths[:number]) + number * 18 * SENTENCE_WORDS
        assert due.distance == sum(lengths[number + 1 :]) + (4 - number) * 18 * SENTENCE_WORDS
        assert due.question.column == f"{25 * number} %" and due.question.row == "1k"


def test_every_answer_stands_in_its_needle_and_no_key_or_value_stands_twice(haystack: Path) -> None:
    words = Words()
    depths = [0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100]
    (stream,) = planned(haystack, words, needles_per_cell=1, depths=depths)
    script = stream.opened()
    asked, ids = questions(script), tokens_of(script)
    assert len(asked) == 11 == len({one.answers for one in asked})
    for one in asked:
        statement = words.text(ids[slice(*one.span)])
        assert statement == one.passage
        assert one.answers[0] in statement and one.answers[0] not in one.text
        (city,) = [city for city in CITIES if city in statement]
        assert city in one.text
        assert sum(city in other.text for other in asked) == 1


def test_the_haystack_is_running_text(haystack: Path) -> None:
    words = Words()
    (stream,) = planned(haystack, words, needles_per_cell=1, depths=[50])
    script = stream.opened()
    (one,) = questions(script)
    ids = tokens_of(script)
    rest = words.text(ids[: one.span[0]] + ids[one.span[1] :]).split()
    numbers = [int(word) for word in rest[1::SENTENCE_WORDS]]
    assert numbers[0] % 4 == 0, "it begins with a paragraph"
    assert numbers == [(numbers[0] + number) % 800 for number in range(len(numbers))]


def test_same_seed_same_text_and_other_seed_or_turn_other_text(haystack: Path) -> None:
    words = Words()
    first = [text_of(stream, words) for stream in planned(haystack, words)]
    again = [text_of(stream, words) for stream in reversed(planned(haystack, words))][::-1]
    assert first == again
    assert len(set(first)) == 2, "a text for each needle of a cell"
    assert set(first).isdisjoint(text_of(stream, words) for stream in planned(haystack, words, seed=4))
    assert [stream.seed for stream in planned(haystack, seed=4)] == [4, 4]


@pytest.mark.parametrize(("limit", "asked"), [(1, 1), (2, 2), (7, 7), (10, 10), (100, 10)])
def test_the_limit_changes_what_is_asked_and_never_what_is_read(haystack: Path, limit: int, asked: int) -> None:
    words = Words()
    everything = {stream.name: text_of(stream, words) for stream in planned(haystack, words)}
    limited = planned(haystack, words, limit=limit)
    assert sum(len(questions(stream.opened())) for stream in limited) == asked
    assert all(text_of(stream, words) == everything[stream.name] for stream in limited)


def test_rows_are_lengths_and_names_differ(haystack: Path) -> None:
    streams = planned(haystack, lengths="1k,2000", needles_per_cell=3)
    assert len({stream.name for stream in streams}) == 6
    scripts = [stream.opened() for stream in streams]
    assert [questions(script)[0].row for script in scripts] == ["1k"] * 3 + ["2k"] * 3
    for script, length in zip(scripts, [1000] * 3 + [2000] * 3, strict=True):
        assert length - SENTENCE_WORDS < script.tokens <= length


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"depths": [0, 101]}, "from 0 to 100"),
        ({"depths": []}, "from 0 to 100"),
        ({"depths": [number / 10 for number in range(50)]}, "40 depths at most"),
        ({"lengths": [100]}, "500 tokens or more"),
        ({"lengths": []}, "at least one length"),
        ({"lengths": "4q"}, "no number of tokens"),
        ({"needles_per_cell": 0}, "needles_per_cell is 0"),
        ({"depth": [0]}, "did you mean 'depths'"),
    ],
)
def test_wrong_settings_are_named(haystack: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        planned(haystack, **changes)


def test_too_many_needles_for_a_text_are_an_error(haystack: Path) -> None:
    (stream,) = planned(haystack, lengths=[500], depths=list(range(0, 100, 3)), needles_per_cell=1)
    with pytest.raises(InputError, match="34 needles of .* tokens are too many for a text of 500; name fewer depths"):
        stream.opened()


def test_a_short_haystack_is_repeated_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "short.txt").write_text(sentence(1), encoding="utf-8")
    (stream,) = planned(tmp_path / "short.txt", needles_per_cell=1)
    assert stream.opened().tokens == 72 * SENTENCE_WORDS + KINDS_WORDS + 7
    assert "is repeated" in caplog.text


def test_a_share_of_a_text_is_the_nearest_sentence_end() -> None:
    filler = [Unit(ids=[0] * length) for length in (2, 3, 5)]
    assert [place_of(filler, share) for share in (0, 0.3, 0.36, 0.5, 0.7, 0.8, 1)] == [0, 1, 2, 2, 2, 3, 3]
    assert place_of([], 0.5) == 0


def test_what_is_laid_behind_a_paragraph_becomes_its_end() -> None:
    filler = [Unit(ids=[1, 1]), Unit(ids=[2], ends_paragraph=True), Unit(ids=[3])]
    units, spans = laid(filler, [(0, [7]), (2, [8, 8]), (2, [9])])
    assert [unit.ids for unit in units] == [[7], [1, 1], [2], [8, 8], [9], [3]]
    assert [unit.ends_paragraph for unit in units] == [False, False, False, False, True, False]
    assert spans == [(0, 1), (4, 6), (6, 7)]
    assert filler[1].ends_paragraph, "what was given stays as it was"


def test_a_haystack_is_not_read_before_it_is_needed() -> None:
    task = open_task("needle")

    def encode(text: str) -> list[int]:
        raise AssertionError("nothing was opened")

    material = TaskContext(task=task, encode=encode, chunk_tokens=64, min_tokens=8, haystack=[Path("nowhere.txt")])
    assert streams_of(task, settings_of(task, {}), material)
    with pytest.raises(InputError, match=r"nowhere\.txt"):
        _ = Haystack(material).text
