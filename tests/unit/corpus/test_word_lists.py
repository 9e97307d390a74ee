"""Laws of the tables: a key that is missing or unknown and a value of the wrong kind are refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from mplus.corpus import word_lists
from mplus.corpus.word_lists import SplitWords


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"train": ["a"]}, "held_out"),
        ({"train": ["a"], "held_out": ["b"], "more": ["c"]}, "more"),
        ({"train": ["a"], "held_out": "b"}, "held_out"),
        ({"train": [1], "held_out": ["b"]}, "train"),
    ],
)
def test_a_table_of_another_form_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: object, said: str) -> None:
    monkeypatch.setattr(word_lists, "_FOLDER", tmp_path)
    (tmp_path / "x.json").write_text(json.dumps(content))
    with pytest.raises(ValidationError, match=said):
        SplitWords.read("x")


def test_a_table_keeps_the_order_of_its_lists_and_cannot_be_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(word_lists, "_FOLDER", tmp_path)
    (tmp_path / "x.json").write_text(json.dumps({"train": ["b", "a", "é"], "held_out": []}), encoding="utf-8")
    table = SplitWords.read("x")
    assert table == SplitWords(train=("b", "a", "é"), held_out=())
    with pytest.raises(ValidationError, match="frozen"):
        table.train = ()  # type: ignore[misc]
