"""Work counted instead of timed: floating-point operations, and bytes that operators write. Knows torch, nothing of models.

Counts depend on shapes alone, so they are the same on every machine and under every load.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

_RESERVES = ("empty", "new_empty", "empty_like", "empty_strided", "new_empty_strided")
_ALIASES = ("_unsafe_view", "lift_fresh")  # declared as new tensors, in truth the old ones
_CPU_ATTENTION = "_scaled_dot_product_flash_attention_for_cpu"
_PRODUCTS = {"mv": 0, "dot": 0, "vdot": 0, "_int_mm": 0, "addmm_": 1, "addmv": 1, "addmv_": 1}
"""Products that torch's own table of operations lacks, as it lacks attention on a CPU: name to the place of the left factor."""


class Work(TorchDispatchMode):
    """Counts what runs inside ``with Work() as work:``.

    Attributes:
        flops: of matrix products and attention, two for each multiply-add (torch's own table, and what it lacks).
        written_bytes: bytes of the results operators write: new tensors, and the part changed of old ones.
        calls: operators that ran, views included.
        by_operator: name to bytes written.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops = 0
        self.written_bytes = 0
        self.calls = 0
        self.by_operator: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func._schema.name.removeprefix("aten::")
        self.calls += 1
        if func._overloadpacket in flop_registry:
            self.flops += int(flop_registry[func._overloadpacket](*args, **(kwargs or {}), out_val=out))
        elif name in _PRODUCTS:
            left, right = args[_PRODUCTS[name] :][:2]
            self.flops += 2 * left.numel() * (right.shape[1] if right.dim() == 2 else 1)
        elif name == _CPU_ATTENTION:
            query, key = args[0], args[1]
            self.flops += 4 * query.shape[0] * query.shape[1] * query.shape[2] * key.shape[2] * query.shape[3]
        written = self._written(func, name, args, out)
        self.written_bytes += written
        if written:
            self.by_operator[name] += written
        return out

    @staticmethod
    def _written(func: Any, name: str, args: Any, out: Any) -> int:
        if name in _RESERVES or name in _ALIASES:
            return 0
        if name.startswith(("index_put", "_index_put", "scatter", "index_copy")):  # only the chosen part of the whole changes
            values = next(value for value in args[::-1] if isinstance(value, Tensor))
            return _bytes(values)
        total = 0
        results = out if isinstance(out, (tuple, list)) else (out,)
        for result, declared in zip(results, func._schema.returns, strict=False):
            alias = declared.alias_info
            if isinstance(result, Tensor) and (alias is None or alias.is_write):
                total += _bytes(result)
        return total


def _bytes(value: Tensor) -> int:
    return value.numel() * value.element_size()


def work_of(act: Callable[[], Any]) -> Work:
    """What `act` costs."""
    work = Work()
    with work, torch.no_grad():
        act()
    return work
