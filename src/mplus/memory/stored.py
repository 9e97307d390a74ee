"""What a stored memory says of itself: model, counts, sources, sizes. Reads the manifest only; knows no model and brings no torch."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mplus.errors import SnapshotError
from mplus.memory.file_names import MANIFEST
from mplus.memory.ledger import SourceInfo
from mplus.memory.manifest import ENCRYPTED, OLD_FORMATS, read_manifest
from mplus.memory.parts import parts_of


@dataclass(frozen=True, kw_only=True)
class StoredMemory:
    """A memory in a directory, as its manifest describes it.

    Attributes:
        path: its directory.
        model, fingerprint: of the model that wrote it.
        format: version of the files; memory_format: form of its rows; mplus: version of the package that stored it.
        tokens_read: text tokens that are memory tokens now or were; pending_tokens: that wait for more text.
        sources: in the order of their first write.
        places_known: whether `sources` say where their memory tokens are; formats 1 and 2 do not, nor when they were written.
        names_known: False for an encrypted memory whose keys are not at hand: `sources` have ids for names, no times and no digests.
        size_bytes: of all files that the manifest names.
        changed_at: when it was stored, in seconds since 1970.
    """

    path: Path
    model: str
    fingerprint: str
    format: int
    memory_format: str
    mplus: str
    tokens_read: int
    stm_tokens: int
    stm_capacity: int
    ltm_tokens: int
    ltm_capacity: int
    pending_tokens: int
    chunks: int
    sources: list[SourceInfo]
    places_known: bool
    names_known: bool
    size_bytes: int
    changed_at: float

    def to_json(self) -> dict[str, Any]:
        """The same as plain values; null where it is not known."""
        unknown = {} if self.places_known else dict.fromkeys(("short_term", "long_term", "evicted"))
        plain = {**asdict(self), "path": str(self.path), "sources": [{**asdict(one), **unknown} for one in self.sources]}
        del plain["places_known"], plain["names_known"]
        return plain

    def check_names(self) -> None:
        """Do nothing if names of sources are known.

        Raises:
            SnapshotError: the memory is encrypted, and no key opens it here.
        """
        if not self.names_known:
            from mplus.memory.keys import default_directory

            raise SnapshotError(
                f"memory {self.path} is encrypted and no key in {default_directory()} opens it, so its sources have no names here; "
                "put its keys there, or set MPLUS_KEYS (the extra 'encrypt' must be installed too)"
            )


def read_stored(directory: Path) -> StoredMemory:
    """Describe the memory in a directory.

    Raises:
        SnapshotError: there is none, or it is damaged or of a newer version.
    """
    manifest = read_manifest(directory)
    try:
        named = _decrypted(directory, manifest) if manifest["format"] == ENCRYPTED else None
        geometry, chunks = manifest["geometry"], manifest["chunks"]
        return StoredMemory(
            path=directory,
            model=str(manifest["model"]["name"]),
            fingerprint=str(manifest["model"]["fingerprint"]),
            format=manifest["format"],
            memory_format=manifest["memory_format"],
            mplus=str(manifest["mplus"]),
            tokens_read=_count(manifest["tokens_read"]),
            stm_tokens=_count(manifest["stm_tokens"]),
            stm_capacity=_count(geometry["stm_tokens"]),
            ltm_tokens=_count(manifest["ltm_tokens"]),
            ltm_capacity=_count(geometry["ltm_capacity"]) if geometry["ltm"] else 0,
            pending_tokens=sum(len(ids) for _, ids in manifest["pending"]),
            chunks=len(chunks) if manifest["format"] in OLD_FORMATS else _count(chunks),
            sources=_sources(manifest) if named is None else named,
            places_known=manifest["format"] not in OLD_FORMATS,
            names_known=manifest["format"] != ENCRYPTED or named is not None,
            size_bytes=sum(part.size_bytes for part in parts_of(manifest, directory)),
            changed_at=_changed_at(directory),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise SnapshotError(
            f"the manifest of {directory} is damaged ({type(error).__name__}: {error}); restore it from a backup"
        ) from None


def _decrypted(directory: Path, manifest: dict[str, Any]) -> list[SourceInfo] | None:
    from mplus.memory.encrypted_names import decrypted_infos  # which brings in ciphers

    return decrypted_infos(directory, manifest)


def _sources(manifest: dict[str, Any]) -> list[SourceInfo]:
    if manifest["format"] not in OLD_FORMATS:
        return [SourceInfo(**entry) for entry in manifest["sources"]]
    chunks = Counter(name for _, _, parts in manifest["chunks"] for name in {name or "" for name, _ in parts})
    return [
        SourceInfo(str(name), _count(tokens), chunks[name], None, None, 0, 0, 0, "")
        for name, tokens in manifest["sources"].items()
    ]


def _changed_at(directory: Path) -> float:
    try:
        return (directory / MANIFEST).stat().st_mtime
    except FileNotFoundError:
        raise SnapshotError(f"the memory in {directory} was deleted while it was read; list the memories that are left") from None


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{value!r:.40} is no whole number")
    return value
