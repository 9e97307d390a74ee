"""Outputs of tiny models are those recorded before the redesign (`python -m tests.goldens compare` has the real model's)."""

from __future__ import annotations

import json

import pytest

from tests.goldens import fast
from tests.goldens.__main__ import SECTIONS, recorded
from tests.goldens.differences import differences


def test_tiny_models_give_the_recorded_outputs() -> None:
    computed = json.loads(json.dumps(fast.outputs()))
    assert not list(differences(recorded("fast"), computed, SECTIONS["fast"][1]))


@pytest.mark.parametrize(
    ("first", "second"), [({"a": [1.0, 2]}, {"a": [1.1, 2]}), ({"a": 1}, {"b": 1}), ([1, 2], [1]), ("Porto", "Tromso"), (3, 4)]
)
def test_what_differs_is_named(first: object, second: object) -> None:
    assert list(differences(first, second, 1e-5))
    assert not list(differences(first, first, 0.0))
