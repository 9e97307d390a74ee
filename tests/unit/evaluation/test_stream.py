"""Laws of the evaluation's plans: distances as typed, chunks as a memory cuts them, stops inside their windows."""

from __future__ import annotations

from random import Random

import pytest

from mplus.errors import InputError
from mplus.evaluation.schedule.distances import fact_tolerance, parse_distances, passage_tolerance, short, within
from mplus.evaluation.schedule.query_points import QueryWindow, choose_query_points
from mplus.evaluation.schedule.stream import Unit, cut_chunks, units_of
from tests.evaluating import Words
from tests.tiny import byte_tokenizer


def test_distances_are_read_as_a_person_types_them() -> None:
    assert parse_distances("16k, 0,4K,1m,2.5k,4_000") == [0, 2500, 4000, 16_000, 1_000_000]
    assert [short(one) for one in (0, 500, 2500, 160_000, 1_000_000)] == ["0", "500", "2.5k", "160k", "1m"]
    assert within([1000, 2000, 4000], 2000) == [1000, 2000]


@pytest.mark.parametrize(("text", "word"), [("", "''"), ("4k,,8k", "''"), ("far", "'far'"), ("-5", "'-5'"), ("100", "too small")])
def test_bad_distances_are_told(text: str, word: str) -> None:
    with pytest.raises(InputError, match=word):
        parse_distances(text, smallest=200)


def test_tolerances_are_5_percent_and_wider_near() -> None:
    assert [passage_tolerance(one) for one in (0, 1000, 4000, 160_000)] == [64, 64, 200, 8000]
    assert [fact_tolerance(one) for one in (400, 1000, 2000, 160_000)] == [100, 250, 100, 8000]


def test_units_joined_are_the_text_behind_a_blank_line() -> None:
    text = "One here. Two there!\n\nThree, e.g. this one, ends. Four"
    made = units_of(text, Words())
    assert "".join(part for part, _ in made) == "\n\n" + text
    assert [unit.ends_paragraph for _, unit in made] == [False, True, False, True]
    assert "".join(part for part, _ in units_of(text, Words(), starts_paragraph=False)) == text


@pytest.mark.parametrize("seed", range(5))
def test_chunks_hold_the_text_in_order_and_end_at_every_stop(seed: int) -> None:
    rng = Random(seed)
    units, position = [], 0
    for _ in range(60):
        size = rng.randint(1, 70)
        units.append(Unit(ids=list(range(position, position + size)), ends_paragraph=rng.random() < 0.2))
        position += size
    stops = rng.sample(range(1, position), 9)
    chunks = cut_chunks(units, 32, 4, stops)
    assert [token for chunk in chunks for token in chunk] == list(range(position))
    assert max(map(len, chunks)) <= 32
    assert set(stops) <= {chunk[-1] + 1 for chunk in chunks}


def test_a_chunk_ends_with_a_paragraph_in_its_second_half_else_with_a_sentence() -> None:
    sizes = [6, 6, 6, 6, 6, 6]
    units = [Unit(ids=[number] * size, ends_paragraph=number == 2) for number, size in enumerate(sizes)]
    assert [len(chunk) for chunk in cut_chunks(units, 26, 2, [])] == [18, 18]  # the paragraph, not the later sentence
    plain = [Unit(ids=unit.ids) for unit in units]
    assert [len(chunk) for chunk in cut_chunks(plain, 26, 2, [])] == [24, 12]
    assert [len(chunk) for chunk in cut_chunks([Unit(ids=[0] * 27)], 26, 4, [])] == [23, 4]  # no rest below the smallest


@pytest.mark.parametrize("seed", range(5))
def test_every_window_gets_a_stop_inside_it(seed: int) -> None:
    rng = Random(seed)
    windows = []
    for _ in range(80):
        best, width = rng.randrange(100, 5000), rng.randint(0, 200)
        windows.append(QueryWindow(best - width, best, best + width))
    fixed = rng.sample(range(5000), 10)
    places = sorted(rng.sample(range(5200), 400))
    stops = choose_query_points(windows, fixed, places, apart=16)
    assert all(window.first <= stop <= window.last for window, stop in zip(windows, stops, strict=True))


def test_one_stop_serves_all_windows_it_lies_in_and_is_natural_and_near_their_best() -> None:
    windows = [QueryWindow(90, 100, 110), QueryWindow(95, 105, 115), QueryWindow(300, 310, 320)]
    assert choose_query_points(windows, [], [96, 103, 119, 309], apart=16) == [103, 103, 309]
    assert choose_query_points(windows, [110], [96, 103, 309], apart=16) == [110, 110, 309]  # a stop that is there anyway


def test_long_sentences_of_scripts_without_spaces_are_cut_between_characters() -> None:
    tokenizer = byte_tokenizer()

    def encode(text: str) -> list[int]:
        ids: list[int] = tokenizer(text)["input_ids"]
        return ids

    text = "漢字" * 100 + "。" + "สวัสดีครับ" * 12
    chunks = cut_chunks([unit for _, unit in units_of(text, encode)], 50, 2, [])
    pieces = [str(tokenizer.decode(chunk)) for chunk in chunks]
    assert len(chunks) > 15 and all(len(chunk) <= 50 for chunk in chunks) and "\ufffd" not in "".join(pieces)
    assert "".join(pieces).strip() == text
    assert all(
        not unit.places for _, unit in units_of("An English sentence — long enough to be cut somewhere within. " * 3, encode)
    )
