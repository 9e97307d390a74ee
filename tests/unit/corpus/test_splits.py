"""Laws of what trains and what measures: by title alone, the same for everybody, about as many as said."""

from __future__ import annotations

from mplus.corpus.splits import is_dev, nq_split

TITLES = [f"Article {number}" for number in range(4000)]
EXPECTED_NQ = ["train", "eval", "eval", "eval", "eval", "eval", "eval", "eval"]
EXPECTED_DEV = ["Article 23", "Article 32", "Article 41"]


def test_a_title_is_spelled_one_way_whatever_stands_between_its_words() -> None:
    for title in ("Steam_engine", "steam engine", "Steam  Engine "):
        assert nq_split(title) == nq_split("Steam engine") and is_dev(title) == is_dev("Steam engine")


def test_the_split_of_known_titles_never_changes() -> None:
    """Figures were measured on the eval half; whoever changes the hash trains on what measures."""
    assert [nq_split(title) for title in ("Moon", "Rome", "Oxygen", "Chess", "Hamlet", "Nile", "Jazz", "Peru")] == EXPECTED_NQ
    assert [title for title in TITLES[:60] if is_dev(title)] == EXPECTED_DEV


def test_half_of_the_titles_measure_and_a_tenth_is_kept_back_independently() -> None:
    evaluated = [title for title in TITLES if nq_split(title) == "eval"]
    assert 0.46 < len(evaluated) / len(TITLES) < 0.54
    assert 0.08 < sum(map(is_dev, TITLES)) / len(TITLES) < 0.12
    assert 0.07 < sum(map(is_dev, evaluated)) / len(evaluated) < 0.13
