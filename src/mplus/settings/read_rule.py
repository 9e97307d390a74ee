"""How memory is searched and in which order it is read. Knows no writes."""

from __future__ import annotations

from typing import Annotated, Final, Literal, get_args

from pydantic import Field

from mplus.settings.group import Group, Tokens, TokensOrNone

SpanOrder = Literal["score", "text"]
"""In which order retrieved spans stand beside the prompt; ``mplus.retrieval.read_plan`` has a function for each."""
READ_ORDERS: Final = ("age", *get_args(SpanOrder))
"""Layouts by the name that the flat form has: `age` is the paper's, the others stand beside the prompt."""
SameSlot = Literal["score", "newest", "newest_alone"]
"""Which of several windows that answer the same thing stands beside the prompt."""
DEFAULT_SLOT_TOLERANCE: Final = 0.16
"""See ``BesidePrompt.slot_tolerance``; measured in decision 0042."""


class BesidePrompt(Group):
    """Layout [short-term | retrieved spans | prompt]; short-term memory is searched too."""

    order: Annotated[
        SpanOrder, Field(description="`score`: the span with the best block last; `text`: spans in the order of the text")
    ] = "score"
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
    same_slot: Annotated[
        SameSlot,
        Field(
            description="of windows that answer the same: `score`: the best one stands last; `newest`: the newest one does, older ones "
            "before it; `newest_alone`: older ones are not read"
        ),
    ] = "score"
    slot_tolerance: Annotated[
        float,
        Field(
            ge=0,
            lt=1,
            description="windows that lack at most this share of the best one's match answer the same; not used where the model has a "
            "same-slot head",
        ),
    ] = DEFAULT_SLOT_TOLERANCE


class PerLayerRetrieval(Group):
    """Each layer retrieves tokens of its own with the mean sigmoid score of the paper (section 3.2); oldest first."""

    kind: Literal["per_layer"] = "per_layer"


class SharedRetrieval(Group):
    """All layers read the same windows of neighbouring blocks, chosen by late interaction; needs shared drops."""

    kind: Literal["shared"] = "shared"
    neighbour_blocks: Annotated[TokensOrNone, Field(description="blocks read on each side of a retrieved block")] = 1
    beside_prompt: Annotated[
        BesidePrompt | None, Field(description="null: oldest first, long-term before short-term tokens, as in the paper")
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
        """Tell whether all layers read the same tokens."""
        return isinstance(self.retrieval, SharedRetrieval)

    @property
    def neighbour_blocks(self) -> int:
        """Blocks read on each side of a retrieved block."""
        return self.retrieval.neighbour_blocks if isinstance(self.retrieval, SharedRetrieval) else 0

    @property
    def beside_prompt(self) -> BesidePrompt | None:
        """The layout with retrieved spans beside the prompt, or None for the paper's."""
        return self.retrieval.beside_prompt if isinstance(self.retrieval, SharedRetrieval) else None

    @property
    def order(self) -> Literal["age"] | SpanOrder:
        """Name of the layout."""
        return "age" if self.beside_prompt is None else self.beside_prompt.order

    @property
    def recency_tail(self) -> int:
        """Newest tokens that stay whole beside the prompt; 0 where the layout has no such tail."""
        return 0 if self.beside_prompt is None else self.beside_prompt.recency_tail

    @property
    def min_confidence(self) -> float | None:
        """Lowest best score with which short-term tokens are moved; None: no bound."""
        return None if self.beside_prompt is None else self.beside_prompt.min_confidence

    @property
    def same_slot(self) -> SameSlot:
        """Which of several windows that answer the same thing stands beside the prompt."""
        return "score" if self.beside_prompt is None else self.beside_prompt.same_slot

    @property
    def slot_tolerance(self) -> float:
        """Share of the best window's match that a window of the same slot may lack."""
        return DEFAULT_SLOT_TOLERANCE if self.beside_prompt is None else self.beside_prompt.slot_tolerance
