"""Records of self-study: passages with what a model asked and answered about them. Knows the file, no model and no tokenizer.

One JSON object a line: ``text`` (the passage), ``kind``, ``question``, ``answer``, ``number`` (of the passage). What was dropped stands
there too, with ``kept: false``, so that a run that goes on knows what is done.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final, Literal, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from mplus.corpus.records import json_lines
from mplus.errors import InputError
from mplus.text.files import read_text

StudyKind = Literal["question", "two_facts", "paraphrase", "restructure", "summary", "absent"]
KINDS: Final[tuple[StudyKind, ...]] = get_args(StudyKind)


class StudyRecord(BaseModel):
    """One question to a passage and its answer."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    number: int
    kind: StudyKind
    text: str
    question: str
    answer: str
    kept: bool


def read_study(path: Path) -> list[StudyRecord]:
    """All records of a file that were kept.

    Raises:
        InputError: there is no such file, it is damaged, or nothing in it was kept.
    """
    if not path.is_file():
        raise InputError(
            f"self-study file {path} does not exist; make it with `python -m mplus.training.self_study`, or leave out "
            "task.self_study and the shares of study and summary"
        )
    kept = [record for record in parsed_records(path) if record.kept]
    if not kept:
        raise InputError(f"self-study file {path} holds no record that was kept; study more text")
    return kept


def parsed_records(path: Path) -> Iterable[StudyRecord]:
    """All records in their order.

    Raises:
        InputError: a line is not a record.
    """
    for number, record in json_lines(path, read_text(path, may_be_empty=True)):
        try:
            yield StudyRecord.model_validate(record)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise InputError(f"{path}:{number} is no self-study record ({where}: {first['msg']}); make the file again") from None
