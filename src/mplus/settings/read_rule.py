"""How memory is searched and in which order it is read. Knows no writes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from mplus.settings.group import Group, Tokens, TokensOrNone


class BestLast(Group):
    """Layout [short-term | retrieved spans, the best last | prompt]; short-term memory is searched too."""

    recency_tail: Annotated[
        TokensOrNone,
        Field(description="where the best span is among about so many newest tokens, these stay whole beside the prompt"),
    ] = 0
    min_confidence: Annotated[
        float | None,
        Field(
            description="where no window's score reaches this, no short-term token is moved and retrieved long-term tokens stand "
            "before them; null: no lower bound"
        ),
    ] = None


class PerLayerRetrieval(Group):
    """Each layer retrieves tokens of its own with the mean sigmoid score of the paper (section 3.2); oldest first."""

    kind: Literal["per_layer"] = "per_layer"


class SharedRetrieval(Group):
    """All layers read the same windows of neighbouring blocks, chosen by late interaction; needs shared drops."""

    kind: Literal["shared"] = "shared"
    neighbour_blocks: Annotated[TokensOrNone, Field(description="blocks read on each side of a retrieved block")] = 1
    best_last: Annotated[
        BestLast | None, Field(description="null: oldest first, long-term before short-term tokens, as in the paper")
    ] = None


class ReadRule(Group):
    """Rule of reads."""

    retrieval: Annotated[PerLayerRetrieval | SharedRetrieval, Field(discriminator="kind")] = SharedRetrieval()
    block_tokens: Annotated[Tokens, Field(description="neighbours that are retrieved, and dropped, together")] = 16
    memory_projection: Annotated[
        Literal["read", "write"], Field(description="which adapter projects memory rows to K and V when they are read")
    ] = "write"
    search: Annotated[
        Literal["auto", "exact"],
        Field(
            description="`auto`: in a large long-term memory a first-stage index chooses candidates and exact scores decide among "
            "them; `exact`: every long-term token is scored (published models)"
        ),
    ] = "auto"

    @property
    def is_shared(self) -> bool:
        """Whether all layers read the same tokens."""
        return isinstance(self.retrieval, SharedRetrieval)

    @property
    def neighbour_blocks(self) -> int:
        """Blocks read on each side of a retrieved block."""
        return self.retrieval.neighbour_blocks if isinstance(self.retrieval, SharedRetrieval) else 0

    @property
    def best_last(self) -> BestLast | None:
        """The layout with the best span beside the prompt, or None for oldest first."""
        return self.retrieval.best_last if isinstance(self.retrieval, SharedRetrieval) else None

    @property
    def recency_tail(self) -> int:
        """Newest tokens that stay whole beside the prompt; 0 where the layout has no such tail."""
        return 0 if self.best_last is None else self.best_last.recency_tail

    @property
    def min_confidence(self) -> float | None:
        """Lowest best score with which short-term tokens are moved; None: no bound."""
        return None if self.best_last is None else self.best_last.min_confidence
