"""How much each kind of evidence counts for a confidence: a logistic model of a few weights. Knows no reads and no tensors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Final, Self

from pydantic import Field, ValidationError

from mplus.errors import InputError
from mplus.settings.group import Group

REFUSAL: Final = "I don't have that in memory."
"""The answer in place of one whose confidence is below the minimum that a caller asks for."""


class Calibration(Group):
    """Weights that turn the evidence of a read into a confidence: the probability that the memory holds what is asked for.

    They are fitted for the weights of one model (``mplus calibrate``) and stored with it.
    """

    bias: float
    weights: Annotated[Mapping[str, float], Field(min_length=1, description="of each kind of evidence, by its name")]

    @classmethod
    def of_json(cls, data: object) -> Self:
        """Read what a delta stores.

        Raises:
            InputError: it is none.
        """
        try:
            return cls.model_validate(data, strict=True)
        except ValidationError as error:
            first = error.errors()[0]
            raise InputError(f"calibration: {'.'.join(map(str, first['loc'])) or 'all of it'}: {first['msg']}") from None

    def confidence(self, evidence: Mapping[str, float]) -> float:
        """The confidence, 0 to 1, of a read with this evidence; it has a value of every name in ``weights``."""
        total = self.bias + sum(weight * evidence[name] for name, weight in self.weights.items())
        return 1.0 / (1.0 + math.exp(-max(-60.0, min(60.0, total))))


NO_CALIBRATION: Final = (
    "this model has no calibration, so a confidence cannot be told; fit one with `mplus calibrate MODEL --out DIR`, "
    "and open DIR/delta"
)


def check_calibrated(calibration: Calibration | None) -> None:
    """Refuse to tell a confidence without a calibration.

    Raises:
        InputError: says how to fit one.
    """
    if calibration is None:
        raise InputError(NO_CALIBRATION)


def checked_confidence(value: object) -> float:
    """A minimum confidence as a caller gives it.

    Raises:
        InputError: it is no number from 0 to 1.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0.0 <= value <= 1.0:  # false for nan too
        raise InputError(f"min_confidence is {value!r:.60}, expected a number from 0 (answer always) to 1, such as 0.5")
    return float(value)
