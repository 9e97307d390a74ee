"""Laws of the facts that are trained on: nothing of the held-out split, one answer to a question, look-alikes, endless names."""

from __future__ import annotations

import hashlib
import re
from collections import Counter, deque
from random import Random
from string import Formatter

import pytest

from mplus.corpus import names
from mplus.corpus.facts import RELATIONS, FactMaker
from mplus.corpus.values import WORDS
from mplus.corpus.wide import pools
from mplus.corpus.wide.attributes import ATTRIBUTES
from mplus.corpus.wide.firstperson import MYSELF
from mplus.corpus.wide.naming import OTHER_KINDS, RELATION_KINDS, Namer
from mplus.corpus.wide.reserved import reserved_name_words, reserved_values
from mplus.corpus.wide.teller import Teller, Told
from mplus.corpus.wide.values import Values, kinds
from mplus.corpus.wide.wordings import MORE, train_wordings

MADE = 6000


@pytest.fixture(scope="module")
def told() -> list[Told]:
    return Teller(Random(5)).make(MADE)


@pytest.mark.parametrize(("seed", "digest"), [(0, "c68b72df6f7a6e8c"), (1, "fc3f53d3f181b98e"), (7, "c641d1a5c7d9361e")])
def test_the_published_held_out_facts_never_change(seed: int, digest: str) -> None:
    """The figures of the demo were measured on them."""
    facts = FactMaker(seed, "held_out").make(500)
    text = "\n".join(f"{f.subject}|{f.relation}|{f.value}|{f.statement}|{f.question}" for f in facts)
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == digest


def test_value_stands_in_statement_and_never_in_question(told: list[Told]) -> None:
    for fact in told:
        assert fact.value in fact.statement
        assert fact.value.lower() not in fact.question.lower()
        assert "{" not in fact.statement + fact.question and "  " not in fact.statement + fact.question


def test_no_question_has_two_answers(told: list[Told]) -> None:
    keys = Counter((fact.subject.lower(), fact.relation) for fact in told)
    assert max(keys.values()) == 1


def test_subjects_and_relations_come_back_and_names_resemble_each_other(told: list[Told]) -> None:
    subjects, relations = Counter(fact.subject for fact in told), Counter(fact.relation for fact in told)
    assert 2 < len(told) / len(subjects) < 4.5
    assert sum(count > 1 for count in relations.values()) > 300
    people = [subject.split() for subject in subjects if re.fullmatch(r"\w+ \w+", subject)]
    firsts, lasts = Counter(words[0] for words in people), Counter(words[1] for words in people)
    assert sum(firsts[first] > 1 or lasts[last] > 1 for first, last in people) > 0.5 * len(people)


def test_names_hardly_ever_come_back_with_another_seed(told: list[Told]) -> None:
    others = {fact.subject for fact in Teller(Random(6)).make(MADE) if not fact.subject.startswith(("my ", "our ", MYSELF))}
    mine = {fact.subject for fact in told if not fact.subject.startswith(("my ", "our ", MYSELF))}
    assert len(mine & others) < 0.03 * len(mine)


def test_name_lists_and_invented_words_hold_no_held_out_word() -> None:
    reserved = reserved_name_words()
    assert {word.lower() for word in names.SURNAMES["held_out"]} < reserved
    lists = [value for name, value in vars(pools).items() if name in _NAME_LISTS]
    assert len(lists) == len(_NAME_LISTS)
    assert not {word.lower() for words in lists for word in words} & reserved
    namer = Namer(Random(0))
    assert not {namer.invented(1).lower() for _ in range(30_000)} & reserved


_NAME_LISTS = ("FIRST", "LAST", "WORDS", "BUILDINGS", "CLUBS", "TRADES", "ADJECTIVES", "NOUNS", "MACHINES", "EVENTS")


def test_no_person_bears_a_held_out_name() -> None:
    namer = Namer(Random(1))
    words = {
        word.lower() for _ in range(20_000) for word in re.split(r"[ -]", namer.subject("person").name + " " + namer.person())
    }
    assert not words & (reserved_name_words() - {"little"})


def test_no_value_is_a_held_out_value() -> None:
    rng = Random(2)
    values = Values(rng, Namer(rng))
    for kind in kinds():
        drawn = {values.draw(kind).lower() for _ in range(800)}
        assert not drawn & reserved_values(), kind


def test_values_are_several_times_as_many_as_in_the_narrow_split() -> None:
    rng = Random(3)
    values = Values(rng, Namer(rng))
    for kind in ("city", "animal", "food", "job", "object", "colour", "hobby", "study", "cargo"):
        assert len({values.draw(kind) for _ in range(6000)}) > 2 * len(WORDS[kind]["train"]), kind


def test_no_reserved_wording_is_used(told: list[Told]) -> None:
    training = [wording for relation in RELATIONS for group in relation.wordings("train") for wording in group]
    reserved = [wording for relation in RELATIONS for wording in (relation.statements[-1], relation.questions[-1])]
    markers = [max((text or "" for text, *_ in Formatter().parse(wording)), key=len) for wording in reserved]
    own = [marker for marker in markers if not any(marker in wording for wording in training)]
    assert len(own) > 0.8 * len(markers)
    mine = " ".join(wording for relation in RELATIONS for group in train_wordings(relation) for wording in group)
    text = mine + " ".join(fact.statement + fact.question for fact in told if fact.kind == "fact")
    assert not [marker for marker in own if marker in text]


def test_every_relation_has_more_wordings_that_ask_for_the_value_only() -> None:
    assert MORE.keys() == {relation.name for relation in RELATIONS}
    for relation in RELATIONS:
        statements, questions = train_wordings(relation)
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


def test_what_was_told_in_the_first_person_is_not_told_again() -> None:
    before: deque[str] = deque()
    first = {(f.subject, f.relation) for f in Teller(Random(1), told_before=before).make_own(300) if f.subject.startswith("my ")}
    again = {(f.subject, f.relation) for f in Teller(Random(1), told_before=before).make_own(300) if f.subject.startswith("my ")}
    assert len(first) > 100 and not first & again


def test_what_others_of_a_small_world_told_is_not_told_again() -> None:
    before: deque[str] = deque()
    world = pools.small_world(Random(3))
    told = [fact for seed in range(6) for fact in Teller(Random(seed), told_before=before, pools=world).make(60)]
    assert len({(fact.subject.lower(), fact.relation) for fact in told}) == len(told)


def test_names_of_a_small_world_share_their_words() -> None:
    def words(world: pools.Pools | None) -> Counter[str]:
        namers = [Namer(Random(seed), world) for seed in range(5)]  # that of each call is new, the words are the world's
        return Counter(word for namer in namers for _ in range(40) for word in namer.person().split())

    small, wide = words(pools.small_world(Random(3))), words(None)
    assert small.total() >= 400 and len(small) < 0.6 * len(wide)


def test_same_seed_same_facts() -> None:
    assert Teller(Random(9)).make(80) == Teller(Random(9)).make(80) != Teller(Random(10)).make(80)
