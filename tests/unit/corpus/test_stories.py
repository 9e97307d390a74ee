"""Laws of bAbI's files: a question knows what was told before it and what it needs."""

from __future__ import annotations

from pathlib import Path

import pytest

from mplus.corpus.stories import read_stories
from mplus.errors import InputError
from tests.training_data import STORY_FILE


def test_a_story_is_what_was_told_before_its_question(tmp_path: Path) -> None:
    path = tmp_path / "qa1_single-supporting-fact_test.txt"
    path.write_text(STORY_FILE, encoding="utf-8")
    first, second, third = read_stories(path)
    assert (first.question, first.answer, first.supports, len(first.facts)) == ("Where is Mary?", "bathroom", (0,), 2)
    assert (second.question, second.answer, second.supports, len(second.facts)) == ("Where is Daniel?", "hallway", (2,), 4)
    assert third.facts == ("John took the milk there.", "John travelled to the office.", "Mary went home.")
    assert third.supports == (0, 1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("1 Mary went home.\n", "has no question"),
        ("1 Mary went home.\nno number\n", "line 2 has no number"),
        ("1 Mary went home.\n2 Where is Mary?\thome\t7\n", "line 2 has a question without"),
    ],
)
def test_files_in_another_form_are_named(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "qa1_test.txt"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        read_stories(path)
