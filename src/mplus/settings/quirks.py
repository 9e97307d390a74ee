"""Rules of the published code that nobody would choose anew, for exact arithmetic of published models. Off by default."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from mplus.settings.group import Group, Tokens


class PublishedQuirks(Group):
    """Switches of the published code; the defaults are what models adapted here do."""

    eviction: Annotated[
        Literal["oldest", "countdown"], Field(description="which long-term rows leave; `countdown`: those retrieved least")
    ] = "oldest"
    merge_every_writes: Annotated[Tokens, Field(description="countdown: writes between two merges")] = 1
    initial_recall_frequency: Annotated[float, Field(description="countdown: what a merged row starts with")] = 10.0
    recall_decay: Annotated[float, Field(description="countdown: what each merge takes from every row")] = 1.0
    stm_ages: Annotated[Literal["since_written", "frozen"], Field(description="`frozen`: short-term rows do not age")] = (
        "since_written"
    )
    small_ltm: Annotated[
        Literal["fewer", "repeat"], Field(description="`repeat`: rows are read twice where fewer than K0 exist")
    ] = "fewer"
    inv_freq_dtype: Annotated[
        Literal["float32", "bfloat16"], Field(description="`bfloat16` is how the published 8B model was run")
    ] = "float32"
