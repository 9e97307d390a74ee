"""Word lists, templates and tables of ``corpus/data/*.json``, read whole and checked. Knows no generator.

The split ``held_out`` shares no name, no word value and some wordings with ``train``: what is measured on it was never trained on.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal, Self

from pydantic import BaseModel, ConfigDict

Split = Literal["train", "held_out"]
Words = tuple[str, ...]

_FOLDER: Final = Path(__file__).parent / "data"


class Table(BaseModel):
    """A JSON file whose keys and kinds of values are the fields of the subclass; the order of its lists decides what is generated."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    @classmethod
    def read(cls, name: str) -> Self:
        """The table of ``data/NAME.json``.

        Raises:
            pydantic.ValidationError: a key is missing or unknown, or a value is of the wrong kind.
        """
        return cls.model_validate_json((_FOLDER / f"{name}.json").read_bytes())


class SplitWords(Table):
    """One word list per split; they share no word."""

    train: Words
    held_out: Words
