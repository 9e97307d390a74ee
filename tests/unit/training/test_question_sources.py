"""Laws of the sources of questions: nothing of what measures is among them, answers stand where they are said to stand."""

from __future__ import annotations

import json
import re
from collections import deque
from pathlib import Path
from random import Random
from typing import Any

import pytest

from mplus.corpus.splits import nq_split
from mplus.corpus.values import reserved_values
from mplus.errors import InputError
from mplus.training.data.functions import functions
from mplus.training.data.mixed_documents import DraftKind, MixedDocuments
from mplus.training.data.passages import read_articles, read_passages, read_summaries
from mplus.training.data.rewordings import LISTS, REMEMBERED, WORLD, RewordingGenerator
from mplus.training.data.tables import FORMS, TableGenerator, _written
from tests.tiny import byte_tokenizer
from tests.training_data import squad_of, write_training_data
from tests.unit.evaluation.test_paraphrase import content, every

TOKENS = 900
PACKAGES = ("numpy.polynomial",)
NEW: dict[DraftKind, float] = {
    "articles": 1,
    "narrative": 1,
    "table": 1,
    "code": 1,
    "reworded": 1,
    "changes": 1,
    "corrections": 1,
}


@pytest.fixture(autouse=True)
def _one_small_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mplus.training.data.mixed_documents.DOCUMENTED_PACKAGES", PACKAGES)


def mixed(data: Path, shares: dict[DraftKind, float], seed: int = 3) -> MixedDocuments:
    return MixedDocuments(byte_tokenizer(), data, TOKENS, seed=seed, shares=shares, study=None)


# -- what measures -----------------------------------------------------------------------------------------------------


def pairs(statement: str, question: str) -> set[tuple[str, str]]:
    return {(said, asked) for said in content(statement) for asked in content(question)}


def test_no_wording_and_no_pair_of_words_of_no_shared_words_is_trained() -> None:
    measured, names = every(), set()
    for one in measured:
        names |= content(one.name)
    held = {pair for one in measured for pair in pairs(one.statement, one.question) if pair[0] not in names}
    asked = {one.question for one in measured}
    trained: set[tuple[str, str]] = set()
    for name, word in WORLD.items():
        for pair in LISTS[name]:
            trained |= pairs(*pair.split(">"))
        for template in LISTS[f"{word} questions"]:
            assert not {template.format(w=of, p=f"a {of}") for of in (p.split(">")[1] for p in LISTS[name])} & asked
    for pair in (*LISTS["rewordings"], *LISTS["relations"]):
        trained |= pairs(*pair.replace("{s}", "").replace("{v}", "").split(">")[:2])
    assert trained & held == set()


def test_the_things_asked_for_are_others_than_those_of_no_shared_words_and_no_held_out_values() -> None:
    measured = {word for one in every() if one.kind != "other words" for word in content(one.question)}
    own = {word for name in WORLD for pair in LISTS[name] for word in content(pair.split(">")[1])}
    assert own & measured == set()
    said = [f" {pair.split('>')[0].lower().replace(',', ' ')} " for name in WORLD for pair in LISTS[name]]
    assert [(one, value) for one in said for value in reserved_values() if len(value) > 3 and f" {value} " in one] == []


def test_a_reworded_fact_shares_no_word_with_its_question_but_a_name_that_is_asked_about() -> None:
    for name, word in WORLD.items():
        asked = {one for template in LISTS[f"{word} questions"] for one in content(template.format(w="", p=""))}
        for template in LISTS[f"{word} statements"]:
            assert not content(template.format(s="", v="")) & asked, template
        for pair in LISTS[name]:
            said, of = map(content, pair.split(">"))
            assert not said & (of | asked), pair
            assert not of & {one for template in LISTS[f"{word} statements"] for one in content(template.format(s="", v=""))}
    for pair in (*LISTS["rewordings"], *LISTS["relations"]):
        statement, question = pair.replace("{s}", "").replace("{v}", "").split(">")[:2]
        assert not content(statement) & content(question), pair


def test_articles_that_measure_are_among_neither_the_queries_nor_the_summaries(data: Path) -> None:
    articles = read_articles(data, "train")
    assert set(articles) == {"passage", "nq", "dolly", "boolq"}
    titles = {passage.title for article in articles["boolq"] for passage in article}
    assert titles and "Town 7" not in titles and all(nq_split(title) == "train" for title in titles)
    told = read_summaries(data)
    assert told and all(nq_split(one.title) == "train" and one.title.startswith("The valid of") for one in told)
    assert not {one.title for one in read_passages(data, "dev")} & titles


# -- where answers stand -----------------------------------------------------------------------------------------------


def test_every_new_kind_is_made_and_answered_in_its_place(data: Path) -> None:
    made, kinds = mixed(data, NEW), set()
    for document in made.make(120):
        for question in document.questions:
            if not question.span[1]:
                continue
            kinds.add(question.kind)
            place = made.tokenizer.decode(document.chunks[0][slice(*question.span)])
            assert question.answer in place or question.kind == "boolq"
            if question.kind == "boolq":
                assert question.answer in ("Yes", "No") and question.span == question.within and "dance until morning" in place
            for span in question.also:
                assert question.kind == "update" and made.tokenizer.decode(document.chunks[0][slice(*span)]).strip()
    assert kinds == {"passage", "nq", "dolly", "boolq", "narrative", "table", "code", "reworded", "update"}


