"""Laws of one-file archives: the same memory comes back, whole or not at all, from any address; what is not as exported is refused."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pytest

from mplus.errors import InputError, SnapshotError
from mplus.memory import portable
from mplus.memory.manifest import as_file
from mplus.memory.parts import copy_checked
from mplus.memory.portable import export_memory, import_memory
from mplus.runtime.atomic import aside_of

STORED = Path(__file__).parents[2] / "formats" / "2-segments"
SEGMENT = "segment-08a28444f7aab63a.safetensors"
Entries = dict[str, bytes]


@pytest.fixture
def memory(tmp_path: Path) -> Path:
    """A stored memory with segments; its manifest with a checksum, as they have now."""
    place = Path(shutil.copytree(STORED, tmp_path / "anna"))
    manifest = json.loads((place / "manifest.json").read_text(encoding="utf-8"))
    (place / "manifest.json").write_bytes(as_file({key: manifest[key] for key in manifest if key != "checksum"}))
    return place


@pytest.fixture
def archive(memory: Path, tmp_path: Path) -> Path:
    """It, exported."""
    export_memory(memory, tmp_path / "anna.mplus")
    return tmp_path / "anna.mplus"


def files_of(directory: Path) -> Entries:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def entries_of(archive: Path) -> Entries:
    with zipfile.ZipFile(archive) as file:
        return {name: file.read(name) for name in file.namelist()}


def write_zip(path: Path, entries: list[tuple[str | zipfile.ZipInfo, bytes]], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, data in entries:
            file.writestr(name, data)
    return path


def refused(archive: Path, saying: str) -> None:
    """It is, in one line, and nothing is left behind."""
    target = archive.parent / "imported"
    before = sorted(path.name for path in archive.parent.iterdir())
    with pytest.raises((SnapshotError, InputError), match=saying) as error:
        import_memory(archive, target)
    assert "\n" not in str(error.value) and ".aside" not in str(error.value) and f".{target.name}." not in str(error.value)
    assert sorted(path.name for path in archive.parent.iterdir()) == before


# -- there and back ------------------------------------------------------------------------------------------------------


def test_import_makes_what_export_took(memory: Path, archive: Path, tmp_path: Path) -> None:
    size_bytes = import_memory(archive, tmp_path / "new" / "ben")
    assert files_of(tmp_path / "new" / "ben") == files_of(memory)
    assert size_bytes == sum(len(data) for name, data in files_of(memory).items() if name != "manifest.json")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["anna", "anna.mplus", "new"]
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["ben"]


def test_the_same_state_gives_the_same_bytes(memory: Path, archive: Path, tmp_path: Path) -> None:
    import_memory(archive, tmp_path / "ben")
    export_memory(tmp_path / "ben", tmp_path / "ben.mplus")
    assert (tmp_path / "ben.mplus").read_bytes() == archive.read_bytes()


def test_files_that_the_manifest_does_not_name_stay_behind(memory: Path, tmp_path: Path) -> None:
    expected = files_of(memory)
    for name in ("notes.txt", ".save.lock", "segment-0000000000000000.safetensors"):
        (memory / name).write_bytes(b"x")
    export_memory(memory, tmp_path / "a.mplus")
    assert entries_of(tmp_path / "a.mplus") == expected


def test_segments_are_read_only_and_the_rest_has_the_mode_of_the_umask(archive: Path, tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        import_memory(archive, tmp_path / "ben")
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "ben").iterdir()}
    assert (modes[SEGMENT], modes["manifest.json"]) == (0o440, 0o640)


@pytest.mark.parametrize("address", ["memory://bucket/a.mplus", "file://{place}/b.mplus", "simplecache::memory://bucket/c.mplus"])
def test_an_archive_at_an_address(memory: Path, tmp_path: Path, address: str) -> None:
    place = address.format(place=tmp_path)
    fsspec.filesystem("memory").makedirs("/bucket", exist_ok=True)
    export_memory(memory, place.removeprefix("simplecache::"))
    import_memory(place, tmp_path / "ben")
    assert files_of(tmp_path / "ben") == files_of(memory)


def test_an_archive_in_an_object_store(memory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A local server that speaks S3; the only one of these tests that needs packages of its own."""
    server_module = pytest.importorskip("moto.server", reason="needs a local S3 server: pip install 'moto[s3]' flask flask-cors")
    pytest.importorskip("s3fs", reason="s3:// addresses need: pip install s3fs")
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        for name, value in {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "us-east-1"}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        with pytest.raises(InputError, match="'s3://bucket/x.mplus' cannot be written"):
            export_memory(memory, "s3://bucket/x.mplus")
        fsspec.filesystem("s3").mkdir("bucket")
        export_memory(memory, "s3://bucket/x.mplus")
        import_memory("s3://bucket/x.mplus", tmp_path / "ben")
        with pytest.raises(InputError, match="'s3://bucket/none.mplus' cannot be read"):
            import_memory("s3://bucket/none.mplus", tmp_path / "carl")
    finally:
        fsspec.filesystem("s3").clear_instance_cache()
        server.stop()
    assert files_of(tmp_path / "ben") == files_of(memory)
    assert not (tmp_path / "carl").exists()


