"""What is wrong with a stored memory, found without its model and without torch, and told in words. Changes nothing.

A load checks the manifest and the sizes of all files; what is looked at here is every byte.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mplus.errors import SnapshotError
from mplus.memory.file_names import LOCK, MANIFEST, SAVE_LOCK, is_ours
from mplus.memory.ledger_tables import findings_of_ledger
from mplus.memory.manifest import FORMAT, LARGEST, READ_AGAIN, check_numbers, read_manifest
from mplus.memory.parts import Part, check_size, copy_checked, parts_of
from mplus.memory.tensor_file import TensorFileError, not_finite, tensors_in
from mplus.runtime.folder import names_in
from mplus.runtime.input_file import absolute_directory

ENCRYPTED_SUFFIX = ".encrypted"
"""Of files that only their key opens: of them size and digest are compared."""
TIMES = "chunks.at"
"""The one tensor that may hold no number: the time of a chunk that is not known."""


@dataclass(frozen=True)
class VerifyReport:
    """What ``verify`` found.

    Attributes:
        directory: of the memory.
        files, size_bytes, tensors: that were looked at.
        findings: what is wrong, a sentence each; empty where the memory is sound.
        notes: what is no damage: files that nothing needs, of killed processes or of somebody else.
    """

    directory: str
    files: int
    size_bytes: int
    tensors: int
    findings: list[str]
    notes: list[str]

    @property
    def is_sound(self) -> bool:
        """Whether nothing was found."""
        return not self.findings

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"sound": self.is_sound, **asdict(self)}


def verify(directory: str | Path, *, progress: Callable[[int, int], None] | None = None) -> VerifyReport:
    """Check manifest, sizes, digests, form and numbers of every file of a stored memory, and that its ledger adds up.

    Others may save the memory meanwhile; what is checked is one state of it.

    Args:
        progress: takes bytes looked at so far, and in all.

    Raises:
        SnapshotError: there is no memory.
    """
    home = absolute_directory(directory)
    for tries_left in reversed(range(READ_AGAIN)):
        if not (home / MANIFEST).exists():
            read_manifest(home)  # says what is there instead
        try:
            manifest = read_manifest(home)
            parts = parts_of(manifest, home)
        except SnapshotError as error:
            return VerifyReport(str(home), 0, 0, 0, [str(error)], [])
        report = _report(home, manifest, parts, progress)
        if report.is_sound or not tries_left or _is_stored(home, manifest):
            return report
    raise AssertionError("the last try returns")


def _is_stored(home: Path, manifest: dict[str, Any]) -> bool:
    """Whether a manifest is there still, or what is there cannot be read; else its files were taken away and are no damage."""
    try:
        return (home / MANIFEST).exists() and read_manifest(home) == manifest
    except SnapshotError:
        return True


def _report(home: Path, manifest: dict[str, Any], parts: list[Part], progress: Callable[[int, int], None] | None) -> VerifyReport:
    findings, tensors, done, total = list(_of_manifest(manifest)), 0, 0, sum(part.size_bytes for part in parts)
    for part in parts:
        count, found = _looked_at(part, home)
        tensors, done, findings = tensors + count, done + part.size_bytes, [*findings, *found]
        if progress is not None:
            progress(done, total)
    if manifest["format"] == FORMAT and not findings:  # else the tables may not even be there
        try:
            findings = list(findings_of_ledger(manifest, home))
        except OSError as error:  # it was there a moment ago
            findings = [f"the ledger cannot be read: {error.strerror or error}"]
    return VerifyReport(str(home), len(parts), total, tensors, findings, list(_beside(home, parts)))


def _of_manifest(manifest: dict[str, Any]) -> Iterator[str]:
    try:
        check_numbers(manifest, LARGEST)
    except (SnapshotError, KeyError, TypeError, ValueError, AttributeError) as error:
        yield f"{MANIFEST}: {'there is no ' if isinstance(error, KeyError) else ''}{error}"


def _looked_at(part: Part, home: Path) -> tuple[int, list[str]]:
    """Tensors of a file, and what is wrong with it."""
    path = home / part.name
    try:
        check_size(part, home)
        with path.open("rb") as file:
            copy_checked(part, file, None, path)
        entries = [] if part.name.endswith(ENCRYPTED_SUFFIX) else tensors_in(path)
        found = [(entry.name, not_finite(path, entry)) for entry in entries if entry.name != TIMES]
    except SnapshotError as error:
        return 0, [str(error)]
    except TensorFileError as error:
        return 0, [f"{part.name} is no safetensors file: {error}"]
    except OSError as error:
        return 0, [f"{part.name} cannot be read: {error.strerror or error}"]
    return len(entries), [f"{part.name}: {count:,} numbers of tensor {name} are not finite" for name, count in found if count]


def _beside(home: Path, parts: list[Part]) -> Iterator[str]:
    wanted = {MANIFEST, LOCK, SAVE_LOCK, *(part.name for part in parts)}
    for name in names_in(home):
        if name not in wanted:
            what = "left by a process that was ended, the next save removes it" if is_ours(name) else "no file of the memory"
            yield f"{name!r:.120}: {what}"
