"""Laws of documents for distillation: changes are answered by the newest, what is absent stands nowhere, sentences hold the value."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import pytest

from mplus.corpus.facts import Fact
from mplus.corpus.values import reserved_values
from mplus.errors import InputError
from mplus.training.data.asking import PHRASES, asks_value, follow_up, in_a_sentence, sentence_of
from mplus.training.data.changes import ChangeGenerator
from mplus.training.data.mixed_documents import EARLIER_CHARACTERS, MOST_EARLIER, DraftKind, MixedDocuments
from mplus.training.data.study_records import StudyRecord, read_study
from tests.tiny import byte_tokenizer
from tests.training_data import write_training_data

TOKENS = 900
ALL: dict[DraftKind, float] = {"facts": 1, "chat": 1, "passage": 1, "changes": 1, "story": 1, "study": 1}


def record(number: int, kind: str, *, kept: bool = True) -> dict[str, Any]:
    text = f"The harbour of Port {number} was dug in 1771. It silted up soon."
    return {
        "number": number,
        "kind": kind,
        "text": text,
        "question": "When was it dug?",
        "answer": "It was dug in 1771.",
        "kept": kept,
    }


@pytest.fixture
def study(tmp_path: Path) -> Path:
    path = tmp_path / "study.jsonl"
    kinds = ("question", "summary", "absent")
    path.write_text("\n".join(json.dumps(record(number, kind)) for number in range(9) for kind in kinds), encoding="utf-8")
    return path


def mixed(data: Path, study: Path | None, seed: int = 3, shares: dict[DraftKind, float] | None = None) -> MixedDocuments:
    return MixedDocuments(byte_tokenizer(), data, TOKENS, seed=seed, shares=shares or ALL, study=study)


def test_every_kind_is_made_and_what_has_a_place_is_answered_there(data: Path, study: Path) -> None:
    made, kinds = mixed(data, study), set()
    for document in made.make(150):
        text = made.tokenizer.decode(document.chunks[0])
        for question in document.questions:
            kinds.add(question.kind)
            first, last = question.span
            place = made.tokenizer.decode(document.chunks[0][first:last])
            if (
                question.kind in ("fact", "generic", "chat", "passage", "nq", "dolly", "update", "story")
                and question.style == "value"
            ):
                assert 0 <= first < last <= TOKENS and question.answer in place
            if question.kind in ("absent", "instruction", "prompt"):
                assert question.span == (0, 0)
            if question.kind == "absent":
                assert not question.is_taught and question.answer not in text
    expected = {
        "fact",
        "generic",
        "chat",
        "passage",
        "nq",
        "dolly",
        "update",
        "story",
        "absent",
        "prompt",
        "instruction",
        "study",
        "summary",
    }
    assert kinds == expected


def test_a_bank_goes_on_bit_for_bit_from_its_state(data: Path, study: Path) -> None:
    first, second = mixed(data, study, seed=1), mixed(data, study, seed=2)
    first.make(20)
    second.load_state(json.loads(json.dumps(first.state())))
    assert first.make(30) == second.make(30)


def test_absent_facts_are_stated_in_no_chunk(data: Path) -> None:
    made = mixed(data, None, shares={"facts": 1})
    documents = made.make(120)
    stated = {question.text for document in documents for question in document.questions if question.kind in ("fact", "generic")}
    absent = [question for document in documents for question in document.questions if question.kind == "absent"]
    assert len(absent) > 100 and not stated & {question.text for question in absent}
    assert {question.answer for question in absent} <= set(PHRASES["refusals"])


def test_the_facts_of_a_story_stand_in_their_order_and_its_place_holds_all_that_is_needed(data: Path) -> None:
    made, asked = mixed(data, None, shares={"story": 1}), set()
    for document in made.make(40):
        text = made.tokenizer.decode(document.chunks[0])
        for question in document.questions:
            if question.kind != "story":
                continue
            asked.add(question.answer)
            place = made.tokenizer.decode(document.chunks[0][slice(*question.span)])
            if question.answer == "garden":
                assert "Mary went back to the garden." in place
            else:
                assert "John took the milk there." in place and "John went to the hallway." in place
            assert 0 <= text.index("Mary moved") < text.index("John took") < text.index("Mary went back")
    assert asked == {"garden", "hallway"}


def test_stories_need_their_files(tmp_path: Path) -> None:
    data = write_training_data(tmp_path / "data")
    (data / "babi" / "en" / "qa2_some-facts_train.txt").unlink()
    with pytest.raises(InputError, match=r"has 0 files qa2_\*train.txt; expected one, or no story share"):
        mixed(data, None, shares={"story": 1})


def test_some_questions_come_late_in_a_conversation_about_other_things(data: Path) -> None:
    questions = [question for document in mixed(data, None, shares={"passage": 1}).make(150) for question in document.questions]
    asked = [question for question in questions if question.span[1]]
    late = [question for question in asked if question.turns]
    assert 0.1 < len(late) / len(asked) < 0.3
    assert all(1 <= len(question.turns) <= MOST_EARLIER for question in late)
    assert {len(reply) <= EARLIER_CHARACTERS for question in late for _, reply in question.turns} == {True}


def test_a_change_is_answered_by_its_newest_value_and_the_past_by_the_first() -> None:
    rng, past = Random(4), 0
    for _ in range(200):
        change = ChangeGenerator(Random(rng.random())).change()
        assert len(change.statements) >= 2
        assert change.asked[0][1] in change.statements[-1] and change.asked[0][1] not in change.statements[0]
        for question, answer, number in change.asked[1:]:
            past += 1
            assert answer in change.statements[number]
            assert question != change.asked[0][0] and answer not in change.statements[-1]
        lower = " ".join(change.statements).lower()
        values = [answer.lower() for _, answer, _ in change.asked]
        assert not set(values) & reserved_values() and all(value in lower for value in values)
    assert past > 30


def fact(statement: str, subject: str = "Ada Low", relation: str = "dog", question: str = "What is Ada Low's dog?") -> Fact:
    return Fact(subject=subject, relation=relation, value="Rex", statement=statement, question=question, kind="generic")


def test_a_sentence_says_your_for_my_and_none_is_made_of_what_the_writer_did() -> None:
    assert sentence_of(fact("My sister's dog is Rex.", "my sister")) == "Your sister's dog is Rex."
    assert sentence_of(fact("I call the dog Rex.", "my sister")) is None
    assert sentence_of(fact("My dog is Rex.", "me")) is None


def test_only_what_asks_for_a_value_says_that_it_wants_a_sentence() -> None:
    rng = Random(0)
    assert asks_value("Who is Ada?") and asks_value("how many are there") and not asks_value("Describe the harbour.")
    assert in_a_sentence(rng, "Describe the harbour.") == "Describe the harbour."
    assert "sentence" in in_a_sentence(rng, "Who is Ada?")


def test_a_follow_up_names_no_subject_and_stands_behind_the_first_question() -> None:
    first, second = fact("Ada Low's dog is Rex."), fact("Ada Low's cat is Tom.", relation="cat")
    asked = follow_up(Random(1), first, second)
    assert asked is not None
    question, turns = asked
    assert "Ada" not in question and "cat" in question and turns[0][0] == first.question
    assert follow_up(Random(1), first, fact("Bo's cat is Tom.", subject="Bo", relation="cat")) is None


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        ([{"number": 1}], r"study.jsonl:1 is no self-study record \(kind: Field required\)"),
        ([record(1, "riddle")], r"study.jsonl:1 is no self-study record \(kind:"),
        ([record(1, "question", kept=False)], "holds no record that was kept; study more text"),
    ],
)
def test_a_file_that_is_no_self_study_is_refused(tmp_path: Path, lines: list[dict[str, Any]], complaint: str) -> None:
    path = tmp_path / "study.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    with pytest.raises(InputError, match=complaint):
        read_study(path)


def test_records_are_read_as_they_were_written(study: Path) -> None:
    assert read_study(study)[0] == StudyRecord.model_validate(record(0, "question"))