def test_a_bank_of_new_kinds_goes_on_bit_for_bit_from_its_state(data: Path) -> None:
    first, second = mixed(data, NEW, seed=1), mixed(data, NEW, seed=2)
    first.make(20)
    second.load_state(first.state())
    assert first.make(30) == second.make(30)


def test_passages_of_one_article_stand_side_by_side_and_none_twice(tmp_path: Path) -> None:
    data = write_training_data(tmp_path / "data")
    articles: list[dict[str, Any]] = [
        {
            "title": f"Land {number}",
            "paragraphs": [squad_of([f"{name} {number}"])["data"][0]["paragraphs"][0] for name in "ABCDEFGH"],
        }
        for number in range(20)
    ]
    (data / "squadshifts" / "new_wiki_v1.0.json").write_text(json.dumps({"data": articles}), encoding="utf-8")
    made = mixed(data, {"articles": 1})
    made._article_shares = {"passage": 1}
    for _ in range(3):
        texts = [made.tokenizer.decode(document.chunks[0]) for document in made.make(5)]
        found = re.findall(r"called Ann (. \d+)\.", "".join(texts))
        assert len(found) == len(set(found)) > 20
        for text in texts:
            lands = re.findall(r"called Ann . (\d+)\.", text)
            assert len(set(lands)) < len(lands)  # what is no answer is of the same article


def test_corrections_of_one_thing_stand_in_several_chunks(data: Path) -> None:
    made = mixed(data, {"corrections": 1})
    told: dict[str, list[tuple[int, str, str]]] = {}
    for number, document in enumerate(made.make(30)):
        for question in document.questions:
            if question.slot:
                told.setdefault(question.slot, []).append((number, question.text, question.answer))
    several = [places for places in told.values() if len(places) > 1]
    assert len(several) > 10 and all(len({text for _, text, _ in places}) == 1 for places in several)
    assert all(len({answer for _, _, answer in places}) == len(places) for places in several)
    assert any(len({number for number, _, _ in places}) > 1 for places in several)
    assert not set(told) & {question.slot for document in made.make(30) for question in document.questions}


def test_a_search_engines_question_is_also_asked_as_it_was_typed(data: Path) -> None:
    made = mixed(data, {"articles": 1})
    asked = {q.text for document in made.make(60) for q in document.questions if q.kind in ("nq", "boolq")}
    typed = {text for text in asked if text[0].islower() and not text.endswith("?")}
    assert 0.25 < len(typed) / len(asked) < 0.75 and all(text.endswith("?") for text in asked - typed)


def test_only_an_answer_that_stands_once_in_a_summary_is_asked_for_and_its_marks_are_mended(data: Path) -> None:
    told = read_summaries(data)[0]
    assert [(question, answer) for question, answer, _ in told.asked] == [("What does the captain find?", "purple lamp")]
    _, answer, at = told.asked[0]
    assert at is not None and told.text[at : at + len(answer)] == answer and "'s harbour" in told.text


@pytest.mark.parametrize("form", FORMS)
def test_the_row_of_a_cell_holds_its_name_and_value_and_no_other_row(form: str) -> None:
    text, spans = _written(form, ["name", "age"], [["Ada; Bo", "3, 4"], ["Cy", "5"]])
    first, second = (text[slice(*span)] for span in spans)
    assert "3, 4" in first and "Ada; Bo" in first and "Cy" not in first
    assert "Cy" in second and second.rstrip(" |").endswith("5") and "Ada" not in second
    assert text.index("ame") < spans[0][1]


def test_the_cell_asked_for_is_the_only_one_that_answers() -> None:
    rng, known, turned = Random(2), deque[str](), 0
    for _ in range(60):
        text, cells = TableGenerator(rng, known).table()
        for cell in cells:
            row = text[cell.first : cell.last]
            assert cell.answer in row
            turned += any(value in cell.question for value in row.replace("|", "\n").split("\n")[1:] if len(value) > 3)
    assert turned > 5


def test_a_function_is_asked_for_without_its_name() -> None:
    found = functions(PACKAGES)
    assert sum(map(len, found)) > 30
    for module in found:
        for function in module:
            question = function.question(Random(function.name))
            assert function.name not in question
            text, head = function.shown(Random(function.name))
            assert function.name in text[:head] and function.sentence in text[:head]


def test_nothing_is_asked_for_of_two_people_within_what_is_remembered() -> None:
    known: deque[str] = deque(maxlen=REMEMBERED)
    maker = RewordingGenerator(Random(5), known)
    for _ in range(400):
        one = maker.make()
        assert one.answer in one.statement and one.answer not in one.question
    assert len(known) == len(set(known)) == REMEMBERED


@pytest.mark.parametrize(("kind", "needed"), [("narrative", "narrativeqa/valid.jsonl"), ("code", "no_such_package")])
def test_a_share_of_what_is_not_there_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: DraftKind, needed: str
) -> None:
    monkeypatch.setattr("mplus.training.data.mixed_documents.DOCUMENTED_PACKAGES", ("no_such_package",))
    data = write_training_data(tmp_path / "data")
    (data / "narrativeqa" / "valid.jsonl").unlink()
    with pytest.raises(InputError, match=f"is {kind}, but nothing to ask was found .*{needed}.*or give no {kind} share"):
        mixed(data, {kind: 1})
