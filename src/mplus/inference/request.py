"""One call's prompts and the memories they read, checked. Knows no pass.

Legend: B prompts, T prompt tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from mplus.attach.families import Decoder
from mplus.errors import InputError, PromptTooLongError
from mplus.inference.writer import Writer
from mplus.memory.memory import Memory
from mplus.memory.rows import EncodedChunk
from mplus.retrieval.protocol import planned_tokens
from mplus.text.prompts import Prompts
from mplus.text.search_query import Query

Readable = Memory | EncodedChunk


@dataclass(frozen=True)
class Request:
    """Prompts behind memories, or behind nothing but the bare base.

    Attributes:
        memories: one per prompt; none for the bare base.
        prompts: as they are read: text that waits in a memory stands before its prompt.
        own: ids [B, T] of the prompts alone.
        query: the searching tokens; None without memories.
        tokenizer: None where the model was opened without one.
        pad_id: pads prompts and finished rows.
    """

    memories: list[Readable]
    prompts: Prompts
    own: Tensor
    query: Query | None
    tokenizer: Any
    pad_id: int

    @property
    def tokens(self) -> int:
        """Columns of the prompts, waiting text included."""
        return self.prompts.ids.shape[1]

    @property
    def own_tokens(self) -> int:
        """Columns of the prompts as the caller counts them."""
        return self.own.shape[1]

    @property
    def slots(self) -> int:
        """Slots before the prompts: memory's BOS and the tokens of the fullest memory."""
        return 1 + max(map(_slots, self.memories)) if self.memories else 0

    def check_positions(self, new_tokens: int, decoder: Decoder) -> None:
        """Refuse prompts that do not fit the positions of a decoder.

        Raises:
            PromptTooLongError: says which positions are taken by what.
        """
        needed, (limit, why) = self.slots + self.tokens + new_tokens, decoder.limit
        if needed > limit:
            raise PromptTooLongError(
                f"the prompt has {self.tokens} tokens; with {self.slots} memory slots and {new_tokens} new tokens that is {needed}, "
                f"the model has {limit} positions ({why}); shorten the prompt, or write the long text into memory and ask about it"
            )


def memories_of(memory: Any, prompts: int, writer: Writer) -> list[Readable]:
    """One memory per prompt, or several for one; none for the bare base.

    Raises:
        InputError: something else is among them, they are not as many as the prompts, or another model wrote one.
    """
    if memory is None:
        return []
    memories = [memory] * prompts if isinstance(memory, (Memory, EncodedChunk)) else _checked_list(memory, prompts)
    for one in memories:
        if isinstance(one, Memory) and not writer.wrote(one):
            raise InputError(
                f"this memory was written by model {one.encoder.name!r}, this is {writer.name!r}; read it with the model that wrote it"
            )
    return memories


def _checked_list(memories: Any, prompts: int) -> list[Readable]:
    if isinstance(memories, (str, bytes, Path)) or not isinstance(memories, Sequence):
        raise InputError(
            f"memory must be a Memory or a list of them, got {type(memories).__name__} {memories!r:.80}; "
            "a stored one is opened with Memory.load(directory, model)"
        )
    strange = [one for one in memories if not isinstance(one, (Memory, EncodedChunk))]
    if strange:
        raise InputError(
            f"memory must be a Memory or a list of them, the list holds {type(strange[0]).__name__} {strange[0]!r:.80}"
        )
    if len(memories) != prompts and prompts != 1:
        raise InputError(f"{len(memories)} memories for {prompts} prompts; give one memory, or one for each prompt")
    if not memories:
        raise InputError("the list of memories is empty; give one memory, one for each prompt, or None for the bare model")
    if len({isinstance(one, EncodedChunk) for one in memories}) > 1:
        raise InputError("a chunk is read alone with another adapter than a memory; read them in two batches")
    return list(memories)


def _slots(memory: Readable) -> int:
    """Memory tokens a prompt will see."""
    return len(memory.short_term) + planned_tokens(memory) if isinstance(memory, Memory) else memory.tokens
