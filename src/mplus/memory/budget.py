"""Bytes that a memory takes, what is free, and the sentence where that is too little. Allocates nothing, knows no model.

Legend: N short-term tokens, K0 long-term tokens read per prompt, M long-term tokens, L layers, H kv heads, E head width.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from mplus.errors import CapacityError
from mplus.memory.row_codec import RowCodec
from mplus.memory.rows import RowLayout
from mplus.memory.stores.fields import bytes_per_row
from mplus.settings import Geometry, MemoryFormat

REFUSALS = ("out of memory", "not enough memory", "can't allocate memory", "cannot allocate memory")
"""What torch says, on every device and system, when a tensor cannot be made (lower case)."""


@dataclass(frozen=True, kw_only=True)
class MemoryBudget:
    """What a memory of one geometry takes, in bytes.

    Attributes:
        geometry, memory_format: whose sizes these are.
        stm_token_bytes: one short-term token, all layers, on the model's device.
        ltm_token_bytes: one long-term token, all layers, scales and birth included, where its rows live.
        slot_bytes: K and V of one token before a prompt, all layers, on the model's device.
    """

    geometry: Geometry
    memory_format: MemoryFormat
    stm_token_bytes: int
    ltm_token_bytes: int
    slot_bytes: int

    @classmethod
    def of(cls, layout: RowLayout, geometry: Geometry, kv_numbers: int | None = None) -> MemoryBudget:
        """Room of memories of this layout.

        Args:
            kv_numbers: 2 H E, numbers of K and V of one token and layer; needed where the layout keeps hidden states only.
        """
        if kv_numbers is None:
            assert layout.format == "kv", "a layout of hidden states does not tell the size of K and V"
            kv_numbers = sum(torch.Size(layout.fields[name]).numel() for name in ("keys", "values"))
        return cls(
            geometry=geometry,
            memory_format=layout.format,
            stm_token_bytes=layout.bytes_per_token,
            ltm_token_bytes=bytes_per_row(RowCodec(layout, geometry).fields),
            slot_bytes=layout.layers * kv_numbers * layout.dtype.itemsize,
        )

    @property
    def stm_bytes(self) -> int:
        """A full short-term memory."""
        return self.geometry.sizes.stm_tokens * self.stm_token_bytes

    @property
    def ltm_bytes(self) -> int:
        """Long-term memory at its capacity M."""
        return self.geometry.sizes.ltm_capacity * self.ltm_token_bytes if self.geometry.sizes.ltm else 0

    def prompt_bytes(self, tokens: int = 0) -> int:
        """What one prompt reads, [BOS | K0 | N], and `tokens` slots for the prompt and its answer."""
        read = self.geometry.sizes.ltm_read_tokens if self.geometry.sizes.reads_ltm else 0
        return (1 + read + self.geometry.sizes.stm_tokens + tokens) * self.slot_bytes

    # -- sentences -------------------------------------------------------------------------------------------------

    def for_longterm(self, held: int, more: int, free: int | None) -> str:
        """Long-term memory holds `held` tokens and cannot take `more`."""
        rows = f"{more:,} more long-term tokens need {_size(more * self.ltm_token_bytes)}{_free(free)}"
        fits = held if free is None else held + free // self.ltm_token_bytes
        advice = [f"lower ltm_capacity (M) to {fits:,}"] if fits >= max(1, self.geometry.sizes.ltm_read_tokens) else []
        advice += ["keep rows on disk (store=DIRECTORY)"]
        if self.geometry.storage.ltm_dtype != "int8" and self.memory_format == "kv":
            advice += ["keep them in fewer bytes (ltm_dtype='int8')"]
        return f"{rows}; the {held:,} that are held stay and nothing is lost: {', or '.join(advice)}"

    def for_memory(self, free: int | None) -> str:
        """A new short-term memory cannot be made."""
        need = f"a short-term memory of {self.geometry.sizes.stm_tokens:,} tokens needs {_size(self.stm_bytes)}{_free(free)}"
        fits = None if free is None else free // self.stm_token_bytes
        advice = (
            "lower stm_tokens (N)"
            if not fits
            else f"lower stm_tokens (N) to {min(fits, self.geometry.sizes.stm_tokens):,} or less"
        )
        return f"{need}; nothing was made: {advice}, or let go of memories that are not needed"

    def for_prompts(self, prompts: int, free: int | None, tokens: int = 0) -> str:
        """`prompts` prompts, each with `tokens` of prompt and answer, cannot read at once."""
        each = self.prompt_bytes(tokens)
        need = f"{prompts:,} prompts that read memory need {_size(prompts * each)} for keys and values{_free(free)}"
        fits = None if free is None else min(free // each, prompts)
        if fits:
            advice = f"{fits:,} of them fit at once: ask no more than that together"
        elif prompts > 1:
            advice = "ask fewer at once"
        else:
            advice = "lower stm_tokens (N) or ltm_read_tokens (K0), or shorten prompt and answer"
        return f"{need}; no memory was changed: {advice}"


def no_room_for_chunks(chunks: int, tokens: int, free: int | None) -> str:
    """A write pass over `chunks` chunks of up to `tokens` text tokens finds no room for what its layers compute."""
    advice = (
        "write fewer at once (batch=1)"
        if chunks > 1
        else "let go of memories that are not needed, or open the model with smaller chunk_tokens"
    )
    return f"a write pass over {chunks:,} x {tokens:,} text tokens found no room{_free(free)}; nothing is lost that was taken in before: {advice}"


def free_bytes(device: torch.device) -> int | None:
    """What can still be allocated on a device, about; None where the system does not tell."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    if device.type != "cpu":
        return None
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory could not be allocated."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in REFUSALS)


@contextlib.contextmanager
def explain_out_of_memory(sentence: Callable[[int | None], str], device: torch.device) -> Iterator[None]:
    """Turn the failure of an allocation into one sentence.

    Args:
        sentence: given what is free on `device`, e.g. ``lambda free: room.for_prompts(24, free)``.

    Raises:
        CapacityError: what ran inside could not allocate; other errors pass.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise CapacityError(sentence(free_bytes(device))) from None


def _size(count: int) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:,.1f} {unit}"
    return f"{count} bytes"


def _free(free: int | None) -> str:
    return "" if free is None else f", {_size(free)} are free"
