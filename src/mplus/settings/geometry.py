"""All settings of a memory: five groups, each with one owner. Knows no tensors and no models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from pydantic import ValidationError, model_validator

from mplus.errors import GeometryError
from mplus.settings.flat import OF_PER_LAYER, PATHS, ContradictionError, flat_name, grouped, spell_out
from mplus.settings.group import Group
from mplus.settings.quirks import PublishedQuirks
from mplus.settings.read_rule import ReadRule
from mplus.settings.sizes import Sizes
from mplus.settings.storage import Storage
from mplus.settings.write_rule import WriteRule


class Geometry(Group):
    """How large a model's memory is and by which rules it lives.

    Groups or flat names, or both: ``Geometry(sizes=Sizes(stm_tokens=2048))`` and ``Geometry(N=2048)`` are equal.

    Published models use ``write_tap="output"``, ``drop="per_layer"``, ``retrieval="per_layer"``,
    ``memory_projection="read"``; models adapted here use ``input``, ``shared``, ``shared``, ``write``.

    Raises:
        GeometryError: a setting is unknown, out of range or contradicts another.
    """

    sizes: Sizes = Sizes()
    write: WriteRule = WriteRule()
    read: ReadRule = ReadRule()
    storage: Storage = Storage()
    quirks: PublishedQuirks = PublishedQuirks()

    def __init__(self, **fields: Any) -> None:
        groups = {name: value for name, value in fields.items() if name in type(self).model_fields}
        nested = grouped(spell_out({name: value for name, value in fields.items() if name not in groups}))
        twice = groups.keys() & nested.keys()
        if twice:
            raise GeometryError(f"geometry: {min(twice)} is given as a group and by flat names of its settings; give one")
        try:
            super().__init__(**groups, **nested)
        except ValidationError as error:
            raise GeometryError(_sentence(error)) from error

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        sizes, block = self.sizes, self.read.block_tokens
        if self.write.drop_tokens % block:
            raise ValueError(f"drop_tokens ({self.write.drop_tokens}) must be a multiple of block_tokens ({block})")
        least = sizes.new_tokens + 2 * self.drop_span
        if self.write.drop == "shared" and self.drop_span > 1 and sizes.stm_tokens < least:
            raise ValueError(
                f"stm_tokens (N, {sizes.stm_tokens}) must be at least new_tokens (K) + 2 drop_tokens = {least}, so that whole spans "
                "can always make room for a write"
            )
        if self.read.is_shared and self.write.drop != "shared":
            raise ValueError("retrieval='shared' reads one token in all layers, so drop must be 'shared' too")
        if self.read.is_shared and sizes.ltm_read_tokens % block:
            raise ValueError(f"ltm_read_tokens (K0, {sizes.ltm_read_tokens}) must be a multiple of block_tokens ({block})")
        if self.read.is_shared and self.quirks.stm_ages != "since_written":
            raise ValueError("retrieval='shared' knows neighbours by when they were written, so stm_ages must be 'since_written'")
        return self

    @model_validator(mode="after")
    def _pools_what_a_pass_computes(self) -> Self:
        """Pooled rows are means of the keys and values of a write pass, in spans that all layers share."""
        if self.sizes.tokens_per_row == 1:
            return self
        for name, needed, why in (
            ("write_tap", "input", "with the output tap a memory token stands for its whole chunk"),
            ("memory_projection", "write", "a mean is taken of the keys and values that the write pass computes"),
            ("retrieval", "shared", "each layer by itself scores memory tokens, not text tokens"),
        ):
            got = self._of(name)
            if got != needed:
                raise ValueError(f"tokens_per_row is {self.sizes.tokens_per_row} and {name} {got!r}, expected {needed!r}: {why}")
        return self

    @property
    def drop_span(self) -> int:
        """Neighbouring tokens that leave short-term memory together when drops are shared."""
        block = self.read.block_tokens
        if self.write.drop_tokens or block == 1:
            return self.write.drop_tokens or 1
        return (4 if self.sizes.stm_tokens >= self.sizes.new_tokens + 8 * block else 1) * block

    def flat(self) -> dict[str, Any]:
        """The flat form, every setting by its one name: what is stored."""
        return {name: self._of(name) for name in PATHS}

    def changed(self, **fields: Any) -> Geometry:
        """These settings with some replaced, by flat names or whole groups; checked again.

        With another tap comes the context it is used with, with other tokens_per_row (or chunk_tokens, where rows are pooled) the K.

        Raises:
            GeometryError: a setting is unknown, out of range or contradicts another.
        """
        groups = {name: value for name, value in fields.items() if name in type(self).model_fields}
        flat = spell_out({name: value for name, value in fields.items() if name not in groups})
        replaced = {name: value for name, value in self.flat().items() if PATHS[name][0] not in groups}
        if flat.get("write_tap", self.write.tap) != self.write.tap:
            replaced.pop("write_context", None)
        if "sizes" not in groups and flat.keys() & {"tokens_per_row", "chunk_tokens"} and "new_tokens" not in flat:
            replaced.update(self._rows_of_a_chunk(flat))
        return Geometry(**{**replaced, **flat}, **groups)

    def _rows_of_a_chunk(self, flat: Mapping[str, Any]) -> dict[str, Any]:
        """The K that goes with a changed chunk or pooling, where one is pooled."""
        tokens, chunk = flat.get("tokens_per_row", self.sizes.tokens_per_row), flat.get("chunk_tokens", self.sizes.chunk_tokens)
        is_pooled = tokens != 1 or self.sizes.tokens_per_row > 1
        if not is_pooled or not isinstance(tokens, int) or not isinstance(chunk, int) or not 1 <= tokens <= chunk:
            return {}
        return {"new_tokens": chunk // tokens}

    def _of(self, name: str) -> Any:
        """A setting by its flat name."""
        place: Any = self
        for part in PATHS[name]:
            if not hasattr(place, part) or place is None:
                return OF_PER_LAYER[name]
            place = getattr(place, part)
        return place


def check_each(fields: Mapping[str, Any]) -> None:
    """Check each setting by itself, where the others are not known yet.

    Raises:
        GeometryError: one is unknown, or out of its own range.
    """
    for name, value in spell_out(fields).items():
        try:
            Geometry(**{name: value})
        except ContradictionError:
            continue
        except GeometryError as error:
            cause = error.__cause__
            if not isinstance(cause, ValidationError) or cause.errors()[0]["type"] != "value_error":
                raise


def _sentence(error: ValidationError) -> str:
    first = error.errors()[0]
    what = first["msg"].removeprefix("Value error, ")
    of_one = first["type"] != "value_error"
    name = flat_name(first["loc"]) if of_one else ""
    got = f", got {first['input']!r:.60}" if of_one else ""
    return ": ".join(filter(None, ["geometry", name, what])) + got
