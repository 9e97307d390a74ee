"""How text becomes memory tokens, and which of them leave short-term memory. Knows no reads."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from mplus.settings.group import Group, TokensOrNone

WriteContext = Literal["source", "memory"]
"""Memory tokens that a chunk sees: the newest of its own source, or the newest of the whole memory (published)."""
Policy = Literal["per_layer", "shared"]
"""Scope of a decision: each layer for itself (published), or one for all layers."""


class WriteRule(Group):
    """Rule of writes and drops. Models adapted here: ``input`` and ``shared``; published ones: ``output`` and mostly ``per_layer``."""

    tap: Annotated[Literal["input", "output"], Field(description="which hidden states of a layer become its memory tokens")] = (
        "input"
    )
    drop: Annotated[Policy, Field(description="whether random drops are the same in all layers")] = "shared"
    drop_tokens: Annotated[
        TokensOrNone,
        Field(
            description="neighbours that leave short-term memory together; 0: four blocks where N has room for that, else one",
        ),
    ] = 0
    context: Annotated[
        WriteContext,
        Field(
            description="memory tokens that a chunk sees: the newest K of its own `source`, so that rows of one source never depend on "
            "another and forgetting is exact, or of the whole `memory` (the default with the output tap)"
        ),
    ] = "source"

    @model_validator(mode="before")
    @classmethod
    def _published(cls, fields: Any) -> Any:
        """Give the output tap the context of the published models, whose short chunks are filled up with whatever was written last."""
        if isinstance(fields, dict) and fields.get("tap") == "output":
            return {"context": "memory", **fields}
        return fields

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.tap == "output" and self.context == "source":
            raise ValueError(
                "write_context='source' needs write_tap='input': with the output tap a short chunk is filled up with the newest tokens of "
                "the whole memory"
            )
        return self
