"""Records of data files, and their fields with a clear word where one is missing, empty or of the wrong type. Knows no tokens."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mplus.errors import InputError
from mplus.runtime.extras import missing
from mplus.text.files import parsed, read_text


@dataclass(frozen=True)
class Record:
    """One record and where it stands."""

    data: dict[str, Any]
    where: str

    def text(self, key: str, *, default: str | None = None) -> str:
        """A text; numbers are written out.

        Raises:
            InputError: it is missing, empty or no text.
        """
        value = self._get(key, default)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str):
            raise InputError(f"{self.where}: '{key}' is {kind_of(value)}, expected text")
        if not value.strip() and default is None:
            raise InputError(f"{self.where}: '{key}' is empty; expected at least one word")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """Texts, at least one, each once; a single text counts as a list of one.

        Raises:
            InputError: it is missing or empty, or holds something else.
        """
        value = self._get(key, None)
        entries = [value] if isinstance(value, (str, int, float)) else value
        if not isinstance(entries, list):
            raise InputError(f"{self.where}: '{key}' is {kind_of(value)}, expected a list of texts")
        found = []
        for entry in entries:
            if isinstance(entry, bool) or not isinstance(entry, (str, int, float)):
                raise InputError(f"{self.where}: '{key}' holds {kind_of(entry)}, expected texts")
            if str(entry).strip():
                found.append(str(entry))
        if not found:
            raise InputError(f"{self.where}: '{key}' is empty; expected at least one answer")
        return tuple(dict.fromkeys(found))

    def records(self, key: str, *, may_be_empty: bool = False) -> list[Record]:
        """Records inside this one.

        Raises:
            InputError: it is missing, no list, or holds something else.
        """
        value = self._get(key, None)
        if not isinstance(value, list) or (not value and not may_be_empty):
            raise InputError(f"{self.where}: '{key}' is {kind_of(value) if value else 'empty'}, expected a list of objects")
        made = []
        for number, entry in enumerate(value):
            if not isinstance(entry, dict):
                raise InputError(f"{self.where}: {key}[{number}] is {kind_of(entry)}, expected an object")
            made.append(Record(entry, f"{self.where} {key}[{number}]"))
        return made

    def entries(self, key: str, *, may_be_empty: bool = False) -> list[Any]:
        """A list of anything.

        Raises:
            InputError: it is missing or no list.
        """
        value = self._get(key, None)
        if not isinstance(value, list) or (not value and not may_be_empty):
            raise InputError(f"{self.where}: '{key}' is {'empty' if value == [] else kind_of(value)}, expected a list")
        return value

    def inside(self, key: str) -> Record:
        """An object inside this one."""
        value = self._get(key, None)
        if not isinstance(value, dict):
            raise InputError(f"{self.where}: '{key}' is {kind_of(value)}, expected an object")
        return Record(value, f"{self.where} {key}")

    def _get(self, key: str, default: Any) -> Any:
        if key not in self.data and default is not None:
            return default
        if key not in self.data:
            present = ", ".join(sorted(map(str, self.data))) or "none"
            raise InputError(f"{self.where} has no field '{key}'; its fields are: {present}")
        return self.data[key]


def read_records(path: Path) -> list[Record]:
    """Records of a JSON list, of JSON objects a line, or of a parquet file.

    Raises:
        InputError: the file is neither, or holds no record (file and line are named).
    """
    if path.suffix.lower() == ".parquet":
        return [Record(row, f"'{path}' row {number}") for number, row in enumerate(parquet_rows(path))]
    text = read_text(path)
    if text.lstrip()[:1] == "[":
        try:
            whole = parsed(text)
        except ValueError as error:
            raise InputError(f"'{path}' is not JSON ({error})") from None
        places = [(entry, f"'{path}' entry {number}") for number, entry in enumerate(whole)]
        found = [Record(_object(entry, where), where) for entry, where in places]
    else:
        found = [Record(entry, f"'{path}' line {number}") for number, entry in json_lines(path, text)]
    if not found:
        raise InputError(f"'{path}' holds no record; expected a JSON list, or one JSON object a line")
    return found


def parquet_rows(path: Path) -> list[dict[str, Any]]:
    """All rows of a parquet file.

    Raises:
        InputError: it cannot be read, or the library is not installed.
    """
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import read_table
    except ImportError:
        raise missing("pyarrow", "reading parquet") from None
    try:
        rows: list[dict[str, Any]] = read_table(path).to_pylist()
    except (OSError, ArrowException) as error:
        raise InputError(f"'{path}' cannot be read as parquet ({' '.join(str(error).split())[:120]})") from None
    return rows


def json_lines(path: str | Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a JSON-lines text with their line numbers; empty lines count but give none.

    Raises:
        InputError: a line is not JSON, or no object (file and line are named).
    """
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            record = parsed(line)
        except ValueError as error:
            raise InputError(f"'{path}' line {number} is not JSON ({error}); expected one JSON object a line") from None
        yield number, _object(record, f"'{path}' line {number}")


def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InputError(f"{where} is {kind_of(value)}, expected a JSON object")
    return value


def kind_of(value: Any) -> str:
    """What a value is, for a person."""
    kinds = {dict: "an object", list: "a list", str: "text", int: "a number", float: "a number", bool: "true or false"}
    return kinds.get(type(value), "null" if value is None else type(value).__name__)
