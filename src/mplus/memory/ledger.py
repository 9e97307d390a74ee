"""What was written, from which source, and which memory tokens it became. Knows nothing of tensors."""

from __future__ import annotations

from bisect import bisect_right
from typing import NamedTuple

from mplus.errors import SnapshotError


class Chunk(NamedTuple):
    """One write.

    Attributes:
        first_birth: birth of its first memory token; the others follow one by one.
        memory_tokens: memory tokens it became.
        sources: (source name or None, text tokens taken from it), in text order.
    """

    first_birth: int
    memory_tokens: int
    sources: tuple[tuple[str | None, int], ...]


class Ledger:
    """All chunks in the order they were written."""

    def __init__(self) -> None:
        self.chunks: list[Chunk] = []

    def add(self, chunk: Chunk) -> None:
        """Note one write."""
        self.chunks.append(chunk)

    def chunk_of(self, birth: int) -> Chunk | None:
        """The chunk a memory token came from; None for tokens that were there before the first write."""
        at = bisect_right(self.chunks, birth, key=lambda chunk: chunk.first_birth) - 1
        if at < 0 or birth >= self.chunks[at].first_birth + self.chunks[at].memory_tokens:
            return None
        return self.chunks[at]

    def tokens_by_source(self) -> dict[str, int]:
        """Text tokens written per source; text without a source counts under ''."""
        totals: dict[str, int] = {}
        for chunk in self.chunks:
            for source, tokens in chunk.sources:
                totals[source or ""] = totals.get(source or "", 0) + tokens
        return totals

    @property
    def newest_source(self) -> list[str | None]:
        """The name, or None, of the source that was written last; empty where nothing was written."""
        return [name for chunk in self.chunks[-1:] for name, _ in chunk.sources[-1:]]

    def clone(self) -> Ledger:
        """An independent copy."""
        twin = Ledger()
        twin.chunks = list(self.chunks)
        return twin

    def to_json(self) -> list[object]:
        """Plain lists for the manifest."""
        return [[chunk.first_birth, chunk.memory_tokens, [list(part) for part in chunk.sources]] for chunk in self.chunks]

    @classmethod
    def from_json(cls, data: object) -> Ledger:
        """Read what ``to_json`` wrote.

        Raises:
            SnapshotError: the list does not have that form.
        """
        ledger = cls()
        try:
            for first_birth, memory_tokens, sources in data:  # type: ignore[attr-defined]
                parts = tuple((None if name is None else str(name), int(tokens)) for name, tokens in sources)
                ledger.add(Chunk(int(first_birth), int(memory_tokens), parts))
        except (TypeError, ValueError) as error:
            raise SnapshotError(
                f"the memory's manifest has a damaged source ledger ({error}); restore it from a backup"
            ) from None
        return ledger
