"""mem0's filters."""

from __future__ import annotations

from typing import Any

import pytest

from mplus.server.errors import BadRequestError
from mplus.server.mem0.filters import check, names_an_owner, verdict

FIELDS = {"user_id": "alice", "created_at": "2026-05-03T09:00:00Z", "metadata": {"topic": "home", "page": 3, "tags": ["a", "b"]}}


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, True),
        ({"user_id": "alice"}, True),
        ({"user_id": "ben"}, False),
        ({"user_id": "*"}, True),
        ({"agent_id": "*"}, False),
        ({"user_id": {"in": ["ben", "alice"]}}, True),
        ({"user_id": {"nin": ["ben", "alice"]}}, False),
        ({"user_id": "alice", "topic": "home"}, True),
        ({"user_id": "alice", "metadata": {"topic": "home", "page": 3}}, True),
        ({"user_id": "alice", "metadata": {"topic": "work"}}, False),
        ({"page": {"gte": 3, "lt": 4}}, True),
        ({"page": {"gt": 3}}, False),
        ({"page": {"gt": "a"}}, False),
        ({"missing": {"ne": 1}}, True),
        ({"missing": {"eq": 1}}, False),
        ({"tags": {"contains": "a"}}, True),
        ({"topic": {"icontains": "HOM"}}, True),
        ({"created_at": {"gte": "2026-05-01", "lte": "2026-06-01"}}, True),
        ({"AND": [{"user_id": "alice"}, {"topic": "home"}]}, True),
        ({"AND": [{"user_id": "alice"}, {"topic": "work"}]}, False),
        ({"OR": [{"user_id": "ben"}, {"topic": "home"}]}, True),
        ({"OR": [{"user_id": "ben"}, {"topic": "work"}]}, False),
        ({"OR": []}, False),
        ({"NOT": [{"user_id": "ben"}]}, True),
        ({"NOT": [{"topic": "home"}, {"user_id": "ben"}]}, False),
        ({"NOT": {"topic": "home"}}, False),
        ({"AND": [{"OR": [{"user_id": "alice"}, {"user_id": "ben"}]}, {"NOT": [{"page": {"lt": 3}}]}]}, True),
    ],
)
def test_a_filter_holds_or_not(filters: dict[str, Any], expected: bool) -> None:
    check(filters)
    assert verdict(filters, FIELDS) is expected


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"user_id": "alice"}, True),
        ({"user_id": "ben"}, False),
        ({"user_id": "alice", "topic": "home"}, None),
        ({"user_id": "ben", "topic": "home"}, False),
        ({"OR": [{"user_id": "alice"}, {"topic": "x"}]}, True),
        ({"OR": [{"user_id": "ben"}, {"topic": "x"}]}, None),
        ({"NOT": [{"user_id": "alice"}]}, False),
        ({"NOT": [{"topic": "x"}]}, None),
    ],
)
def test_ids_alone_may_already_decide(filters: dict[str, Any], expected: bool | None) -> None:
    assert verdict(filters, {"user_id": "alice"}, is_all=False) is expected


def test_who_is_meant_may_stand_anywhere() -> None:
    assert names_an_owner({"AND": [{"topic": "x"}, {"OR": [{"run_id": "1"}]}]})
    assert not names_an_owner({"AND": [{"topic": "x"}], "metadata": {"user_id": "alice"}})


@pytest.mark.parametrize(
    "filters",
    [
        [],
        {"page": {"near": 3}},
        {"page": {"in": 3}},
        {"AND": "x"},
        {"AND": ["x"]},
        {"user_id": ["alice"]},
        {"NOT": [{"page": {"between": []}}]},
    ],
)
def test_what_is_no_filter_is_refused(filters: Any) -> None:
    with pytest.raises(BadRequestError):
        check(filters)


def test_a_filter_that_is_too_deep_is_refused() -> None:
    filters: dict[str, Any] = {"user_id": "alice"}
    for _ in range(30):
        filters = {"AND": [filters]}
    with pytest.raises(BadRequestError, match="deep"):
        check(filters)
