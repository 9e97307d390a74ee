"""Memories by name: a directory of the user's that holds them, and what happens to whole memories there. Knows no model and no row.

    HOME/memories/NAME      one stored memory each
    HOME/memories/.NAME.*   a fork under way, or what is being deleted; after a kill, gone with the next change. And a memory that is
                            written again for another model, which a stopped run goes on with

Opening nothing, it brings no torch: names, sizes and sources come from manifests.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from mplus.errors import InputError, MPlusError, SnapshotError
from mplus.memory.file_names import MANIFEST, SAVE_LOCK, is_ours
from mplus.memory.manifest import ENCRYPTED, READ_AGAIN, read_manifest, state_digest
from mplus.memory.parts import parts_of
from mplus.memory.stored import StoredMemory, read_stored
from mplus.memory.stores.lock import exclusive_change, identity
from mplus.runtime.atomic import aside_of, clear_leftovers, flush, flush_names
from mplus.runtime.folder import names_in
from mplus.runtime.input_file import absolute_directory, expanded
from mplus.runtime.json_file import UnreadableJsonError, read_json_object
from mplus.runtime.suggest import hint_before

if TYPE_CHECKING:
    from mplus.memory.memory import Memory

VARIABLE = "MPLUS_HOME"
MEMORIES = "memories"
LONGEST_NAME_BYTES = 100
_LEFT = re.compile(r"\.(?P<name>.+)\.([0-9a-f]{8}|re-encoding)")
"""What `aside_of` and `reencoding_place` call a directory beside the memory of that name."""


def default_home() -> Path:
    """Where this user's memories lie: $MPLUS_HOME, else $XDG_DATA_HOME/mplus, else ~/.local/share/mplus. Makes nothing.

    Raises:
        InputError: the user has no home directory.
    """
    if own := os.environ.get(VARIABLE):
        return absolute_directory(own)
    shared = os.environ.get("XDG_DATA_HOME", "")
    if shared and Path(shared).is_absolute():
        return Path(shared) / "mplus"
    try:
        return Path.home() / ".local" / "share" / "mplus"
    except RuntimeError:
        raise InputError(
            f"this user has no home directory; set {VARIABLE} to the directory that memories are to lie in"
        ) from None


def checked_name(name: str) -> str:
    """The name of a memory, if it may be one: a component of a path, of printable characters.

    Raises:
        InputError: says what is wrong with it.
    """
    size_bytes = len(name.encode("utf-8", "surrogatepass"))
    if not name.strip():
        problem = "it is empty"
    elif size_bytes > LONGEST_NAME_BYTES:
        problem = f"it has {size_bytes:,} bytes, at most {LONGEST_NAME_BYTES} are allowed"
    elif not name.isprintable():
        problem = f"it holds the character {next(sign for sign in name if not sign.isprintable())!a}, which cannot be printed"
    elif "/" in name or "\\" in name:
        problem = "it holds a slash"
    elif name[0] in ".-":
        problem = f"it begins with {name[0]!r}"
    elif name != name.strip():
        problem = "it begins or ends with a space"
    else:
        return name
    raise InputError(
        f"{name[:40]!r} cannot name a memory: {problem}; choose a plain name like 'notes', or give a path like ./notes"
    )


PROGRESS = "progress.json"
"""In such a place: which state is written again for which model, and how far it got."""


def reencoding_place(target: Path) -> Path:
    """Where a memory grows that is to take the place of `target`; the hyphen keeps `clear_leftovers` from it."""
    return target.with_name(f".{target.name}.re-encoding")


class Home:
    """The memories of one user, by name.

    Where a method takes a memory, a ``str`` is a name or a path as a person types it (see ``resolve``) and a ``Path`` is a path.

    Args:
        root: the home; None is that of ``default_home``. Nothing is made before it is needed.
    """

    def __init__(self, root: str | Path | None = None) -> None:
        self.root = default_home() if root is None else absolute_directory(root)

    @property
    def memories(self) -> Path:
        """The directory of the memories."""
        return self.root / MEMORIES

    def path(self, name: str) -> Path:
        """Where the memory of a name lies, or will.

        Raises:
            InputError: it cannot be a name.
        """
        return self.memories / checked_name(name)

    def names(self) -> list[str]:
        """Names of all memories here, damaged ones too, in order.

        Raises:
            InputError: the home cannot be read.
        """
        try:
            found = names_in(self.memories)
        except OSError as error:
            raise InputError(
                f"the home of memories {self.root} cannot be read ({error.strerror or error}); set {VARIABLE} to a directory of yours"
            ) from None
        return [name for name in found if not name.startswith(".") and (self.memories / name / MANIFEST).exists()]

    def all(self) -> list[StoredMemory | tuple[str, MPlusError]]:
        """Descriptions of all memories here, in the order of their names; for one that cannot be read, its name and why."""
        found: list[StoredMemory | tuple[str, MPlusError]] = []
        for name in self.names():
            try:
                found.append(read_stored(self.memories / name))
            except MPlusError as error:
                if (self.memories / name / MANIFEST).exists():  # else it was deleted meanwhile
                    found.append((name, error))
        return found

    def label(self, directory: Path) -> str:
        """A memory's name where it lies in this home, else its path."""
        return directory.name if directory.absolute().parent == self.memories else str(directory)

    # -- from what a person types --------------------------------------------------------------------------------------

    def resolve(self, memory: str | Path) -> Path:
        """The directory that a word for a memory means, whether there is a memory or not.

        What holds a slash is a path. Any other word is a name of this home, unless only the directory here of that name holds a memory.
        (A directory that holds something else does not count: a folder `notes` and a memory `notes` get along.)

        Raises:
            InputError: it is neither a path nor a name, or both a memory of this home and one here.
        """
        if isinstance(memory, Path):
            return memory
        if "/" in memory or os.sep in memory or memory.startswith("~"):
            return expanded(memory)
        here, named = Path(memory), self.memories / memory
        if not _fits(memory) or not (_exists(here / MANIFEST) or _is_file(here)):
            return self.path(memory)
        if not _exists(named / MANIFEST):
            return here
        if not _is_file(here) and identity(here) != identity(named):
            raise InputError(
                f"{memory!r} names two memories, one in {self.memories} and one in this directory; "
                f"give the path of the one you mean, './{memory}' or '{named}'"
            )
        return named

    def existing(self, memory: str | Path) -> Path:
        """``resolve``, for a memory that must be there.

        Raises:
            InputError: see ``resolve``.
            SnapshotError: there is none; names one with a name like it.
        """
        directory = self.resolve(memory)
        if _exists(directory):
            return directory
        if directory.parent != self.memories:
            typed = directory if directory.parent.name or directory.is_absolute() else f"./{directory}"
            raise SnapshotError(f"no memory at {typed}; write one with `mplus write {typed} FILE`")
        name, names = directory.name, self.names()
        hint = hint_before(name, names) or (f"there are {_listed(names)}; " if names else "")
        raise SnapshotError(f"there is no memory {name!r} in {self.root}; {hint}write it with `mplus write {name} FILE`")

    # -- whole memories ------------------------------------------------------------------------------------------------

    def create(self, name: str, memory: Memory) -> Path:
        """Store a memory under a new name.

        Raises:
            SnapshotError: there is one of that name, or it cannot be stored.
        """
        directory = self.path(name)
        self._clear_leftovers(directory)
        _refuse_taken(directory)
        memory.save(directory)
        return directory

    def fork(self, memory: str | Path, new: str | Path) -> Path:
        """Copy a stored memory to a new name or path; data that never changes is linked, where the file system can.

        Raises:
            SnapshotError: there is no such memory, or something at the new place already; nothing changed.
        """
        source, target = self.existing(memory), self.resolve(new)
        read_stored(source)
        _refuse_taken(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        self._clear_leftovers(target)
        with aside_of(target) as aside:
            fresh = _linked(source, aside)
            flush(fresh)
            _rename_to_new(fresh, target)
        flush_names(target.parent)
        return target

    def delete(self, memory: str | Path) -> None:
        """Remove a stored memory: it is gone in one step, then its files are removed.

        Raises:
            SnapshotError: there is none, or its directory holds what is no part of a memory; nothing changed.
            StoreError: it is being changed, or in use as a long-term store.
        """
        named = self.existing(memory)
        directory = named.resolve()
        _check_own(directory)
        self._clear_leftovers(directory)
        with aside_of(directory) as aside, exclusive_change(directory):
            _check_own(directory)
            os.rename(directory, aside / "deleted")
            flush_names(directory.parent)
            (aside / "deleted" / SAVE_LOCK).unlink(missing_ok=True)  # so that who waits for it looks for a new one
            shutil.rmtree(aside / "deleted")
            shutil.rmtree(reencoding_place(directory), ignore_errors=True)
        if named.is_symlink():
            named.unlink()

    def _clear_leftovers(self, directory: Path) -> None:
        """Remove what killed processes left: all of it in this home, elsewhere that of one memory."""
        of = [directory]
        if directory.parent == self.memories:
            of += [self.memories / found["name"] for name in names_in(self.memories) if (found := _LEFT.fullmatch(name))]
        for memory in of:
            clear_leftovers(memory)
            _clear_done_rewriting(memory)


def _clear_done_rewriting(directory: Path) -> None:
    """Remove what a rewriting left that was killed when its result was in place; one that may still go on stays."""
    place = reencoding_place(directory)
    try:
        if place.is_dir() and read_json_object(place / PROGRESS)["of"][0] != state_digest(read_manifest(directory)):
            shutil.rmtree(place)
    except (
        OSError,
        SnapshotError,
        UnreadableJsonError,
        KeyError,
        TypeError,
        IndexError,
    ):  # the memory is not there yet, or damaged
        return


def _fits(name: str) -> bool:
    """Whether a file system can be asked for it."""
    return bool(name) and "\0" not in name


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # too long, or a parent that may not be looked into
        return False


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        return False


def _listed(names: list[str]) -> str:
    return ", ".join(repr(name) for name in names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _refuse_taken(directory: Path) -> None:
    if directory.is_dir() and not names_in(directory):
        return
    if directory.exists() or directory.is_symlink():
        what = "a memory" if (directory / MANIFEST).exists() else "something"
        raise SnapshotError(f"there is {what} at {directory} already; choose another name, or delete it first")


def _check_own(directory: Path) -> None:
    """Refuse to remove what is no memory, or holds somebody's own files."""
    if not directory.is_dir() or not (directory / MANIFEST).exists():
        raise SnapshotError(f"{directory} is not a memory: {MANIFEST} is missing; nothing was deleted")
    foreign = [name for name in names_in(directory) if not is_ours(name)]
    if foreign:
        raise SnapshotError(
            f"{directory} also holds {_listed(foreign)}, which is no part of a memory; nothing was deleted, move it away first"
        )


def _linked(source: Path, aside: Path) -> Path:
    """A directory in `aside` with the state that is stored in `source` now; no lock is needed, as a reader needs none."""
    for attempt in range(READ_AGAIN):
        fresh = aside / f"fork-{attempt}"
        fresh.mkdir()
        try:
            _link_or_copy(source / MANIFEST, fresh / MANIFEST)
            manifest = read_manifest(fresh)
            if manifest["format"] == ENCRYPTED:
                raise SnapshotError(
                    f"memory {source} is encrypted, and a copy of its files would share its keys: what one forgets, both would lose; "
                    "open it and save it under the new name"
                )
            for part in parts_of(manifest, source):
                _link_or_copy(source / part.name, fresh / part.name)
        except FileNotFoundError:  # it was replaced meanwhile; or it lacks a file, which comes out at the last time
            continue
        return fresh
    raise SnapshotError(f"memory {source} lacks files that its manifest names; restore it from a backup")


def _link_or_copy(path: Path, target: Path) -> None:
    try:
        os.link(path, target)
    except OSError:  # another file system, or one without links
        shutil.copy2(path, target)
        flush(target)


def _rename_to_new(fresh: Path, target: Path) -> None:
    try:
        os.rename(fresh, target)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise
        raise SnapshotError(f"there is something at {target} already; choose another name, or delete it first") from None
