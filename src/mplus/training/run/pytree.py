"""Nested state (dicts, lists, tuples, tensors, numbers, words) as JSON and named tensors. Knows no meaning and never pickles."""

from __future__ import annotations

from typing import Any

from torch import Tensor

Tensors = dict[str, Tensor]
TENSOR, TUPLE, ITEMS = "$tensor", "$tuple", "$items"


def flatten(tree: Any, name: str, tensors: Tensors) -> Any:
    """What of `tree` is JSON; its tensors go into `tensors` under names that begin with `name`.

    Raises:
        TypeError: a value of another type.
    """
    if tree is None or isinstance(tree, (bool, int, float, str)):
        return tree
    if isinstance(tree, Tensor):
        tensors[name] = tree.detach().cpu()
        return {TENSOR: name}
    if isinstance(tree, (list, tuple)):
        parts = [flatten(value, f"{name}.{place}", tensors) for place, value in enumerate(tree)]
        return {TUPLE: parts} if isinstance(tree, tuple) else parts
    if isinstance(tree, dict):
        plain = all(isinstance(key, str) and not key.startswith("$") for key in tree)
        if plain:
            return {key: flatten(value, f"{name}.{key}", tensors) for key, value in tree.items()}
        return {ITEMS: [[flatten(key, name, {}), flatten(value, f"{name}.{key}", tensors)] for key, value in tree.items()]}
    raise TypeError(f"{name} is a {type(tree).__name__}; a state holds dicts, lists, tuples, tensors, numbers, words and None")


def restore(tree: Any, tensors: Tensors) -> Any:
    """Undo ``flatten``.

    Raises:
        KeyError: a tensor is missing.
    """
    if isinstance(tree, list):
        return [restore(value, tensors) for value in tree]
    if not isinstance(tree, dict):
        return tree
    if TENSOR in tree:
        return tensors[tree[TENSOR]]
    if TUPLE in tree:
        return tuple(restore(value, tensors) for value in tree[TUPLE])
    if ITEMS in tree:
        return {_hashable(restore(key, {})): restore(value, tensors) for key, value in tree[ITEMS]}
    return {key: restore(value, tensors) for key, value in tree.items()}


def _hashable(key: Any) -> Any:
    return tuple(_hashable(part) for part in key) if isinstance(key, (list, tuple)) else key
