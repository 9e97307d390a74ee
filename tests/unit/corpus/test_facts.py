"""Laws of the facts that are trained on: nothing of the held-out split, one answer to a question, hard negatives, endless names."""

from __future__ import annotations

import re
from collections import Counter, deque
from random import Random
from string import Formatter

import pytest

from mplus.corpus.facts import ATTRIBUTES, Fact, FactGenerator
from mplus.corpus.first_person import MYSELF
from mplus.corpus.names import (
    NAMES,
    OTHER_KINDS,
    RELATION_KINDS,
    NameGenerator,
    NamePool,
    NameWords,
    confusable_pool,
    reserved_name_words,
)
from mplus.corpus.relations import RELATIONS
from mplus.corpus.values import VALUES, ValueGenerator, kinds, reserved_values

MADE = 6000


@pytest.fixture(scope="module")
def facts() -> list[Fact]:
    return FactGenerator(Random(5)).make(MADE)


def test_value_stands_in_statement_and_never_in_question(facts: list[Fact]) -> None:
    for fact in facts:
        assert fact.value in fact.statement
        assert fact.value.lower() not in fact.question.lower()
        assert "{" not in fact.statement + fact.question and "  " not in fact.statement + fact.question


def test_no_question_has_two_answers(facts: list[Fact]) -> None:
    keys = Counter((fact.subject.lower(), fact.relation) for fact in facts)
    assert max(keys.values()) == 1


def test_subjects_and_relations_come_back_and_names_resemble_each_other(facts: list[Fact]) -> None:
    subjects, relations = Counter(fact.subject for fact in facts), Counter(fact.relation for fact in facts)
    assert 2 < len(facts) / len(subjects) < 4.5
    assert sum(count > 1 for count in relations.values()) > 300
    people = [subject.split() for subject in subjects if re.fullmatch(r"\w+ \w+", subject)]
    firsts, lasts = Counter(words[0] for words in people), Counter(words[1] for words in people)
    assert sum(firsts[first] > 1 or lasts[last] > 1 for first, last in people) > 0.5 * len(people)


def test_names_hardly_ever_come_back_with_another_seed(facts: list[Fact]) -> None:
    others = {
        fact.subject for fact in FactGenerator(Random(6)).make(MADE) if not fact.subject.startswith(("my ", "our ", MYSELF))
    }
    mine = {fact.subject for fact in facts if not fact.subject.startswith(("my ", "our ", MYSELF))}
    assert len(mine & others) < 0.03 * len(mine)


def test_name_lists_and_invented_words_hold_no_held_out_word() -> None:
    reserved = reserved_name_words()
    assert {word.lower() for word in NAMES.held_out.last} < reserved
    lists = [getattr(NAMES.train, name) for name in NameWords.model_fields] + [NAMES.machines, NAMES.events]
    assert not {word.lower() for words in lists for word in words} & reserved
    names = NameGenerator(Random(0))
    assert not {names.invented(1).lower() for _ in range(30_000)} & reserved


def test_no_person_bears_a_held_out_name() -> None:
    names = NameGenerator(Random(1))
    words = {
        word.lower() for _ in range(20_000) for word in re.split(r"[ -]", names.subject("person").name + " " + names.person())
    }
    assert not words & (reserved_name_words() - {"little"})


def test_no_value_is_a_held_out_value() -> None:
    rng = Random(2)
    values = ValueGenerator(rng, NameGenerator(rng))
    for kind in kinds():
        drawn = {values.draw(kind).lower() for _ in range(800)}
        assert not drawn & reserved_values(), kind


def test_values_are_many_times_as_many_as_in_the_held_out_split() -> None:
    rng = Random(3)
    values = ValueGenerator(rng, NameGenerator(rng))
    for kind in ("city", "animal", "food", "job", "object", "colour", "hobby", "study", "cargo"):
        assert len({values.draw(kind) for _ in range(6000)}) > 6 * len(VALUES.words[kind].held_out), kind


def test_no_reserved_wording_is_used(facts: list[Fact]) -> None:
    training = [
        wording for relation in RELATIONS for group in (relation.statements, relation.questions) for wording in group.both
    ]
    reserved = [
        wording for relation in RELATIONS for group in (relation.statements, relation.questions) for wording in group.held_out
    ]
    markers = [max((text or "" for text, *_ in Formatter().parse(wording)), key=len) for wording in reserved]
    own = [marker for marker in markers if not any(marker in wording for wording in training)]
    assert len(own) > 0.8 * len(markers)
    mine = " ".join(
        wording for relation in RELATIONS for group in (relation.statements, relation.questions) for wording in group.train
    )
    text = mine + " ".join(fact.statement + fact.question for fact in facts if fact.kind == "fact")
    assert not [marker for marker in own if marker in text]


def test_every_relation_has_more_wordings_that_ask_for_the_value_only() -> None:
    for relation in RELATIONS:
        statements, questions = relation.statements.of("train"), relation.questions.of("train")
        assert relation.statements.train and relation.questions.train, relation.name
        assert len(statements) >= 6 and len(questions) >= 6, relation.name
        for group in (statements, questions):
            assert len(set(group)) == len(group), relation.name
        assert all("{v}" in wording and re.search(r"\{[sS]\}", wording) for wording in statements)
        assert all("{v}" not in wording and "{s}" in wording for wording in questions)


def test_an_owner_has_no_noun_twice_and_every_value_can_be_drawn() -> None:
    assert ATTRIBUTES.keys() == {"person", *RELATION_KINDS, *OTHER_KINDS}
    for owner, attributes in ATTRIBUTES.items():
        nouns = Counter(noun for attribute in attributes for noun in attribute.nouns)
        assert max(nouns.values()) == 1, (owner, nouns.most_common(1))
        assert {attribute.value for attribute in attributes} <= kinds()


def test_facts_in_the_first_person_never_come_again() -> None:
    before: deque[str] = deque()
    first = {
        (f.subject, f.relation) for f in FactGenerator(Random(1), known_keys=before).make_own(300) if f.subject.startswith("my ")
    }
    again = {
        (f.subject, f.relation) for f in FactGenerator(Random(1), known_keys=before).make_own(300) if f.subject.startswith("my ")
    }
    assert len(first) > 100 and not first & again


def test_facts_of_other_generators_of_a_confusable_pool_never_come_again() -> None:
    before: deque[str] = deque()
    pool = confusable_pool(Random(3))
    facts = [fact for seed in range(6) for fact in FactGenerator(Random(seed), known_keys=before, pool=pool).make(60)]
    assert len({(fact.subject.lower(), fact.relation) for fact in facts}) == len(facts)


def test_names_of_a_confusable_pool_share_their_words() -> None:
    def words(pool: NamePool | None) -> Counter[str]:
        generators = [NameGenerator(Random(seed), pool) for seed in range(5)]  # a new one each call, of the same words
        return Counter(word for names in generators for _ in range(40) for word in names.person().split())

    small, wide = words(confusable_pool(Random(3))), words(None)
    assert small.total() >= 400 and len(small) < 0.6 * len(wide)


def test_same_seed_same_facts() -> None:
    assert FactGenerator(Random(9)).make(80) == FactGenerator(Random(9)).make(80) != FactGenerator(Random(10)).make(80)
