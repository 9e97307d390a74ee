"""Laws of encrypted streams and of keys: what comes back is what went in or an error, and a destroyed key opens nothing, however old the copy."""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import signal
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from mplus.errors import InputError, MissingExtraError, SnapshotError
from mplus.memory import encryption, keys
from mplus.memory.encryption import BLOCK_BYTES, HEAD_BYTES, TAG_BYTES, decrypt, encrypt, new_key
from mplus.memory.keys import HOME_KEY, Keys, SourceKeys, new_id
from mplus.runtime.atomic import replace_files

pytest.importorskip("cryptography", reason="encryption needs: pip install 'mplus-llm[encrypt]'")

SIZES = [0, 1, 15, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 2 * BLOCK_BYTES, 3 * BLOCK_BYTES + 7]


def flushed(key: bytes, content: bytes, name: str = "rows", pieces: int = 1) -> bytes:
    target, step = io.BytesIO(), max(1, -(-len(content) // pieces))
    encrypt(key, name, [memoryview(content)[at : at + step] for at in range(0, len(content), step)], target)
    return target.getvalue()


def opened(key: bytes, data: bytes, name: str = "rows") -> bytes:
    return b"".join(decrypt(key, name, io.BytesIO(data)))


# -- streams -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size_bytes", SIZES)
@pytest.mark.parametrize("pieces", [1, 3, 1000])
def test_content_comes_back_whatever_its_pieces(size_bytes: int, pieces: int) -> None:
    key, content = new_key(), os.urandom(size_bytes)
    data = flushed(key, content, pieces=pieces)
    assert len(data) == HEAD_BYTES + size_bytes + TAG_BYTES * max(1, -(-size_bytes // BLOCK_BYTES))
    assert opened(key, data) == content


def test_content_is_not_to_be_found_in_its_stream_and_no_two_streams_are_alike() -> None:
    key, content = new_key(), b"where Ana lives" * 100
    first, second = flushed(key, content), flushed(key, content)
    assert b"Ana" not in first and first != second
    assert first[: len(encryption.MAGIC)] == b"MPLUSENC"


def test_another_key_or_name_opens_nothing() -> None:
    key, data = new_key(), flushed(new_key(), b"x")
    with pytest.raises(SnapshotError, match="rows cannot be decrypted"):
        opened(key, data)
    with pytest.raises(SnapshotError, match="columns cannot be decrypted"):
        opened(key, flushed(key, b"x"), name="columns")


@pytest.mark.parametrize("size_bytes", [3, 2 * BLOCK_BYTES + 5])
def test_no_bit_can_be_altered(size_bytes: int) -> None:
    key, content = new_key(), os.urandom(size_bytes)
    data = flushed(key, content)
    for at in {*range(0, len(data), max(1, len(data) // 23)), 8, len(data) - 1}:
        altered = bytearray(data)
        altered[at] ^= 1
        with pytest.raises(SnapshotError):
            opened(key, bytes(altered))


def test_blocks_cannot_be_left_out_moved_doubled_or_taken_from_another_stream() -> None:
    key, content = new_key(), os.urandom(3 * BLOCK_BYTES)
    data, other = flushed(key, content), flushed(key, content)
    head, step = encryption.HEAD_BYTES, BLOCK_BYTES + encryption.TAG_BYTES
    blocks = [data[head + number * step : head + (number + 1) * step] for number in range(3)]
    wrong = [
        b"".join(blocks[:2]),
        b"".join(blocks[:1]),
        b"".join([blocks[1], blocks[0], blocks[2]]),
        b"".join([*blocks, blocks[2]]),
        b"".join([blocks[0], other[head + step : head + 2 * step], blocks[2]]),
        b"".join(blocks) + b"x",
        b"",
    ]
    for body in wrong:
        with pytest.raises(SnapshotError, match="rows cannot be decrypted"):
            opened(key, data[:head] + body)


def test_streams_of_another_form_are_told_from_damaged_ones() -> None:
    key = new_key()
    data = bytearray(flushed(key, b"x"))
    data[8] = 9
    for wrong, says in ((b"", "not encrypted"), (b"x" * 500, "not encrypted"), (bytes(data), "in version 9, .*; update mplus")):
        with pytest.raises(SnapshotError, match=says):
            opened(key, wrong)


def test_what_is_missing_is_told_with_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(__import__("sys").modules, "cryptography", None)
    with pytest.raises(MissingExtraError, match=r"encryption of a stored memory needs the package cryptography.*encrypt"):
        Keys.make(tmp_path)


# -- keys ----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path: Path) -> Keys:
    """Fresh keys."""
    return Keys.make(tmp_path / "keys")


@pytest.fixture
def two(home: Keys) -> tuple[SourceKeys, list[str], dict[str, bytes]]:
    """A memory with two sources: their ids and keys."""
    memory, sources = home.of_memory(new_id()), [new_id(), new_id()]
    return memory, sources, memory.with_keys_for(sources)


def test_keys_come_back_in_a_later_process(two: tuple[SourceKeys, list[str], dict[str, bytes]]) -> None:
    memory, sources, held = two
    assert set(held) == set(sources) and len(set(held.values())) == 2 and all(len(key) == 32 for key in held.values())
    again = Keys(memory.keys.directory).of_memory(memory.memory)
    assert again.read() == held
    assert again.with_keys_for(sources) == held


def test_files_of_keys_are_the_owners_alone_and_hold_no_data_key(two: tuple[SourceKeys, list[str], dict[str, bytes]]) -> None:
    memory, _, held = two
    for path in memory.keys.directory.glob("*.json"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(memory.keys.directory.stat().st_mode) == 0o700
    text = memory.path.read_bytes()
    assert not any(form in text for key in held.values() for form in (key, base64.b64encode(key), key.hex().encode()))


def test_a_destroyed_key_opens_no_copy_however_old(two: tuple[SourceKeys, list[str], dict[str, bytes]]) -> None:
    memory, (stays, goes), held = two
    backup = flushed(held[goes], b"where Ana lives")
    assert memory.destroy([goes, new_id()]) == [goes]
    again = Keys(memory.keys.directory).of_memory(memory.memory)
    assert again.read() == {stays: held[stays]}
    assert goes not in memory.path.read_text(encoding="utf-8")
    for key in (*again.read().values(), *again.with_keys_for([goes]).values()):  # the same id gets another key
        with pytest.raises(SnapshotError, match="cannot be decrypted"):
            opened(key, backup)
    assert again.destroy([stays, goes]) == sorted([stays, goes])
    assert not memory.path.exists()


def test_a_wrapped_key_belongs_to_its_source_and_memory(two: tuple[SourceKeys, list[str], dict[str, bytes]]) -> None:
    memory, (one, other), _ = two
    data = json.loads(memory.path.read_text(encoding="utf-8"))
    data["sources"][one], data["sources"][other] = data["sources"][other], data["sources"][one]
    memory.path.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(SnapshotError, match="a key in .* was altered, or wrapped by another home key"):
        memory.read()
    stranger = memory.keys.of_memory(new_id())
    data["sources"][one], data["sources"][other] = data["sources"][other], data["sources"][one]
    stranger.path.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(SnapshotError, match="altered"):
        stranger.read()


def test_a_new_home_key_opens_all_and_the_old_one_nothing(
    two: tuple[SourceKeys, list[str], dict[str, bytes]], tmp_path: Path
) -> None:
    memory, sources, held = two
    shutil.copytree(memory.keys.directory, tmp_path / "old")
    beside = Keys(memory.keys.directory).of_memory(memory.memory)
    assert memory.keys.rotate() == 2
    assert Keys(memory.keys.directory).of_memory(memory.memory).read() == held
    assert beside.read() == held  # of a process that goes on with the key of before
    more = beside.with_keys_for([*sources, new_id()])
    assert Keys(memory.keys.directory).of_memory(memory.memory).read() == more
    shutil.copy(tmp_path / "old" / HOME_KEY, memory.keys.directory / HOME_KEY)
    with pytest.raises(SnapshotError, match="another home key"):
        Keys(memory.keys.directory).of_memory(memory.memory).read()


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_killed_change_of_the_home_key_costs_no_key(home: Keys) -> None:
    """SIGKILL before every replacement of a file, one after the other."""
    memories = [home.of_memory(new_id()) for _ in range(2)]
    held = [memory.with_keys_for([new_id(), new_id()]) for memory in memories]
    for dies_at in range(4):
        pid = os.fork()
        if not pid:
            _die_at(dies_at)
            home.rotate()
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == signal.SIGKILL
        again = Keys(home.directory)
        assert [again.of_memory(memory.memory).read() for memory in memories] == held
    assert Keys(home.directory).rotate() == 4
    assert len(json.loads((home.directory / HOME_KEY).read_text(encoding="utf-8"))["keys"]) == 1
    assert sorted(path.name for path in home.directory.iterdir() if path.name != keys.LOCK) == sorted(
        [HOME_KEY, *(memory.path.name for memory in memories)]
    )


def _die_at(number: int) -> None:
    done = [0]

    def dying(writers: dict[Path, Callable[[Path], object]]) -> list[Path]:
        if done[0] == number:
            for path, write in writers.items():
                write(path.with_name(f".{path.stem}.00000000{path.suffix}"))  # half of a replacement
            os.kill(os.getpid(), signal.SIGKILL)
        done[0] += 1
        return replace_files(writers)

    vars(keys)["replace_files"] = dying


def test_home_keys_that_cannot_be_used(home: Keys, tmp_path: Path) -> None:
    path = home.directory / HOME_KEY
    whole = path.read_text(encoding="utf-8")
    with pytest.raises(InputError, match="holds a home key already"):
        Keys.make(home.directory)
    with pytest.raises(InputError, match="there is no home key in .*; make one with `mplus key`"):
        Keys(tmp_path)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InputError, match="no key can be stored in"):
        Keys.make(tmp_path / "file" / "keys")
    for text, says in [
        ("", "cannot be read .it is empty"),
        ("{}", "has format None"),
        (whole.replace('"current": "', '"current": "x'), "is damaged"),
        (json.dumps({"format": 1, "current": "a", "keys": {"a": "AAAA"}}), "is damaged .a key is missing or has another length"),
        (json.dumps({"format": 1, "current": "a", "keys": {"a": "?"}}), "is damaged"),
    ]:
        path.write_text(text, encoding="utf-8")
        with pytest.raises((InputError, SnapshotError), match=says):
            Keys(home.directory)
    path.write_text(whole, encoding="utf-8")
    path.chmod(0o640)
    with pytest.raises(InputError, match="may be read by others .mode 640.; run: chmod 600"):
        Keys(home.directory)


def test_files_of_source_keys_that_cannot_be_read(two: tuple[SourceKeys, list[str], dict[str, bytes]]) -> None:
    memory, _, _ = two
    for text in (
        "",
        "[]",
        '{"format": 1}',
        '{"format": 1, "sources": {"../x": {}}}',
        '{"format": 1, "sources": {"%s": 3}}' % ("0" * 32),
    ):
        memory.path.write_text(text, encoding="utf-8")
        with pytest.raises(SnapshotError, match="cannot be read|holds no keys|was altered"):
            memory.read()
