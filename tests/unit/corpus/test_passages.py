"""Laws of reading passages: every form gives the same passages, and what is wrong is named by file, line and field."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mplus.corpus.passages import article_key, read_passages
from mplus.errors import InputError
from tests.evaluating import squad_file


def lines(path: Path, *records: Any) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def test_squad_gives_answerable_questions_with_every_answer_once(tmp_path: Path) -> None:
    found = read_passages(squad_file(tmp_path / "dev.json", articles=2, paragraphs=1))
    assert found.form == "squad" and [passage.article for passage in found.passages] == ["Article_0", "Article_1"]
    assert [asked.id for asked in found.passages[0].questions] == ["a0p0-1", "a0p0-2", "a0p0-3"]
    first = found.passages[0].questions[0]
    assert found.passages[0].text[first.answer_start or 0 :].startswith(first.answers[0])


def test_contexts_of_one_title_are_one_article(tmp_path: Path) -> None:
    one = {"context": "Ana has a dog.", "question": "Who?", "answers": ["Ana", "Ana"], "title": "Dogs"}
    two = {"context": "Ben has a dog.", "question": "Who?", "answers": {"text": ["Ben"], "answer_start": [0]}, "title": "Dogs"}
    three = {"context": "Cy has a cat.", "question": "Who?", "answers": ["Cy"]}
    found = read_passages(lines(tmp_path / "x.jsonl", one, {**one, "question": "What?", "answers": ["dog"]}, two, three))
    assert found.form == "context"
    assert [(passage.article, len(passage.questions)) for passage in found.passages] == [
        ("Dogs", 2),
        ("Dogs", 1),
        ("Cy has a cat.", 1),
    ]
    assert found.passages[0].questions[0].answers == ("Ana",)


def test_natural_questions_ask_about_the_gold_passage_only(tmp_path: Path) -> None:
    gold, other = {"title": "T", "text": "Won by Ana.", "isgold": True}, {"title": "U", "text": "Else.", "isgold": False}
    found = read_passages(lines(tmp_path / "nq.jsonl", {"question": "who won", "answers": ["Ana"], "ctxs": [other, gold]}))
    assert found.form == "natural_questions"
    assert [(passage.article, len(passage.questions)) for passage in found.passages] == [("U", 0), ("T", 1)]


def test_a_second_gold_passage_asks_under_an_id_of_its_own(tmp_path: Path) -> None:
    golds = [{"title": title, "text": "Won by Ana.", "isgold": True} for title in ("T", "U")]
    found = read_passages(lines(tmp_path / "nq.jsonl", {"question": "who won", "answers": ["Ana"], "ctxs": golds}))
    assert [one.id for passage in found.passages for one in passage.questions] == ["1", "1, passage 2"]


def test_answers_as_the_hub_has_them_keep_their_place_and_none_is_not_asked(tmp_path: Path) -> None:
    said = {"context": "Ana met Ana.", "question": "Who?", "answers": {"text": ["Ana"], "answer_start": [8]}}
    nobody = {**said, "question": "Why?", "answers": {"text": [], "answer_start": []}}
    [passage] = read_passages(lines(tmp_path / "x.jsonl", said, nobody)).passages
    assert [(one.text, one.answer_start) for one in passage.questions] == [("Who?", 8)]


def test_plain_text_is_paragraphs_of_one_article(tmp_path: Path) -> None:
    file = tmp_path / "book.txt"
    file.write_text("One.\n\n\nTwo\nlines.\n", encoding="utf-8")
    found = read_passages(file)
    assert found.form == "text" and [(one.article, one.text) for one in found.passages] == [
        ("book", "One."),
        ("book", "Two\nlines.\n"),
    ]


def test_titles_are_compared_without_underscores_and_case() -> None:
    assert article_key("Super_Bowl 50") == article_key("super bowl_50 ")


GOOD = {"context": "Ana has a dog.", "question": "Who?", "answers": ["Ana"]}


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({**GOOD, "answers": []}, ("line 2", "'answers' is empty")),
        ({**GOOD, "answers": ["Ana", " "]}, ("line 2", "'answers' is empty")),
        ({**GOOD, "answers": "Ana"}, ("line 2", "'answers' is text, expected a list")),
        ({**GOOD, "answers": [7]}, ("line 2", "'answers' is a number, expected text")),
        ({"question": "Who?", "answers": ["Ana"]}, ("line 2", "no field 'context'", "answers, question")),
        ({**GOOD, "context": None}, ("line 2", "'context' is null, expected text")),
        ([1], ("line 2", "is a list, expected a JSON object")),
    ],
)
def test_a_bad_line_is_named_with_its_field(tmp_path: Path, record: Any, words: tuple[str, ...]) -> None:
    file = lines(tmp_path / "x.jsonl", GOOD, record)
    with pytest.raises(InputError) as caught:
        read_passages(file)
    assert all(word in str(caught.value) for word in (str(file), *words))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"data": 5}, ("data is a number",)),
        ({"data": [{"paragraphs": []}]}, ("data[0]", "'title'")),
        ({"data": [{"title": "T", "paragraphs": [{"qas": []}]}]}, ("data[0].paragraphs[0]", "'context'")),
        (
            {"data": [{"title": "T", "paragraphs": [{"context": "C", "qas": [{"question": "Q", "answers": []}]}]}]},
            ("data[0].paragraphs[0].qas[0]", "'answers' is empty"),
        ),
    ],
)
def test_bad_squad_is_named_with_its_place(tmp_path: Path, data: Any, words: tuple[str, ...]) -> None:
    file = tmp_path / "dev.json"
    file.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(InputError) as caught:
        read_passages(file)
    assert all(word in str(caught.value) for word in (str(file), *words))


def test_broken_json_and_missing_files_are_told(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text(json.dumps(GOOD) + "\n{broken\n", encoding="utf-8")
    with pytest.raises(InputError, match="line 2 is not JSON"):
        read_passages(tmp_path / "x.jsonl")
    (tmp_path / "y.json").write_text("[1]", encoding="utf-8")
    with pytest.raises(InputError, match="is a JSON list"):
        read_passages(tmp_path / "y.json")
    with pytest.raises(InputError, match="there is no file"):
        read_passages(tmp_path / "none.json")
