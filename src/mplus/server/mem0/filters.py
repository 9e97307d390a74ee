"""mem0's filters: fields, operators, AND, OR and NOT, asked of one memory's fields. Knows no engine.

A filter may also be asked of what is known before a memory is opened, its ids: then the answer is True, False, or None where it depends on
more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mplus.server.errors import BadRequestError
from mplus.server.mem0.owners import FIELDS

ANY = "*"
OWN = ("id", "created_at", "updated_at", "role")
"""Fields that are not metadata."""
DEEPEST = 16
Verdict = bool | None
Fields = Mapping[str, Any]

_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "eq": lambda held, given: bool(held == given),
    "ne": lambda held, given: bool(held != given),
    "in": lambda held, given: held in given,
    "nin": lambda held, given: held not in given,
    "gt": lambda held, given: bool(held > given),
    "gte": lambda held, given: bool(held >= given),
    "lt": lambda held, given: bool(held < given),
    "lte": lambda held, given: bool(held <= given),
    "contains": lambda held, given: given in held,
    "icontains": lambda held, given: str(given).casefold() in str(held).casefold(),
}


def check(filters: Any, *, depth: int = 0) -> None:
    """Refuse what is no filter.

    Raises:
        BadRequestError: says where.
    """
    if not isinstance(filters, Mapping) or depth > DEEPEST:
        raise BadRequestError(f"filters must be an object with fields, AND, OR and NOT, at most {DEEPEST} deep", param="filters")
    for name, condition in filters.items():
        if name in ("AND", "OR", "NOT"):
            for part in _parts(name, condition):
                check(part, depth=depth + 1)
        elif isinstance(condition, Mapping) and name != "metadata":
            for operator, given in condition.items():
                _check_operator(name, operator, given)
        elif isinstance(condition, list) and name in FIELDS:
            raise BadRequestError(f'filter {name} is a list; write {{"in": [...]}}', param="filters")


def names_an_owner(filters: Fields) -> bool:
    """Whether an id stands anywhere in a filter."""
    return any(
        name in FIELDS or (name in ("AND", "OR", "NOT") and any(names_an_owner(part) for part in _parts(name, condition)))
        for name, condition in filters.items()
    )


def verdict(filters: Fields, fields: Fields, *, is_all: bool = True) -> Verdict:
    """Whether a filter holds.

    Args:
        fields: of a memory, its metadata under "metadata".
        is_all: these are all its fields; else those that are missing are not known yet.
    """
    return _all(_one(name, condition, fields, is_all) for name, condition in filters.items())


def _one(name: str, condition: Any, fields: Fields, is_all: bool) -> Verdict:
    if name in ("AND", "OR", "NOT"):
        found = [verdict(part, fields, is_all=is_all) for part in _parts(name, condition)]
        if name == "AND":
            return _all(found)
        return _not(_all(_not(one) for one in found)) if name == "OR" else _not(_any(found))
    if not is_all and name not in FIELDS:
        return None
    if name == "metadata" and isinstance(condition, Mapping):
        held = fields.get("metadata") or {}
        return all(_holds(held.get(key), value) for key, value in condition.items())
    held = fields.get(name) if name in FIELDS or name in OWN else (fields.get("metadata") or {}).get(name)
    return _holds(held, condition)


def _holds(held: Any, condition: Any) -> bool:
    if condition == ANY:
        return held is not None
    if isinstance(condition, Mapping) and set(condition) <= set(_OPERATORS) and condition:
        return all(_compare(operator, held, given) for operator, given in condition.items())
    return bool(held == condition)


def _compare(operator: str, held: Any, given: Any) -> bool:
    if held is None:
        return operator in ("ne", "nin")
    try:
        return _OPERATORS[operator](held, given)
    except TypeError:  # a number against a word
        return False


def _check_operator(name: str, operator: str, given: Any) -> None:
    if operator not in _OPERATORS:
        raise BadRequestError(
            f"filter {name:.40} has the operator {operator!r:.40}; there are {', '.join(_OPERATORS)}", param="filters"
        )
    if operator in ("in", "nin") and not isinstance(given, list):
        raise BadRequestError(f"filter {name:.40} needs a list for {operator!r}", param="filters")


def _parts(name: str, condition: Any) -> Sequence[Fields]:
    parts = [condition] if isinstance(condition, Mapping) else condition
    if not isinstance(parts, list) or not all(isinstance(part, Mapping) for part in parts):
        raise BadRequestError(f"{name} in filters must be a list of objects", param="filters")
    return parts


def _all(verdicts: Any) -> Verdict:
    found = list(verdicts)
    return False if False in found else None if None in found else True


def _any(verdicts: Any) -> Verdict:
    return _not(_all(_not(one) for one in verdicts))


def _not(one: Verdict) -> Verdict:
    return None if one is None else not one
