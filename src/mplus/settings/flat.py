"""The flat form of settings: one name each, the paper's letters for four. Keyword arguments, recipes and stored files use it (format 1).

Knows which group owns each name, and which names are retired. Contradictions that the groups cannot express are refused here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, TypedDict

from mplus.errors import GeometryError
from mplus.runtime.suggest import did_you_mean
from mplus.settings.read_rule import DEFAULT_SLOT_TOLERANCE, READ_ORDERS, SameSlot, SpanOrder
from mplus.settings.storage import RowType, SearchType
from mplus.settings.write_rule import Policy, WriteContext

SYMBOLS: Final = {"K": "new_tokens", "N": "stm_tokens", "K0": "ltm_read_tokens", "M": "ltm_capacity"}
"""The paper's letters, and the settings they stand for."""

PATHS: Final[dict[str, tuple[str, ...]]] = {
    "new_tokens": ("sizes", "new_tokens"),
    "stm_tokens": ("sizes", "stm_tokens"),
    "ltm_read_tokens": ("sizes", "ltm_read_tokens"),
    "ltm_capacity": ("sizes", "ltm_capacity"),
    "ltm_dtype": ("storage", "ltm_dtype"),
    "ltm_search_dtype": ("storage", "ltm_search_dtype"),
    "ltm": ("sizes", "ltm"),
    "chunk_tokens": ("sizes", "chunk_tokens"),
    "tokens_per_row": ("sizes", "tokens_per_row"),
    "min_write_tokens": ("sizes", "min_write_tokens"),
    "write_tap": ("write", "tap"),
    "memory_projection": ("read", "memory_projection"),
    "drop": ("write", "drop"),
    "retrieval": ("read", "retrieval", "kind"),
    "block_tokens": ("read", "block_tokens"),
    "drop_tokens": ("write", "drop_tokens"),
    "write_context": ("write", "context"),
    "read_order": ("read", "retrieval", "beside_prompt", "order"),
    "recent_tokens": ("read", "retrieval", "beside_prompt", "recency_tail"),
    "certain_score": ("read", "retrieval", "beside_prompt", "min_confidence"),
    "same_slot": ("read", "retrieval", "beside_prompt", "same_slot"),
    "slot_tolerance": ("read", "retrieval", "beside_prompt", "slot_tolerance"),
    "neighbour_blocks": ("read", "retrieval", "neighbour_blocks"),
    "search": ("read", "search"),
    "eviction": ("quirks", "eviction"),
    "merge_every_writes": ("quirks", "merge_every_writes"),
    "initial_recall_frequency": ("quirks", "initial_recall_frequency"),
    "recall_decay": ("quirks", "recall_decay"),
    "stm_ages": ("quirks", "stm_ages"),
    "small_ltm": ("quirks", "small_ltm"),
    "inv_freq_dtype": ("quirks", "inv_freq_dtype"),
}
"""Flat name to where the groups keep it."""

RETIRED: Final = {"second_look": 0, "look_weight": 4.0, "choice": "best", "exact_below": 65_536, "candidates": 0}
"""Settings of earlier versions with the one value that stored geometries and recipes may still give them."""

OF_PER_LAYER: Final = {
    "neighbour_blocks": 1,
    "read_order": "age",
    "recent_tokens": 0,
    "certain_score": None,
    "same_slot": "score",
    "slot_tolerance": DEFAULT_SLOT_TOLERANCE,
}
"""Flat names that mean nothing where each layer retrieves for itself, with what the flat form then says."""


class ContradictionError(GeometryError):
    """Settings that are right alone and cannot stand together."""


class GeometrySettings(TypedDict, total=False):
    """The flat form, for signatures that take some of it."""

    K: int
    N: int
    K0: int
    M: int
    new_tokens: int
    stm_tokens: int
    ltm_read_tokens: int
    ltm_capacity: int
    ltm_dtype: RowType
    ltm_search_dtype: SearchType
    ltm: bool
    chunk_tokens: int
    tokens_per_row: int
    min_write_tokens: int
    write_tap: Literal["input", "output"]
    memory_projection: Literal["read", "write"]
    drop: Policy
    retrieval: Policy
    block_tokens: int
    drop_tokens: int
    write_context: WriteContext
    read_order: Literal["age"] | SpanOrder
    recent_tokens: int
    certain_score: float | None
    same_slot: SameSlot
    slot_tolerance: float
    neighbour_blocks: int
    search: Literal["auto", "exact"]
    eviction: Literal["oldest", "countdown"]
    merge_every_writes: int
    initial_recall_frequency: float
    recall_decay: float
    stm_ages: Literal["since_written", "frozen"]
    small_ltm: Literal["fewer", "repeat"]
    inv_freq_dtype: Literal["float32", "bfloat16"]


def spell_out(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Flat settings with the paper's letters spelt out and retired names left out.

    Raises:
        GeometryError: a name is unknown (the nearest is named) or retired, or a setting is given by its letter and its name.
    """
    named: dict[str, Any] = {}
    for key, value in fields.items():
        name = SYMBOLS.get(key, key)
        if name in RETIRED:
            if value != RETIRED[name]:
                raise GeometryError(
                    f"geometry: {name} is no setting any more, its value is always {RETIRED[name]!r}, got {value!r:.60}"
                )
            continue
        if name not in PATHS:
            known = sorted([*PATHS, *SYMBOLS])
            raise GeometryError(
                f"geometry: unknown key {key!r:.100}; {did_you_mean(str(key), known, otherwise='known are ' + ', '.join(known))}"
            )
        if name in named:
            raise GeometryError(f"geometry: {name} is given twice, by its name and by its letter; give it once")
        named[name] = value
    return named


def grouped(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings, as the groups take them, of flat ones that were spelt out.

    Raises:
        ContradictionError: settings of one way to retrieve are given for the other.
    """
    for name, known in (("retrieval", ("per_layer", "shared")), ("read_order", READ_ORDERS)):
        if name in fields and fields[name] not in known:
            raise GeometryError(f"geometry: {name}: Input should be {_either(known)}, got {fields[name]!r:.60}")
    fields = {name: value for name, value in fields.items() if not (name in OF_PER_LAYER and value == OF_PER_LAYER[name])}
    per_layer, order = fields.get("retrieval") == "per_layer", fields.get("read_order")
    if per_layer and order:
        raise ContradictionError(f"geometry: read_order={order!r} orders whole spans, so retrieval must be 'shared'")
    for name, why in (
        ("recent_tokens", "recent_tokens stand behind what is found by score"),
        ("certain_score", "certain_score says when short-term tokens stay in their order"),
        ("same_slot", "same_slot says which retrieved span stands beside the prompt"),
        ("slot_tolerance", "slot_tolerance says which retrieved spans answer the same"),
    ):
        if name in fields and not order:
            raise ContradictionError(f"geometry: {why}, so read_order must be {_either(READ_ORDERS[1:])}")
    nested: dict[str, Any] = {}
    for name, value in fields.items():
        if per_layer and name == "neighbour_blocks":
            continue  # every token is retrieved alone there
        *groups, last = PATHS[name]
        place = nested
        for group in groups:
            place = place.setdefault(group, {"kind": fields.get("retrieval", "shared")} if group == "retrieval" else {})
        place.setdefault(last, value)
    return nested


def _either(known: tuple[str, ...]) -> str:
    return " or ".join(map(repr, known))


def flat_name(location: tuple[int | str, ...]) -> str:
    """The flat name of where a value was found wrong in nested settings."""
    last = str(location[-1]) if location else ""
    return next((name for name, path in PATHS.items() if path[-1] == last), last)
