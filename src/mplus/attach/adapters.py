"""Write and read adapters (PEFT LoRA) on a decoder, exactly one or none on at a time. Knows no memory.

This file alone relies on how PEFT's layers keep which adapter is on. Its public ``set_adapter`` also turns gradients on and
off, which a switch in the middle of a training step must not do.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import Linear, LoraLayer
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel

from mplus.errors import CheckpointError

log = logging.getLogger(__name__)

TARGETS = ("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj", "down_proj")
"""What the paper adapts (section 3.1): all projections of a block but the attention's output."""


class FusedLinear(Linear):
    """PEFT's LoRA layer; without gradient it adds the low-rank part while it multiplies, instead of in two more passes.

    Has no state of its own: layers become one by their class alone.
    """

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        name = self._active_adapter[0] if len(self._active_adapter) == 1 else ""
        plain = not (self._disable_adapters or self.merged or args or kwargs or torch.is_grad_enabled())
        if plain and name in self.lora_A and name not in self.lora_variant and self.lora_A[name].weight.dtype == x.dtype:
            first, second = (cast(Tensor, part[name].weight) for part in (self.lora_A, self.lora_B))
            result = cast(Tensor, self.base_layer(x))
            if result.dtype == second.dtype:  # else autocast is on, which knows no addition in place
                low = functional.linear(x, first).view(-1, second.shape[1])
                result.view(-1, second.shape[0]).addmm_(low, second.t(), alpha=self.scaling[name])
                return result
        out: Tensor = super().forward(x, *args, **kwargs)
        return out


@dataclass(frozen=True, eq=False)
class _State:
    """The active adapter; each activation makes one object."""

    name: str | None


class Adapters:
    """The LoRA sets of one model.

    Attributes:
        write, read: PEFT names of the sets used in a write and in a read; None when that pass runs the bare base.
    """

    def __init__(self, model: PreTrainedModel, write: str | None = None, read: str | None = None) -> None:
        self.model = model
        self.write = write
        self.read = read
        self.refresh()

    def refresh(self) -> None:
        """Look the LoRA layers up again, after an injection."""
        self._layers = [module for module in self.model.modules() if isinstance(module, LoraLayer)]
        for layer in self._layers:
            own: Any = layer
            if own.__class__ is Linear:  # layers over quantised weights have forms of their own
                own.__class__ = FusedLinear
        self._weights = [weight for layer in self._layers for name, weight in layer.named_parameters() if "lora_" in name]
        self.keep_on(None)

    def weights(self) -> Sequence[Tensor]:
        """All LoRA weights of all sets."""
        return self._weights

    @contextmanager
    def on(self, name: str | None) -> Iterator[None]:
        """Run with adapter `name` (None: with none); whatever was on before is on again afterwards."""
        before, mine = self._state, _State(name)
        try:
            self._set(mine)
            yield
        finally:
            if self._state is mine:  # else somebody has settled in between, and what is on now is not ours
                self._set(before)

    def keep_on(self, name: str | None) -> None:
        """Have adapter `name` on from now on, outside every ``on``."""
        self._set(_State(name))
        self._resting = self._state

    def reset(self) -> bool:
        """Activate the adapter that holds outside every ``on``; returns whether that changed anything."""
        if self._state is self._resting and self._switched:
            return False
        self._set(self._resting)
        return True

    def named(self, role: str) -> str | None:
        """PEFT name of role "write" or "read"."""
        return {"write": self.write, "read": self.read}[role]

    @property
    def _current(self) -> str | None:
        return self._state.name

    def _set(self, state: _State) -> None:
        self._switched = False
        self._state = state
        for layer in self._layers:
            own: Any = layer
            own._disable_adapters = state.name is None
            if state.name is not None:
                own._active_adapter = [state.name]
        self._switched = True


def inject(model: PreTrainedModel, name: str, config: Mapping[str, Any], *, empty: bool = False) -> None:
    """Put fresh LoRA weights called `name` on the projections.

    Args:
        config: rank ``r``, ``lora_alpha`` and, if not all of ``TARGETS``, ``target_modules``.
        empty: create weights on the meta device, for a state dict to be assigned.
    """
    lora = LoraConfig(
        r=int(config["r"]),
        lora_alpha=float(config["lora_alpha"]),  # type: ignore[arg-type]
        lora_dropout=0.0,
        target_modules=list(config.get("target_modules", TARGETS)),
    )
    with warnings.catch_warnings():  # a write and a read adapter side by side are meant
        warnings.filterwarnings("ignore", message="Already found a `peft_config` attribute", category=UserWarning)
        inject_adapter_in_model(lora, model, adapter_name=name, low_cpu_mem_usage=empty)


def adapter_names(model: PreTrainedModel) -> list[str]:
    """All LoRA weights in the model's state dict."""
    return [name for name in model.state_dict() if ".lora_" in name]


def load_adapter(model: PreTrainedModel, name: str, tensors: Mapping[str, Tensor]) -> None:
    """Copy LoRA weights called `name` into the model and prove that each arrived.

    Args:
        tensors: state-dict name to tensor.

    Raises:
        CheckpointError: one has no place in the model, one is missing, a shape differs.
    """
    own = dict(model.state_dict())
    expected = {key for key in own if ".lora_" in key and f".{name}." in key}
    missing, extra = sorted(expected - set(tensors)), sorted(set(tensors) - expected)
    if missing or extra:
        raise CheckpointError(f"adapter {name!r}: missing {_some(missing)}, without a place in the model {_some(extra)}")
    with torch.no_grad():
        for key, value in tensors.items():
            if own[key].shape != value.shape:
                raise CheckpointError(f"adapter {name!r}: {key} has shape {tuple(value.shape)}, expected {tuple(own[key].shape)}")
            own[key].copy_(value)
            if not torch.equal(own[key], value.to(own[key])):
                raise CheckpointError(f"adapter {name!r}: {key} did not arrive in the model")
    log.info("adapter %r: %d tensors loaded, none dropped", name, len(tensors))


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:4]) if names else "none"
    return shown if len(names) <= 4 else f"{shown} and {len(names) - 4} more"
