"""What a question sees in training is what a read would show it: sizes, order, the right place."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
import torch

from mplus.retrieval.read_plan import LayoutRule
from mplus.training.sampling.block_view import (
    BlockView,
    Shape,
    hardest,
    in_order_of_birth,
    lead,
    places,
    retrieval_view,
    short_term,
    short_view,
)

CHUNKS, PER_CHUNK = 12, 16
RULE = LayoutRule(budget=16, neighbours=1, window=2, order="score")
SHAPE = Shape(per_chunk=PER_CHUNK, span=4, short=32, rule=RULE)
IDS = places(CHUNKS, PER_CHUNK)


def is_whole_spans(blocks: list[int]) -> bool:
    return all(len({*range(block // 4 * 4, block // 4 * 4 + 4)} & set(blocks)) == 4 for block in blocks)


def test_blocks_of_two_chunks_are_no_neighbours() -> None:
    gaps = IDS.diff().tolist()
    assert [gap for gap in gaps if gap != 1] == [2] * (CHUNKS - 1)
    assert all(gaps[chunk * PER_CHUNK - 1] == 2 for chunk in range(1, CHUNKS))


@pytest.mark.parametrize("seed", range(20))
def test_short_term_memory_is_whole_spans_with_the_newest_chunk_last(seed: int) -> None:
    blocks = short_term(3, SHAPE, len(IDS), Random(seed))
    assert len(blocks) == len(set(blocks)) == 32
    assert blocks[-16:] == list(range(48, 64))
    assert is_whole_spans(blocks)


@pytest.mark.parametrize("seed", range(20))
def test_nothing_stands_twice_and_the_best_span_is_last(seed: int) -> None:
    randomness = Random(seed)
    scores = torch.rand(len(IDS), generator=torch.Generator().manual_seed(seed))
    right = [40, 41]
    view = retrieval_view(scores, IDS, right, randomness.randrange(CHUNKS), SHAPE, randomness)
    assert len(view.blocks) == len(set(view.blocks)) == 48
    assert set(right) <= set(view.blocks)
    if view.complete:
        assert int(scores.argmax()) in view.blocks[-16:]


def test_a_right_place_that_was_missed_is_put_in_and_said_so() -> None:
    scores = torch.zeros(len(IDS))
    scores[:20] = 1.0
    view = retrieval_view(scores, IDS, [100, 101], 0, SHAPE, Random(1))
    assert not view.complete and {100, 101} <= set(view.blocks[-16:])


def test_a_found_place_of_the_newest_chunk_leaves_its_place_in_time() -> None:
    scores = torch.zeros(len(IDS))
    scores[52] = 5.0
    view = retrieval_view(scores, IDS, [52, 53], 3, SHAPE, Random(1))
    assert view.complete and view.blocks.count(52) == 1 and 52 in view.blocks[-16:]


@pytest.mark.parametrize("seed", range(20))
def test_memoryllm_reads_short_term_memory_with_the_right_place_still_in_it(seed: int) -> None:
    shape = replace(SHAPE, short=48, rule=replace(RULE, budget=0))
    for newest in (2, 6):
        view = short_view([100, 101], newest, shape, len(IDS), Random(seed))
        assert len(view.blocks) == len(set(view.blocks)) == 48
        assert {100, 101} <= set(view.blocks)
        assert view.blocks[-16:] == list(range(newest * 16, newest * 16 + 16))


RECENT = replace(SHAPE, rule=replace(RULE, recency_tail=16))


def _confident(least: float | None) -> Shape:
    return replace(RECENT, rule=replace(RECENT.rule, min_confidence=least))


@pytest.mark.parametrize("seed", range(20))
def test_the_newest_blocks_stay_behind_what_is_found_where_the_best_is_among_them(seed: int) -> None:
    scores = torch.rand(len(IDS), generator=torch.Generator().manual_seed(seed))
    newest = seed % CHUNKS
    scores[newest * 16 + 2] = 9.0
    view = retrieval_view(scores, IDS, [40, 41], newest, RECENT, Random(seed))
    assert len(view.blocks) == len(set(view.blocks)) == 48
    behind = view.blocks[-16:]
    end = behind[-1] + 1
    assert newest * 16 + 4 <= end <= newest * 16 + 16
    assert behind == [block % len(IDS) for block in range(end - 16, end)]
    unwritten = set(range(end, newest * 16 + 16))
    assert not unwritten & set(view.blocks), "what comes after the end of the text has not been read"
    assert {40, 41} <= set(view.blocks)


@pytest.mark.parametrize("seed", range(5))
def test_the_best_find_is_last_where_it_is_older(seed: int) -> None:
    scores = torch.rand(len(IDS), generator=torch.Generator().manual_seed(seed))
    scores[40] = 9.0
    view = retrieval_view(scores, IDS, [40, 41], 7, RECENT, Random(seed))
    assert 40 in view.blocks[-16:] and len(view.blocks) == len(set(view.blocks)) == 48


@pytest.mark.parametrize("seed", range(20))
def test_short_term_memory_stays_whole_where_the_search_is_not_certain(seed: int) -> None:
    scores = torch.rand(len(IDS), generator=torch.Generator().manual_seed(seed))
    newest = seed % CHUNKS
    view = retrieval_view(scores, IDS, [40, 41], newest, _confident(1.5), Random(seed))
    assert len(view.blocks) == len(set(view.blocks)) == 48 and {40, 41} <= set(view.blocks)
    last = [block for block in view.blocks[16:] if block // 16 == newest]
    assert view.blocks[-len(last) :] == list(range(newest * 16, newest * 16 + len(last))), "the text ends where it ends"
    assert not {block for block in view.blocks[:16] if block // 16 == newest} - set(range(newest * 16 + len(last)))
    same = [retrieval_view(scores, IDS, [40, 41], newest, _confident(c), Random(seed)) for c in (None, 0.0)]
    assert same[0] == same[1]


def test_a_question_about_the_newest_blocks_leaves_them_in_one_piece() -> None:
    scores = torch.zeros(len(IDS))
    scores[50] = 5.0
    for seed in range(10):
        view = retrieval_view(scores, IDS, [52, 53], 3, RECENT, Random(seed))
        assert view.complete and {52, 53} <= set(view.blocks[-16:])
        assert view.blocks[-16:] == list(range(view.blocks[-16], view.blocks[-16] + 16))


def test_the_lead_is_that_of_the_best_window_that_holds_some_of_the_right_place() -> None:
    scores = torch.tensor([0.0, 5.0, 1.0, 2.0, 4.0, 0.0])
    assert lead(scores, [4], 1) == -1.0  # block 1 leads
    assert lead(scores, [2], 2) == 1.0  # the window at 1 covers 1 and 2
    assert lead(scores, [0, 1], 1) == 1.0


def test_the_hardest_questions_of_each_group_are_kept_and_some_others() -> None:
    leads = [float(number) for number in range(12)]
    groups = [number % 3 > 0 for number in range(12)]  # 8 facts, 4 passages
    kept = hardest(leads, groups, 6, 0.5, Random(0))
    assert len(set(kept)) == 6 and sum(groups[row] for row in kept) == 4
    assert {1, 2, 0} <= set(kept)  # two facts and one passage that lead least
    drawn = {row for seed in range(40) for row in hardest(leads, groups, 6, 0.5, Random(seed))}
    assert drawn == set(range(12))
    assert sorted(hardest(leads, groups, 12, 0.5, Random(0))) == list(range(12))
    assert len(hardest(leads, [True] * 12, 5, 1.0, Random(0))) == 5


def test_retrieved_blocks_of_one_chunk_are_put_in_the_order_of_their_births() -> None:
    view = BlockView([9, 4, 20, 7, 5, 21, 4], True, (2, 6))
    ordered = in_order_of_birth(view, 1, 4)
    assert ordered.blocks == [9, 4, 20, 5, 7, 21, 4]
    assert ordered.complete and view.blocks == [9, 4, 20, 7, 5, 21, 4]
