"""Laws of generated facts: one right answer to every question, many look-alikes, disjoint splits."""

from __future__ import annotations

import re
from collections import Counter
from itertools import pairwise
from string import Formatter

import pytest

from mplus.corpus import names
from mplus.corpus.cast import KINDS
from mplus.corpus.facts import RELATIONS, Fact, FactMaker, Split
from mplus.corpus.values import NUMBERS, WORDS
from mplus.errors import InputError

SPLITS: tuple[Split, Split] = ("train", "held_out")
WORD_TABLES = {
    "first names": names.FIRST_NAMES,
    "surnames": names.SURNAMES,
    "pseudo first names": names.PSEUDO_FIRST_NAMES,
    "pseudo surnames": names.PSEUDO_SURNAMES,
    "place words": names.PLACE_WORDS,
    "buildings": names.BUILDINGS,
    "clubs": names.CLUBS,
    "trades": names.TRADES,
    "title adjectives": names.TITLE_ADJECTIVES,
    "title nouns": names.TITLE_NOUNS,
    **WORDS,
}


@pytest.fixture(params=SPLITS)
def split(request: pytest.FixtureRequest) -> Split:
    value: Split = request.param
    return value


def facts_of(split: Split, count: int = 1500, seed: int = 1) -> list[Fact]:
    return FactMaker(seed, split).make(count)


def test_no_subject_meets_a_relation_twice_even_across_calls(split: Split) -> None:
    maker = FactMaker(3, split)
    facts = [fact for size in (7, 300, 1, 900) for fact in maker.make(size)]
    assert max(Counter((fact.subject, fact.relation) for fact in facts).values()) == 1
    assert len({fact.question for fact in facts}) == len(facts)


def test_same_seed_gives_same_facts_and_another_seed_others(split: Split) -> None:
    assert facts_of(split, 50, seed=5) == facts_of(split, 50, seed=5)
    assert facts_of(split, 50, seed=5) != facts_of(split, 50, seed=6)


def test_value_stands_in_statement_and_never_in_question(split: Split) -> None:
    for fact in facts_of(split):
        assert fact.value in fact.statement
        assert fact.value.lower() not in fact.question.lower()
        assert fact.subject in fact.question


def test_statement_and_question_are_one_sentence_each(split: Split) -> None:
    for fact in facts_of(split):
        assert re.fullmatch(r"[A-Z0-9].*\.", fact.statement) and ". " not in fact.statement, fact.statement
        assert re.fullmatch(r"[A-Z].*\?", fact.question), fact.question
        assert "{" not in fact.statement + fact.question
        assert not re.search(r"\ba [aio]", fact.statement), fact.statement


def test_facts_share_subjects_relations_and_words_of_names(split: Split) -> None:
    facts = facts_of(split, 400)
    subjects = Counter(fact.subject for fact in facts)
    assert 2.5 < len(facts) / len(subjects) < 3.5
    assert min(Counter(fact.relation for fact in facts_of(split)).values()) >= 5
    words = Counter(word for subject in subjects for word in subject.removeprefix("the ").split())
    sharing = sum(any(words[word] > 1 for word in subject.removeprefix("the ").split()) for subject in subjects)
    assert sharing > 0.6 * len(subjects)


def test_facts_per_subject_is_what_was_asked_for() -> None:
    facts = FactMaker(0, "train", facts_per_subject=5.0).make(2000)
    assert 4.0 < len(facts) / len({fact.subject for fact in facts}) < 6.0


@pytest.mark.parametrize("table", WORD_TABLES)
def test_splits_share_no_word(table: str) -> None:
    train, held_out = (WORD_TABLES[table][split] for split in SPLITS)
    assert not {word.lower() for word in train} & {word.lower() for word in held_out}
    assert len(set(train)) == len(train) and len(set(held_out)) == len(held_out)


