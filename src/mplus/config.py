"""Sizes and policies of a memory, validated once. Knows nothing of tensors or models.

The paper's symbols, taken as names of settings everywhere: K new memory tokens per write, N short-term
tokens, K0 long-term tokens read per prompt, M long-term capacity per layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, Self, TypedDict, Unpack

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mplus.errors import GeometryError
from mplus.runtime.suggest import did_you_mean

MemoryFormat = Literal["kv", "hidden"]
Policy = Literal["per_layer", "shared"]
RowType = Literal["model", "bfloat16", "float16", "int8"]
SearchType = Literal["model", "bfloat16", "int8"]

SYMBOLS: Final = {"K": "new_tokens", "N": "stm_tokens", "K0": "ltm_read_tokens", "M": "ltm_capacity"}
"""The paper's letters, and the settings they stand for."""

RETIRED: Final = {"second_look": 0, "look_weight": 4.0, "exact_below": 65_536, "candidates": 0}
"""Settings of earlier versions with the one value that stored geometries and recipes may still give them."""

_MOST_TOKENS = 2**40
"""More than any machine holds; keeps a number that is typed within what arithmetic on it can take."""


class GeometrySettings(TypedDict, total=False):
    """The settings of ``Geometry`` by name, for signatures that take some of them; the paper's letters stand for four."""

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
    min_write_tokens: int
    write_tap: Literal["input", "output"]
    memory_projection: Literal["read", "write"]
    drop: Policy
    retrieval: Policy
    block_tokens: int
    drop_tokens: int
    read_order: Literal["age", "score"]
    recent_tokens: int
    certain_score: float | None
    neighbour_blocks: int
    choice: Literal["best", "recent", "random"]
    search: Literal["auto", "exact"]
    eviction: Literal["oldest", "countdown"]
    merge_every_writes: int
    initial_recall_frequency: float
    recall_decay: float
    stm_ages: Literal["since_written", "frozen"]
    small_ltm: Literal["fewer", "repeat"]
    inv_freq_dtype: Literal["float32", "bfloat16"]


