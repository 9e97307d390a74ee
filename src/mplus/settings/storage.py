"""Number types in which long-term memory is kept. Knows neither tensors nor where they lie."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from mplus.settings.group import Group

MemoryFormat = Literal["kv", "hidden"]
"""Stored form of a memory token in each layer: keys and values, or the hidden state (paper)."""
RowType = Literal["model", "bfloat16", "float16", "int8"]
SearchType = Literal["model", "bfloat16", "int8"]


class Storage(Group):
    """Number types of stored rows and search keys; ``model`` is that of the weights."""

    ltm_dtype: Annotated[
        RowType,
        Field(
            description="number type in which long-term rows are kept; `int8` has a scale per token, field and layer, and needs "
            "memory format `kv`",
        ),
    ] = "model"
    ltm_search_dtype: Annotated[
        SearchType, Field(description="number type in which long-term search keys are kept; `int8` has a scale per key")
    ] = "model"
