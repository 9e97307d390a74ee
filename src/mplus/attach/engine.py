"""Which of the ways to save time a model uses, one switch each. Knows none of them.

All on is the default and what everyone should use; all off is the procedure of the published code. Results agree to rounding
(tests/contract/test_engine.py), so the switches are for measuring what each way is worth (``mplus bench``) and for nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Engine:
    """Switches of one model, ``model.attached.engine``.

    Attributes:
        reuse_prefix: keep the rotated keys and the values of short-term memory between reads while the memory is unchanged.
        in_place: reserve room behind the prefix and write new tokens into it; else the whole cache is copied for each token.
        grouped_attention: on a CPU, attend without copying keys and values once per query head.
        fused_adapters: add the LoRA part while it is multiplied, instead of in two further passes over the result.
        scores_in_pieces: exact scores of long-term tokens are computed for some thousand at a time, which stay in the processor's
            cache; else for all of them in one table, after their keys were put together.
        short_writes: a write computes no logits and, of the last layer, only the rows that become memory.
    """

    reuse_prefix: bool = True
    in_place: bool = True
    grouped_attention: bool = True
    fused_adapters: bool = True
    scores_in_pieces: bool = True
    short_writes: bool = True


PAPER = Engine(
    reuse_prefix=False,
    in_place=False,
    grouped_attention=False,
    fused_adapters=False,
    scores_in_pieces=False,
    short_writes=False,
)
"""How the published code works; with ``memory_format="hidden"`` what benchmarks compare with."""