def test_name_lists_are_large_enough() -> None:
    assert len(names.FIRST_NAMES["train"]) >= 200 and len(names.FIRST_NAMES["held_out"]) >= 70
    assert len(names.SURNAMES["train"]) >= 250 and len(names.SURNAMES["held_out"]) >= 90


@pytest.mark.parametrize("kind", WORDS)
def test_no_word_value_contains_another(kind: str) -> None:
    for split in SPLITS:
        values = [value.lower() for value in WORDS[kind][split]]
        assert not [(a, b) for a in values for b in values if a != b and a in b]


def test_no_full_name_contains_another() -> None:
    """First words never end in one another and second words never begin with one another."""
    for split in SPLITS:
        firsts = sorted(word.lower()[::-1] for word in names.FIRST_NAMES[split] + names.PSEUDO_FIRST_NAMES[split])
        lasts = sorted(names.SURNAMES[split] + names.PSEUDO_SURNAMES[split])
        adjectives = sorted(word.lower()[::-1] for word in names.TITLE_ADJECTIVES[split])
        for ordered in (firsts, lasts, adjectives, sorted(names.TITLE_NOUNS[split])):
            assert not [(a, b) for a, b in pairwise(ordered) if b.startswith(a)]


def test_numbers_of_a_kind_have_one_length_or_form() -> None:
    facts = facts_of("train", 4000)
    for kind in NUMBERS:
        relations = {relation.name for relation in RELATIONS if relation.value == kind}
        values = {fact.value for fact in facts if fact.relation in relations}
        assert values and not [(a, b) for a in values for b in values if a != b and a in b]


def test_held_out_alone_uses_reserved_wordings() -> None:
    train = " ".join(fact.statement + fact.question for fact in facts_of("train", 3000))
    reserved = [relation.statements[-1] for relation in RELATIONS] + [relation.questions[-1] for relation in RELATIONS]
    markers = [max((text or "" for text, *_ in Formatter().parse(wording)), key=len) for wording in reserved]
    shared = {marker for marker in markers for other in _train_wordings() if marker in other}
    own = [marker for marker in markers if marker not in shared]
    assert len(own) > 0.8 * len(markers)
    assert not [marker for marker in own if marker in train]
    held_out = " ".join(fact.statement + fact.question for fact in facts_of("held_out", 3000))
    assert sum(marker in held_out for marker in own) > 0.8 * len(own)


def _train_wordings() -> list[str]:
    return [wording for relation in RELATIONS for group in relation.wordings("train") for wording in group]


def test_relations_are_many_and_asked_in_different_words() -> None:
    assert len(RELATIONS) >= 36
    assert len({relation.name for relation in RELATIONS}) == len(RELATIONS)
    for relation in RELATIONS:
        assert all(len(group) >= 3 for group in relation.wordings("train")), relation.name
        assert len(relation.statements) == len(relation.questions) == 4
        assert relation.value in WORDS.keys() | NUMBERS.keys() | {"person", "title"}
    for kind in KINDS:
        questions = [question for relation in RELATIONS if kind in relation.subjects for question in relation.questions]
        assert len(set(questions)) == len(questions)


def test_values_stand_at_the_beginning_middle_and_end() -> None:
    where: Counter[str] = Counter()
    for fact in facts_of("train", 1000):
        left, right = fact.statement.split(fact.value, 1)
        where["beginning" if len(left) <= 4 else "end" if len(right) <= 2 else "middle"] += 1
    assert min(where[place] for place in ("beginning", "middle", "end")) > 100


def test_used_up_names_are_an_error_that_says_what_to_do() -> None:
    with pytest.raises(InputError, match="no unused names"):
        FactMaker(0, "held_out", facts_per_subject=1.0).make(200_000)


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan")])
def test_fewer_than_one_fact_per_subject_is_refused(bad: float) -> None:
    with pytest.raises(InputError, match="facts_per_subject"):
        FactMaker(0, "train", facts_per_subject=bad)
