"""Hooks that are always taken off again. Knows nothing of what they do, nor how a cache reaches attention.

An interrupt can fall between the moment at which torch has a hook and the moment at which we know of it. So every set of hooks is
noted on its decoder before the first is put on, each hook knows its set, and ``sweep`` finds what an interrupted set has left.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor, nn

from mplus.attach.families import Decoder


class StopForward(Exception):
    """Ends a forward pass from inside a hook; the code that installed the hook catches it."""


class Hooks:
    """Hooks on a decoder for the length of a ``with`` block; the model is byte for byte what it was afterwards.

    Args:
        around_passes: these stay on while passes of the model begin and end inside the block, so ``sweep`` leaves them.
    """

    def __init__(self, *, around_passes: bool = False) -> None:
        self.around_passes = around_passes
        self._decoders: list[Decoder] = []
        self._handles: list[Any] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for handle in self._handles:
            handle.remove()
        if kind is not None and not issubclass(kind, StopForward):
            self.search_and_remove()  # one that torch has and we have not
        self._handles.clear()
        for decoder in self._decoders:
            if self in decoder.hooked:
                decoder.hooked.remove(self)

    def search_and_remove(self) -> None:
        """Take off every hook of this set, whether or not its handle is known."""
        for decoder in self._decoders:
            for module in decoder.model.modules():
                tables: tuple[Any, ...] = (module._forward_pre_hooks, module._forward_hooks)
                for table in tables:
                    for key in [key for key, hook in table.items() if getattr(hook, "of", None) is self]:
                        del table[key]
                        for marks in (module._forward_pre_hooks_with_kwargs, module._forward_hooks_with_kwargs):
                            marks.pop(key, None)

    def before_attention(self, decoder: Decoder, layer: int, act: Callable[[Tensor], None]) -> None:
        """Call ``act(normed hidden states [B, T, D])`` before a layer's attention."""

        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            act(kwargs["hidden_states"] if "hidden_states" in kwargs else args[0])

        self._before(decoder, decoder.attention(layer), hook)

    def before_pass(self, decoder: Decoder, act: Callable[[Tensor], None]) -> None:
        """Call ``act(token ids [B, T])`` before each pass of the decoder."""

        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            act(kwargs["input_ids"] if "input_ids" in kwargs else args[0])

        self._before(decoder, decoder.body, hook)

    def head_in_one_piece(self, decoder: Decoder) -> None:
        """Give the output head the states of one token as a tensor of their own.

        As a slice of longer states they have strides for which torch multiplies row by row with a copy of the head's weights:
        of a small model that took a quarter of a short prompt's time.
        """

        def hook(
            module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
        ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
            if not args or args[0].shape[-2] != 1 or args[0].stride(0) == args[0].shape[-1]:
                return None
            return (args[0].clone(memory_format=torch.contiguous_format), *args[1:]), kwargs

        head = decoder.model.get_output_embeddings()
        if head is not None:
            self._before(decoder, head, hook)

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

        self._before(decoder, decoder.layers[layer], hook)

    def on_states(self, decoder: Decoder, act: Callable[[Tensor], None]) -> None:
        """Call ``act`` on the hidden states entering each layer in turn, then on those behind the final norm."""
        for layer in range(decoder.depth):
            self.before_layer(decoder, layer, act)
        self.after(decoder, decoder.body.norm, act)

    def after(self, decoder: Decoder, module: nn.Module, act: Callable[[Tensor], None]) -> None:
        """Call ``act(output)`` after a module of a decoder; tuples give their first element."""

        def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            act(output[0] if isinstance(output, tuple) else output)

        self._note(decoder, hook)
        self._handles.append(module.register_forward_hook(hook))

    def _before(self, decoder: Decoder, module: nn.Module, hook: Any) -> None:
        self._note(decoder, hook)
        self._handles.append(module.register_forward_pre_hook(hook, with_kwargs=True))

    def _note(self, decoder: Decoder, hook: Any) -> None:
        """Before a hook goes on: the decoder knows of this set, and the hook whose it is."""
        hook.of = self
        if decoder not in self._decoders:
            self._decoders.append(decoder)
        if self not in decoder.hooked:
            decoder.hooked.append(self)
