"""Laws of rows on disk: immutable files that somebody needs, one writer, refusals in one sentence, nothing lost."""

from __future__ import annotations

import errno
import gc
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import filelock
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from mplus.errors import StoreError
from mplus.memory.log import Extent, RowLog
from mplus.memory.stores import lock, segments
from mplus.memory.stores.disk import DiskStorage, storage_at
from mplus.memory.stores.segments import Segment, link_segment
from tests.unit.memory.failing import disk_full

pytestmark = pytest.mark.slow

FIELDS = {"rows": ((3,), torch.float32), "birth": ((), torch.int64)}
SEGMENT_ROWS = 32


def rows(first: int, count: int) -> dict[str, Tensor]:
    births = torch.arange(first, first + count)
    return {"rows": births[:, None].float() * torch.tensor([1.0, 2.0, -1.0]), "birth": births}


def storage(path: Path) -> DiskStorage:
    return DiskStorage(path / "store", segment_rows=SEGMENT_ROWS)


class Held:
    """A row log that is changed in place, as a memory holds one."""

    def __init__(self, log: RowLog) -> None:
        self.log = log

    @property
    def segments(self) -> list[Segment]:
        pieces = {id(extent.piece): extent.piece for extent in self.log.extents}
        return [piece for piece in pieces.values() if isinstance(piece, Segment)]

    @property
    def rows_in_ram(self) -> int:
        return sum(extent.rows for extent in self.log.extents if not isinstance(extent.piece, Segment))

    def append(self, added: dict[str, Tensor]) -> None:
        self.log, _ = self.log.appended(added)

    def seal(self) -> None:
        self.log = self.log.flushed()

    def evict_oldest(self, count: int) -> None:
        self.log = self.log.trimmed(self.log.start + count)

    def column(self, name: str) -> Tensor:
        return self.log.columns_of(self.log.extents)[name]

    def gather(self, index: list[int], names: tuple[str, ...]) -> dict[str, Tensor]:
        return self.log.gather(torch.tensor(index), names)

    def fork(self) -> Held:
        return Held(self.log)


def filled(path: Path, count: int, storage_here: DiskStorage | None = None) -> Held:
    store = Held(RowLog(FIELDS, storage=storage_here or storage(path)))
    for first in range(0, count, SEGMENT_ROWS):
        store.append(rows(first, min(SEGMENT_ROWS, count - first)))
        store.seal()
    return store


def files(path: Path) -> list[str]:
    return sorted(entry.name for entry in (path / "store").iterdir() if entry.name != lock.LOCK)


def names(*stores: Held) -> list[str]:
    return sorted({segment.name for store in stores for segment in store.segments})


# -- what lies where -------------------------------------------------------------------------------------------------


def test_only_what_fills_no_segment_stays_in_ram(tmp_path: Path) -> None:
    store = filled(tmp_path, 5 * SEGMENT_ROWS + 7)
    assert [segment.rows for segment in store.segments] == [SEGMENT_ROWS] * 5
    assert store.rows_in_ram == 7
    assert files(tmp_path) == names(store)


def test_segments_are_plain_safetensors_that_nobody_may_write(tmp_path: Path) -> None:
    store = filled(tmp_path, SEGMENT_ROWS)
    path = store.segments[0].path
    stored = load_file(path)
    assert stored.keys() == FIELDS.keys()
    assert all(torch.equal(stored[name], value) for name, value in rows(0, SEGMENT_ROWS).items())
    assert path.stat().st_mode & 0o222 == 0
    assert path.stat().st_size == store.segments[0].size_bytes


def test_reading_maps_only_the_segments_that_are_asked_for(tmp_path: Path) -> None:
    store = filled(tmp_path, 5 * SEGMENT_ROWS)
    store.gather([SEGMENT_ROWS, 3 * SEGMENT_ROWS + 1], ("rows",))
    assert [segment._mapped is not None for segment in store.segments] == [False, True, False, True, False]


def test_what_a_reader_writes_into_a_part_reaches_no_file(tmp_path: Path) -> None:
    store = filled(tmp_path, SEGMENT_ROWS)
    store.log.extents[0].part(FIELDS, "birth")[0] = 99
    store.segments[0].check_content()
    assert load_file(store.segments[0].path)["birth"][0] == 0


