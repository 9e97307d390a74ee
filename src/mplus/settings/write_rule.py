"""How text becomes memory tokens, and which of them leave short-term memory. Knows no reads."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from mplus.settings.group import Group, TokensOrNone

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
