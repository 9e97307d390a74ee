"""What the life of a memory costs beside its rows: ``python -m benchmarks.life_cycle --tokens 10000 1000000 5000000 --json FILE``.

Rows are tiny and made up, so that what is timed is the bookkeeping: taking a chunk in, saving, saving again after one chunk, loading, a first
read, forking, forgetting a source of 10,000 tokens, merging with a memory of a tenth of the size. Runs on older versions too (point PYTHONPATH
at their ``src``); what they cannot do is left out. ``--head-numbers 2048 --on-disk --tokens 640000`` gives a memory of 10 GB.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import torch
from rich.console import Console
from rich.table import Table
from transformers import LlamaConfig, LlamaForCausalLM

from mplus import Geometry, Memory, MPlusModel
from mplus.memory.rows import EncodedChunk
from mplus.runtime.environment import environment_of

CHUNK: Final = 256
SOURCE_CHUNKS: Final = 40
KNOWS_IDS: Final = any(field.name == "ids" for field in dataclasses.fields(EncodedChunk))


def small_model(head_numbers: int) -> MPlusModel:
    """A decoder of one layer and one head; a row has twice its numbers, and four to search with."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=1, num_key_value_heads=1,
        head_dim=head_numbers,
        max_position_embeddings=8192,
    )  # fmt: skip
    geometry = Geometry(K=CHUNK, N=1024, K0=512, M=20_000_000)
    return MPlusModel.from_base(LlamaForCausalLM(config).eval(), geometry=geometry, key_width=4, voting=(0,))


def grow(model: MPlusModel, memory: Memory, tokens: int, name: str) -> None:
    """Take in chunks with random rows, each source ``SOURCE_CHUNKS`` of them."""
    generator = torch.Generator().manual_seed(tokens)
    shapes = {field: (memory.layout.groups(field), CHUNK, *shape) for field, shape in memory.layout.fields.items()}
    for number in range(tokens // CHUNK):
        rows = {field: torch.randn(shape, generator=generator) for field, shape in shapes.items()}
        if KNOWS_IDS:
            ids = tuple(torch.randint(64, (CHUNK,), generator=generator).tolist())
            source = f"{name} {number // SOURCE_CHUNKS}"
            known: dict[str, Any] = {"ids": ids, "behind": memory.ledger.key_of(source)}
            memory.update(EncodedChunk(rows, CHUNK, **known), source=source, at=float(number))
        else:
            memory.update(EncodedChunk(rows, CHUNK))


def seconds(act: Callable[[], Any]) -> tuple[Any, float]:
    """What an act gives, and its seconds."""
    started = time.perf_counter()
    out = act()
    return out, time.perf_counter() - started


def measure(model: MPlusModel, tokens: int, folder: Path, *, on_disk: bool) -> dict[str, Any]:
    """Seconds and bytes at one size."""
    memory, at = model.new_memory(seed=0, memory_format="kv", store=folder / "rows" if on_disk else "ram"), folder / "memory"
    _, grow_s = seconds(lambda: grow(model, memory, tokens, "own"))
    out: dict[str, Any] = {"tokens": memory.tokens_read, "take a chunk in": grow_s / (tokens // CHUNK)}
    prompt = torch.arange(6)[None]
    _, out["first read"] = seconds(lambda: model(prompt, memory=memory))
    _, out["read"] = seconds(lambda: model(prompt, memory=memory))
    _, out["save"] = seconds(lambda: memory.save(at))
    out["bytes"] = sum(path.stat().st_size for path in at.iterdir())
    grow(model, memory, CHUNK, "more")
    files = set(at.iterdir())
    _, out["save after one chunk"] = seconds(lambda: memory.save(at))
    out["bytes written again"] = sum(path.stat().st_size for path in at.iterdir() if path not in files or path.suffix == ".json")
    loaded, out["load"] = seconds(lambda: Memory.load(at, model))
    _, out["first read after load"] = seconds(lambda: model(prompt, memory=loaded))
    fork, out["fork"] = seconds(memory.fork)
    if hasattr(fork, "forget"):
        _, out["forget 10k tokens"] = seconds(lambda: fork.forget("own 0"))
        other = model.new_memory(seed=1, memory_format="kv")
        grow(model, other, max(CHUNK, tokens // 10), "theirs")
        _, out["merge with a tenth"] = seconds(lambda: fork.merge(other))
    shutil.rmtree(at)
    return out


def main() -> None:
    """Print the table, store everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, nargs="+", default=[10_000, 1_000_000, 5_000_000])
    parser.add_argument("--json", type=Path, help="store everything there")
    parser.add_argument("--head-numbers", type=int, default=4, help="width of the one head: numbers of a key, and of a value")
    parser.add_argument("--on-disk", action="store_true", help="keep rows in files from the beginning")
    options = parser.parse_args()
    model = small_model(options.head_numbers)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for tokens in options.tokens:
            rows.append(measure(model, tokens, Path(folder), on_disk=options.on_disk))
            Console(stderr=True).print(rows[-1])
    table = Table("", *(f"{row['tokens']:,} tokens" for row in rows))
    for name in rows[0]:
        if name != "tokens":
            table.add_row(name, *(f"{row[name]:,}" if "bytes" in name else f"{row[name] * 1e3:,.2f} ms" for row in rows))
    Console().print(table)
    versions, hardware = environment_of(model.dtype)
    if options.json:
        stored = {"versions": versions, "hardware": hardware, "rows": rows}
        options.json.write_text(json.dumps(stored, indent=1, default=str) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
