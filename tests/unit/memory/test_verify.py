"""Laws of verification: a sound memory has no findings, each damage has one in words, and neither a model nor torch is needed."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mplus import Memory, MPlusModel
from mplus.errors import SnapshotError
from mplus.memory.manifest import as_file
from mplus.memory.tensor_file import tensors_in
from mplus.memory.verify import verify
from mplus.runtime.atomic import sha256
from tests.conftest import TinyModel
from tests.tiny import SETUPS, filled, ids

FORMATS = Path(__file__).parents[2] / "formats"


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory, tiny_model: TinyModel) -> Path:
    """A stored memory with two sources, segments, forgotten rows and text that no source names."""
    model, place = tiny_model("llama", "shared"), tmp_path_factory.mktemp("sound") / "m"
    memory = model.new_memory(seed=3)
    for number in range(6):
        memory.write(ids(24, number), source="abc"[number % 3])
    memory.save(place)
    opened = Memory.load(place, model)
    opened.forget("b")
    opened.write(ids(20, 8))
    opened.save(place)
    return place


@pytest.fixture
def memory(sound: Path, tmp_path: Path) -> Path:
    """A copy of it to damage."""
    return Path(shutil.copytree(sound, tmp_path / "m"))


def manifest_of(place: Path) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((place / "manifest.json").read_text(encoding="utf-8"))
    del manifest["checksum"]
    return manifest


def with_manifest(place: Path, change: Callable[[dict[str, Any]], object]) -> None:
    manifest = manifest_of(place)
    change(manifest)
    (place / "manifest.json").write_bytes(as_file(manifest))


def with_table(place: Path, name: str, change: Callable[[Any], object], form: str = "<i8") -> None:
    """Change a table of the data file, with the digests that belong to it."""
    path = place / manifest_of(place)["data"]["file"]
    entry = next(entry for entry in tensors_in(path) if entry.name == name)
    content = bytearray(path.read_bytes())
    table = np.frombuffer(content[entry.start : entry.stop], form).reshape(entry.shape).copy()
    change(table)
    content[entry.start : entry.stop] = table.tobytes()
    path.write_bytes(content)
    with_manifest(place, lambda manifest: manifest["data"].update(sha256=sha256(path)))


def found(place: Path) -> str:
    """The findings, each a line."""
    return "\n".join(verify(place).findings)


@pytest.mark.parametrize("setup", sorted(SETUPS))
def test_a_memory_of_every_kind_is_sound(tiny_model: TinyModel, tmp_path: Path, setup: str) -> None:
    filled(tiny_model("llama", setup), 151).save(tmp_path / "m")
    report = verify(tmp_path / "m")
    assert report.is_sound and not report.notes and report.files >= 2 and report.tensors > 10, report


def test_a_memory_that_forgot_and_grew_is_sound(sound: Path) -> None:
    report = verify(sound)
    assert report.is_sound and not report.notes
    assert report.size_bytes == sum(path.stat().st_size for path in sound.glob("*.safetensors"))
    assert report.to_json()["sound"] is True


@pytest.mark.parametrize(
    "name", ["1-plain", "2-segments", "1-per-layer", "c48067e-shared/memory-ram", "c48067e-shared/memory-disk"]
)
def test_memories_of_every_version_are_sound(name: str) -> None:
    report = verify(FORMATS / name)
    assert report.is_sound and report.tensors, report


def test_neither_torch_nor_a_model_is_needed(sound: Path) -> None:
    script = (
        "import sys; from mplus.memory.verify import verify; from mplus.memory.compact import compact; "
        "from mplus.memory.portable import export_memory; "
        "assert verify(sys.argv[1]).is_sound; assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script, str(sound)], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr


def test_files_that_nothing_needs_are_noted_and_are_no_damage(memory: Path) -> None:
    (memory / "segment-00000000000000aa.safetensors").write_bytes(b"x")
    (memory / "notes.txt").write_bytes(b"x")
    report = verify(memory)
    assert report.is_sound
    assert report.notes == [
        "'notes.txt': no file of the memory",
        "'segment-00000000000000aa.safetensors': left by a process that was ended, the next save removes it",
    ]


def test_a_memory_that_is_saved_or_deleted_meanwhile_is_not_called_damaged(
    tiny_model: TinyModel, memory: Path, tmp_path: Path
) -> None:
    opened, saves = Memory.load(memory, tiny_model("llama", "shared")), list[int]()

    def saved_once(done: int, total: int) -> None:
        if not saves:
            opened.write(ids(24, 9))
            opened.save(memory)
        saves.append(done)

    assert verify(memory, progress=saved_once).is_sound and saves.count(saves[0]) < len(saves)
    with pytest.raises(SnapshotError, match="no memory at"):
        verify(memory, progress=lambda done, total: shutil.rmtree(memory, ignore_errors=True))


def test_where_there_is_no_memory_it_is_told(tmp_path: Path) -> None:
    with pytest.raises(SnapshotError, match="no memory at"):
        verify(tmp_path / "none")
    with pytest.raises(SnapshotError, match="is not a memory: manifest.json is missing"):
        verify(tmp_path)


def test_every_damaged_file_is_named_not_only_the_first(memory: Path) -> None:
    first, second = (memory / entry["file"] for entry in manifest_of(memory)["segments"])
    altered = bytearray(first.read_bytes())
    altered[-1] ^= 1
    first.unlink()
    first.write_bytes(altered)
    second.unlink()
    data = memory / manifest_of(memory)["data"]["file"]
    data.write_bytes(data.read_bytes()[:-1])
    lines = found(memory).splitlines()
    assert len(lines) == 3
    assert "was truncated or altered (" in lines[0] and data.name in lines[0]
    assert "its SHA-256 differs" in lines[1] and first.name in lines[1]
    assert "is missing" in lines[2] and second.name in lines[2]


def test_a_damaged_manifest_is_a_finding(memory: Path) -> None:
    path = memory / "manifest.json"
    whole = path.read_text(encoding="utf-8")
    path.write_text(whole.replace('"seed": 3', '"seed": 4'), encoding="utf-8")
    assert "its checksum differs" in found(memory)
    path.write_text(whole[:-5], encoding="utf-8")
    assert "cannot be read" in found(memory)
    path.write_text(whole, encoding="utf-8")
    with_manifest(memory, lambda manifest: manifest["data"].update(file="../x"))
    assert "'../x' is no file of a memory" in found(memory)


def test_numbers_that_are_not_finite_are_found(memory: Path) -> None:
    entry = manifest_of(memory)["segments"][0]
    path = memory / entry["file"]
    tensor = next(tensor for tensor in tensors_in(path) if tensor.dtype == "F32")
    content = bytearray(path.read_bytes())
    content[tensor.start + 8 : tensor.start + 16] = struct.pack("<ff", float("nan"), float("-inf"))
    path.unlink()
    path.write_bytes(content)
    with_manifest(memory, lambda manifest: manifest["segments"][0].update(sha256=sha256(path)))
    assert found(memory) == f"{entry['file']}: 2 numbers of tensor {tensor.name} are not finite"


@pytest.mark.parametrize(
    ("dtype", "finite", "broken"),
    [
        ("BF16", 0x7F7F, [0x7F80, 0xFF80, 0x7FC0]),
        ("F16", 0x7BFF, [0x7C00, 0xFC00, 0x7E01]),
        ("F8_E5M2", 0x7B, [0x7C, 0xFD]),
        ("F8_E4M3", 0x7E, [0x7F, 0xFF]),
        ("F64", 0x7FEF_FFFF_FFFF_FFFF, [0x7FF0_0000_0000_0000, 0xFFF8_0000_0000_0001]),
    ],
)
def test_every_float_is_read_rightly(tmp_path: Path, dtype: str, finite: int, broken: list[int]) -> None:
    from mplus.memory.tensor_file import BYTES_OF, not_finite

    size = BYTES_OF[dtype]
    data = b"".join(number.to_bytes(size, "little") for number in (0, finite, *broken))
    head = json.dumps({"x": {"dtype": dtype, "shape": [2 + len(broken)], "data_offsets": [0, len(data)]}}).encode()
    (tmp_path / "x").write_bytes(struct.pack("<Q", len(head)) + head + data)
    (entry,) = tensors_in(tmp_path / "x")
    assert not_finite(tmp_path / "x", entry) == len(broken)


def _set(place: tuple[int, ...], value: int) -> Callable[[Any], object]:
    return lambda table: table.__setitem__(place, value)


TABLES: list[tuple[str, Callable[[Any], object], str]] = [
    ("chunks", _set((0, 0), -1), "overlap, or are not in the order"),
    ("chunks", _set((0, 1), 10**6), "overlap, or are not in the order"),
    ("chunks", _set((-1, 1), 10**6), "the ledger ends at row"),
    ("chunks", _set((0, 2), 7), "token ids, "),
    ("chunks", _set((0, 3), 2), "parts of chunks"),
    ("parts", _set((0, 0), 99), "of a source that the manifest does not name"),
    ("parts", _set((0, 1), 7), "are not as many as its token ids"),
    ("extents", _set((0, 0), 99), "in segments that the manifest does not name"),
    ("extents", _set((0, 2), 10**6), "lie behind the end of segment-"),
    ("extents", _set((-1, 3), 0), "lie in two places"),
    ("extents", _set((-1, 3), 10**6), "the log ends at row"),
    ("short.rows", _set((0, 0), 10**6), "short memory places 1 tokens whose rows are stored nowhere"),
    ("short.births", _set((0, 0), 10**6), "short memory holds a token of birth 1,000,000"),
    ("long.0.births", _set((0,), 10**6), "long-term group 0 memory holds a token of birth"),
]


@pytest.mark.parametrize(("name", "change", "says"), TABLES)
def test_tables_that_do_not_add_up_are_found(
    memory: Path, model: MPlusModel, name: str, change: Callable[[Any], object], says: str
) -> None:
    with_table(memory, name, change)
    assert says in found(memory)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda manifest: manifest.update(now=-1), "manifest.json: now is -1"),
        (lambda manifest: manifest.pop("now"), "manifest.json: there is no 'now'"),
        (lambda manifest: manifest.update(tokens_read=5), "text tokens, the manifest 5"),
        (lambda manifest: manifest.update(chunks=5), "chunks in its tables and the manifest"),
        (lambda manifest: manifest.update(stm_tokens=5), "short-term memory is not stored as the 5 tokens"),
        (lambda manifest: manifest["long"][0].update(tokens=5), "long-term group 0 is not stored as the 5 tokens"),
        (
            lambda manifest: manifest["sources"][0].update(tokens=5),
            "source 'a' has 48 text tokens in the ledger, 5 in the manifest",
        ),
    ],
)
def test_manifests_that_do_not_add_up_are_found(memory: Path, change: Callable[[dict[str, Any]], object], says: str) -> None:
    with_manifest(memory, change)
    assert says in found(memory)


def test_files_that_are_no_safetensors_are_found(memory: Path) -> None:
    path = memory / manifest_of(memory)["data"]["file"]
    whole = path.read_bytes()
    head = int.from_bytes(whole[:8], "little")
    for content, says in [
        (b"x", "its head would have"),
        (struct.pack("<Q", 1 << 40) + whole[8:], "its head would have 1,099,511,627,776 bytes"),
        (struct.pack("<Q", 4) + b"[1]x" + whole, "its head is not of the form"),
        (whole[:8] + whole[8 : 8 + head].replace(b'"I64"', b'"I99"') + whole[8 + head :], "is I99"),
        (whole + b"x", "its tensors end at byte"),
    ]:
        path.write_bytes(content)
        with_manifest(memory, lambda manifest, content=content: manifest["data"].update(bytes=len(content), sha256=sha256(path)))  # type: ignore[misc]
        assert f"{path.name} is no safetensors file: " in found(memory) and says in found(memory)
