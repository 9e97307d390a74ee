"""The published procedure on a model's own weights, by replacing parts of the product from outside. Keeps no times.

The published code computes what we compute (tests/contract/test_reference.py) with more work: a write is a whole forward pass whose
logits nobody reads, the cache is copied for each token, memory is projected and placed anew for each read, LoRA takes two further passes
over every result, all scores stand in one table, and keys and values are repeated for every query head.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, Final, Self
from unittest.mock import patch

import torch
from peft.tuners.lora import Linear
from torch import Tensor
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from mplus.attach import attention
from mplus.attach import write_pass as write
from mplus.attach.adapters import FusedLinear
from mplus.attach.cache import PrefixLayer
from mplus.attach.prefix_buffers import PrefixCachePool
from mplus.model import MPlusModel
from mplus.retrieval import device_keys

Part = Callable[[MPlusModel], AbstractContextManager[Any]]


class EmptyPool(PrefixCachePool):
    """Buffers that are made anew for each read."""

    def take(self, *args: Any, **kwargs: Any) -> None:
        return None

    def put(self, *args: Any, **kwargs: Any) -> None:
        return None


class FullWrite(write._Run):
    """A write that runs every layer for every token, and computes logits to throw them away."""

    def forward(self) -> Tensor | None:
        self.may_stop = self.narrows = False
        states = super().forward()
        if states is not None and not self.wants_logits:
            self.decoder.model.lm_head(states)
        return states


def one_table(keys: Iterator[Tensor], *args: Any, **kwargs: Any) -> Iterator[Tensor]:
    """All search keys of a layer put together, whose scores are computed at once."""
    yield torch.cat(list(keys))


@contextmanager
def without_kept_prefix(model: MPlusModel) -> Iterator[None]:
    """Each read projects, rotates and places all of short-term memory."""
    with patch.object(model.parts, "prefix_pool", EmptyPool()):
        yield


@contextmanager
def in_two_passes(model: MPlusModel) -> Iterator[None]:
    """LoRA as PEFT computes it: the low-rank part is a tensor of its own, then scaled, then added."""
    layers: list[Any] = [module for module in model.parts.decoder.model.modules() if type(module) is FusedLinear]
    for layer in layers:
        layer.__class__ = Linear
    try:
        yield
    finally:
        for layer in layers:
            layer.__class__ = FusedLinear


@contextmanager
def with_repeated_heads(model: MPlusModel) -> Iterator[None]:
    """Attention as transformers has it: keys and values are copied for each query head of a group."""
    with patch.object(attention, "grouped", sdpa_attention_forward), patch.object(attention, "additive_mask", sdpa_mask):
        yield


DIFFERENCES: Final[dict[str, Part]] = {
    "reuse_prefix": without_kept_prefix,
    "in_place": lambda model: patch.object(PrefixLayer, "_may_buffer", lambda layer: False),
    "grouped_attention": with_repeated_heads,
    "fused_adapters": in_two_passes,
    "scores_in_pieces": lambda model: patch.object(device_keys, "recut", one_table),
    "short_writes": lambda model: patch.object(write, "_Run", FullWrite),
}
"""What of ours each part of the published procedure takes back, by the name that stored results have."""


class PublishedProcedure(ExitStack):
    """A model that works as the published code does, inside ``with PublishedProcedure(model):``, and as ever afterwards.

    Args:
        model: whose weights are used.
        parts: which of ``DIFFERENCES``; none is the product itself.
    """

    def __init__(self, model: MPlusModel, parts: Collection[str] = tuple(DIFFERENCES)) -> None:
        super().__init__()
        self.model, self.parts = model, parts

    def __enter__(self) -> Self:
        for name in self.parts:
            self.enter_context(DIFFERENCES[name](self.model))
        return self
