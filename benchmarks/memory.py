"""The bytes: of one memory token, of a process at its peak, of a file; and the time to store and open one. Knows no ratios."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import mplus
from benchmarks.filling import grow_long, shortage
from benchmarks.fixture import Stage
from benchmarks.plan import PAPER_LTM
from benchmarks.systems import OURS_ROW_TYPE, WithMemory, literal_fields, row_types, storage_fields
from benchmarks.timing import interleaved, timed
from mplus.errors import MPlusError
from mplus.memory.memory import Memory
from mplus.memory.room import Room
from mplus.memory.stores.protocol import field_bytes

COUNTED_ROWS = 512

COUNTING = (
    "All fields of a long-term row as they lie in the store, divided by the layers: content, search key, birth (8 bytes), and scales "
    "where rows are int8. The literal row is what the published code keeps: hidden state and key in the model's type, age (8 bytes), "
    "recall frequency (4 bytes, countdown eviction)."
)


def token_bytes(stage: Stage) -> dict[str, Any]:
    """Bytes per memory token and layer of every row type, and of the literal procedure, counted from rows in a store."""
    stage.tell("counting the bytes of a memory token")
    model = stage.model
    published = {**literal_fields(), "memory_format": "hidden", "eviction": "countdown"}  # whatever the model keeps by itself
    found = {"literal": _counted(model.new_memory(**published, ltm_capacity=stage.capacity))}
    for kind in row_types():
        found[kind] = _counted(model.new_memory(memory_format="kv", ltm_capacity=stage.capacity, **storage_fields(kind)))
    return {"counting": COUNTING, "per_token_and_layer": found}


def _counted(memory: Memory) -> dict[str, float]:
    grow_long(memory, COUNTED_ROWS)
    layers, stores = memory.layout.layers, memory.longterm.stores
    fields = {name: sum(field_bytes(store.fields, name) for store in stores) / layers for name in stores[0].fields}
    return {**fields, "total": memory.longterm.size_bytes / len(memory.longterm) / layers}


def save_load(stage: Stage) -> dict[str, Any] | None:
    """Seconds to store a whole memory and to open it, ours and the literal one, and the size of the directory."""
    tokens = stage.plan.working_ltm
    if (both := stage.pair(tokens)) is None:
        return None
    stage.tell(f"storing and opening memories of {tokens:,} long-term tokens")
    stage.model.fingerprint  # noqa: B018  computed once for each model, not for each file
    with tempfile.TemporaryDirectory(prefix="mplus-bench-") as place:
        systems = {"ours": both[0], "literal": both[1]}
        turns = {name: _Files(system, Path(place) / name) for name, system in systems.items()}
        saving = interleaved({name: files.save for name, files in turns.items()}, min(3, stage.plan.rounds))
        loading = interleaved({name: files.load for name, files in turns.items()}, min(3, stage.plan.rounds))
        sizes = {name: files.size_bytes for name, files in turns.items()}
    return {"ltm_tokens": tokens, "save_seconds": saving, "load_seconds": loading, "directory_bytes": sizes}


class _Files:
    def __init__(self, system: WithMemory, place: Path) -> None:
        self.system, self.place, self.number = system, place, 0

    def save(self) -> float:
        self.number += 1  # a second save into one directory would write only what is new
        return timed(lambda: self.system.memory.save(self._directory))

    def load(self) -> float:
        return timed(lambda: Memory.load(self._directory, self.system.model))

    @property
    def size_bytes(self) -> int:
        return sum(file.stat().st_size for file in self._directory.rglob("*") if file.is_file())

    @property
    def _directory(self) -> Path:
        return self.place.with_name(f"{self.place.name}-{self.number}")


def peaks(stage: Stage) -> dict[str, Any]:
    """Peak memory of a process that only opens the model, fills one system, reads, decodes and writes; a process for each figure."""
    tokens = max((size for size in stage.plan.ltm if size <= PAPER_LTM), default=0)
    wanted: list[dict[str, Any]] = [
        {"system": "model", "tokens": 0},
        {"system": "ours", "tokens": tokens},
        {"system": "literal", "tokens": tokens},
        {"system": "memoryllm", "tokens": 0},
        *({"system": "full", "tokens": context} for context in stage.plan.contexts),
    ]
    largest = max(stage.plan.ltm)
    if largest > tokens:
        wanted.insert(2, {"system": "ours", "tokens": largest})
    found = []
    for one in wanted:
        stage.tell(f"peak memory: {one['system']} at {one['tokens']:,} tokens")
        if (measured := _peak(stage, one)) is not None:
            found.append(measured)
    return {"what": "GPU memory" if stage.model.device.type == "cuda" else "resident set", "figures": found}


def _token_bytes(stage: Stage, system: str) -> int:
    """Bytes of one long-term token over all layers, or of one token of text in context; what a GPU holds takes no RAM."""
    if system == "full":
        return 0 if stage.model.device.type == "cuda" else stage.shape.prefix_bytes(1)
    if system == "literal":
        geometry, kind = (
            stage.model.geometry.changed(**literal_fields()),
            stage.model.writer.layout("hidden", stage.model.geometry),
        )
    else:
        geometry = stage.model.geometry.changed(**storage_fields(OURS_ROW_TYPE))
        kind = stage.model.writer.layout("kv", geometry)
    return Room.of(kind, geometry, kv_numbers=0).ltm_token_bytes


def _peak(stage: Stage, one: dict[str, Any]) -> dict[str, Any] | None:
    name = f"{one['system']} at {one['tokens']:,} tokens"
    counts = stage.shape.weight_bytes + int(1.2 * one["tokens"] * _token_bytes(stage, one["system"]))
    if lacks := shortage(counts):
        stage.note(f"peak memory of {name} is left out: it {lacks}")
        return None
    plan = stage.plan
    spec = {**one, "model": plan.model, "dtype": plan.dtype, "layers": plan.layers, "query": plan.query_tokens}
    roots = [str(Path(mplus.__file__).resolve().parent.parent), str(Path(__file__).resolve().parent.parent)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [*roots, os.environ.get("PYTHONPATH")]))}
    command = [sys.executable, "-m", "benchmarks.peak", json.dumps(spec)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode in (-9, 137):
        stage.note(f"peak memory of {name} is left out: the system ended its process, most likely for want of RAM")
        return None
    if done.returncode:
        raise MPlusError(
            f"measuring the peak memory of {name} failed: {(done.stderr.strip().splitlines() or ['no message'])[-1]}"
        )
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {**one, **figures}
