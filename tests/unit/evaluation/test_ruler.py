"""Laws of RULER's families: as long as they claim, with every answer in the text, and made of the seed alone."""

from __future__ import annotations

import re
from collections import Counter
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from mplus.errors import InputError
from mplus.evaluation.schedule.stream import EvalStream, Question
from mplus.evaluation.scoring.metrics import METRICS
from mplus.evaluation.tasks.builders import settings_of, streams_of
from mplus.evaluation.tasks.context import StreamSource, TaskContext
from mplus.evaluation.tasks.ruler.families import FAMILIES
from mplus.evaluation.tasks.task_file import open_task
from tests.evaluating import Words, squad_file, tokens_of

GENERATED = [name for name in FAMILIES if name != "qa"]
VOCABULARY = ["".join(letters) for letters in product("bcdf", "aeiou", "lmnp", "aeiou")]
"""400 words of four letters: none stands in another."""


@pytest.fixture
def haystack(tmp_path: Path) -> Path:
    lines = [f"Here {' '.join(VOCABULARY[at : at + 8])} ends line {at}." for at in range(0, 400, 8)]
    (tmp_path / "text.txt").write_text("\n\n".join(" ".join(lines[at : at + 5]) for at in range(0, 50, 5)), encoding="utf-8")
    return tmp_path / "text.txt"


def planned(
    haystack: Path,
    words: Words | None = None,
    *,
    limit: int | None = 1,
    seed: int = 3,
    data: list[Path] | None = None,
    **changes: Any,
) -> list[StreamSource]:
    task = open_task("ruler")
    material = TaskContext(
        task=task,
        encode=words or Words(),
        chunk_tokens=64,
        min_tokens=8,
        haystack=[haystack],
        limit=limit,
        seed=seed,
        data=data or [],
    )
    return streams_of(task, settings_of(task, {"lengths": [1000], **changes}), material)


def asked(script: EvalStream) -> Question:
    ((position, (due,)),) = script.due.items()
    assert position == script.tokens, "asked at the end"
    assert due.distance == script.tokens - due.question.end
    return due.question


def made(haystack: Path, family: str, number: int = 0, **changes: Any) -> tuple[str, Question, EvalStream]:
    words = Words()
    script = planned(haystack, words, limit=number + 1, families=[family], **changes)[number].opened()
    return words.text(tokens_of(script)), asked(script), script


@pytest.mark.parametrize("family", GENERATED)
def test_every_answer_stands_in_the_text_and_saying_all_of_them_scores_one(haystack: Path, family: str) -> None:
    for number in range(3):
        text, question, script = made(haystack, family, number)
        assert 1000 - 19 < script.tokens <= 1000
        assert question.row == f"{family} 1k"
        assert all(answer in text and answer not in question.text for answer in question.answers)
        assert METRICS["share"](f"They are {', '.join(question.answers)}.", question) == 1
        assert METRICS["share"](question.answers[0], question) == pytest.approx(1 / len(question.answers))


@pytest.mark.parametrize("family", GENERATED)
def test_same_seed_same_text_and_other_seed_other_text(haystack: Path, family: str) -> None:
    words = Words()

    def texts(seed: int, backwards: bool = False) -> list[str]:
        streams = planned(haystack, words, limit=2, seed=seed, families=[family])
        opened = [words.text(tokens_of(one.opened())) for one in (reversed(streams) if backwards else streams)]
        return opened[::-1] if backwards else opened

    assert texts(3) == texts(3, backwards=True)
    assert len(set(texts(3) + texts(4))) == 4


def test_kinds_of_single_needles_take_turns(haystack: Path) -> None:
    noise, number, uuid = (made(haystack, "niah_single", turn) for turn in range(3))
    assert noise[0].count("The river is wide.") == (1000 - 7) // 18
    assert "The river" not in number[0] and "ends line" in number[0]
    assert re.fullmatch(r"\d{7}", noise[1].answers[0]) and re.fullmatch(r"\d{7}", number[1].answers[0])
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", uuid[1].answers[0])


def test_a_span_is_the_needle_that_is_asked_for(haystack: Path) -> None:
    words = Words()
    script = planned(haystack, words, families=["niah_multikey"])[0].opened()
    question = asked(script)
    needle = words.text(tokens_of(script)[slice(*question.span)])
    assert needle == f"A number kept under {question.text.split()[-1].rstrip('?')} is {question.answers[0]}."


def test_where_there_are_only_needles_one_has_the_key(haystack: Path) -> None:
    text, question, script = made(haystack, "niah_multikey", 1)
    assert script.tokens == 142 * 7, "seven words each: the right one, and 993 // 7 others"
    needles = re.findall(r"A number kept under (\S+) is (\d{7})\.", text)
    assert len(dict(needles)) == 142
    assert dict(needles)[question.text.split()[-1].rstrip("?")] == question.answers[0]
    uuids = re.findall(r"A code kept under (\S{36}) is (\S{36})\.", made(haystack, "niah_multikey", 2)[0])
    assert len(dict(uuids)) == 142


def test_a_long_text_has_enough_keys(haystack: Path) -> None:
    text, _, script = made(haystack, "niah_multikey", 1, lengths=[100_000])
    needles = re.findall(r"kept under (\S+) is", text)
    assert len(needles) == len(set(needles)) == script.tokens // 7 > 14_000


def test_several_values_have_one_key_and_several_queries_a_value_each(haystack: Path) -> None:
    text, question, _ = made(haystack, "niah_multivalue")
    assert set(re.findall(r"kept under (\S+) is (\d+)\.", text)) == {
        (question.text.split("kept under ")[1].split("?")[0], answer) for answer in question.answers
    }
    text, question, _ = made(haystack, "niah_multiquery")
    stored = dict(re.findall(r"kept under (\S+) is (\d+)\.", text))
    assert set(stored.values()) == set(question.answers) and len(stored) == 4
    assert all(key in question.text for key in stored)


