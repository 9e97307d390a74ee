"""Laws of finding: scores equal a naive loop, padding counts for nothing, what is read stands oldest first."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from mplus.evaluation.unscored import UnscoredRetriever
from mplus.retrieval.late_interaction import LateInteractionRetriever
from mplus.retrieval.per_layer import PerLayerRetriever, oldest_first, repeated_oldest_first
from mplus.retrieval.projectors import perceptron
from mplus.retrieval.protocol import WindowRetriever
from mplus.retrieval.read_plan import best_span_last, choose_blocks

WIDTH, KEYS = 6, 4


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def test_only_a_retriever_of_windows_is_asked_for_slots_and_second_rounds() -> None:
    windows, layers = LateInteractionRetriever((0, 1), WIDTH, KEYS), PerLayerRetriever(3, WIDTH, KEYS, 1)
    assert isinstance(windows, WindowRetriever)
    for other in (layers, UnscoredRetriever(windows, "recent")):
        assert not isinstance(other, WindowRetriever)


# -- per layer -----------------------------------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("depth", [1, 2])
def test_score_is_the_mean_over_prompt_tokens_of_the_sigmoid_of_the_product(depth: int) -> None:
    retriever = PerLayerRetriever(3, WIDTH, KEYS, depth)
    text, rows = random(2, 5, WIDTH), random(7, WIDTH, seed=1)
    mask = torch.tensor([[True] * 5, [False, False, True, True, True]])
    got = retriever.scores(1, text, mask, retriever.keys(1, rows))
    for prompt in range(2):
        own = [text[prompt, token] for token in range(5) if mask[prompt, token]]
        for row in range(7):
            key = retriever.key_proj[1](rows[row])
            terms = [1 / (1 + math.exp(-float(retriever.query_proj[1](token) @ key))) for token in own]
            assert float(got[prompt, row]) == pytest.approx(sum(terms) / len(own), abs=1e-6)


def test_projectors_have_no_bias_and_the_published_names() -> None:
    names = {name: tuple(value.shape) for name, value in PerLayerRetriever(1, WIDTH, KEYS).state_dict().items()}
    assert names == {
        f"{kind}_proj.0.{part}.weight": shape for kind in ("query", "key") for part, shape in ((0, (8, 6)), (2, (4, 8)))
    }
    assert set(PerLayerRetriever(1, WIDTH, KEYS, 1).state_dict()) == {"query_proj.0.weight", "key_proj.0.weight"}
    assert perceptron(WIDTH, KEYS, 1)(random(2, WIDTH)).shape == (2, KEYS)


@pytest.mark.parametrize("seed", range(10))
def test_best_are_read_oldest_first_and_of_equal_ages_the_later_row_first(seed: int) -> None:
    scores, ages = random(30, seed=seed), torch.randint(0, 6, (30,), generator=torch.Generator().manual_seed(seed))
    rows = scores.topk(12).indices.sort().values
    got = rows[oldest_first(ages[rows])].tolist()
    best = sorted(range(30), key=lambda row: -float(scores[row]))[:12]
    assert got == sorted(best, key=lambda row: (-int(ages[row]), -row))


@pytest.mark.parametrize(("stored", "count"), [(1, 5), (3, 8), (5, 8), (4, 8), (7, 8)])
def test_too_few_rows_are_repeated_the_last_ones_first_in_line(stored: int, count: int) -> None:
    ages = torch.randint(0, 3, (stored + 4,), generator=torch.Generator().manual_seed(stored))
    repeated = (list(range(stored)) * count)[: math.ceil(count / stored) * stored][-count:]
    by_age = sorted(repeated, key=lambda row: int(ages[row]))  # stable, as the published sort is taken to be
    assert repeated_oldest_first(ages, stored, count).tolist() == by_age[::-1]


# -- by vote -------------------------------------------------------------------------------------------------------


def features(tokens: int, seed: int, batch: int = 2) -> list[Tensor]:
    return [random(batch, tokens, WIDTH, seed=seed + layer) for layer in range(2)]


@torch.no_grad()
@pytest.mark.parametrize("key_width", [None, KEYS])
@pytest.mark.parametrize("block", [1, 3])
def test_block_score_is_the_weighted_sum_of_each_tokens_best_match(key_width: int | None, block: int) -> None:
    retriever = LateInteractionRetriever((1, 4), WIDTH, key_width)
    spread(retriever)
    mask = torch.tensor([[True] * 5, [False, True, True, True, True]])
    text, rows = features(5, 10), features(12, 20, batch=1)
    query, weight = retriever.queries(text, mask)
    keys = retriever.keys([part[0] for part in rows])
    got = retriever.block_scores(query, weight, keys, block)
    assert got.shape == (2, 12 // block)
    for prompt in range(2):
        for number in range(12 // block):
            total = 0.0
            for token in range(5):
                best = max(float(query[prompt, token] @ keys[row]) for row in range(number * block, (number + 1) * block))
                total += float(weight[prompt, token]) * best
            assert float(got[prompt, number]) == pytest.approx(total, abs=1e-5)


def spread(retriever: LateInteractionRetriever) -> None:
    """Random values for what starts at zero."""
    with torch.no_grad():
        for name, value in retriever.state_dict().items():
            if name in ("mean", "scale") or name.startswith("weigh"):
                value.copy_(random(*value.shape, seed=len(name)))


@torch.no_grad()
@pytest.mark.parametrize("key_width", [None, KEYS])
def test_weights_sum_to_one_and_padding_has_none(key_width: int | None) -> None:
    retriever = LateInteractionRetriever((0, 1), WIDTH, key_width)
    spread(retriever)
    mask = torch.tensor([[False, False, True, True], [True] * 4])
    _, weight = retriever.queries(features(4, 1), mask)
    torch.testing.assert_close(weight.sum(1), torch.ones(2))
    assert (weight[~mask] == 0).all()


@torch.no_grad()
def test_untrained_key_is_the_centred_state_at_unit_length() -> None:
    retriever = LateInteractionRetriever((0, 1), WIDTH)
    spread(retriever)
    parts = [random(3, WIDTH, seed=layer) for layer in range(2)]
    key = retriever.keys(parts)
    assert key.shape == (3, retriever.search_width) == (3, 2 * WIDTH)
    for layer in range(2):
        centred = parts[layer] - retriever.get_buffer("mean")[layer]
        torch.testing.assert_close(key[:, layer * WIDTH : (layer + 1) * WIDTH], centred / centred.norm(dim=1, keepdim=True))


@torch.no_grad()
def test_trained_product_is_the_sum_of_the_layers_own_products() -> None:
    retriever = LateInteractionRetriever((0, 1), WIDTH, KEYS)
    spread(retriever)
    text, row = features(1, 3, batch=1), [random(1, WIDTH, seed=9 + layer) for layer in range(2)]
    query, _ = retriever.queries(text, torch.ones(1, 1, dtype=torch.bool))
    got = float(query[0, 0] @ retriever.keys(row)[0])
    expected = 0.0
    for layer in range(2):
        gain = math.exp(float(retriever.scale[layer])) / math.sqrt(2 * KEYS)
        product = retriever.query_proj[layer](text[layer][0, 0]) @ retriever.key_proj[layer](row[layer][0])
        expected += gain * float(product)
    assert got == pytest.approx(expected, abs=1e-5)


# -- choosing blocks -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("neighbours", [0, 1, 2])
def test_blocks_are_chosen_best_first_with_their_neighbours_until_the_budget_is_full(seed: int, neighbours: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    places = torch.randperm(40, generator=generator)[:25].sort().values  # some blocks are still in short-term memory
    scores, budget = torch.randn(25, generator=generator), 7
    held = places.tolist()
    wanted: list[int] = []
    for hit in sorted(range(25), key=lambda block: -float(scores[block])):
        for step in range(neighbours + 1):
            for place in (held[hit] - step, held[hit] + step):
                if place in held and place not in wanted and len(wanted) < budget:
                    wanted.append(place)
    got = choose_blocks(scores, places, budget, neighbours)
    assert places[got].tolist() == sorted(wanted)


def test_all_blocks_are_read_when_they_fit() -> None:
    assert choose_blocks(torch.randn(5), torch.arange(5), 5, 1).tolist() == [0, 1, 2, 3, 4]
    assert choose_blocks(torch.randn(3), torch.arange(3), 5, 1).tolist() == [0, 1, 2]


def test_best_block_is_always_read() -> None:
    for seed in range(20):
        scores = random(30, seed=seed)
        assert int(scores.argmax()) in choose_blocks(scores, torch.arange(30), 1, 3).tolist()


def test_best_span_comes_last_and_keeps_the_order_of_its_text() -> None:
    places = torch.tensor([3, 4, 5, 9, 10, 20])
    scores = torch.tensor([0.1, 0.9, 0.2, 0.3, 0.4, 0.5])
    chosen = torch.arange(6)
    assert best_span_last(chosen, scores, places).tolist() == [3, 4, 5, 0, 1, 2]
    assert best_span_last(torch.tensor([0, 5]), scores, places).tolist() == [0, 5]
    assert best_span_last(torch.empty(0, dtype=torch.int64), scores, places).tolist() == []
