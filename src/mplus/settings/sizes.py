"""Sizes of a memory in tokens, with the paper's symbols K, N, K0 and M. Knows no rule by which a memory lives."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from mplus.settings.group import Group, Tokens, TokensOrNone


class Sizes(Group):
    """How large a memory is, and the pieces in which text enters it."""

    new_tokens: Annotated[Tokens, Field(description="K: memory tokens one write adds at most")] = 256
    stm_tokens: Annotated[Tokens, Field(description="N: short-term tokens")] = 1024
    ltm_read_tokens: Annotated[TokensOrNone, Field(description="K0: long-term tokens read per prompt")] = 512
    ltm_capacity: Annotated[TokensOrNone, Field(description="M: long-term tokens kept per layer")] = 1_000_000
    ltm: Annotated[bool, Field(description="False is MemoryLLM: what leaves short-term memory is gone")] = True
    chunk_tokens: Annotated[Tokens, Field(description="text tokens of one write at most")] = 256
    tokens_per_row: Annotated[
        Tokens,
        Field(
            description="neighbouring text tokens that one memory token stands for, as the mean of their keys and values; above 1, K is "
            "chunk_tokens / tokens_per_row"
        ),
    ] = 1
    min_write_tokens: Annotated[Tokens, Field(description="shorter text waits in `pending`")] = 16

    @model_validator(mode="before")
    @classmethod
    def _pooled(cls, fields: Any) -> Any:
        """Give pooled rows the K that follows from the chunk."""
        if not isinstance(fields, dict) or "new_tokens" in fields:
            return fields
        chunk, tokens = fields.get("chunk_tokens", 256), fields.get("tokens_per_row", 1)
        if isinstance(chunk, int) and isinstance(tokens, int) and tokens > 1 and chunk >= tokens:
            return {**fields, "new_tokens": chunk // tokens}
        return fields

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.ltm and 0 < self.ltm_capacity < self.ltm_read_tokens:
            raise ValueError(
                f"ltm_capacity (M) is {self.ltm_capacity}, smaller than ltm_read_tokens (K0) {self.ltm_read_tokens}; "
                "raise M or lower K0"
            )
        if self.min_write_tokens > self.chunk_tokens:
            raise ValueError(
                f"min_write_tokens ({self.min_write_tokens}) exceeds chunk_tokens ({self.chunk_tokens}); nothing could ever be written"
            )
        if self.tokens_per_row > 1 and self.chunk_tokens % self.tokens_per_row:
            raise ValueError(
                f"chunk_tokens ({self.chunk_tokens}) must be a multiple of tokens_per_row ({self.tokens_per_row}), so that a chunk "
                "becomes whole memory tokens"
            )
        if self.tokens_per_row > 1 and self.new_tokens != self.chunk_tokens // self.tokens_per_row:
            raise ValueError(
                f"new_tokens (K) is {self.new_tokens}, but a chunk of {self.chunk_tokens} tokens gives {self.chunk_tokens} / tokens_per_row "
                f"= {self.chunk_tokens // self.tokens_per_row} memory tokens; leave K out"
            )
        if self.new_tokens > self.stm_tokens:
            raise ValueError(f"new_tokens (K, {self.new_tokens}) exceeds stm_tokens (N, {self.stm_tokens}); raise N or lower K")
        return self

    @property
    def reads_ltm(self) -> bool:
        """Tell whether a read looks into long-term memory at all."""
        return self.ltm and self.ltm_read_tokens > 0

    def kept_positions(self, text_tokens: int) -> list[int]:
        """Positions of a chunk whose layer inputs become memory tokens with the input tap, ascending.

        With K >= chunk_tokens every token is kept (1:1). Else the last one of each group of chunk_tokens / K neighbours is, so
        that rows spread over the chunk and each has seen its whole group; a chunk of T tokens gives ceil(T * K / chunk_tokens)
        rows, the last of them at its last token. With tokens_per_row above 1 a row is the mean of its group.
        """
        if self.new_tokens >= self.chunk_tokens:
            return list(range(text_tokens))
        count = -(-text_tokens * self.new_tokens // self.chunk_tokens)
        return [min((row + 1) * self.chunk_tokens // self.new_tokens, text_tokens) - 1 for row in range(count)]
