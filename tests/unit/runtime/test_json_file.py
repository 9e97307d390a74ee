"""Laws of reading JSON that nobody vouches for: an object within bounds, or one reason; no waiting, no other exception."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from mplus.runtime.json_file import UnreadableJsonError, read_json_object

BAD = {
    "nothing": (b"", "empty"),
    "white space": (b" \n", "empty"),
    "half an object": (b'{"a": [1, 2', "not JSON"),
    "list": (b"[1]", "expected an object"),
    "word": (b'"x"', "expected an object"),
    "not a number": (b'{"a": NaN}', "holds NaN"),
    "infinity": (b'{"a": -Infinity}', "holds -Infinity"),
    "overflowing": (b'{"a": 1e999}', "out of range"),
    "digits": (b'{"a": ' + b"9" * 4300 + b"}", "4,300 digits"),
    "more digits": (b'{"a": ' + b"9" * 100_000 + b"}", "100,000 digits"),
    "fraction": (b'{"a": 0.' + b"1" * 5000 + b"}", "out of range"),
    "deep lists": (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "deeper"),
    "deep objects": (b'{"a": ' * 900 + b"1" + b"}" * 900, "deeper"),
    "deeper than we go": (b'{"a": ' + b"[" * 70 + b"]" * 70 + b"}", "deeper"),
    "key twice": (b'{"a": 1, "b": {"c": 1, "c": 2}}', "key 'c' twice"),
    "no UTF-8": (b'{"a": "\xff"}', "not UTF-8"),
    "UTF-16": ('{"a": 1}'.encode("utf-16"), "not UTF-8"),
    "mark": (b'\xef\xbb\xbf{"a": 1}', "not JSON"),
    "null characters": (b"\0" * 100, "not JSON"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_bounded_json_object_has_a_reason(tmp_path: Path, name: str) -> None:
    content, reason = BAD[name]
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(UnreadableJsonError, match=reason) as caught:
        read_json_object(tmp_path / "x.json")
    assert len(str(caught.value)) < 200


def test_object_is_read_as_it_is(tmp_path: Path) -> None:
    data = {"a": [1, -2.5, None, True, "Grüße \U0001f600"], "model_max_length": 10**30, "deep": [[[{"x": {}}]]]}
    (tmp_path / "x.json").write_text(json.dumps(data), encoding="utf-8")
    assert read_json_object(tmp_path / "x.json") == data


def test_nothing_is_read_beyond_the_bound(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text('{"a": 1}', encoding="utf-8")
    assert read_json_object(path, largest_bytes=8) == {"a": 1}
    with pytest.raises(UnreadableJsonError, match="8 bytes, at most 7"):
        read_json_object(path, largest_bytes=7)
    with path.open("r+b") as file:
        file.truncate(1 << 40)  # a hole: takes no room on the disk
    with pytest.raises(UnreadableJsonError, match="1,099,511,627,776 bytes"):
        read_json_object(path)


def test_only_a_regular_file_is_read_and_nothing_waits(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, reason in ((tmp_path / "pipe", "no regular file"), (Path("/dev/zero"), "no regular file"), (tmp_path, "directory")):
        with pytest.raises(UnreadableJsonError, match=reason):
            read_json_object(path)
    (tmp_path / "file").write_text("x", encoding="utf-8")
    for path in (tmp_path / "file" / "x.json", tmp_path / "a\0b", tmp_path / ("x" * 300)):
        with pytest.raises(UnreadableJsonError):
            read_json_object(path)
    with pytest.raises(FileNotFoundError):
        read_json_object(tmp_path / "missing.json")
