"""One process that fills one system and says how much memory it took at its peak: ``python -m benchmarks.peak '{...}'``.

A process of its own, because a peak never goes down again.
"""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path
from typing import Any

import torch

from benchmarks import systems
from benchmarks.filling import fill_short, grow_long, random_ids
from benchmarks.models import open_size, plain_twin
from benchmarks.systems import FullContext, WithMemory
from mplus.model import MPlusModel

DECODED = 8


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


def measure(spec: dict[str, Any]) -> dict[str, Any]:
    """Fill, read, decode and write once; `spec` names model, system, tokens, query length."""
    model = open_size(spec["model"], dtype=spec["dtype"], layers=spec["layers"])
    opened = peak_bytes()
    tokens, query = spec["tokens"], random_ids(spec["query"], model.vocabulary)
    if spec["system"] == "full":
        context = FullContext(plain_twin(model), random_ids(tokens, model.vocabulary, 1))
        context.first_token(query)
        return {"opened_bytes": opened, "peak_bytes": peak_bytes(), "held_bytes": 0}
    held = 0
    if spec["system"] != "model":
        system = _system(model, spec["system"], tokens)
        grow_long(system.memory, tokens)
        system.first_token(query)
        system.decode(query, DECODED)
        system.write(random_ids(model.geometry.chunk_tokens, model.vocabulary, 2))
        held = system.memory.stats().size_bytes
    return {"opened_bytes": opened, "peak_bytes": peak_bytes(), "held_bytes": held}


def _system(model: MPlusModel, name: str, tokens: int) -> WithMemory:
    capacity = tokens + 100_000
    if name == "literal":
        return systems.literal(model, capacity)
    if name == "ours":
        return systems.ours(model, capacity)
    geometry = model.geometry  # MemoryLLM: the long-term tokens read at most are short-term ones instead
    memory = model.new_memory(ltm=False, stm_tokens=geometry.stm_tokens + geometry.ltm_read_tokens)
    fill_short(memory)
    return WithMemory(model, memory)


if __name__ == "__main__":
    print(json.dumps(measure(json.loads(sys.argv[1]))))
