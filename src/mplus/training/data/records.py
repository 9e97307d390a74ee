"""Records of data files and hub data sets in a reproducible order. Knows file forms, nothing of tokens or training.

Local files are read in an order shuffled afresh every epoch; a hub data set is streamed in its own order. Both go round for ever
and can say and take back where they are.
"""

from __future__ import annotations

import hashlib
import logging
import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mplus.errors import InputError
from mplus.runtime.extras import missing
from mplus.text.documents import read_document
from mplus.text.files import parsed, read_text

log = logging.getLogger(__name__)

ENDINGS = (".jsonl", ".txt", ".parquet", ".json")
DOCUMENTS = (".md", ".html", ".htm", ".xhtml", ".pdf", ".docx")
"""Read where such a file is named; a directory of data files has some beside its data."""
MOST_BYTES = 1 << 34  # of one file that is not parquet; it is held in memory
HUB_PATIENCE = 20_000  # records of a hub data set looked at for one that fits


class Records(ABC):
    """An endless sequence of records."""

    patience: int
    """How many records in a row may not fit before something must be wrong."""

    @abstractmethod
    def next(self) -> dict[str, Any]:
        """The next record."""

    @abstractmethod
    def state(self) -> Any:
        """Where it is: numbers, strings, lists and dicts."""

    @abstractmethod
    def load_state(self, state: Any) -> None:
        """Go on there."""


class LocalRecords(Records):
    """Records of files, a group of neighbours at a time (a parquet row group, all else one group), shuffled in both.

    Args:
        groups: how many records each group has, and how to read one.
    """

    def __init__(self, groups: list[tuple[int, Callable[[], list[dict[str, Any]]]]], seed: int) -> None:
        self.groups, self.seed = groups, seed
        self.patience = sum(count for count, _ in groups)
        self.epoch, self.place = 0, 0
        self._order: tuple[int, list[tuple[int, int]]] | None = None
        self._held: tuple[int, list[dict[str, Any]]] | None = None

    def next(self) -> dict[str, Any]:
        group, number = self._epoch_order()[self.place]
        if self._held is None or self._held[0] != group:
            self._held = (group, self.groups[group][1]())
        self.place += 1
        if self.place == self.patience:
            self.epoch, self.place = self.epoch + 1, 0
        return self._held[1][number]

    def state(self) -> Any:
        return {"epoch": self.epoch, "place": self.place}

    def load_state(self, state: Any) -> None:
        self.epoch, self.place = int(state["epoch"]), int(state["place"])

    def _epoch_order(self) -> list[tuple[int, int]]:
        if self._order is None or self._order[0] != self.epoch:
            randomness = random.Random(f"{self.seed} {self.epoch}")
            order: list[tuple[int, int]] = []
            for group in randomness.sample(range(len(self.groups)), len(self.groups)):
                count = self.groups[group][0]
                order += [(group, number) for number in randomness.sample(range(count), count)]
            self._order = (self.epoch, order)
        return self._order[1]


class HubRecords(Records):
    """A streamed data set of the hub.

    Args:
        opened: opens it at its beginning; gives a ``datasets.IterableDataset``.
    """

    patience = HUB_PATIENCE

    def __init__(self, opened: Callable[[], Any], name: str) -> None:
        self._opened, self.name = opened, name
        self.stream = opened()
        self._iterator: Iterator[dict[str, Any]] | None = None

    def next(self) -> dict[str, Any]:
        for _ in range(2):  # the second time from the beginning again
            if self._iterator is None:
                self._iterator = iter(self.stream)
            try:
                return dict(next(self._iterator))
            except StopIteration:
                self._iterator, self.stream = None, self._opened()
            except Exception as error:
                raise _unreachable(self.name, error) from None
        raise InputError(f"hub data set {self.name!r} holds no records; choose another split or configuration")

    def state(self) -> Any:
        return self.stream.state_dict()

    def load_state(self, state: Any) -> None:
        self.stream.load_state_dict(state)
        self._iterator = None


