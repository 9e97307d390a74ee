"""What encryption costs: ``python -m benchmarks.encryption --tokens 8192``. Save and load of one memory, as it is and encrypted, in turns.

The rows are random (a random row costs what a written one costs), of the shape and number type that the model's rows have. Times are
medians; a save is the first one of a memory, so it writes everything, flushed to the disk.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.synthetic_memory import random_ids
from mplus import Memory, MPlusModel
from mplus.memory.encryption import decrypt, encrypt, new_key
from mplus.memory.keys import Keys
from mplus.memory.rows import EncodedChunk
from mplus.runtime.environment import environment_of

STREAM_BYTES = 256 << 20


def memory_of(model: MPlusModel, tokens: int, sources: int) -> Memory:
    """A memory of random rows, in chunks of its sources by turns."""
    memory = model.new_memory(seed=0)
    size = memory.geometry.sizes.new_tokens
    generator = torch.Generator().manual_seed(1)
    rows = {
        name: torch.randn(memory.layout.groups(name), size, *shape, generator=generator).to(memory.layout.dtype)
        for name, shape in memory.layout.fields.items()
    }
    for number in range(tokens // size):
        ids = tuple(random_ids(size, memory.encoder.vocabulary, number).tolist())
        rolled = {name: value.roll(number + 1, 1) for name, value in rows.items()}
        memory.update(EncodedChunk(rolled, size, ids=ids), source=f"source {number % sources}")
    return memory


def seconds(work: Callable[[], object]) -> float:
    """How long it takes."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def measure(model: MPlusModel, tokens: int, sources: int, rounds: int) -> dict[str, Any]:
    """Seconds of saves and loads, and bytes, of both kinds; each save is of a memory that lies in no file yet."""
    taken: dict[str, list[float]] = {f"{step} {kind}": [] for step in ("save", "load") for kind in ("plain", "encrypted")}
    size_bytes: dict[str, int] = {}
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".encryption-") as folder:
        keys = Keys.make(Path(folder) / "keys")
        for number in range(rounds):
            for kind in ("plain", "encrypted"):
                place = Path(folder) / f"{kind}-{number}"
                fresh = memory_of(model, tokens, sources)
                fresh.keys = keys if kind == "encrypted" else None
                taken[f"save {kind}"].append(seconds(lambda fresh=fresh, place=place: fresh.save(place)))  # type: ignore[misc]
                read = lambda place=place: Memory.load(place, model, store="ram", keys=keys)  # noqa: E731
                taken[f"load {kind}"].append(seconds(read))
                size_bytes[kind] = sum(path.stat().st_size for path in place.iterdir())
    return {"bytes": size_bytes, "seconds": {name: statistics.median(values) for name, values in taken.items()}, "all": taken}


def streams() -> dict[str, float]:
    """MB/s of the cipher alone, from RAM to RAM."""
    key, content, target = new_key(), os.urandom(STREAM_BYTES), io.BytesIO()
    encrypted_s = seconds(lambda: encrypt(key, "x", [content], target))
    target.seek(0)
    decrypted_s = seconds(lambda: [None for _ in decrypt(key, "x", target)])
    return {"encrypt": STREAM_BYTES / 1e6 / encrypted_s, "decrypt": STREAM_BYTES / 1e6 / decrypted_s}


def main() -> None:
    """Measure and print; ``--json`` stores it too."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.encryption", description=__doc__)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--tokens", type=int, default=8192)
    parser.add_argument("--sources", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    model = MPlusModel.from_pretrained(options.model)
    measured = {**measure(model, options.tokens, options.sources, options.rounds), "stream_mb_per_s": streams()}
    for kind in ("plain", "encrypted"):
        megabytes = measured["bytes"][kind] / 1e6
        save_s, load_s = (measured["seconds"][f"{step} {kind}"] for step in ("save", "load"))
        print(
            f"{kind:10s} {megabytes:8.1f} MB   save {save_s:6.2f} s {megabytes / save_s:7.0f} MB/s   "
            f"load {load_s:6.2f} s {megabytes / load_s:7.0f} MB/s"
        )
    print("cipher alone: " + ", ".join(f"{name} {rate:,.0f} MB/s" for name, rate in measured["stream_mb_per_s"].items()))
    if options.json:
        settings = {name: getattr(options, name) for name in ("model", "tokens", "sources", "rounds")}
        versions, hardware = environment_of(model.dtype)
        result = {**settings, **measured, "versions": versions, "hardware": hardware}
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
