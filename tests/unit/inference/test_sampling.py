"""Laws of the choice of a token."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mplus.errors import InputError
from mplus.inference.sampling import Sampler, Sampling, end_tokens

LOGITS = torch.tensor([0.0, 3.0, 2.9, -1.0])
CPU = torch.device("cpu")


def tokens(sampling: Sampling, count: int = 200) -> list[int]:
    sampler = Sampler(sampling, CPU)
    return [sampler.choose(LOGITS) for _ in range(count)]


def test_temperature_zero_takes_the_likeliest_and_temperature_one_follows_the_chances() -> None:
    assert set(tokens(Sampling())) == {1}
    drawn = tokens(Sampling(temperature=1.0, seed=1), 4000)
    expected = LOGITS.softmax(-1)
    for token in range(4):
        assert abs(drawn.count(token) / 4000 - float(expected[token])) < 0.03


def test_top_k_and_top_p_leave_the_rest_out() -> None:
    assert set(tokens(Sampling(temperature=1.0, top_k=2, seed=1))) == {1, 2}
    assert set(tokens(Sampling(temperature=1.0, top_p=0.4, seed=1))) == {1}


def test_penalties_make_a_token_rarer_each_time_and_once() -> None:
    assert tokens(Sampling(frequency_penalty=0.08), 4) == [1, 1, 2, 1]
    assert tokens(Sampling(presence_penalty=0.2), 4) == [1, 2, 1, 1]


def test_a_seed_is_the_same_choice_again() -> None:
    assert tokens(Sampling(temperature=1.0, seed=5)) == tokens(Sampling(temperature=1.0, seed=5))
    assert tokens(Sampling(temperature=1.0, seed=5)) != tokens(Sampling(temperature=1.0, seed=6))
    assert tokens(Sampling(temperature=1.0, seed=-3), 3)
    assert tokens(Sampling(temperature=1.0)) != tokens(Sampling(temperature=1.0))


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": -0.1},
        {"temperature": float("nan")},
        {"top_p": 0.0},
        {"top_k": 0},
        {"max_tokens": 0},
        {"stop": ("",)},
        {"frequency_penalty": 3.0},
        {"seed": 2**63},
    ],
)
def test_a_value_out_of_range_is_named(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="stop" if "stop" in wrong else next(iter(wrong))):
        Sampling(**wrong)


def test_no_token_is_chosen_where_the_model_gave_no_numbers() -> None:
    with pytest.raises(FloatingPointError, match="no numbers"):
        Sampler(Sampling(), CPU).choose(torch.tensor([float("nan"), 1.0]))


def test_end_tokens_are_one_several_or_none() -> None:
    kind = type("Config", (), {})
    for given, expected in ((None, set()), (2, {2}), ([2, 3], {2, 3})):
        config = kind()
        config.eos_token_id = given
        assert end_tokens(config) == expected