def open_hub(name: str, config: str | None, split: str) -> HubRecords:
    """Stream a data set of the hub.

    Raises:
        InputError: it cannot be reached or does not exist; the message says how to use a local file.
    """
    try:
        import datasets
    except ImportError:
        raise missing("datasets", "streaming a hub data set") from None

    def opened() -> Any:
        try:
            return datasets.load_dataset(name, config, split=split, streaming=True)
        except Exception as error:
            raise _unreachable(name, error) from None

    return HubRecords(opened, name)


def open_local(path: str, seed: int, *, column: str = "text", questions: bool = False) -> LocalRecords:
    """Read a file, or all data files of a directory. Empty records and those that stand there before are left out, and that is logged.

    Raises:
        InputError: nothing there, nothing of a known form, no record, broken JSON, a record without the column or of another type.
    """
    place = Path(path)
    if place.is_dir():
        files = sorted(file for file in place.rglob("*") if file.suffix in ENDINGS[:3] or (questions and file.suffix == ".json"))
    else:
        files = [place]
    if not place.exists() or not files:
        raise InputError(f"no data at {path}; give a .jsonl, .txt or .parquet file or a directory of such")
    kept = Kept(column, questions)
    groups = [group for file in files for group in _groups(file, column, questions, kept)]
    kept.report(path)
    if not sum(count for count, _ in groups):
        raise InputError(f"{path} holds no text{kept.why}; give a file with at least one document")
    return LocalRecords([group for group in groups if group[0]], seed)


class Kept:
    """Which records are trained on, and how many are left out for which reason.

    Args:
        column: that holds the text (or token ids); of questions ``context``, ``question`` and ``answers``.
    """

    def __init__(self, column: str, questions: bool) -> None:
        self.columns = ("context", "question", "answers") if questions else (column,)
        self.questions = questions
        self.left_out: dict[str, list[str]] = {}
        self._before: set[bytes] = set()

    def takes(self, record: dict[str, Any], where: str) -> bool:
        """Whether a record is trained on.

        Raises:
            InputError: it has not the column, or another type in it.
        """
        for column in self.columns:
            if column not in record:
                present = ", ".join(sorted(map(str, record))) or "none"
                raise InputError(
                    f"{where} has no column {column!r}; it has: {present}; name the right one in the source's `column`"
                )
            value = record[column]
            if column != "answers" and (
                value is None or (isinstance(value, (str, list)) and not (value.strip() if isinstance(value, str) else value))
            ):
                return self._without(f"empty {column!r}", where)
            _check(value, column, where, self.questions)
        content = hashlib.sha256()
        for column in self.columns:
            content.update(
                (value if isinstance(value := record[column], str) else repr(value)).encode("utf-8", "replace") + b"\0"
            )
        if content.digest() in self._before:
            return self._without("the same as one before", where)
        self._before.add(content.digest())
        return True

    @property
    def why(self) -> str:
        """What was left out, in words; empty if nothing."""
        reasons = [
            f"{len(places)} with {reason}" if reason.startswith("empty") else f"{len(places)} {reason}"
            for reason, places in self.left_out.items()
        ]
        return f" ({', '.join(reasons)})" if reasons else ""

    def report(self, path: str) -> None:
        """Log what was left out."""
        for reason, places in self.left_out.items():
            named = ", ".join(places[:3]) + (", ..." if len(places) > 3 else "")
            log.warning("%s: %d record%s left out: %s (%s)", path, len(places), "s" * (len(places) > 1), reason, named)

    def _without(self, reason: str, where: str) -> bool:
        self.left_out.setdefault(reason, []).append(where)
        return False


