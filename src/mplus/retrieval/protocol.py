"""The protocol of retrieval: keys of written tokens, a search for the tokens that a prompt reads. Knows memories, no arithmetic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from mplus.memory.memory import Memory
from mplus.retrieval.result import RetrievalResult


class Retriever(Protocol):
    """A way to choose long-term tokens. ``memory.retriever`` puts another one in the place of the model's, for reads of that memory."""

    @property
    def layers(self) -> tuple[int, ...]:
        """Layers whose normalised hidden states make keys and queries, ascending."""

    @property
    def in_each_layer(self) -> bool:
        """True: every layer searches by itself while it runs; False: one search before the pass serves all layers."""

    @property
    def search_width(self) -> int:
        """F, numbers in one search key."""

    @property
    def spec(self) -> dict[str, Any]:
        """Entry of a manifest from which the same retriever is made again."""

    def search_keys(self, normed: Mapping[int, Tensor]) -> Tensor:
        """Search keys [B, L or 1, n, F] of written tokens, from normalised hidden states [B, n, D] per layer of ``layers``."""

    def can_search(self, memory: Memory) -> bool:
        """Tell whether anything is retrieved from a memory at all."""

    def search(
        self,
        memory: Memory,
        normed: Mapping[int, Tensor],
        text_BT: Tensor,
        *,
        exact: bool = False,
    ) -> list[RetrievalResult]:
        """Retrieve for each prompt: in the one layer of `normed`, or for all layers.

        Args:
            normed: hidden states [B, T, D] of the prompts behind the input norm: of the layer that searches, or of all ``layers``.
            text_BT: True at the tokens that search.
            exact: score every token, however many there are (``Geometry.search`` otherwise).
        """


@runtime_checkable
class WindowRetriever(Retriever, Protocol):
    """A retriever that scores windows of the text for all layers: it tells what answers the same, and can search in two rounds."""

    def search(
        self,
        memory: Memory,
        normed: Mapping[int, Tensor],
        text_BT: Tensor,
        *,
        exact: bool = False,
        past: Sequence[bool] = (),
        before: Sequence[RetrievalResult] = (),
    ) -> list[RetrievalResult]:
        """As ``Retriever.search``.

        Args:
            past: prompts that ask for what was: for them the newest of several answers does not stand first.
            before: results of a first round, with the prompts that they were for; `normed` is then of what searches in the second.
        """

    def best_window(self, memory: Memory, result: RetrievalResult) -> Tensor:
        """Numbers [n] of the tokens of the window that scored best, as the ledger knows them; none where nothing was scored."""


def planned_tokens(memory: Memory) -> int:
    """How many long-term tokens a read will attach at most, known before any layer runs; if every layer searches, exactly so many."""
    geometry, longterm = memory.geometry, memory.long_term
    if not geometry.sizes.reads_ltm or longterm.smallest == 0:
        return 0
    if geometry.quirks.small_ltm == "repeat":
        return geometry.sizes.ltm_read_tokens
    return min(geometry.sizes.ltm_read_tokens, longterm.smallest)
