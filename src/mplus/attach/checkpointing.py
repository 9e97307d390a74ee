"""Gradient checkpointing of layers whose attention reads a prefix. Knows hooks and adapters only as something to put on again.

The recomputation runs in the backward pass, long after the hooks and the adapter of the pass are off; transformers' own form also
takes the cache from a layer (version 5.23) or runs the hooks inside it (before). So transformers' switch
(``activation_checkpointing_enable``) only says which layers, and their ``forward`` is wrapped here for the length of a pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

from mplus.attach.families import Decoder


@contextmanager
def taken_over(decoder: Decoder) -> Iterator[tuple[int, ...]]:
    """Switch transformers' checkpointing off inside, because it would take the prefix from every pass of a model in training mode.

    Yields:
        the layers it was on for, to be given to ``recomputed``.
    """
    switched = [module for module in decoder.body.modules() if getattr(module, "gradient_checkpointing", False) is True]
    layers = tuple(number for number, layer in enumerate(decoder.layers) if any(layer is module for module in switched))
    try:
        for module in switched:
            module.gradient_checkpointing = False
        yield layers
    finally:
        for module in switched:
            module.gradient_checkpointing = True


@contextmanager
def recomputed(decoder: Decoder, layers: tuple[int, ...], again: Callable[[], AbstractContextManager[None]]) -> Iterator[None]:
    """Inside, `layers` keep only their input and are computed again in the backward pass; nothing happens without gradient.

    Args:
        again: a context that puts on the hooks and the adapter this pass runs with.
    """
    chosen = [decoder.layers[layer] for layer in layers] if torch.is_grad_enabled() else []

    @contextmanager
    def as_before() -> Iterator[None]:
        with taken_over(decoder), again():
            yield

    def run(forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return checkpoint(forward, *args, use_reentrant=False, context_fn=lambda: (nullcontext(), as_before()), **kwargs)

    own = [layer.__dict__.get("forward") for layer in chosen]  # what a library that places layers on devices put there
    try:
        for layer in chosen:
            layer.forward = partial(run, layer.forward)
        yield
    finally:
        for layer, forward in zip(chosen, own, strict=True):
            layer.__dict__.pop("forward", None)
            if forward is not None:
                layer.forward = forward
