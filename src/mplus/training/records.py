"""Records of data files and hub data sets in a reproducible order. Knows file forms, nothing of tokens or training.

Local files are read in an order shuffled afresh every epoch; a hub data set is streamed in its own order. Both go round for ever
and can say and take back where they are.
"""

from __future__ import annotations

import json
import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mplus.errors import EncodingError, InputError
from mplus.runtime.extras import missing

ENDINGS = (".jsonl", ".txt", ".parquet", ".json")
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
    """Read a file, or all data files of a directory.

    Raises:
        InputError: nothing there, nothing of a known form, no record, broken JSON.
    """
    place = Path(path)
    if place.is_dir():
        files = sorted(file for file in place.rglob("*") if file.suffix in ENDINGS[:3] or (questions and file.suffix == ".json"))
    else:
        files = [place]
    if not place.exists() or not files:
        raise InputError(f"no data at {path}; give a .jsonl, .txt or .parquet file or a directory of such")
    groups = [group for file in files for group in _groups(file, column, questions)]
    if not sum(count for count, _ in groups):
        raise InputError(f"{path} holds no text; give a file with at least one document")
    return LocalRecords([group for group in groups if group[0]], seed)


def _groups(file: Path, column: str, questions: bool) -> list[tuple[int, Callable[[], list[dict[str, Any]]]]]:
    if file.suffix == ".parquet":
        return _parquet(file)
    if file.suffix == ".txt":
        text = _text(file)
        held = [{column: text}] if text.strip() else []
    elif file.suffix == ".jsonl":
        held = list(_lines(file))
    elif file.suffix == ".json" and questions:
        held = list(_squad(file))
    else:
        raise InputError(f"{file} is not a data file; give .jsonl, .txt or .parquet, or SQuAD-format .json for questions")
    return [(len(held), lambda: held)]


def _parquet(file: Path) -> list[tuple[int, Callable[[], list[dict[str, Any]]]]]:
    try:
        from pyarrow import ArrowInvalid
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise missing("pyarrow", "reading parquet") from None
    try:
        whole = ParquetFile(file)
    except (ArrowInvalid, OSError) as error:
        raise InputError(f"{file} is not a parquet file ({error}); give an undamaged one") from None

    def reader(group: int) -> Callable[[], list[dict[str, Any]]]:
        return lambda: whole.read_row_group(group).to_pylist()

    return [(whole.metadata.row_group(group).num_rows, reader(group)) for group in range(whole.num_row_groups)]


def _lines(file: Path) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(_text(file).split("\n"), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise InputError(f"{file}:{number} is not JSON ({error.msg}); every line must be one object") from None
        if not isinstance(record, dict):
            raise InputError(f'{file}:{number} holds {type(record).__name__}, expected an object like {{"text": "..."}}')
        yield record


def _squad(file: Path) -> Iterator[dict[str, Any]]:
    try:
        for article in json.loads(_text(file))["data"]:
            for paragraph in article["paragraphs"]:
                for asked in paragraph["qas"]:
                    answers = [answer["text"] for answer in asked.get("answers", [])]
                    yield {"context": paragraph["context"], "question": asked["question"], "answers": answers}
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise InputError(f"{file} is not SQuAD-format JSON ({type(error).__name__}: {error}); see docs/training.md") from None


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise EncodingError(f"{file} is not UTF-8 text; convert it first") from None
    except OSError as error:
        raise InputError(f"{file} cannot be read ({error.strerror or error})") from None


def _unreachable(name: str, error: Exception) -> InputError:
    first = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return InputError(
        f"hub data set {name!r} cannot be read ({type(error).__name__}: {first:.160}); without a network give a local file instead: "
        "`path: FILE.jsonl` (or .txt, .parquet) in place of `hub` in the recipe's `task.sources`"
    )
