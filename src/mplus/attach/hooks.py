"""Hooks that are always taken off again. Knows nothing of what they do."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from torch import Tensor, nn

from mplus.attach.cache import PrefixCache
from mplus.attach.families import Decoder


class Enough(Exception):
    """Raised inside a hook, caught by whoever installed it: the rest of the forward pass is not needed."""


class Hooks:
    """Hooks on a decoder for the length of a ``with`` block; the model is byte for byte what it was afterwards."""

    def __init__(self) -> None:
        self._handles: list[Any] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        while self._handles:
            self._handles.pop().remove()

    def before_attention(self, decoder: Decoder, layer: int, act: Callable[[PrefixCache, Tensor], None]) -> None:
        """Call ``act(cache, normed hidden states [B, T, D])`` before a layer's attention."""

        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            hidden = kwargs["hidden_states"] if "hidden_states" in kwargs else args[0]
            act(kwargs["past_key_values"], hidden)

        self._handles.append(decoder.attention(layer).register_forward_pre_hook(hook, with_kwargs=True))

    def before_layer(self, decoder: Decoder, layer: int, act: Callable[[Tensor], Tensor | None]) -> None:
        """Call ``act(hidden states [B, T, D])`` before a decoder layer; what it returns, if anything, enters the layer."""
        self.around_layer(decoder, layer, lambda hidden, others: act(hidden))

    def around_layer(self, decoder: Decoder, layer: int, act: Callable[[Tensor, dict[str, Any]], Tensor | None]) -> None:
        """Call ``act(hidden states [B, T, D], the layer's other arguments by name)`` before a decoder layer.

        What it returns, if anything, enters the layer; it may replace entries of the arguments, which are a copy.
        """

        def hook(
            module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
        ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
            others = dict(kwargs)
            hidden = args[0] if args else others.pop("hidden_states")
            changed = act(hidden, others)
            return None if changed is None else ((changed, *args[1:]), others)

        self._handles.append(decoder.layers[layer].register_forward_pre_hook(hook, with_kwargs=True))

    def on_states(self, decoder: Decoder, act: Callable[[Tensor], None]) -> None:
        """Call ``act`` on the hidden states entering each layer in turn, then on those behind the final norm."""
        for layer in range(decoder.depth):
            self.before_layer(decoder, layer, act)
        self.after(decoder.body.norm, act)

    def after(self, module: nn.Module, act: Callable[[Tensor], None]) -> None:
        """Call ``act(output)`` after a module; tuples give their first element."""

        def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            act(output[0] if isinstance(output, tuple) else output)

        self._handles.append(module.register_forward_hook(hook))