@pytest.mark.parametrize("family", ["niah_multivalue", "niah_multiquery", "vt"])
def test_a_span_reaches_from_the_first_needle_to_the_last(haystack: Path, family: str) -> None:
    words = Words()
    script = planned(haystack, words, families=[family])[0].opened()
    question, ids = asked(script), tokens_of(script)
    start, end = question.span
    assert question.answers[0] in words.text(ids[start : start + 7]) and question.answers[-1] in words.text(ids[end - 7 : end])
    assert all(answer not in words.text(ids[:start] + ids[end:]) for answer in question.answers)


def test_a_value_is_handed_on_in_order(haystack: Path) -> None:
    text, question, script = made(haystack, "vt")
    assert script.tokens == 53 * 18 + 6 + 4 * 7, "966 // 18 lines of noise around the chain"
    ((first, value),) = re.findall(r"Variable (\w{5}) gets the value (\d+)\.", text)
    links = re.findall(r"Variable (\w{5}) gets the value of (\w{5})\.", text)
    assert [first, *(name for name, _ in links)] == list(question.answers)
    assert [before for _, before in links] == list(question.answers[:-1])
    assert value in question.text


def test_ten_words_are_ten_times_as_common_as_the_others(haystack: Path) -> None:
    text, question, script = made(haystack, "cwe")
    entries = re.findall(r"(\d+)\. ([a-z]+)", text.split("words. ")[1])
    assert [int(number) for number, _ in entries] == list(range(1, len(entries) + 1))
    counts = Counter(word for _, word in entries)
    assert {word for word, times in counts.items() if times == 30} == set(question.answers)
    assert sorted(counts.values()) == [3] * 65 + [30] * 10, "(1000 - 7) // 2 entries: 300 and 65 words three times"
    assert script.tokens == 7 + 2 * 495
    assert question.span == (0, script.tokens)


def test_frequencies_of_coded_words_fall_with_the_square_of_their_rank(haystack: Path) -> None:
    text, question, script = made(haystack, "fwe")
    counts = Counter(text.split("meaning. ")[1].split())
    assert sum(counts.values()) == script.tokens - 11
    assert [word for word, _ in counts.most_common(4)] == ["...", *question.answers]
    assert all(abs(counts[word] - counts["..."] / rank**2) <= 1 for rank, word in enumerate(question.answers, 2))
    assert counts["..."] / script.tokens == pytest.approx(0.6, abs=0.03), "6 / pi ** 2"


def test_a_passage_with_a_question_stands_whole_among_others(haystack: Path, tmp_path: Path) -> None:
    words, data = Words(), squad_file(tmp_path / "squad.json")
    streams = planned(haystack, words, limit=8, families=["qa"], lengths=[500], data=[data])
    assert len(streams) == 8
    for stream in streams:
        script = stream.opened()
        question, ids = asked(script), tokens_of(script)
        assert script.tokens == 12 * 41, "500 // 41 passages"
        passage = words.text(ids[slice(*question.span)])
        assert len(passage.split()) == 41 and question.answers[0] in passage
        assert len(question.answers) == 1
        assert words.text(ids).count(passage) == 1


def test_questions_about_passages_are_the_same_at_every_length(haystack: Path, tmp_path: Path) -> None:
    data = squad_file(tmp_path / "squad.json")
    streams = planned(haystack, limit=4, families=["qa"], lengths=[500, 700], data=[data])
    texts = [(one.text, one.answers) for one in (asked(stream.opened()) for stream in streams)]
    assert texts[:4] == texts[4:]


def test_passages_are_needed_for_qa_and_only_for_it(haystack: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'qa' asks about the passages of a SQuAD file; give one with --data FILE"):
        planned(haystack, families=["vt", "qa"])
    assert [one.name for one in planned(haystack)] == [f"{family} 1k 0" for family in GENERATED]
    data = squad_file(tmp_path / "squad.json")
    assert [one.name for one in planned(haystack, data=[data])] == [f"{family} 1k 0" for family in FAMILIES]
    (stream,) = planned(haystack, families=["qa"], lengths=[1500], data=[data])
    with pytest.raises(InputError, match=r"too few for a text of 1\.5k tokens; give a larger SQuAD file"):
        stream.opened()


def test_the_limit_is_samples_of_a_row(haystack: Path) -> None:
    names = [one.name for one in planned(haystack, limit=2, families=["vt", "fwe"], lengths="1k,2k")]
    assert names == ["vt 1k 0", "vt 1k 1", "vt 2k 0", "vt 2k 1", "fwe 1k 0", "fwe 1k 1", "fwe 2k 0", "fwe 2k 1"]
    assert len(planned(haystack, limit=None, families="vt,cwe")) == 12


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"families": ["niah"]}, "expected some of niah_single"),
        ({"families": []}, "expected some of niah_single"),
        ({"lengths": [499]}, "500 tokens or more"),
        ({"length": [4000]}, "did you mean 'lengths'"),
    ],
)
def test_wrong_settings_are_named(haystack: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        planned(haystack, **changes)


def test_a_list_of_words_needs_room_and_words(haystack: Path) -> None:
    with pytest.raises(InputError, match="does not fit into 500 tokens; name lengths of 4k or more"):
        made(haystack, "cwe", lengths=[500])
    with pytest.raises(InputError, match="too few different words for a list of 4k tokens; give a longer text"):
        made(haystack, "cwe", lengths=[4000])
