"""What became of every tensor of a checkpoint. Knows names and shapes only."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mplus.errors import CheckpointError

log = logging.getLogger(__name__)

MOST_NAMED = 4
"""Names of each kind in a message."""


def is_finite(value: Tensor) -> bool:
    """Whether a tensor is free of NaN and infinity: one float32 sum, many times quicker than a test of every number."""
    return bool(torch.isfinite(value.detach().sum(dtype=torch.float32)))


@dataclass
class LoadReport:
    """Every tensor of the file is used, or unused for a named reason; every needed one was found.

    Attributes:
        source: where the tensors came from.
        used: names that went into the model or its initial memory.
        unused: name to the reason it is deliberately not needed.
    """

    source: str
    used: set[str] = field(default_factory=set)
    unused: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    extra: list[str] = field(default_factory=list)
    misshapen: list[str] = field(default_factory=list)
    not_finite: list[str] = field(default_factory=list)

    def check_tensor(self, name: str, value: Tensor, shape: tuple[int, ...] | None) -> None:
        """Note a tensor as used, and what is wrong with it."""
        self.used.add(name)
        if shape is not None and tuple(value.shape) != shape:
            self.misshapen.append(f"{name} is {list(value.shape)}, expected {list(shape)}")
        elif value.is_floating_point() and not is_finite(value):
            self.not_finite.append(name)

    def raise_if_bad(self) -> None:
        """Raise ``CheckpointError`` listing the faults of every kind at once, the first of them by name, else log the counts."""
        faults = [
            _listed("missing", self.missing),
            _listed("not known", self.extra),
            _listed("misshapen", self.misshapen, between="; "),
            _listed("not finite (NaN or infinity)", self.not_finite),
        ]
        found = "; ".join(part for part in faults if part)
        if found:
            raise CheckpointError(
                f"checkpoint {self.source} cannot be loaded; {found}; get an undamaged copy of the whole checkpoint"
            )
        log.info("%s: %d tensors used, %d deliberately unused", self.source, len(self.used), len(self.unused))


class CheckedTensors:
    """Tensors of a checkpoint by name; each is noted in a report when it is taken.

    Args:
        source: where they came from.
        dtype, device: what they are brought to unless told otherwise; None: as they are.
    """

    def __init__(
        self, source: str, tensors: Mapping[str, Tensor], *, dtype: torch.dtype | None = None, device: torch.device | None = None
    ) -> None:
        self.report = LoadReport(source)
        self._tensors, self.dtype, self.device = tensors, dtype, device

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def take(
        self, name: str, shape: tuple[int, ...] | None, *, dtype: torch.dtype | None = None, device: torch.device | None = None
    ) -> Tensor | None:
        """A tensor of this shape (None: any); None where it is missing. Faults wait in the report."""
        if name not in self._tensors:
            self.report.missing.append(name)
            return None
        self.report.check_tensor(name, self._tensors[name], shape)
        return self._tensors[name].to(device=device or self.device, dtype=dtype or self.dtype)

    def leave(self, prefixes: tuple[str, ...], reason: str) -> None:
        """Note tensors that are not needed."""
        self.report.unused |= dict.fromkeys((name for name in self._tensors if name.startswith(prefixes)), reason)

    def finished(self) -> LoadReport:
        """The report, when everything was taken or left.

        Raises:
            CheckpointError: a tensor is missing, unknown, misshapen or not finite.
        """
        self.report.extra = sorted(set(self._tensors) - self.report.used - set(self.report.unused))
        self.report.raise_if_bad()
        return self.report


def _listed(kind: str, names: list[str], *, between: str = ", ") -> str:
    if not names:
        return ""
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return f"{kind}: {between.join(sorted(names)[:MOST_NAMED])}{more}"
