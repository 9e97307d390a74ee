"""Whether the tables in a data file add up: ledger, extents, placement. Reads them with numpy; knows no model and brings no torch.

``state_file`` says what each table holds. Legend: c chunks, p parts of chunks, e extents, T text tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mplus.memory.tensor_file import tensors_in

Table = NDArray[Any]
FORMS = {"I64": "<i8", "I32": "<i4", "F64": "<f8", "U8": "u1"}
"""Dtypes of the tables, as numpy names them."""
SHAPES: dict[str, tuple[str, tuple[int | None, ...]]] = {
    "ids": ("I32", (None,)),
    "chunks": ("I64", (None, 5)),
    "chunks.at": ("F64", (None,)),
    "chunks.keys": ("U8", (None, 16)),
    "parts": ("I64", (None, 2)),
    "extents": ("I64", (None, 4)),
    "short.rows": ("I64", (None, None)),
    "short.births": ("I64", (None, None)),
    "generator": ("U8", (None,)),
}
"""Tables that every data file of format 3 has: dtype and shape."""


def findings_of_ledger(manifest: Mapping[str, Any], home: Path) -> Iterator[str]:
    """What does not add up, a sentence each."""
    path = home / manifest["data"]["file"]
    tables = tables_in(path)
    wrong = [finding for name, (dtype, shape) in SHAPES.items() for finding in _of_form(path, name, tables, dtype, shape)]
    yield from wrong
    if wrong:
        return
    for finding in (*_of_chunks(manifest, tables), *_of_extents(manifest, tables), *_of_placement(manifest, tables)):
        yield f"{path.name}: {finding}"


def tables_in(path: Path) -> dict[str, Table]:
    """All tensors of a data file that are tables.

    Raises:
        TensorFileError, OSError: it is no safetensors file, or cannot be read.
    """
    out: dict[str, Table] = {}
    with path.open("rb") as file:
        for entry in tensors_in(path):
            if entry.dtype in FORMS:
                file.seek(entry.start)
                out[entry.name] = np.frombuffer(file.read(entry.stop - entry.start), FORMS[entry.dtype]).reshape(entry.shape)
    return out


def _of_form(path: Path, name: str, tables: Mapping[str, Table], dtype: str, shape: tuple[int | None, ...]) -> Iterator[str]:
    table = tables.get(name)
    if table is None:
        yield f"{path.name}: tensor {name} is missing"
    elif table.dtype != np.dtype(FORMS[dtype]) or len(table.shape) != len(shape):
        yield f"{path.name}: tensor {name} is {table.dtype} {list(table.shape)}, expected {dtype} of {len(shape)} dimensions"
    elif any(size not in (None, got) for size, got in zip(shape, table.shape, strict=True)):
        yield f"{path.name}: tensor {name} is {list(table.shape)}, expected {[size or 'any' for size in shape]}"


def _of_chunks(manifest: Mapping[str, Any], tables: Mapping[str, Table]) -> Iterator[str]:
    chunks, parts, ids = tables["chunks"], tables["parts"], tables["ids"]
    counts = {len(chunks), len(tables["chunks.at"]), len(tables["chunks.keys"]), manifest["chunks"]}
    if len(counts) > 1:
        yield f"the ledger has {sorted(counts)} chunks in its tables and the manifest, expected one number"
        return
    first, rows, known, part_counts = (chunks[:, column] for column in range(4))
    if len(chunks) and (bool((rows < 0).any()) or bool((first[1:] < first[:-1] + rows[:-1]).any()) or int(first[0]) < 0):
        yield "the chunks of the ledger overlap, or are not in the order of writing"
    if len(chunks) and int((first + rows).max()) > manifest["rows"]:
        yield f"the ledger ends at row {int((first + rows).max()):,}, the log at {manifest['rows']:,}"
    if int(np.maximum(known, 0).sum()) != len(ids):
        yield f"the ledger counts {int(np.maximum(known, 0).sum()):,} token ids, {len(ids):,} are stored"
    if len(ids) and int(ids.min()) < 0:
        yield f"a token id is {int(ids.min())}"
    if int(part_counts.sum()) != len(parts) or bool((part_counts < 1).any()):
        yield f"the ledger counts {int(part_counts.sum()):,} parts of chunks, {len(parts):,} are stored"
    elif len(parts):
        yield from _of_sources(manifest, chunks, parts)


def _of_sources(manifest: Mapping[str, Any], chunks: Table, parts: Table) -> Iterator[str]:
    names, tokens = manifest["names"], parts[:, 1]
    if bool((parts[:, 0] < 0).any()) or bool((parts[:, 0] >= len(names)).any()) or bool((tokens < 0).any()):
        yield "a chunk is of a source that the manifest does not name"
        return
    starts = np.concatenate([[0], np.cumsum(chunks[:, 3])[:-1]])
    sums = np.add.reduceat(tokens, starts)
    if bool(((chunks[:, 2] >= 0) & (sums != chunks[:, 2])).any()):
        yield "the text tokens of a chunk's sources are not as many as its token ids"
    if int(tokens.sum()) != manifest["tokens_read"]:
        yield f"the ledger counts {int(tokens.sum()):,} text tokens, the manifest {manifest['tokens_read']:,}"
    totals = np.bincount(parts[:, 0], tokens, len(names)).astype(np.int64)
    waiting = {str(name or ""): 0 for name, _ in manifest["pending"]}
    for name, ids in manifest["pending"]:
        waiting[str(name or "")] += len(ids)
    for entry in manifest["sources"]:
        name = entry["name"]
        held = int(totals[names.index(name or None)]) if (name or None) in names else 0
        if entry["tokens"] not in (held, held + waiting.get(name, 0)):
            yield f"source {name!r:.80} has {held:,} text tokens in the ledger, {entry['tokens']:,} in the manifest"


def _of_extents(manifest: Mapping[str, Any], tables: Mapping[str, Table]) -> Iterator[str]:
    extents = tables["extents"]
    if not len(extents):
        return
    number, first, rows, row = (extents[:, column] for column in range(4))
    if int(number.min()) < 0 or int(number.max()) >= len(manifest["segments"]) or int(rows.min()) < 1 or int(first.min()) < 0:
        yield "rows are said to lie in segments that the manifest does not name, or nowhere"
        return
    held = np.array([entry["rows"] for entry in manifest["segments"]], np.int64)
    if bool((first + rows > held[number]).any()):
        at = int(np.argmax(first + rows > held[number]))
        yield f"rows {int(row[at]):,} and following are said to lie behind the end of {manifest['segments'][int(number[at])]['file']}"
    if bool((row[1:] < row[:-1] + rows[:-1]).any()):
        yield "rows are said to lie in two places"
    if int((row + rows).max()) > manifest["rows"]:
        yield f"the log ends at row {int((row + rows).max()):,}, the manifest says {manifest['rows']:,}"


def _of_placement(manifest: Mapping[str, Any], tables: Mapping[str, Table]) -> Iterator[str]:
    groups = {"short": (tables["short.rows"], tables["short.births"])}
    for number, entry in enumerate(manifest["long"]):
        rows, births = (tables.get(f"long.{number}.{name}") for name in ("rows", "births"))
        if rows is None or births is None or rows.shape != births.shape or rows.shape != (entry["skipped"] + entry["tokens"],):
            yield f"long-term group {number} is not stored as the {entry['tokens']:,} tokens that the manifest says"
            continue
        groups[f"long-term group {number}"] = (rows, births)
    if tables["short.rows"].shape != tables["short.births"].shape or tables["short.rows"].shape[1] != manifest["stm_tokens"]:
        yield f"short-term memory is not stored as the {manifest['stm_tokens']:,} tokens that the manifest says"
    for name, (rows, births) in groups.items():
        if births.size and int(births.max()) >= manifest["now"]:
            yield f"{name} memory holds a token of birth {int(births.max()):,}, only {manifest['now']:,} were written"
        missing = rows.size - int(_held(rows.reshape(-1), tables["extents"]).sum())
        if missing:
            yield f"{name} memory places {missing:,} tokens whose rows are stored nowhere"


def _held(rows: Table, extents: Table) -> Table:
    """[k] whether a row is stored."""
    if not len(extents):
        return np.zeros(len(rows), bool)
    at = np.maximum(np.searchsorted(extents[:, 3], rows, side="right") - 1, 0)
    return np.asarray((rows >= extents[at, 3]) & (rows < extents[at, 3] + extents[at, 2]))