def test_eviction_reads_and_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = filled(tmp_path, 5 * SEGMENT_ROWS)
    monkeypatch.setattr(segments, "safe_open", refused)
    monkeypatch.setattr(segments, "save_file", refused)
    store.evict_oldest(2 * SEGMENT_ROWS + 3)
    store.log = store.log.without([(2 * SEGMENT_ROWS + 3, 5)])
    assert (len(store.log), store.log.start) == (3 * SEGMENT_ROWS - 8, 2 * SEGMENT_ROWS + 8)


def refused(*args: Any, **kwargs: Any) -> None:
    raise AssertionError("this touches files")


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="this system takes no hints about files")
def test_hints_name_exactly_the_bytes_of_rows_that_are_read_one_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hints: list[tuple[int, bytes]] = []

    def noted(file: int, offset: int, length: int, advice: int) -> None:
        hints.append((advice, os.pread(file, length, offset)))

    monkeypatch.setattr(os, "posix_fadvise", noted)
    fields = {"wide": ((segments.PAGE_BYTES // 4,), torch.float32), **FIELDS}
    store = Held(RowLog(fields, storage=storage(tmp_path)))
    wide = torch.arange(SEGMENT_ROWS)[:, None] + torch.arange(segments.PAGE_BYTES // 4) / 4096
    store.append({"wide": wide, **rows(0, SEGMENT_ROWS)})
    store.seal()
    assert hints == [(os.POSIX_FADV_DONTNEED, wide.numpy().tobytes())]
    hints.clear()
    got = store.gather([9, 3, 4, 4, 30], ("wide", "rows", "birth"))
    assert got["birth"].tolist() == [9, 3, 4, 4, 30]
    runs = (slice(3, 5), slice(9, 10), slice(30, 31))
    assert hints == [(os.POSIX_FADV_WILLNEED, wide[run].numpy().tobytes()) for run in runs]


# -- files live as long as somebody needs them -----------------------------------------------------------------------


def test_evicted_segment_is_removed_when_no_fork_holds_it(tmp_path: Path) -> None:
    store = filled(tmp_path, 3 * SEGMENT_ROWS)
    twin = store.fork()
    store.evict_oldest(2 * SEGMENT_ROWS)
    assert files(tmp_path) == names(twin) and len(names(twin)) == 3
    twin.evict_oldest(SEGMENT_ROWS)
    assert files(tmp_path) == names(store, twin) and len(names(store, twin)) == 2
    assert twin.column("birth").tolist() == list(range(SEGMENT_ROWS, 3 * SEGMENT_ROWS))


def test_forks_share_segments_and_write_their_own(tmp_path: Path) -> None:
    store = filled(tmp_path, 2 * SEGMENT_ROWS)
    twin = store.fork()
    for one, first in ((store, 1000), (twin, 2000)):
        one.append(rows(first, SEGMENT_ROWS))
        one.seal()
    assert [segment.name for segment in store.segments[:2]] == [segment.name for segment in twin.segments[:2]]
    assert store.segments[2].name != twin.segments[2].name
    parts = [one.log.extents[0].part(FIELDS, "rows") for one in (store, twin)]
    assert parts[0].data_ptr() == parts[1].data_ptr()


def test_what_garbage_held_is_removed(tmp_path: Path) -> None:
    store = filled(tmp_path, 3 * SEGMENT_ROWS)
    twin = store.fork()
    del store
    gc.collect()
    assert files(tmp_path) == names(twin) and len(twin.segments) == 3
    del twin
    gc.collect()
    assert files(tmp_path) == []


def test_saved_segments_outlive_every_store(tmp_path: Path) -> None:
    own = storage(tmp_path)
    store = filled(tmp_path, 3 * SEGMENT_ROWS, own)
    saved = names(store)[:2]
    own.segment_directory.set_saved(saved)
    del store
    gc.collect()
    assert files(tmp_path) == saved
    own.segment_directory.set_saved(saved[:1])
    assert files(tmp_path) == saved[:1]


def test_fork_of_the_process_removes_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = filled(tmp_path, 2 * SEGMENT_ROWS)
    before = files(tmp_path)
    own = os.getpid()
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: own + 1)
        del store
        gc.collect()
    assert files(tmp_path) == before


def test_leftovers_of_a_killed_process_are_cleared(tmp_path: Path) -> None:
    directory = tmp_path / "store"
    directory.mkdir()
    for name in ("segment-0123456789abcdef.safetensors", ".segment-0123456789abcdef.safetensors"):
        (directory / name).write_bytes(b"half")
    storage(tmp_path)
    assert files(tmp_path) == []


# -- one writer --------------------------------------------------------------------------------------------------------

OTHER_PROCESS = """
import sys, torch
from pathlib import Path
from mplus.memory.log import RowLog
from mplus.memory.stores.disk import DiskStorage
log = RowLog({"birth": ((), torch.int64)}, storage=DiskStorage(Path(sys.argv[1]), segment_rows=8))
for first in (0, 8, 16):
    log, _ = log.appended({"birth": torch.arange(first, min(first + 8, 20))})
    log = log.flushed()
print(len([one for one in log.extents if hasattr(one.piece, "path")]), flush=True)
sys.stdin.read()
"""


def test_directory_of_another_process_is_refused_until_that_ends_and_clears_up(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", OTHER_PROCESS, str(tmp_path / "store")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline().strip() == "2"
        held = files(tmp_path)
        with pytest.raises(StoreError, match="in use by another memory or process"):
            storage(tmp_path)
        assert files(tmp_path) == held and len(held) == 2
        other.communicate("")
    assert other.returncode == 0
    assert files(tmp_path) == []
    assert filled(tmp_path, SEGMENT_ROWS).column("birth").shape == (SEGMENT_ROWS,)


def test_directory_is_free_again_when_its_storage_is_gone(tmp_path: Path) -> None:
    first = storage(tmp_path)
    with pytest.raises(StoreError, match="in use"):
        storage(tmp_path)
    del first
    gc.collect()
    assert storage(tmp_path).segment_directory.path == tmp_path / "store"


# -- bad directories ---------------------------------------------------------------------------------------------------


def test_foreign_directory_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "thesis.txt").write_text("do not lose me", encoding="utf-8")
    with pytest.raises(StoreError, match=r"no long-term store \(thesis.txt\)"):
        storage(tmp_path)
    assert [entry.name for entry in (tmp_path / "store").iterdir()] == ["thesis.txt"]


def test_saved_memory_is_not_overwritten_by_a_new_store(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "manifest.json").write_text("{}", encoding="utf-8")
    (tmp_path / "store" / "segment-0123456789abcdef.safetensors").write_bytes(b"precious")
    with pytest.raises(StoreError, match="holds a saved memory"):
        storage(tmp_path)
    assert (tmp_path / "store" / "segment-0123456789abcdef.safetensors").read_bytes() == b"precious"


def test_file_in_the_place_of_a_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("hello", encoding="utf-8")
    with pytest.raises(StoreError, match="is a file"):
        storage(tmp_path)
    with pytest.raises(StoreError, match="cannot be made or locked"):
        DiskStorage(tmp_path / "store" / "below")


def test_read_only_directory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_only(*args: Any, **kwargs: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(filelock.FileLock, "acquire", read_only)
    with pytest.raises(StoreError, match="cannot be made or locked: Read-only file system; choose a directory"):
        storage(tmp_path)


@pytest.mark.parametrize("step", ["save_file", "flush", "os.replace"])
def test_full_disk_loses_nothing_and_is_made_up_for_when_there_is_room(
    tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = filled(tmp_path, SEGMENT_ROWS)
    store.append(rows(SEGMENT_ROWS, 5))
    store.append(rows(SEGMENT_ROWS + 5, SEGMENT_ROWS))
    before = files(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(os if step == "os.replace" else segments, step.removeprefix("os."), disk_full)
        acts: tuple[Callable[[], object], ...] = (store.seal, lambda: store.append(rows(9000, 300)))
        for act in acts:
            with pytest.raises(StoreError, match=r"37 rows .* No space left on device; they stay in RAM and nothing is lost"):
                act()
            assert store.column("birth").tolist() == list(range(2 * SEGMENT_ROWS + 5))
        assert files(tmp_path) == before
    store.append(rows(2 * SEGMENT_ROWS + 5, 300))
    assert store.column("birth").tolist() == list(range(2 * SEGMENT_ROWS + 305))
    assert files(tmp_path) == names(store) and len(store.segments) == 2


# -- damage ------------------------------------------------------------------------------------------------------------


def reopened(store: Held) -> Held:
    """The same segments, none of them mapped yet."""
    fresh = [Segment(one.path, one.rows, one.size_bytes, one.sha256) for one in store.segments]
    extents, at = list[Extent](), 0
    for one in fresh:
        extents.append(Extent(one, 0, one.rows, at))
        at += one.rows
    return Held(RowLog(FIELDS, tuple(extents), at))


def spoil(path: Path, content: bytes) -> None:
    path.unlink()  # a mapping of the old content stays whole
    path.write_bytes(content)


def test_truncated_segment_is_named(tmp_path: Path) -> None:
    store = filled(tmp_path, 2 * SEGMENT_ROWS)
    path = store.segments[1].path
    spoil(path, path.read_bytes()[:-10])
    twin = reopened(store)
    assert twin.gather([3], ("birth",))["birth"].tolist() == [3]
    with pytest.raises(StoreError, match=f"{path.name} was truncated or altered"):
        twin.column("birth")


def test_missing_segment_is_named(tmp_path: Path) -> None:
    store = filled(tmp_path, SEGMENT_ROWS)
    store.segments[0].path.unlink()
    with pytest.raises(StoreError, match="is missing"):
        reopened(store).column("birth")


def test_senseless_segment_of_the_right_size_is_refused(tmp_path: Path) -> None:
    store = filled(tmp_path, SEGMENT_ROWS)
    path = store.segments[0].path
    spoil(path, b"\xff" * path.stat().st_size)
    with pytest.raises(StoreError, match="cannot be read"):
        reopened(store).column("birth")


def test_one_altered_byte_is_found_when_contents_are_checked(tmp_path: Path) -> None:
    store = filled(tmp_path, SEGMENT_ROWS)
    path = store.segments[0].path
    store.segments[0].check_content()
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    spoil(path, bytes(content))
    with pytest.raises(StoreError, match="altered since it was written"):
        store.segments[0].check_content()


def test_segment_of_another_form_is_refused(tmp_path: Path) -> None:
    store = filled(tmp_path, SEGMENT_ROWS)
    fresh = reopened(store).segments[0]
    with pytest.raises(StoreError, match=r"holds rows as \[32, 3\] torch.float32, expected \[32, 3\] torch.bfloat16"):
        fresh.tensors({"rows": ((3,), torch.bfloat16)})


# -- links and words ---------------------------------------------------------------------------------------------------


def test_linked_segment_is_the_same_file(tmp_path: Path) -> None:
    store = filled(tmp_path, SEGMENT_ROWS)
    segment = store.segments[0]
    (tmp_path / "other").mkdir()
    own = link_segment(segment, tmp_path / "other")
    assert own.path.samefile(segment.path) and own.path.parent == tmp_path / "other"
    assert link_segment(segment, tmp_path / "other").path == own.path


def test_segment_is_copied_where_links_are_not_possible(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def other_file_system(*args: Any) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    store = filled(tmp_path, SEGMENT_ROWS)
    segment = store.segments[0]
    (tmp_path / "other").mkdir()
    monkeypatch.setattr(os, "link", other_file_system)
    own = link_segment(segment, tmp_path / "other")
    assert not own.path.samefile(segment.path)
    own.check_content()
    assert [entry.name for entry in (tmp_path / "other").iterdir()] == [segment.name]
    monkeypatch.setattr(shutil, "copyfile", disk_full)
    own.path.unlink()
    with pytest.raises(OSError, match="No space"):
        link_segment(segment, tmp_path / "other")
    assert not list((tmp_path / "other").iterdir())


def test_word_for_a_storage(tmp_path: Path) -> None:
    assert storage_at("ram") is None
    disk = storage_at(str(tmp_path / "store"))
    assert isinstance(disk, DiskStorage) and disk.segment_directory.path == tmp_path / "store"
    assert storage_at(disk) is disk
