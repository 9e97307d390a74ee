"""Recorded cases of the public reference models: where they lie, what they hold, how far we are from them."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

DEFAULT_DIR = Path(__file__).resolve().parents[3] / "shared" / "parity"
DIAGNOSTIC = re.compile(r"(^|\.)(stm_scores\.\d+|randperm)$")
"""Recorded for the reader of a case: scores of short-term rows are never used, raw draws are replaced by `remaining`."""


def parity_dir() -> Path:
    """The directory of recorded sets."""
    return Path(os.environ.get("MPLUS_PARITY_DIR") or DEFAULT_DIR)


def data_is_required() -> bool:
    """Whether absent data is a failure: a directory was named, or continuous integration asks for it."""
    return (
        bool(os.environ.get("MPLUS_PARITY_DIR"))
        or os.environ.get("MPLUS_REQUIRE_SHARED") == "1"
        or os.environ.get("CI") == "true"
    )


@dataclass(frozen=True)
class CaseRef:
    """One line of a set's ``index.json``."""

    directory: Path
    name: str
    kind: str

    @property
    def set_name(self) -> str:
        """Name of the set's directory."""
        return self.directory.name

    def __str__(self) -> str:
        return f"{self.set_name}/{self.name}"


def discover(root: Path) -> list[CaseRef]:
    """All cases of all sets: subdirectories with an ``index.json``."""
    found = []
    for index in sorted(root.glob("*/index.json")):
        for entry in json.loads(index.read_text(encoding="utf-8")):
            found.append(CaseRef(index.parent, str(entry["name"]), str(entry["kind"])))
    return found


class Case:
    """Metadata and tensors of one case; notes which tensors were used, so that none is passed over in silence."""

    def __init__(self, ref: CaseRef) -> None:
        self.ref = ref
        stem = ref.directory / "cases" / ref.name
        self.meta: dict[str, Any] = json.loads(stem.with_suffix(".json").read_text(encoding="utf-8"))
        self._tensors = load_file(stem.with_suffix(".safetensors"))
        self._used: set[str] = set()

    @property
    def atol(self) -> float:
        """Absolute tolerance of this case."""
        return float(self.meta["atol"])

    @property
    def checkpoint(self) -> Path:
        """Directory of the model."""
        return self.ref.directory / str(self.meta.get("checkpoint", "checkpoint"))

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def __getitem__(self, name: str) -> Tensor:
        self._used.add(name)
        return self._tensors[name]

    def below(self, prefix: str) -> dict[str, Tensor]:
        """Tensors whose name starts with `prefix`, without it."""
        return {name.removeprefix(prefix): self[name] for name in list(self._tensors) if name.startswith(prefix)}

    def numbered(self, prefix: str) -> Iterator[tuple[int, Tensor]]:
        """Tensors called ``<prefix>.<number>``, by number."""
        pattern = re.compile(rf"{re.escape(prefix)}\.(\d+)$")
        numbers = sorted(int(match[1]) for match in map(pattern.match, self._tensors) if match)
        for number in numbers:
            yield number, self[f"{prefix}.{number}"]

    def not_compared(self) -> list[str]:
        """Tensors nothing looked at, diagnostics aside."""
        return sorted(name for name in self._tensors if name not in self._used and not DIAGNOSTIC.search(name))


@dataclass
class Deviations:
    """Largest absolute deviation per set and memory format."""

    largest: dict[tuple[str, str], tuple[float, str]] = field(default_factory=dict)
    cases: dict[tuple[str, str], int] = field(default_factory=dict)
    not_compared: dict[str, list[str]] = field(default_factory=dict)

    def note(self, set_name: str, memory_format: str, value: float, where: str) -> None:
        """Keep a deviation if it is the largest so far (NaN counts as largest)."""
        key = (set_name, memory_format)
        if key not in self.largest or not value <= self.largest[key][0]:
            self.largest[key] = (value, where)


class Check:
    """Compares with one case's recorded tensors, within its tolerance, and notes how far off we are."""

    def __init__(self, case: Case, memory_format: str, deviations: Deviations) -> None:
        self.case, self.format, self.deviations = case, memory_format, deviations
        key = (case.ref.set_name, memory_format)
        deviations.cases[key] = deviations.cases.get(key, 0) + 1

    def close(self, what: str, got: Tensor, recorded: Tensor) -> None:
        """Floating-point numbers within the tolerance, whole numbers exactly."""
        assert got.shape == recorded.shape, f"{self.case.ref} {what}: shape {list(got.shape)}, recorded {list(recorded.shape)}"
        if not recorded.is_floating_point():
            self.same(what, got, recorded)
            return
        off = float((got.double() - recorded.double()).abs().max()) if recorded.numel() else 0.0
        self.deviations.note(self.case.ref.set_name, self.format, off, f"{self.case.ref.name}: {what}")
        assert off <= self.case.atol, f"{self.case.ref} {what}: off by {off:.2e}, tolerance {self.case.atol:.0e}"

    def same(self, what: str, got: Tensor, recorded: Tensor) -> None:
        """Whole numbers, exactly."""
        assert torch.equal(got.long(), recorded.long()), (
            f"{self.case.ref} {what}: got {got.tolist()}, recorded {recorded.tolist()}"
        )
