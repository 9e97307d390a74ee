"""Laws of self-study: the same seed gives the same file however often it was stopped; only what is answered twice alike is kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from mplus.errors import InputError
from mplus.training import self_study
from mplus.training.data.asking import PHRASES
from mplus.training.data.study_records import read_study
from mplus.training.self_study import NOT_SAID, SelfStudy, alike, go_on, main
from tests.tiny import text_model

TEXT = "".join(f"In chapter {number} the old harbour of Aston was dug a little deeper by {number} men. " for number in range(300))


class Parrot(SelfStudy):
    """Says what a good base might, without one."""

    said = 0

    def _say(self, messages: Sequence[str], new_tokens: int) -> list[str]:
        return [self._one(message) for message in messages]

    def _one(self, message: str) -> str:
        if message.endswith(("question only.", "\n\n", "?")) and "Write the question only" in message:
            return "Who dug the old harbour of Aston?"
        if "noun phrase" in message:
            return "The old harbour of Aston."
        if NOT_SAID in message:
            return f"That is {NOT_SAID}."
        self.said += 1
        return "Many men dug it." if "main points" not in message else f"It is {self.said} things {self.said * 7}"


def parrot(seed: int = 1) -> Parrot:
    return Parrot(text_model(), [TEXT], seed)


def test_a_stopped_study_ends_with_the_file_of_one_that_was_not(tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole.jsonl", tmp_path / "parts.jsonl"
    go_on(parrot(), whole, passages=20, minutes=None)
    go_on(parrot(), parts, passages=11, minutes=None)
    with parts.open("ab") as file:
        file.write(b'{"number": 11, "ki')  # killed while it wrote
    go_on(parrot(), parts, passages=20, minutes=None)
    kept = [line for line in whole.read_text().splitlines() if "things" not in line]
    assert [line for line in parts.read_text().splitlines() if "things" not in line] == kept
    assert len(read_study(whole)) == len(read_study(parts))


def test_only_answers_that_agree_are_kept_and_absent_ones_refuse(tmp_path: Path) -> None:
    path = tmp_path / "study.jsonl"
    total, kept = go_on(parrot(), path, passages=8, minutes=None)
    records = read_study(path)
    assert (total, kept) == (48, len(records))
    kinds = {record.kind for record in records}
    assert kinds >= {"question", "two_facts", "paraphrase", "summary", "absent"}
    assert all(record.answer in PHRASES["refusals"] for record in records if record.kind == "absent")
    assert all(record.answer.endswith(".") for record in records)


def test_two_answers_are_alike_by_their_common_words() -> None:
    assert alike("The harbour was dug.", "the harbour was dug") == 1.0
    assert alike("The harbour was dug.", "Nobody knows it") == 0.0
    assert alike("", "") == 0.0


def test_a_tiny_base_studies_alike_for_one_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(self_study, "QUESTION_TOKENS", 4)
    monkeypatch.setattr(self_study, "ANSWER_TOKENS", 6)
    first, second = (SelfStudy(text_model(positions=2048), [TEXT], 4) for _ in range(2))
    assert first._say(["What is it?", "And now?"], 5) is not None
    assert first.study(range(2)) == second.study(range(2))


def test_another_text_does_not_go_on_in_the_same_file(tmp_path: Path) -> None:
    path = tmp_path / "study.jsonl"
    go_on(parrot(), path, passages=8, minutes=None)
    before = path.read_bytes()
    with pytest.raises(InputError, match=r"was made from another text, seed or version \(passage 7 differs\)"):
        go_on(parrot(seed=2), path, passages=16, minutes=None)
    assert path.read_bytes() == before


def test_no_text_is_one_sentence() -> None:
    with pytest.raises(InputError, match="there is no text to study; give files that hold running text"):
        SelfStudy(text_model(), ["  \n"], 0)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["a.txt", "--out", "x.jsonl"], "neither --passages nor --minutes is given"),
        (["missing.txt", "--out", "x.jsonl", "--passages", "1"], "missing.txt"),
        (["a.txt", "--out", "nowhere/x.jsonl", "--passages", "1"], "no directory nowhere"),
    ],
)
def test_a_users_mistake_is_one_line_and_exit_code_2(
    arguments: list[str], complaint: str, capsys: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.txt").write_text(TEXT, encoding="utf-8")
    assert main(arguments) == 2
    said = capsys.readouterr().err.strip()
    assert complaint in said and "\n" not in said