class Geometry(BaseModel):
    """How large a model's memory is and by which rules it lives.

    Published models use ``write_tap="output"``, ``drop="per_layer"``, ``retrieval="per_layer"``,
    ``memory_projection="read"``; models adapted here use ``input``, ``shared``, ``shared``, ``write``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    new_tokens: int = Field(256, ge=1, le=_MOST_TOKENS, description="K: memory tokens one write adds at most")
    stm_tokens: int = Field(1024, ge=1, le=_MOST_TOKENS, description="N: short-term tokens")
    ltm_read_tokens: int = Field(512, ge=0, le=_MOST_TOKENS, description="K0: long-term tokens read per prompt")
    ltm_capacity: int = Field(1_000_000, ge=0, le=_MOST_TOKENS, description="M: long-term tokens kept per layer")
    ltm_dtype: RowType = Field(
        "model",
        description="number type in which long-term rows are kept; `int8` has a scale per token, field and layer, and needs "
        "memory format `kv`",
    )
    ltm_search_dtype: SearchType = Field(
        "model", description="number type in which long-term search keys are kept; `int8` has a scale per key"
    )
    ltm: bool = Field(True, description="False is MemoryLLM: what leaves short-term memory is gone")
    chunk_tokens: int = Field(256, ge=1, le=_MOST_TOKENS, description="text tokens of one write at most")
    min_write_tokens: int = Field(16, ge=1, le=_MOST_TOKENS, description="shorter text waits in `pending`")

    write_tap: Literal["input", "output"] = "input"
    memory_projection: Literal["read", "write"] = Field(
        "write", description="which adapter projects memory rows to K and V when they are read"
    )
    drop: Policy = "shared"
    retrieval: Policy = "shared"
    block_tokens: int = Field(16, ge=1, le=_MOST_TOKENS, description="neighbours that are found together")
    drop_tokens: int = Field(
        0,
        ge=0,
        le=_MOST_TOKENS,
        description="neighbours that leave short-term memory together; 0: four blocks where N has room for that, else one",
    )
    read_order: Literal["age", "score"] = Field(
        "age",
        description="`age`: LTM oldest first, then STM (paper); `score`: STM, then the found spans, the best last",
    )
    recent_tokens: int = Field(
        0,
        ge=0,
        le=_MOST_TOKENS,
        description="read_order `score`: where the best find is among about so many newest tokens, these stay whole beside the prompt",
    )
    certain_score: float | None = Field(
        None,
        description="read_order `score`: where no window's vote reaches this, no short-term token is moved; what is found in LTM "
        "stands before them; null: always certain",
    )
    neighbour_blocks: int = Field(1, ge=0, le=_MOST_TOKENS, description="blocks read on each side of a found block")
    choice: Literal["best", "recent", "random"] = Field(
        "best",
        description="which K0 long-term tokens a prompt reads: `best` (M+) by score; for comparison `recent`, those written last, "
        "or `random` ones",
    )

    search: Literal["auto", "exact"] = Field(
        "auto",
        description="`auto`: where a layer holds 65,536 long-term tokens or more, a first-stage index chooses candidates and exact "
        "scores decide among them; `exact`: every long-term token is scored (published models)",
    )

    eviction: Literal["oldest", "countdown"] = "oldest"
    merge_every_writes: int = Field(1, ge=1, le=_MOST_TOKENS, description="countdown: writes between two merges")
    initial_recall_frequency: float = Field(10.0, description="countdown: what a merged row starts with")
    recall_decay: float = Field(1.0, description="countdown: what each merge takes from every row")

    stm_ages: Literal["since_written", "frozen"] = Field(
        "since_written", description="`frozen` is the published quirk: short-term rows do not age"
    )
    small_ltm: Literal["fewer", "repeat"] = Field(
        "fewer", description="`repeat` is the published rule when fewer than K0 rows exist"
    )
    inv_freq_dtype: Literal["float32", "bfloat16"] = Field(
        "float32", description="`bfloat16` is how the published 8B model was run"
    )

    def __init__(self, **fields: Unpack[GeometrySettings]) -> None:
        try:
            super().__init__(**spelt_out(fields))
        except ValidationError as error:
            raise GeometryError(_sentence(error)) from error

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.ltm and 0 < self.ltm_capacity < self.ltm_read_tokens:
            raise ValueError(
                f"ltm_capacity (M) is {self.ltm_capacity}, smaller than ltm_read_tokens (K0) {self.ltm_read_tokens}; "
                "raise M or lower K0"
            )
        if self.min_write_tokens > self.chunk_tokens:
            raise ValueError(
                f"min_write_tokens ({self.min_write_tokens}) exceeds chunk_tokens ({self.chunk_tokens}); nothing could ever be written"
            )
        if self.new_tokens > self.stm_tokens:
            raise ValueError(f"new_tokens (K, {self.new_tokens}) exceeds stm_tokens (N, {self.stm_tokens}); raise N or lower K")
        if self.drop_tokens % self.block_tokens:
            raise ValueError(f"drop_tokens ({self.drop_tokens}) must be a multiple of block_tokens ({self.block_tokens})")
        if self.drop == "shared" and self.drop_span > 1 and self.stm_tokens < self.new_tokens + 2 * self.drop_span:
            raise ValueError(
                f"stm_tokens (N, {self.stm_tokens}) must be at least new_tokens (K) + 2 drop_tokens = "
                f"{self.new_tokens + 2 * self.drop_span}, so that whole spans can always make room for a write"
            )
        if self.retrieval == "shared" and self.drop != "shared":
            raise ValueError("retrieval='shared' reads one token in all layers, so drop must be 'shared' too")
        if self.retrieval == "per_layer" and self.read_order != "age":
            raise ValueError("read_order='score' orders whole spans, so retrieval must be 'shared'")
        if self.recent_tokens and self.read_order != "score":
            raise ValueError("recent_tokens stand behind what is found by score, so read_order must be 'score'")
        if self.certain_score is not None and self.read_order != "score":
            raise ValueError("certain_score says when short-term tokens stay in their order, so read_order must be 'score'")
        if self.retrieval == "shared" and self.ltm_read_tokens % self.block_tokens:
            raise ValueError(
                f"ltm_read_tokens (K0, {self.ltm_read_tokens}) must be a multiple of block_tokens ({self.block_tokens})"
            )
        if self.retrieval == "shared" and self.stm_ages != "since_written":
            raise ValueError("retrieval='shared' knows neighbours by when they were written, so stm_ages must be 'since_written'")
        return self

    def kept_positions(self, text_tokens: int) -> list[int]:
        """Positions of a chunk whose layer inputs become memory tokens with the input tap, ascending.

        With K >= chunk_tokens every token is kept (1:1). Else the last one of each group of chunk_tokens / K neighbours is, so
        that rows spread over the chunk and each has seen its whole group; a chunk of T tokens gives ceil(T * K / chunk_tokens)
        rows, the last of them at its last token.
        """
        if self.new_tokens >= self.chunk_tokens:
            return list(range(text_tokens))
        count = -(-text_tokens * self.new_tokens // self.chunk_tokens)
        return [min((row + 1) * self.chunk_tokens // self.new_tokens, text_tokens) - 1 for row in range(count)]

    @property
    def drop_span(self) -> int:
        """Neighbouring tokens that leave short-term memory together when drops are shared."""
        if self.drop_tokens or self.block_tokens == 1:
            return self.drop_tokens or 1
        return (4 if self.stm_tokens >= self.new_tokens + 8 * self.block_tokens else 1) * self.block_tokens

    @property
    def reads_ltm(self) -> bool:
        """Whether a read looks into long-term memory at all."""
        return self.ltm and self.ltm_read_tokens > 0

    def changed(self, **fields: Unpack[GeometrySettings]) -> Geometry:
        """This geometry with some fields replaced, validated again.

        Raises:
            GeometryError: a field is unknown, out of range or contradicts another.
        """
        return make_geometry(**{**self.model_dump(), **spelt_out(fields)})


def make_geometry(**fields: Any) -> Geometry:
    """A ``Geometry`` of settings from a file; a bad field raises ``GeometryError`` in one sentence."""
    return Geometry(**fields)


def check_each(fields: Mapping[str, Any]) -> None:
    """Check each setting by itself, where the others are not known yet.

    Raises:
        GeometryError: one is unknown, or out of its own range.
    """
    try:
        Geometry(**fields)
    except GeometryError as error:
        cause = error.__cause__
        if not isinstance(cause, ValidationError) or cause.errors()[0]["loc"]:
            raise


def spelt_out(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with the paper's letters spelt out.

    Raises:
        GeometryError: a name is unknown (the nearest is named), or a setting is given by its letter and its name.
    """
    found: dict[str, Any] = {}
    for given, value in fields.items():
        name = SYMBOLS.get(given, given)
        if name in RETIRED:
            if value != RETIRED[name]:
                raise GeometryError(
                    f"geometry: {name} is no setting any more, its value is always {RETIRED[name]}, got {value!r:.60}"
                )
            continue
        if name not in Geometry.model_fields:
            raise GeometryError(f"geometry: unknown key {given!r:.100}; {_nearest(str(given))}")
        if name in found:
            raise GeometryError(f"geometry: {name} is given twice, by its name and by its letter; give it once")
        found[name] = value
    return found


def _nearest(name: str) -> str:
    known = [*Geometry.model_fields, *SYMBOLS]
    return did_you_mean(name, known, otherwise=f"known are {', '.join(sorted(known))}")


def _sentence(error: ValidationError) -> str:
    first = error.errors()[0]
    what = first["msg"].removeprefix("Value error, ")
    got = f", got {first['input']!r:.60}" if first["loc"] else ""
    return ": ".join(filter(None, ["geometry", ".".join(map(str, first["loc"])), what])) + got
