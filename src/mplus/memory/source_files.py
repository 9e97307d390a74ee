"""The files of an encrypted memory: one per source, with all that could tell of its text, under a key of its own. Knows no directory rules.

Legend: c chunks of a source, T its text tokens, k its rows that are held, h runs of rows in the log.

A source's file is an encrypted stream of a safetensors file with ``rows.FIELD`` [k, ...] in the order of the log, ``ids`` [T] int32,
``at`` [c] float64, ``keys`` [c, 16] uint8 and, where rows do not hold them, ``tail``; its head's metadata has ``source`` (JSON: name, what
the manifest of a plain memory says of it, its note). The data file has what is left, which numbers rows and names no text: the tables
``chunks`` and ``parts``, the placement, and ``held`` [h, 2] int64, first number and count of the rows that are held.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import torch
from torch import Tensor

from mplus.errors import InputError
from mplus.memory import state_file
from mplus.memory.encrypted_names import STREAM
from mplus.memory.encryption import decrypt, encrypt
from mplus.memory.ledger import Chunk
from mplus.memory.log import RowLog
from mplus.memory.sources import source_infos
from mplus.memory.state import MemoryState

if TYPE_CHECKING:
    from mplus.memory.memory import Memory

SECRET = ("ids", "chunks.at", "chunks.keys", "extents")
"""Tensors of a plain data file that tell of the text, or of files that are not there."""
GONE = "forgotten source "
DTYPES = {
    torch.float64: "F64",
    torch.int64: "I64",
    torch.float32: "F32",
    torch.int32: "I32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.int8: "I8",
    torch.uint8: "U8",
}
TYPES = {name: dtype for dtype, name in DTYPES.items()}


@dataclass(frozen=True)
class SourceContent:
    """What of a source its file depends on, to tell whether it has to be written again.

    Attributes:
        chunks: content address, rows, time of each.
        held: rows of each chunk that the log holds.
        note: as JSON.
    """

    chunks: tuple[tuple[str, int, float | None], ...]
    held: tuple[int, ...]
    note: str

    def goes_on(self, earlier: SourceContent) -> bool:
        """Whether this is the earlier content with more chunks behind it: else the earlier text was replaced."""
        return self.chunks[: len(earlier.chunks)] == earlier.chunks


def check_can_be_encrypted(memory: Memory) -> None:
    """Raise InputError where rows of one source hold traces of others, or lie unencrypted on disk."""
    if memory.geometry.write.context != "source":
        raise InputError(
            "this memory cannot be encrypted by source: each chunk saw text of other sources (write_context='memory'); "
            "use a model adapted here, or write it again for one (mplus reencode)"
        )
    if memory.storage is not None:
        raise InputError(
            f"this memory cannot be encrypted: its rows lie in {memory.storage.segment_directory.path} as they are; keep it in RAM (store='ram')"
        )
    state = memory.state
    if state.pending or sum(map(sum, (content.held for content in contents_of(state).values()))) != len(state.log):
        raise InputError(
            "this memory cannot be encrypted: it holds rows or waiting text of no source; write it again (mplus reencode)"
        )


def contents_of(state: MemoryState) -> dict[str | None, SourceContent]:
    """The content of each source, in the order of their first write."""
    return {name: _content(state, name, chunks) for name, chunks in _chunks_by_source(state).items()}


def _chunks_by_source(state: MemoryState) -> dict[str | None, list[Chunk]]:
    out: dict[str | None, list[Chunk]] = {}
    for chunk in state.ledger.chunks:
        out.setdefault(chunk.source, []).append(chunk)
    return out


def _content(state: MemoryState, name: str | None, chunks: list[Chunk]) -> SourceContent:
    held = tuple(sum(part.rows for part in state.log.extents_of(chunk.first, chunk.rows)) for chunk in chunks)
    note = json.dumps(state.notes.get(name or "", {}), sort_keys=True)
    return SourceContent(tuple((chunk.key, chunk.rows, chunk.at) for chunk in chunks), held, note)


# -- writing -------------------------------------------------------------------------------------------------------


def common_tensors(state: MemoryState) -> dict[str, Tensor]:
    """What the data file holds."""
    tensors = {
        name: value
        for name, value in state_file.tensors_of(state, []).items()
        if name not in SECRET and not name.startswith("tails.")
    }
    held = [(extent.row, extent.rows) for extent in state.log.extents]
    return {**tensors, "held": torch.tensor(held, dtype=torch.int64, device="cpu").view(-1, 2)}


def public_json(manifest: Mapping[str, Any], ids: Mapping[str | None, str]) -> dict[str, Any]:
    """A plain manifest without what tells of a text: ids for names, no times, no digests, no notes."""
    sources = [
        {**entry, "name": ids[entry["name"] or None], "first_at": None, "last_at": None, "digest": ""}
        for entry in manifest["sources"]
    ]
    names, tails = [ids[name] for name in manifest["names"]], [ids[name] for name in manifest["tails"]]
    return {**manifest, "names": names, "tails": tails, "sources": sources, "notes": {}, "segments": []}


def write_sources(state: MemoryState, targets: Mapping[str | None, tuple[bytes, Path]]) -> None:
    """Write the files of some sources.

    Args:
        targets: source to its data key and the path of its file.
    """
    infos = {info.name or None: info for info in source_infos(state)}
    chunks = _chunks_by_source(state)
    for name, (key, path) in targets.items():
        said = {"name": name, "info": asdict(infos[name]), "note": dict(state.notes.get(name or "", {}))}
        with path.open("xb") as file:
            encrypt(key, STREAM, _safetensors(_tensors(state, name, chunks[name]), {"source": json.dumps(said)}), file)


def _tensors(state: MemoryState, name: str | None, chunks: list[Chunk]) -> dict[str, list[Tensor]]:
    """Tensors by name, each in parts that stand one behind the other."""
    tables = state_file.ledger_tensors(chunks)
    extents = [part for chunk in chunks for part in state.log.extents_of(chunk.first, chunk.rows)]
    out = {
        "at": [tables["chunks.at"]],
        **{
            f"rows.{field}": [part.part(state.log.fields, field) for part in extents]
            or [torch.empty(0, *shape, dtype=dtype, device="cpu")]
            for field, (shape, dtype) in state.log.fields.items()
        },
        "ids": [tables["ids"]],
        "keys": [tables["chunks.keys"]],
    }
    return out if name not in state.tails else {**out, "tail": [state.tails[name].cpu()]}


def _safetensors(tensors: Mapping[str, list[Tensor]], metadata: Mapping[str, str]) -> Iterator[bytes | memoryview]:
    """The bytes of a safetensors file, without a second copy of the tensors; wide numbers first, so that all are aligned."""
    ordered = sorted(tensors.items(), key=lambda item: -item[1][0].element_size())
    head: dict[str, Any] = {"__metadata__": dict(metadata)}
    at = 0
    for name, parts in ordered:
        size_bytes = sum(part.numel() * part.element_size() for part in parts)
        shape = [sum(part.shape[0] for part in parts), *parts[0].shape[1:]]
        head[name] = {"dtype": DTYPES[parts[0].dtype], "shape": shape, "data_offsets": [at, at + size_bytes]}
        at += size_bytes
    text = json.dumps(head, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    yield struct.pack("<Q", len(text)) + text
    for _, parts in ordered:
        for part in parts:
            if part.numel():
                yield part.contiguous().view(torch.uint8).reshape(-1).numpy().data


# -- reading -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class OpenSource:
    """A decrypted file.

    Attributes:
        said: what its head says of the source.
    """

    said: Mapping[str, Any]
    tensors: Mapping[str, Tensor]


def read_source(key: bytes, file: IO[bytes]) -> OpenSource:
    """Decrypt the file of a source.

    Raises:
        SnapshotError: it was altered, or is of another key.
        KeyError, ValueError, TypeError: it is of another form.
    """
    content = bytearray()
    for block in decrypt(key, STREAM, file):
        content += block
    first = 8 + int.from_bytes(content[:8], "little")
    head = json.loads(content[8:first])
    said = json.loads(head.pop("__metadata__")["source"])
    tensors = {}
    for name, entry in head.items():
        dtype, (start, stop) = TYPES[entry["dtype"]], entry["data_offsets"]
        count = (stop - start) // dtype.itemsize
        flat = torch.frombuffer(content, dtype=dtype, count=count, offset=first + start) if count else torch.empty(0, dtype=dtype)
        tensors[name] = flat.reshape(entry["shape"])
    return OpenSource(said, tensors)


def state_of(
    memory: Memory, manifest: Mapping[str, Any], tensors: Mapping[str, Tensor], sources: Mapping[str, OpenSource]
) -> MemoryState:
    """The state that was stored. Sources without a file stand there as if they were of zeros, under names that begin with ``GONE``.

    Args:
        sources: id to file; those whose key was destroyed are missing.

    Raises:
        KeyError, ValueError, TypeError, RuntimeError: the parts do not belong together.
    """
    ids: list[str] = manifest["names"]
    chunks, owner = tensors["chunks"].clone(), [ids[source] for source in tensors["parts"][:, 0].tolist()]
    if len(owner) != len(chunks):
        raise ValueError(f"{len(chunks)} chunks have {len(owner)} parts, an encrypted memory has one each")
    names = [sources[one].said["name"] if one in sources else GONE + one for one in ids]
    for number, one in enumerate(owner):
        if one not in sources:
            chunks[number, 2] = -1
    tables = {**tensors, "chunks": chunks, **_ledger_columns(chunks, owner, sources)}
    tails = [one for one in manifest["tails"] if one in sources]
    tables |= {f"tails.{number}": sources[one].tensors["tail"] for number, one in enumerate(tails)}
    notes = {source.said["name"] or "": source.said["note"] for source in sources.values() if source.said["note"]}
    name_of = dict(zip(ids, names, strict=True))
    plain = {
        **manifest,
        "names": names,
        "tails": [name_of[one] for one in tails],
        "sources": [{**entry, "name": name_of[entry["name"]] or ""} for entry in manifest["sources"]],
        "notes": notes,
    }
    return state_file.state_of(memory, plain, tables, _log(memory, tensors, chunks, owner, sources, int(manifest["rows"])))


def _ledger_columns(chunks: Tensor, owner: list[str], sources: Mapping[str, OpenSource]) -> dict[str, Tensor]:
    """Token ids, times and content addresses in the order of all chunks."""
    at_id, at_chunk = dict.fromkeys(owner, 0), dict.fromkeys(owner, 0)
    ids, times, keys = [torch.empty(0, dtype=torch.int32)], list[Tensor](), list[Tensor]()
    for one, count in zip(owner, chunks[:, 2].tolist(), strict=True):
        number, source = at_chunk[one], sources.get(one)
        at_chunk[one] += 1
        times.append(torch.tensor(float("nan"), dtype=torch.float64) if source is None else source.tensors["at"][number])
        keys.append(torch.zeros(state_file.KEY_BYTES, dtype=torch.uint8) if source is None else source.tensors["keys"][number])
        if source is not None and count > 0:
            ids.append(source.tensors["ids"][at_id[one] : at_id[one] + count])
            at_id[one] += count
    return {
        "ids": torch.cat(ids),
        "chunks.at": torch.stack(times) if times else torch.empty(0, dtype=torch.float64),
        "chunks.keys": torch.stack(keys) if keys else torch.empty(0, state_file.KEY_BYTES, dtype=torch.uint8),
    }


def _log(
    memory: Memory,
    tensors: Mapping[str, Tensor],
    chunks: Tensor,
    owner: list[str],
    sources: Mapping[str, OpenSource],
    end: int,
) -> RowLog:
    """The rows of all sources under their numbers."""
    fields, at = memory.codec.fields, dict.fromkeys(owner, 0)
    log = RowLog(fields)
    runs = iter(tensors["held"].tolist())
    run = next(runs, None)
    for one, (first, rows) in zip(owner, chunks[:, :2].tolist(), strict=True):
        while run is not None and run[0] < first + rows:
            begin, stop = max(first, run[0]), min(first + rows, sum(run))
            if stop > begin:
                log, _ = log.with_gap_to(begin).appended(_rows(fields, sources.get(one), at[one], stop - begin))
                at[one] += stop - begin
            if sum(run) > first + rows:
                break
            run = next(runs, None)
    if run is not None:
        raise ValueError("rows are held that belong to no chunk")
    return log.with_gap_to(end)


def _rows(fields: Mapping[str, Any], source: OpenSource | None, start: int, count: int) -> dict[str, Tensor]:
    if source is None:
        return {name: torch.zeros(count, *shape, dtype=dtype) for name, (shape, dtype) in fields.items()}
    rows = {name: source.tensors[f"rows.{name}"][start : start + count] for name in fields}
    if any(value.shape[0] != count or value.dtype != fields[name][1] for name, value in rows.items()):
        raise ValueError(f"rows {start} to {start + count} of a source are missing, or of another type")
    return rows
