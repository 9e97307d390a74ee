"""What one run measures: which parts, at which sizes, how often. Knows no clock and no model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from benchmarks.models import size_named, unknown
from mplus.errors import InputError

PAPER_LTM: Final = 150_000
"""The paper's capacity M; where the headline first-token ratio is read, and the largest the literal procedure is measured at."""
SMALL_LTM, LARGE_LTM = 10_000, 1_000_000
LARGEST_LTM: Final = 8_000_000  # births of filled rows count up to 0 from here

PARTS: Final[dict[str, tuple[str, ...]]] = {
    "speed": ("first_token", "after_write", "decode", "ingest", "ingest_batch", "counts", "switches", "contexts"),
    "memory": ("bytes", "save_load", "peaks"),
    "growth": ("bytes", "first_token", "contexts"),
    "quick": ("bytes", "first_token", "decode", "ingest"),
    "profile": ("profile",),
}
KINDS: Final = ("speed", "memory", "growth", "all", "quick", "profile")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Settings of one run.

    Attributes:
        model: name of a size.
        kind: one of ``KINDS``.
        parts: what is measured.
        rounds: turns of each side.
        ltm: long-term sizes in memory tokens, ascending.
        contexts: text lengths of the full-context baselines.
        query_tokens, new_tokens: of the prompt, and decoded behind it.
        chunks: chunks of one timed write.
        context_budget_s: a full-context turn that would take longer is left out.
        layers, dtype: of the model, None for its own.
        end_to_end: also read 160,000 tokens and answer.
    """

    model: str
    kind: str
    parts: tuple[str, ...]
    rounds: int
    ltm: tuple[int, ...]
    contexts: tuple[int, ...]
    query_tokens: int = 32
    new_tokens: int = 32
    chunks: int = 4
    context_budget_s: float = 30.0
    layers: int | None = None
    dtype: str | None = None
    end_to_end: bool = False

    @property
    def working_ltm(self) -> int:
        """The size at which decoding, ablation and files are measured: the smallest of the plan from 10,000 on, else the largest."""
        large = [size for size in self.ltm if size >= SMALL_LTM]
        return large[0] if large else self.ltm[-1]


def plan_of(
    kind: str, model: str, *, rounds: int | None = None, ltm: str | None = None, contexts: str | None = None, **options: Any
) -> Plan:
    """The plan of a kind.

    Args:
        ltm, contexts: comma-separated sizes like ``0,10k,1M``, instead of the model's own.
        options: further fields of ``Plan``.

    Raises:
        InputError: an unknown kind (the message has the nearest), model or size.
    """
    if kind not in KINDS:
        raise unknown("benchmark", kind, KINDS)
    size = size_named(model)
    names = ("speed", "memory", "growth") if kind == "all" else (kind,)
    parts = tuple(dict.fromkeys(part for name in names for part in PARTS[name]))
    if rounds is not None and rounds < 1:
        raise InputError(f"--rounds is {rounds}, expected 1 or more")
    sizes = size.ltm if ltm is None else parse_sizes("--ltm", ltm)
    if sizes[-1] > LARGEST_LTM:
        raise InputError(f"--ltm asks for {sizes[-1]:,} tokens, at most {LARGEST_LTM:,} can be filled; name a smaller size")
    texts = size.contexts if contexts is None else parse_sizes("--contexts", contexts)
    if 0 in texts:
        raise InputError("--contexts asks for a text of 0 tokens, expected 1 or more")
    if kind == "quick":
        few = tuple(one for one in sizes if one in (0, SMALL_LTM, PAPER_LTM)) if ltm is None else sizes
        rounds, sizes, texts, options = rounds or 5, few or sizes, (), {**options, "chunks": 2}
    return Plan(model=model, kind=kind, parts=parts, rounds=rounds or 7, ltm=sizes, contexts=texts, **options)


def parse_sizes(option: str, text: str) -> tuple[int, ...]:
    """Ascending sizes from text like ``0,10k,1M``.

    Raises:
        InputError: an entry is no whole number with or without k or M.
    """
    sizes = set()
    for entry in (part.strip() for part in text.split(",")):
        factor = {"k": 1_000, "m": 1_000_000}.get(entry[-1:].lower(), 1)
        digits = entry[:-1] if factor > 1 else entry
        if not digits.isdecimal():
            raise InputError(f"{option} has '{entry}', expected sizes like 0,10k,1M")
        sizes.add(int(digits) * factor)
    return tuple(sorted(sizes))
