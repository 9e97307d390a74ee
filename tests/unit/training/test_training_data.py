"""Laws of documents to train on: exact length, answers where the span says, resumable, nothing of what measures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mplus.corpus.facts import Fact
from mplus.corpus.splits import is_dev, nq_split
from mplus.errors import InputError
from mplus.training.data.conversation import _by_name
from mplus.training.data.document_generator import DocumentGenerator
from mplus.training.data.draft import Draft, Place, documents
from mplus.training.data.passages import read_passages, read_small_talk
from mplus.training.data.running import RunningText
from tests.tiny import byte_tokenizer
from tests.training_data import ARTICLES

TOKENS = 900  # bytes


def maker(data: Path, seed: int = 3, **options: Any) -> DocumentGenerator:
    return DocumentGenerator(byte_tokenizer(), data, TOKENS, seed=seed, **options)


def test_chunks_have_exact_length_and_answers_stand_in_their_spans(data: Path) -> None:
    made = maker(data)
    kinds = set()
    for document in made.make(250):
        assert len(document.chunks[0]) == TOKENS and document.questions
        for question in document.questions:
            first, last = question.span
            assert 0 <= first < last <= TOKENS
            assert question.answer in made.tokenizer.decode(document.chunks[0][first:last])
            assert question.is_fact == (question.kind in ("fact", "generic", "chat"))
            kinds.add(question.kind)
    assert kinds == {"fact", "generic", "chat", "passage", "nq", "dolly"}


def test_a_fact_cut_by_either_edge_is_not_asked() -> None:
    draft = Draft(skip=5)
    for number in range(4):
        draft.add_asked(f"Fact {number} is here.", f"What is {number}?", str(number), "fact")
    (document,) = documents(byte_tokenizer(), [draft], 40)
    assert document is not None
    assert [question.answer for question in document.questions] == ["1"]
    assert draft.text[5:45] == byte_tokenizer().decode(list(document.chunks[0]))


def test_a_draft_without_an_answer_or_too_short_gives_no_document() -> None:
    plain, short = Draft("a" * 100), Draft()
    short.add_asked("Fact 1.", "What?", "1", "fact")
    assert documents(byte_tokenizer(), [plain, short], 50) == [None, None]
    assert documents(byte_tokenizer(), [], 50) == []


def test_the_right_place_of_a_passage_is_widened_but_stays_in_thepassage_of() -> None:
    draft = Draft("x" * 20 + " ")
    start = draft.add("It is 1834 now.")
    draft.places.append(Place("When?", "1834", "passage", start + 6, start + 10, (start, start + 15)))
    draft.add("y" * 60)
    (document,) = documents(byte_tokenizer(), [draft], 80)
    assert document is not None and document.questions[0].span == (start, start + 15)


def test_a_maker_goes_on_bit_for_bit_from_its_state(data: Path) -> None:
    first, second = maker(data, seed=1), maker(data, seed=2)
    first.make(30)
    second.load_state(json.loads(json.dumps(first.state())))
    assert first.make(40) == second.make(40)
    assert first.make(5) != maker(data, seed=1).make(5)


def test_densities_differ_from_chunk_to_chunk(data: Path) -> None:
    counts = [len(document.questions) for document in maker(data, fact_share=1.0).make(150)]
    assert max(counts) >= 4 * min(counts)


def test_facts_of_one_call_are_asked_once(data: Path) -> None:
    asked = [question.text for document in maker(data, fact_share=1.0).make(80) for question in document.questions]
    assert len(set(asked)) == len(asked)


def test_training_and_dev_share_no_title_and_neither_has_what_measures(data: Path) -> None:
    train, dev = ({(p.kind, p.title) for p in read_passages(data, part)} for part in ("train", "dev"))
    assert train and dev and not train & dev
    assert all(is_dev(title) for _, title in dev) and not any(is_dev(title) for _, title in train)
    assert ("passage", "Town 7") not in train | dev
    nq = {title for kind, title in train | dev if kind == "nq"}
    assert nq == {title for title in ARTICLES if nq_split(title) == "train"}
    assert {question.kind for d in maker(data, part="dev", fact_share=0.0).make(40) for question in d.questions} <= {
        "passage",
        "nq",
        "dolly",
    }


def test_answers_of_passages_are_whole_words(data: Path) -> None:
    for passage in read_passages(data, "train"):
        for _, answer, at in passage.asked:
            assert at is not None and passage.text[at : at + len(answer)] == answer
            assert not passage.text[at + len(answer)].isalnum()
            assert answer != "ill"
    assert all(request and reply for request, reply in read_small_talk(data))


def test_what_a_named_speaker_calls_my_is_asked_by_name() -> None:
    def fact(subject: str, question: str) -> Fact:
        return Fact(subject=subject, relation="cat", value="Bo", statement="Bo.", question=question, kind="generic")

    assert _by_name(fact("my sister", "What is my sister's cat called?"), "Ada") == "What is Ada's sister's cat called?"
    assert _by_name(fact("me", "What is my PIN?"), "Ada") == "What is Ada's PIN?"
    assert _by_name(fact("my sister", "What is your sister's cat called?"), "Ada") is None
    assert _by_name(fact("Eva Holm", "What is Eva Holm's cat called?"), "Ada") == "What is Eva Holm's cat called?"


def test_running_text_leaves_nothing_out() -> None:
    text = "First one. Second one. Third one. "
    running = RunningText([text, ""])
    assert "".join(running.texts[0]) == text and len(running.texts) == 1


def test_a_missing_directory_or_file_is_one_clear_sentence(data: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist; give --data"):
        maker(tmp_path / "absent")
    with pytest.raises(InputError, match="lacks pride_and_prejudice"):
        maker(tmp_path)


def test_a_slow_tokenizer_is_refused() -> None:
    with pytest.raises(InputError, match="need a fast tokenizer"):
        documents(object(), [Draft("a")], 1)