def test_progress_ends_at_all_bytes(memory: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    total = export_memory(memory, tmp_path / "a.mplus", progress=lambda done, all_bytes: seen.append((done, all_bytes)))
    assert seen[-1] == (total, total) and len(seen) == 9 and seen == sorted(seen)


# -- whole or not at all -------------------------------------------------------------------------------------------------


def test_a_damaged_memory_is_not_exported_over_a_good_archive(memory: Path, archive: Path) -> None:
    before = archive.read_bytes()
    altered = bytearray((memory / SEGMENT).read_bytes())
    altered[-1] ^= 1
    (memory / SEGMENT).unlink()
    (memory / SEGMENT).write_bytes(altered)
    with pytest.raises(SnapshotError, match=f"{SEGMENT} was altered since it was written"):
        export_memory(memory, archive)
    (memory / SEGMENT).unlink()
    with pytest.raises(SnapshotError, match=f"{SEGMENT} is missing; restore it"):
        export_memory(memory, archive)
    assert archive.read_bytes() == before
    assert sorted(path.name for path in archive.parent.iterdir()) == ["anna", "anna.mplus"]


def test_an_export_follows_a_memory_that_is_saved_meanwhile(
    memory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = json.loads((memory / "manifest.json").read_text(encoding="utf-8"))

    def saved_meanwhile(*arguments: Any, **options: Any) -> None:
        if manifest["data"]["file"] != "memory-00000000000000aa.safetensors":
            os.rename(memory / manifest["data"]["file"], memory / "memory-00000000000000aa.safetensors")
            manifest["data"]["file"] = "memory-00000000000000aa.safetensors"
            (memory / "manifest.json").write_bytes(as_file({key: manifest[key] for key in manifest if key != "checksum"}))
            raise SnapshotError("a file is gone")
        copy_checked(*arguments, **options)

    monkeypatch.setattr(portable, "copy_checked", saved_meanwhile)
    export_memory(memory, tmp_path / "a.mplus")
    assert "memory-00000000000000aa.safetensors" in entries_of(tmp_path / "a.mplus")


def test_what_killed_processes_left_is_gone_after_the_next_one(memory: Path, archive: Path, tmp_path: Path) -> None:
    for name in ("anna.mplus", "ben"):
        (tmp_path / f".{name}.0123abcd").mkdir()
        (tmp_path / f".{name}.0123abcd" / "model").write_bytes(b"half")
    with aside_of(tmp_path / "ben") as living:
        export_memory(memory, archive)
        import_memory(archive, tmp_path / "ben")
        assert living.is_dir()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["anna", "anna.mplus", "ben"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_leaves_the_archive_of_before(memory: Path, archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = archive.read_bytes()

    def full(*arguments: Any, **options: Any) -> None:
        with open("/dev/full", "wb", buffering=0) as file:
            file.write(b"x")

    monkeypatch.setattr(portable, "copy_checked", full)
    with pytest.raises(InputError, match="anna.mplus' cannot be written .No space left on device.; make room"):
        export_memory(memory, archive)
    assert archive.read_bytes() == before
    refused(archive, "No space left on device; nothing was stored")


# -- refused -------------------------------------------------------------------------------------------------------------


def test_places_that_cannot_be(memory: Path, archive: Path, tmp_path: Path) -> None:
    cases: list[tuple[Callable[[], object], str]] = [
        (lambda: export_memory(tmp_path / "none", archive), "no memory at"),
        (lambda: export_memory(memory, memory / "x.mplus"), "lies in the memory"),
        (lambda: export_memory(memory, tmp_path), "is a directory; name a file in it"),
        (lambda: export_memory(memory, tmp_path / "no" / "x.mplus"), "there is no directory"),
        (lambda: export_memory(memory, "nope://x"), "Protocol not known: nope"),
        (lambda: export_memory(memory, ""), "names no file"),
        (lambda: export_memory(memory, 3), "a file is a path or an address as text, got int"),  # type: ignore[arg-type]
        (lambda: import_memory(tmp_path / "none.mplus", tmp_path / "b"), "none.mplus' cannot be read .there is no such file"),
        (lambda: import_memory("memory://none.mplus", tmp_path / "b"), "cannot be read .there is no such file"),
        (lambda: import_memory(memory, tmp_path / "b"), "cannot be read"),
        (lambda: import_memory(archive, memory), "is not empty .it holds "),
        (lambda: import_memory(archive, "s3://bucket/anna"), "'s3://bucket/anna' is an address, a memory lives in a directory"),
        (lambda: import_memory(archive, archive), "is a file, a memory needs a directory of its own"),
    ]
    for call, says in cases:
        with pytest.raises((InputError, SnapshotError), match=says):
            call()
    assert not (tmp_path / "b").exists()


NAMES = [
    "/etc/passwd",
    "../manifest.json",
    f"../{SEGMENT}",
    f"sub/{SEGMENT}",
    f"sub\\{SEGMENT}",
    f"C:{SEGMENT}",
    f"C:\\{SEGMENT}",
    f"//server/{SEGMENT}",
    f"./{SEGMENT}",
    f"{SEGMENT}\0.txt",
    f"{SEGMENT} ",
    f".{SEGMENT}",
    SEGMENT.upper(),
    "manifest.json/",
    "CON",
    "notes.txt",
    "",
]


@pytest.mark.parametrize("name", NAMES)
def test_names_that_no_export_writes(archive: Path, tmp_path: Path, name: str) -> None:
    entries = entries_of(archive)
    info = zipfile.ZipInfo("x")
    info.filename = name
    refused(write_zip(tmp_path / "a.mplus", [*entries.items(), (info, b"x")]), "which is no file of a memory|damaged")
    entries[name] = entries.pop(SEGMENT)
    renamed = zipfile.ZipInfo("x")
    renamed.filename = name
    refused(
        write_zip(tmp_path / "b.mplus", [(renamed if key == name else key, data) for key, data in entries.items()]),
        "which is no file of a memory|damaged",
    )


def test_parts_altered_missing_doubled_or_foreign(archive: Path, tmp_path: Path) -> None:
    whole = list(entries_of(archive).items())
    segment = dict(whole)[SEGMENT]
    link = zipfile.ZipInfo(SEGMENT)
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    other = [(name, data) for name, data in whole if name != SEGMENT]
    cases: list[tuple[list[tuple[Any, bytes]], str]] = [
        ([*other, (SEGMENT, segment[:-1] + b"\x7f")], "SHA-256 differs"),
        ([*other, (SEGMENT, segment[:-1])], "has 6,551 bytes, its manifest says 6,552"),
        ([*other, (SEGMENT, segment + b"x")], "has 6,553 bytes, its manifest says 6,552"),
        (other, f"lacks {SEGMENT}"),
        ([*whole, ("segment-ffffffffffffffff.safetensors", b"x")], "segment-f+.safetensors, which its manifest does not name"),
        ([*other, (link, b"/etc/passwd")], "as a link"),
        ([(name, data) for name, data in whole if name != "manifest.json"], "no archive of a memory: manifest.json is missing"),
        ([("manifest.json", b"{}"), *whole[1:]], "is not a memory's manifest"),
        ([("manifest.json", b"\xff"), *whole[1:]], "the manifest of .* cannot be read"),
    ]
    for number, (entries, says) in enumerate(cases):
        refused(write_zip(tmp_path / f"{number}.mplus", entries), says)
    with pytest.warns(UserWarning, match="Duplicate name"):
        doubled = write_zip(tmp_path / "twice.mplus", [*whole, (SEGMENT, segment)])
    refused(doubled, "twice")


def with_manifest(archive: Path, path: Path, **changed: Any) -> Path:
    entries = entries_of(archive)
    manifest = json.loads(entries["manifest.json"])
    manifest.update(changed)
    entries["manifest.json"] = as_file({key: manifest[key] for key in manifest if key != "checksum"})
    return write_zip(path, list(entries.items()))


def test_manifests_that_no_save_writes(archive: Path, tmp_path: Path) -> None:
    refused(with_manifest(archive, tmp_path / "1.mplus", format=99), "has memory format 99, .*; update mplus")
    evil = {"file": "../x", "bytes": 1, "sha256": hashlib.sha256(b"x").hexdigest()}
    refused(with_manifest(archive, tmp_path / "2.mplus", data=evil), "'../x' is no file of a memory")
    data = json.loads((STORED / "manifest.json").read_text(encoding="utf-8"))["data"]
    refused(
        with_manifest(archive, tmp_path / "3.mplus", data={**data, "bytes": 1 << 60}),
        "its manifest says 1,152,921,504,606,846,976",
    )
    entries = entries_of(archive)
    changed = entries["manifest.json"].replace(b'"seed": 3', b'"seed": 4')
    refused(write_zip(tmp_path / "4.mplus", [*(entries | {"manifest.json": changed}).items()]), "checksum differs")


def test_bombs(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entries = entries_of(archive)
    bomb = write_zip(tmp_path / "1.mplus", [*(entries | {SEGMENT: bytes(200 << 20)}).items()], zipfile.ZIP_DEFLATED)
    assert bomb.stat().st_size < 1 << 20
    refused(bomb, "compressed")
    lying = bytearray(archive.read_bytes())  # the list at the end says other sizes than stand before the part
    at = lying.rindex(b"PK\x01\x02", 0, lying.rindex(SEGMENT.encode()))
    for offset in (20, 24):
        lying[at + offset : at + offset + 4] = (3 << 30).to_bytes(4, "little")
    (tmp_path / "2.mplus").write_bytes(lying)
    refused(tmp_path / "2.mplus", "its manifest says 6,552")
    monkeypatch.setattr(portable, "MOST_READ_BYTES", 300)
    refused(archive, "lists more parts than any memory has")


def test_archives_that_are_none(archive: Path, tmp_path: Path) -> None:
    whole = archive.read_bytes()
    for number, data in enumerate([b"", b"PK", b"x" * 5000, whole[:-1], whole[: len(whole) // 2], whole[: len(whole) // 3] * 2]):
        (tmp_path / f"{number}.mplus").write_bytes(data)
        refused(tmp_path / f"{number}.mplus", "is damaged, or no archive of a memory")


def test_no_bit_of_an_archive_can_change_what_is_imported(memory: Path, archive: Path, tmp_path: Path) -> None:
    """What of a zip means nothing (times, say) may differ; the memory may not."""
    whole, expected = archive.read_bytes(), files_of(memory)
    path, made = tmp_path / "a.mplus", 0
    for at in range(7, len(whole), 487):
        altered = bytearray(whole)
        altered[at] ^= 1 << (at % 8)
        path.write_bytes(altered)
        try:
            import_memory(path, tmp_path / "new")
        except SnapshotError:
            assert not (tmp_path / "new").exists()
            continue
        made += 1
        assert files_of(tmp_path / "new") == expected
        shutil.rmtree(tmp_path / "new")
    assert made < 20
