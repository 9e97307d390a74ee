"""Where training text comes from: every file form, orders that can be resumed, and what is said when something is wrong."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from mplus.errors import InputError
from mplus.training.data.records import open_local
from mplus.training.data.text_sources import Corpus, Source
from tests import tiny

TEXTS = [f"Document number {number} tells of ship {number} and of its long way home." for number in range(7)]


def write(folder: Path, form: str, column: str = "text") -> Path:
    """The texts in one of the file forms."""
    path = folder / f"texts.{form}"
    if form == "jsonl":
        path.write_text("".join(json.dumps({column: text, "id": 1}) + "\n" for text in TEXTS))
    elif form == "parquet":
        arrow = pytest.importorskip("pyarrow")
        parquet = pytest.importorskip("pyarrow.parquet")
        parquet.write_table(arrow.table({column: TEXTS}), path, row_group_size=3)
    else:
        path = folder / "texts"
        path.mkdir()
        for number, text in enumerate(TEXTS):
            (path / f"{number}.txt").write_text(text)
    return path


def corpus(*sources: dict[str, Any], seed: int = 0) -> Corpus:
    """A corpus read with one token per byte."""
    return Corpus([Source(**source) for source in sources], tiny.byte_tokenizer(), seed, 256)


def read(texts: Corpus, count: int, least: int = 1) -> list[str]:
    """Documents as text."""
    randomness = random.Random(0)
    return [texts.tokenizer.decode(texts.document(randomness, least)) for _ in range(count)]


@pytest.mark.parametrize("form", ["jsonl", "parquet", "txt"])
def test_every_form_gives_every_document_once_an_epoch(form: str, tmp_path: Path) -> None:
    place = write(tmp_path, form)
    texts = corpus({"path": str(place)})
    first, second = read(texts, 7), read(texts, 7)
    assert sorted(first) == sorted(second) == sorted(TEXTS)
    assert first != second, "each epoch has its own order"
    assert read(corpus({"path": str(place)}), 7) == first
    assert read(corpus({"path": str(place)}, seed=1), 7) != first


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_a_resumed_source_goes_on_where_it_was(form: str, tmp_path: Path) -> None:
    source = {"path": str(write(tmp_path, form))}
    whole = read(corpus(source), 12)
    first = corpus(source)
    read(first, 5)
    second = corpus(source)
    second.load_state(json.loads(json.dumps(first.state())))
    assert read(second, 7) == whole[5:]


def test_sources_are_drawn_by_their_shares(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / f"{name}.txt").write_text(name * 20)
    texts = corpus({"path": str(tmp_path / "a.txt"), "share": 3}, {"path": str(tmp_path / "b.txt")})
    drawn = read(texts, 400)
    assert 250 < sum(text[0] == "a" for text in drawn) < 350


def test_a_bucket_of_lengths_takes_only_what_fits(tmp_path: Path) -> None:
    (tmp_path / "mixed.jsonl").write_text("".join(json.dumps({"text": "x" * length}) + "\n" for length in (5, 40, 90)))
    assert read(corpus({"path": str(tmp_path / "mixed.jsonl"), "tokens": [20, 60]}), 3) == ["x" * 40] * 3


def test_a_hub_data_set_is_streamed_and_resumed(monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")

    def local(name: str, config: str | None, *, split: str, streaming: bool) -> Any:
        assert (name, config, split, streaming) == ("some/texts", "part", "train", True)
        return datasets.Dataset.from_dict({"text": TEXTS}).to_iterable_dataset()

    monkeypatch.setattr(datasets, "load_dataset", local)
    source = {"hub": "some/texts", "config": "part"}
    whole = read(corpus(source), 10)
    assert whole == [*TEXTS, *TEXTS[:3]]
    first = corpus(source)
    read(first, 4)
    second = corpus(source)
    second.load_state(json.loads(json.dumps(first.state())))
    assert read(second, 6) == whole[4:]


def test_without_a_network_the_message_names_the_local_way(monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")

    def unreachable(*args: Any, **kwargs: Any) -> Any:
        raise ConnectionError("no route\nto the hub")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    with pytest.raises(
        InputError, match=r"hub data set 'some/texts' cannot be read .* give a local file instead: `path: FILE.jsonl`"
    ):
        corpus({"hub": "some/texts"})


def test_squad_files_give_questions_with_their_place(tmp_path: Path) -> None:
    context = "The keeper of the lamp is called Mara, and she is old."
    asked = [
        {"question": "Who keeps the lamp?", "answers": [{"text": "Mara", "answer_start": 33}]},
        {"question": "Who sank?", "answers": []},
    ]
    data = {"data": [{"paragraphs": [{"context": context, "qas": asked}]}]}
    (tmp_path / "squad.json").write_text(json.dumps(data))
    texts = corpus({"path": str(tmp_path / "squad.json"), "questions": True})
    for longest in (200, 20):
        passage = texts.passage(random.Random(1), longest, 1)
        assert passage.span is not None and len(passage.context) <= longest
        assert texts.tokenizer.decode(passage.context[slice(*passage.span)]) == "Mara"
        assert texts.tokenizer.decode(passage.prompt) == "user: Who keeps the lamp?\n"
        assert texts.tokenizer.decode(passage.answer) == "Mara"


BROKEN: dict[str, tuple[str, str, dict[str, Any], str]] = {
    "nothing there": ("a.jsonl", "", {"path": "elsewhere.jsonl"}, "no data at .*elsewhere.jsonl; give a"),
    "no text": ("a.jsonl", "\n", {}, "holds no text; give a file with at least one document"),
    "empty text": ("a.txt", "  \n", {}, "holds no text"),
    "another column": ("a.jsonl", '{"body": "x", "id": 1}', {}, "has no column 'text'; it has: body, id; name the right one"),
    "a column of numbers": ("a.jsonl", '{"text": 3}', {}, "a.jsonl:1: column 'text' holds int, expected text or token ids"),
    "foreign ids": ("a.jsonl", '{"text": [1, 999]}', {}, "expected text or ids below 256"),
    "too short": (
        "a.jsonl",
        '{"text": "short"}',
        {},
        r"none of 1 documents of .* has at least 16 tokens \(longest looked at: 5\)",
    ),
    "no bucket": ("a.jsonl", '{"text": "short"}', {"tokens": [64, 128]}, "has 64 to 127 tokens"),
    "a list of texts": (
        "a.jsonl",
        '{"text": "x"}\n{"text": ["a", "b"]}',
        {},
        "a.jsonl:2: column 'text' holds a list of str, expected text or",
    ),
    "a column missing once": ("a.jsonl", '{"text": "x"}\n\n{"body": "x"}', {}, "a.jsonl:3 has no column 'text'; it has: body"),
    "nothing but empty texts": (
        "a.jsonl",
        '{"text": ""}\n{"text": null}\n{"text": " "}',
        {},
        "holds no text \\(3 with empty 'text'\\); give a file",
    ),
    "cut JSON": ("a.jsonl", '{"text": "x"}\n{"text": "abc', {}, "a.jsonl:2 is not JSON \\(Unterminated string"),
    "deep JSON": ("a.jsonl", "[" * 100_000, {}, "a.jsonl:1 is not JSON"),
    "a long number": ("a.jsonl", '{"text": ' + "9" * 5000 + "}", {}, "a.jsonl:1 is not JSON"),
    "a PDF": ("a.txt", "%PDF-1.7 and so on", {}, "'.*a.txt' is a PDF, not text; export it as plain text first"),
    "a number as question": (
        "a.jsonl",
        '{"context": "x", "question": 5, "answers": []}',
        {"questions": True},
        "a.jsonl:1: column 'question' holds int, expected text",
    ),
    "answers of another type": (
        "a.jsonl",
        '{"context": "x", "question": "y", "answers": [1]}',
        {"questions": True},
        "a.jsonl:1: column 'answers' holds a list of int, expected a text or a list of texts",
    ),
    "broken JSON": ("a.jsonl", '{"text": "x"}\n{"text"', {}, "a.jsonl:2 is not JSON"),
    "not an object": ("a.jsonl", '["x"]', {}, "a.jsonl:1 holds list, expected an object"),
    "another form": ("a.csv", "text", {}, "is not a data file; give .jsonl, .txt or .parquet"),
    "a damaged parquet file": ("a.parquet", "nothing", {}, "is not a parquet file"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_wrong_is_said_in_one_sentence(case: str, tmp_path: Path) -> None:
    name, content, fields, message = BROKEN[case]
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    (tmp_path / name).write_text(content)
    source = {"path": str(tmp_path / fields.get("path", name)), **{key: value for key, value in fields.items() if key != "path"}}
    with pytest.raises(InputError, match=message) as caught:
        texts = corpus(source)
        texts.passage(random.Random(0), 16, 1) if fields.get("questions") else texts.document(random.Random(0), 16)
    assert "\n" not in str(caught.value)


def test_empty_and_doubled_records_are_left_out_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [{"text": "one"}, {"text": ""}, {"text": None}, {"text": "two"}, {"text": "one"}, {"text": []}]
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    with caplog.at_level("WARNING"):
        texts = corpus({"path": str(path)})
    assert sorted(read(texts, 2)) == ["one", "two"]
    assert "3 records left out: empty 'text'" in caplog.text and "a.jsonl:2, " in caplog.text
    assert "1 record left out: the same as one before" in caplog.text and "a.jsonl:5)" in caplog.text


def test_empty_records_of_a_parquet_file_are_left_out_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(arrow.table({"text": ["one", None, "", "two"]}), tmp_path / "a.parquet")
    texts = corpus({"path": str(tmp_path / "a.parquet")})
    assert sorted(read(texts, 2)) == ["one", "two"] and "an empty 'text' are left out" in caplog.text
    with pytest.raises(InputError, match="a.parquet has no column 'body'; it has: text; name"):
        corpus({"path": str(tmp_path / "a.parquet"), "column": "body"})


def test_files_with_a_byte_order_mark_line_ends_of_windows_and_half_an_emoji_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes('\ufeff{"text": "one \\ud83d"}\r\n{"text": "two"}\r\n'.encode())
    assert sorted(read(corpus({"path": str(tmp_path / "a.jsonl")}), 2)) == ["one \ufffd", "two"]
    (tmp_path / "a.txt").write_bytes("\ufeffone\r\ntwo".encode())
    assert read(corpus({"path": str(tmp_path / "a.txt")}), 1) == ["one\ntwo"]


def test_questions_and_text_are_not_confused(tmp_path: Path) -> None:
    place = str(write(tmp_path, "jsonl"))
    with pytest.raises(InputError, match="has no column 'context'"):
        corpus({"path": place, "questions": True}).passage(random.Random(0), 50, 1)
    with pytest.raises(InputError, match="needs a source with `questions: true`"):
        corpus({"path": place}).passage(random.Random(0), 50, 1)
    asked = tmp_path / "asked.jsonl"
    asked.write_text('{"context": "It is Mara.", "question": "Who?", "answers": ["Mara"]}')
    with pytest.raises(InputError, match="every source holds questions"):
        corpus({"path": str(asked), "questions": True}).document(random.Random(0), 5)


def test_a_source_has_one_place() -> None:
    with pytest.raises(ValueError, match="either `path`"):
        Source()
    with pytest.raises(ValueError, match="from < below"):
        Source(path="x", tokens=(5, 5))


def test_an_order_does_not_depend_on_what_was_read_before(tmp_path: Path) -> None:
    place = str(write(tmp_path, "jsonl"))
    records = open_local(place, 3)
    first = [records.next()["text"] for _ in range(7)]
    again = open_local(place, 3)
    again.load_state({"epoch": 0, "place": 4})
    assert again.next()["text"] == first[4]
