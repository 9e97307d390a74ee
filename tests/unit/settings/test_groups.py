"""Laws of the groups: each setting has one owner, the flat form says the same, what a group cannot express need not be refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import mplus
from mplus import Geometry
from mplus.errors import GeometryError
from mplus.settings import PATHS, BesidePrompt, PerLayerRetrieval, PublishedQuirks, ReadRule, SharedRetrieval, Sizes, WriteRule

FLAT: list[dict[str, Any]] = [
    {},
    {"N": 512, "K0": 256, "read_order": "score", "recent_tokens": 256, "certain_score": 26.0},
    {"drop": "per_layer", "retrieval": "per_layer", "block_tokens": 1, "write_tap": "output", "stm_ages": "frozen"},
    {"eviction": "countdown", "retrieval": "per_layer", "small_ltm": "repeat", "ltm_dtype": "bfloat16"},
]


@pytest.mark.parametrize("fields", FLAT)
def test_the_flat_form_says_all(fields: dict[str, Any]) -> None:
    geometry = Geometry(**fields)
    assert Geometry(**geometry.flat()) == geometry
    assert Geometry(**json.loads(json.dumps(geometry.flat()))) == geometry
    assert list(geometry.flat()) == list(PATHS)


def test_groups_and_flat_names_are_one_thing() -> None:
    layout = BesidePrompt(recency_tail=256, min_confidence=26.0)
    grouped = Geometry(
        sizes=Sizes(stm_tokens=512, ltm_read_tokens=256), read=ReadRule(retrieval=SharedRetrieval(beside_prompt=layout))
    )
    assert grouped == Geometry(**FLAT[1])
    published = Geometry(
        write=WriteRule(tap="output", drop="per_layer"),
        read=ReadRule(retrieval=PerLayerRetrieval(), block_tokens=1),
        quirks=PublishedQuirks(stm_ages="frozen"),
    )
    assert published == Geometry(**FLAT[2])
    assert grouped.changed(sizes=Sizes()).sizes == Sizes() and grouped.changed(sizes=Sizes()).read == grouped.read


def test_a_setting_given_by_group_and_by_name_is_refused() -> None:
    with pytest.raises(GeometryError, match="sizes is given as a group and by flat names"):
        Geometry(sizes=Sizes(), N=512)


def test_every_setting_has_one_owner() -> None:
    assert len(set(PATHS.values())) == len(PATHS)
    groups = [(name, Geometry.model_fields[name].annotation) for name in Geometry.model_fields]
    owned = {(name, field) for name, group in groups for field in getattr(group, "model_fields", {})}
    assert {path[:2] for path in PATHS.values()} == owned


def test_settings_of_the_shipped_model_open() -> None:
    stored = json.loads((Path(mplus.__file__).parent / "assets" / "smollm2-135m" / "mplus.json").read_text(encoding="utf-8"))
    geometry = Geometry(**stored["geometry"])
    assert geometry.read.beside_prompt == BesidePrompt(recency_tail=256, min_confidence=26.0)
    assert geometry.flat().items() >= {"stm_tokens": 512, "ltm_read_tokens": 256, "read_order": "score"}.items()
