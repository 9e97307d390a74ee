"""Laws of the facts that measure: one right answer to every question, many hard negatives, no word shared with training."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from itertools import pairwise
from string import Formatter

import pytest

from mplus.corpus.facts import Fact
from mplus.corpus.held_out import NUMBERS, HeldOutFacts
from mplus.corpus.names import NAMES, RELATION_KINDS, NameWords
from mplus.corpus.relations import RELATIONS
from mplus.corpus.values import VALUES
from mplus.corpus.word_lists import SplitWords
from mplus.errors import InputError

WORD_TABLES = {
    **{
        name: SplitWords(train=getattr(NAMES.train, name), held_out=getattr(NAMES.held_out, name))
        for name in NameWords.model_fields
    },
    **VALUES.words,
}


def facts_of(count: int = 1500, seed: int = 1) -> list[Fact]:
    return HeldOutFacts(seed).make(count)


@pytest.mark.parametrize(("seed", "digest"), [(0, "c68b72df6f7a6e8c"), (1, "fc3f53d3f181b98e"), (7, "c641d1a5c7d9361e")])
def test_the_published_held_out_facts_never_change(seed: int, digest: str) -> None:
    """The figures of the demo were measured on them."""
    text = "\n".join(f"{f.subject}|{f.relation}|{f.value}|{f.statement}|{f.question}" for f in facts_of(500, seed))
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == digest


def test_no_subject_meets_a_relation_twice_even_across_calls() -> None:
    maker = HeldOutFacts(3)
    facts = [fact for size in (7, 300, 1, 900) for fact in maker.make(size)]
    assert max(Counter((fact.subject, fact.relation) for fact in facts).values()) == 1
    assert len({fact.question for fact in facts}) == len(facts)


def test_same_seed_gives_same_facts_and_another_seed_others() -> None:
    assert facts_of(50, seed=5) == facts_of(50, seed=5)
    assert facts_of(50, seed=5) != facts_of(50, seed=6)


def test_value_stands_in_statement_and_never_in_question() -> None:
    for fact in facts_of():
        assert fact.value in fact.statement
        assert fact.value.lower() not in fact.question.lower()
        assert fact.subject in fact.question


def test_statement_and_question_are_one_sentence_each() -> None:
    for fact in facts_of():
        assert re.fullmatch(r"[A-Z0-9].*\.", fact.statement) and ". " not in fact.statement, fact.statement
        assert re.fullmatch(r"[A-Z].*\?", fact.question), fact.question
        assert "{" not in fact.statement + fact.question
        assert not re.search(r"\ba [aio]", fact.statement), fact.statement


def test_facts_share_subjects_relations_and_words_of_names() -> None:
    facts = facts_of(400)
    subjects = Counter(fact.subject for fact in facts)
    assert 2.5 < len(facts) / len(subjects) < 3.5
    assert min(Counter(fact.relation for fact in facts_of()).values()) >= 5
    words = Counter(word for subject in subjects for word in subject.removeprefix("the ").split())
    sharing = sum(any(words[word] > 1 for word in subject.removeprefix("the ").split()) for subject in subjects)
    assert sharing > 0.6 * len(subjects)


def test_facts_per_subject_is_what_was_asked_for() -> None:
    facts = HeldOutFacts(0, facts_per_subject=5.0).make(2000)
    assert 4.0 < len(facts) / len({fact.subject for fact in facts}) < 6.0


@pytest.mark.parametrize("table", WORD_TABLES)
def test_splits_share_no_word(table: str) -> None:
    train, held_out = WORD_TABLES[table].train, WORD_TABLES[table].held_out
    assert not {word.lower() for word in train} & {word.lower() for word in held_out}
    assert len(set(held_out)) == len(held_out)


def test_name_lists_are_large_enough() -> None:
    assert len(set(NAMES.train.first)) >= 200 and len(NAMES.held_out.first) >= 70
    assert len(set(NAMES.train.last)) >= 250 and len(NAMES.held_out.last) >= 90


@pytest.mark.parametrize("kind", VALUES.words)
def test_no_word_value_contains_another(kind: str) -> None:
    values = [value.lower() for value in VALUES.words[kind].held_out]
    assert not [(a, b) for a in values for b in values if a != b and a in b]


def test_no_full_name_contains_another() -> None:
    """First words never end in one another and second words never begin with one another."""
    names = NAMES.held_out
    firsts = sorted(word.lower()[::-1] for word in names.first + names.invented_first)
    adjectives = sorted(word.lower()[::-1] for word in names.adjectives)
    for ordered in (firsts, sorted(names.last + names.invented_last), adjectives, sorted(names.nouns)):
        assert not [(a, b) for a, b in pairwise(ordered) if b.startswith(a)]


def test_numbers_of_a_kind_have_one_length_or_form() -> None:
    facts = facts_of(4000)
    for kind in NUMBERS:
        relations = {relation.name for relation in RELATIONS if relation.value == kind}
        values = {fact.value for fact in facts if fact.relation in relations}
        assert values and not [(a, b) for a in values for b in values if a != b and a in b]


def test_held_out_uses_its_reserved_wordings() -> None:
    groups = [group for relation in RELATIONS for group in (relation.statements, relation.questions)]
    reserved = [wording for group in groups for wording in group.held_out]
    markers = [max((text or "" for text, *_ in Formatter().parse(wording)), key=len) for wording in reserved]
    shared = {marker for marker in markers for group in groups for other in group.both if marker in other}
    own = [marker for marker in markers if marker not in shared]
    assert len(own) > 0.8 * len(markers)
    held_out = " ".join(fact.statement + fact.question for fact in facts_of(3000))
    assert sum(marker in held_out for marker in own) > 0.8 * len(own)


def test_relations_are_many_and_asked_in_different_words() -> None:
    assert len(RELATIONS) >= 36
    assert len({relation.name for relation in RELATIONS}) == len(RELATIONS)
    for relation in RELATIONS:
        for group in (relation.statements, relation.questions):
            assert len(group.both) == 3 and len(group.held_out) == 1, relation.name
        assert relation.value in VALUES.words.keys() | NUMBERS.keys() | {"person", "title"}
    for kind in RELATION_KINDS:
        about = [relation.questions.of("held_out") for relation in RELATIONS if kind in relation.subjects]
        questions = [question for group in about for question in group]
        assert len(set(questions)) == len(questions)


def test_values_stand_at_the_beginning_middle_and_end() -> None:
    where: Counter[str] = Counter()
    for fact in facts_of(1000):
        left, right = fact.statement.split(fact.value, 1)
        where["beginning" if len(left) <= 4 else "end" if len(right) <= 2 else "middle"] += 1
    assert min(where[place] for place in ("beginning", "middle", "end")) > 100


def test_used_up_names_are_an_error_that_says_what_to_do() -> None:
    with pytest.raises(InputError, match="no unused names"):
        HeldOutFacts(0, facts_per_subject=1.0).make(200_000)


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan")])
def test_fewer_than_one_fact_per_subject_is_refused(bad: float) -> None:
    with pytest.raises(InputError, match="facts_per_subject"):
        HeldOutFacts(0, facts_per_subject=bad)
