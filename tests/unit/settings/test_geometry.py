"""Laws of sizes: what contradicts itself is refused in one sentence that names the field."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from mplus import Geometry, MPlusModel
from mplus.errors import GeometryError
from mplus.settings import PATHS, RETIRED, SYMBOLS, GeometrySettings
from tests.tiny import tiny_decoder, tiny_geometry


def test_default_sizes_are_consistent() -> None:
    assert Geometry() == Geometry()


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"ltm_capacity": 4}, "ltm_capacity"),
        ({"min_write_tokens": 9}, "min_write_tokens"),
        ({"stm_tokens": 7}, "stm_tokens"),
        ({"stm_tokens": 11}, "stm_tokens"),
        ({"drop": "per_layer"}, "drop"),
        ({"ltm_read_tokens": 7}, "ltm_read_tokens"),
        ({"stm_ages": "frozen"}, "stm_ages"),
        ({"new_tokens": 0}, "new_tokens"),
        ({"write_tap": "both"}, "write_tap"),
        ({"colour": "red"}, "colour"),
        ({"stm_tokens": "many"}, "stm_tokens"),
    ],
)
def test_contradiction_is_one_sentence_that_names_the_field(changed: dict[str, Any], told: str) -> None:
    with pytest.raises(GeometryError, match=told) as caught:
        tiny_geometry(**changed)
    assert "\n" not in str(caught.value)


def test_a_setting_of_earlier_versions_opens_with_the_one_value_it_has_left() -> None:
    assert tiny_geometry(**RETIRED) == tiny_geometry()
    for name, value in RETIRED.items():
        with pytest.raises(GeometryError, match=f"{name} is no setting any more, its value is always {value!r}, got") as caught:
            tiny_geometry(**{name: "another"})
        assert "\n" not in str(caught.value)


def test_changing_a_field_validates_again() -> None:
    assert tiny_geometry().changed(stm_tokens=32).sizes.stm_tokens == 32
    with pytest.raises(GeometryError, match="stm_tokens"):
        tiny_geometry().changed(stm_tokens=3)


def test_sizes_cannot_be_changed_in_place() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        tiny_geometry().sizes.stm_tokens = 3  # type: ignore[misc]


def test_memory_that_does_not_fit_the_models_positions_is_refused() -> None:
    with pytest.raises(GeometryError, match="32"):
        MPlusModel.from_base(tiny_decoder(positions=32), geometry=tiny_geometry())
    MPlusModel.from_base(tiny_decoder(positions=33), geometry=tiny_geometry())


def test_letters_of_the_paper_are_names() -> None:
    geometry = Geometry(N=768, K=64, K0=128, M=5000)
    assert (
        geometry.sizes.stm_tokens,
        geometry.sizes.new_tokens,
        geometry.sizes.ltm_read_tokens,
        geometry.sizes.ltm_capacity,
    ) == (768, 64, 128, 5000)
    assert geometry.changed(N=512).sizes.stm_tokens == 512


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"stm_tokens": 10}, "exceeds stm_tokens"),
        ({"N": 512, "stm_tokens": 512}, "given twice"),
        ({"k0": 3}, "did you mean 'K0'"),
        ({"stm_tokns": 3}, "did you mean 'stm_tokens'"),
        ({"N": float("nan")}, "finite"),
        ({"M": 10**30}, "ltm_capacity"),
    ],
)
def test_a_setting_that_cannot_be_is_one_sentence(fields: dict[str, Any], expected: str) -> None:
    with pytest.raises(GeometryError, match=expected):
        Geometry(**fields)


def test_type_checkers_know_every_setting() -> None:
    assert set(GeometrySettings.__annotations__) == {*PATHS, *SYMBOLS}


def test_the_package_lists_what_it_offers() -> None:
    import mplus

    assert set(mplus.__all__) <= set(dir(mplus))
    assert all(getattr(mplus, name) is not None for name in mplus.__all__)


def test_another_tap_brings_the_context_it_is_used_with() -> None:
    published = Geometry().changed(write_tap="output")
    assert (published.write.context, published.changed(write_tap="input").write.context) == ("memory", "source")
    assert Geometry(write_context="memory").changed(write_tap="input").write.context == "memory"
    with pytest.raises(GeometryError, match="write_context='source' needs write_tap='input'"):
        Geometry().changed(write_tap="output", write_context="source")
