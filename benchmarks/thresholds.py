"""Regression thresholds: floors and ceilings that ratios must keep, in a committed file. Knows no seconds.

A file is ``{"schema": 1, "model": ..., "at_least": {ratio: value}, "at_most": {ratio: value}}``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mplus.errors import InputError


@dataclass(frozen=True)
class RegressionThresholds:
    """Bounds for the ratios of one model."""

    model: str
    at_least: dict[str, float]
    at_most: dict[str, float]

    @classmethod
    def read(cls, file: Path) -> RegressionThresholds:
        """Open a file of bounds.

        Raises:
            InputError: missing, not JSON, or of another form.
        """
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(f"'{file}' cannot be read ({error.strerror}); give the file of bounds with --check") from None
        except ValueError:
            raise InputError(f"'{file}' is not JSON; expected bounds like benchmarks/thresholds.json") from None
        try:
            if content["schema"] != 1:
                raise InputError(f"'{file}' has schema {content['schema']!r}, expected 1")
            floors, ceilings = ({name: float(value) for name, value in content[key].items()} for key in ("at_least", "at_most"))
            model = str(content["model"])
        except (KeyError, TypeError, AttributeError, ValueError):
            raise InputError(f"'{file}' holds no bounds; expected the keys schema, model, at_least and at_most") from None
        for name, value in {**floors, **ceilings}.items():
            if not math.isfinite(value):  # nothing would ever break it
                raise InputError(f"'{file}' bounds {name} by {value}, expected a finite number")
        return cls(model, floors, ceilings)

    def check_model(self, model: str) -> None:
        """Raise InputError unless the bounds are for this model."""
        if self.model != model:
            raise InputError(
                f"the bounds are for '{self.model}', this run measures '{model}'; give --model {self.model} or other bounds"
            )

    def broken(self, ratios: Mapping[str, float]) -> list[str]:
        """One sentence for each ratio that is missing or beyond its bound."""
        out = []
        for bounds, word in ((self.at_least, "at least"), (self.at_most, "at most")):
            for name, bound in bounds.items():
                if name not in ratios:
                    out.append(f"ratio {name} was not measured, the threshold is {word} {bound:g}")
                elif ratios[name] < bound if bounds is self.at_least else ratios[name] > bound:
                    out.append(f"ratio {name} is {ratios[name]:.3g}, the threshold is {word} {bound:g}")
        return out
