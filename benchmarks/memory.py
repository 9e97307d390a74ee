"""Memory usage: bytes of one memory token, of a process at its peak, of a file; and the time to store and open one. Knows no ratios.

``python -m benchmarks.memory '{...}'`` measures one peak, in a process of its own, because a peak never goes down again.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch

import mplus
from benchmarks import systems
from benchmarks.fixture import ROOM_TOKENS, Fixture
from benchmarks.models import open_size, plain_twin
from benchmarks.plan import PAPER_LTM
from benchmarks.synthetic_memory import fill_short, grow_long, random_ids, shortage
from benchmarks.systems import LITERAL_FIELDS, OURS_ROW_TYPE, FullContext, WithMemory, row_types, storage_fields
from benchmarks.timing import interleaved, timed
from mplus.errors import MPlusError
from mplus.memory.budget import MemoryBudget
from mplus.memory.memory import Memory
from mplus.memory.stores.fields import field_bytes
from mplus.model import MPlusModel

COUNTED_ROWS: Final = 512
DECODED_TOKENS: Final = 8

NUMBER_BYTES: Final = 8

COUNTING: Final = (
    "All fields of a long-term row as they lie in the log, divided by the layers: content, search key, and scales where rows are int8; "
    "beside them, for each group of layers with a choice of its own, the row's number and its birth (8 bytes each). The literal row is "
    "what the published code keeps: hidden state and key in the model's type, age (8 bytes), recall frequency (4 bytes, countdown eviction)."
)


def token_bytes(fixture: Fixture) -> dict[str, Any]:
    """Bytes per memory token and layer of every row type, and of the literal procedure, counted from rows in a store."""
    fixture.tell("counting the bytes of a memory token")
    model = fixture.model
    published = {**LITERAL_FIELDS, "memory_format": "hidden", "eviction": "countdown"}  # whatever the model keeps by itself
    literal = model.new_memory(**published, ltm_capacity=fixture.capacity)
    rows = {"literal": _counted(literal, {"age": NUMBER_BYTES, "frequency": 4})}
    for kind in row_types():
        memory = model.new_memory(memory_format="kv", ltm_capacity=fixture.capacity, **storage_fields(kind))
        rows[kind] = _counted(memory, {"number": NUMBER_BYTES, "birth": NUMBER_BYTES})
    return {"counting": COUNTING, "per_token_and_layer": rows}


def _counted(memory: Memory, beside: dict[str, int]) -> dict[str, float]:
    """Bytes of one token of one layer, from rows in a log.

    Args:
        beside: bytes that each group keeps of a row outside the log.
    """
    grow_long(memory, COUNTED_ROWS)
    layers, held = memory.layout.layers, memory.state.log
    fields = {name: field_bytes(held.fields, name) / layers for name in held.fields}
    groups = {name: size * memory.long_term.groups / layers for name, size in beside.items()}
    return {**fields, **groups, "total": held.size_bytes / len(held) / layers + sum(groups.values())}


# -- files -------------------------------------------------------------------------------------------------------------


def save_load(fixture: Fixture) -> dict[str, Any]:
    """Seconds to store a whole memory and to open it, ours and the literal one, and the size of the directory."""
    tokens, rounds, saves = fixture.plan.working_ltm, min(3, fixture.plan.rounds), Counter[str]()
    both = fixture.pair(tokens)
    fixture.tell(f"storing and opening memories of {tokens:,} long-term tokens")
    fixture.model.fingerprint  # noqa: B018  computed once for each model, not for each file
    with tempfile.TemporaryDirectory(prefix="mplus-bench-") as place:

        def directory(name: str) -> Path:
            return Path(place) / f"{name}-{saves[name]}"

        def save(name: str) -> float:
            saves[name] += 1  # a second save into one directory would write only what is new
            return timed(lambda: both[name].memory.save(directory(name)))

        def load(name: str) -> float:
            return timed(lambda: Memory.load(directory(name), fixture.model))

        saving = interleaved({name: partial(save, name) for name in both}, rounds)
        loading = interleaved({name: partial(load, name) for name in both}, rounds)
        sizes = {name: sum(file.stat().st_size for file in directory(name).rglob("*") if file.is_file()) for name in both}
    return {"ltm_tokens": tokens, "save_seconds": saving, "load_seconds": loading, "directory_bytes": sizes}


# -- peaks -------------------------------------------------------------------------------------------------------------


def peaks(fixture: Fixture) -> dict[str, Any]:
    """Peak memory of a process that only opens the model, fills one system, reads, decodes and writes; a process for each figure."""
    plan = fixture.plan
    tokens, largest = max((size for size in plan.ltm if size <= PAPER_LTM), default=0), max(plan.ltm)
    wanted = [
        ("model", 0),
        ("ours", tokens),
        *([("ours", largest)] if largest > tokens else []),
        ("literal", tokens),
        ("memoryllm", 0),
        *(("full", context) for context in plan.contexts),
    ]
    measured = (_peak(fixture, system, tokens) for system, tokens in wanted)
    what = "GPU memory" if fixture.model.device.type == "cuda" else "resident set"
    return {"what": what, "figures": [figures for figures in measured if figures is not None]}


def _peak(fixture: Fixture, system: str, tokens: int) -> dict[str, Any] | None:
    name, plan = f"{system} at {tokens:,} tokens", fixture.plan
    fixture.tell(f"peak memory: {name}")
    if lacks := shortage(fixture.shape.weight_bytes + int(1.2 * tokens * _token_bytes(fixture, system))):
        fixture.note(f"peak memory of {name} is left out: it {lacks}")
        return None
    one = {"system": system, "tokens": tokens}
    spec = {**one, "model": plan.model, "dtype": plan.dtype, "layers": plan.layers, "query": plan.query_tokens}
    roots = [str(Path(mplus.__file__).resolve().parents[1]), str(Path(__file__).resolve().parents[1])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [*roots, os.environ.get("PYTHONPATH")]))}
    command = [sys.executable, "-m", "benchmarks.memory", json.dumps(spec)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode in (-9, 137):
        fixture.note(f"peak memory of {name} is left out: the system ended its process, most likely for want of RAM")
        return None
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise MPlusError(f"measuring the peak memory of {name} failed: {last}")
    return {**one, **json.loads(done.stdout.splitlines()[-1])}


def _token_bytes(fixture: Fixture, system: str) -> int:
    """Bytes of one long-term token over all layers, or of one token of text in context; what a GPU holds takes no RAM."""
    model = fixture.model
    if system == "full":
        return 0 if model.device.type == "cuda" else fixture.shape.prefix_bytes(1)
    if system == "literal":
        return MemoryBudget.of(
            model.writer.layout("hidden", model.geometry), model.geometry.changed(**LITERAL_FIELDS), kv_numbers=0
        ).ltm_token_bytes
    geometry = model.geometry.changed(**storage_fields(OURS_ROW_TYPE))
    return MemoryBudget.of(model.writer.layout("kv", geometry), geometry, kv_numbers=0).ltm_token_bytes


def measure_peak(spec: dict[str, Any]) -> dict[str, Any]:
    """Fill, read, decode and write once; `spec` names model, system, tokens, query length."""
    model = open_size(spec["model"], dtype=spec["dtype"], layers=spec["layers"])
    opened_bytes, held_bytes = peak_bytes(), 0
    tokens, query = spec["tokens"], random_ids(spec["query"], model.vocabulary)
    if spec["system"] == "full":
        FullContext(plain_twin(model), random_ids(tokens, model.vocabulary, 1)).first_token(query)
    elif spec["system"] != "model":
        system = _system(model, spec["system"], tokens)
        grow_long(system.memory, tokens)
        system.first_token(query)
        system.decode(query, DECODED_TOKENS)
        system.write(random_ids(model.geometry.sizes.chunk_tokens, model.vocabulary, 2))
        held_bytes = system.memory.stats().size_bytes
    return {"opened_bytes": opened_bytes, "peak_bytes": peak_bytes(), "held_bytes": held_bytes}


def _system(model: MPlusModel, name: str, tokens: int) -> WithMemory:
    if name != "memoryllm":
        return (systems.literal if name == "literal" else systems.ours)(model, tokens + ROOM_TOKENS)
    geometry = model.geometry  # the long-term tokens read at most are short-term ones instead
    memory = model.new_memory(ltm=False, stm_tokens=geometry.sizes.stm_tokens + geometry.sizes.ltm_read_tokens)
    fill_short(memory)
    return WithMemory(model, memory)


def peak_bytes() -> int:
    """Peak GPU memory where the model is on one, else the peak resident set of this process.

    Linux' ``ru_maxrss`` begins with the size of the process that started this one, ``VmHWM`` does not.
    """
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        scale = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale


if __name__ == "__main__":
    print(json.dumps(measure_peak(json.loads(sys.argv[1]))))