def _check(value: Any, column: str, where: str, questions: bool) -> None:
    """Refuse what is no text, no token ids and no answers."""
    if isinstance(value, str) or (column == "answers" and questions and value is None):
        return
    texts = value.get("text") if column == "answers" and isinstance(value, dict) else value
    kind = str if questions else int
    if column in ("context", "question") and questions:
        expected = "text"
    elif isinstance(texts, (list, tuple)) and all(isinstance(one, kind) and not isinstance(one, bool) for one in texts):
        return
    else:
        expected = "a text or a list of texts" if questions else "text or token ids"
    got = type(value).__name__ if not isinstance(value, list) or not value else f"a list of {type(value[0]).__name__}"
    raise InputError(f"{where}: column {column!r} holds {got}, expected {expected}")


def _groups(file: Path, column: str, questions: bool, kept: Kept) -> list[tuple[int, Callable[[], list[dict[str, Any]]]]]:
    if file.suffix == ".parquet":
        return _parquet(file, kept)
    if file.suffix == ".txt":
        text = read_text(file, most_bytes=MOST_BYTES, may_be_empty=True)
        held = [record for record in ({column: text},) if kept.takes(record, str(file))]
    elif file.suffix.lower() in DOCUMENTS:
        held = [record for record in ({column: read_document(file)},) if kept.takes(record, str(file))]
    elif file.suffix == ".jsonl":
        held = [record for number, record in _lines(file) if kept.takes(record, f"{file}:{number}")]
    elif file.suffix == ".json" and questions:
        held = [record for number, record in enumerate(_squad(file)) if kept.takes(record, f"{file} question {number}")]
    else:
        raise InputError(
            f"{file} is not a data file; give .jsonl, .txt or .parquet, a document ({', '.join(DOCUMENTS)}), or SQuAD-format .json for questions"
        )
    return [(len(held), lambda: held)]


def _parquet(file: Path, kept: Kept) -> list[tuple[int, Callable[[], list[dict[str, Any]]]]]:
    try:
        from pyarrow import ArrowInvalid
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise missing("pyarrow", "reading parquet") from None
    try:
        whole = ParquetFile(file)
    except (ArrowInvalid, OSError) as error:
        raise InputError(f"{file} is not a parquet file ({' '.join(str(error).split())}); give an undamaged one") from None
    for name in kept.columns:
        if name not in whole.schema_arrow.names:
            present = ", ".join(sorted(whole.schema_arrow.names)) or "none"
            raise InputError(f"{file} has no column {name!r}; it has: {present}; name the right one in the source's `column`")

    def reader(group: int) -> Callable[[], list[dict[str, Any]]]:
        return lambda: whole.read_row_group(group).to_pylist()

    return [(whole.metadata.row_group(group).num_rows, reader(group)) for group in range(whole.num_row_groups)]


def _lines(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(read_text(file, most_bytes=MOST_BYTES, may_be_empty=True).split("\n"), 1):
        if not line.strip():
            continue
        try:
            record = parsed(line)
        except ValueError as error:
            raise InputError(
                f"{file}:{number} is not JSON ({getattr(error, 'msg', error)}); every line must be one object"
            ) from None
        if not isinstance(record, dict):
            raise InputError(f'{file}:{number} holds {type(record).__name__}, expected an object like {{"text": "..."}}')
        yield number, record


def _squad(file: Path) -> Iterator[dict[str, Any]]:
    try:
        for article in parsed(read_text(file, most_bytes=MOST_BYTES))["data"]:
            for paragraph in article["paragraphs"]:
                for asked in paragraph["qas"]:
                    answers = [answer["text"] for answer in asked.get("answers", [])]
                    yield {"context": paragraph["context"], "question": asked["question"], "answers": answers}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{file} is not SQuAD-format JSON ({type(error).__name__}: {error}); see docs/reference/training.md"
        ) from None


def _unreachable(name: str, error: Exception) -> InputError:
    first = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return InputError(
        f"hub data set {name!r} cannot be read ({type(error).__name__}: {first:.160}); without a network give a local file instead: "
        "`path: FILE.jsonl` (or .txt, .parquet) in place of `hub` in the recipe's `task.sources`"
    )
