"""The base of all groups of settings: frozen, checked once. Knows no setting."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

MOST_TOKENS: Final = 2**40
"""More than any machine holds; keeps a number that is typed within what arithmetic on it can take."""

Tokens = Annotated[int, Field(ge=1, le=MOST_TOKENS)]
TokensOrNone = Annotated[int, Field(ge=0, le=MOST_TOKENS)]
"""A number of tokens that may be 0."""


class Group(BaseModel):
    """Settings with one owner."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
