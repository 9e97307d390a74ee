"""What one training step keeps for its backward pass, by chunk length and by document length: ``python -m benchmarks.step_memory``.

Counts the bytes of all tensors that autograd saves (each storage once, parameters left out) on a small random decoder. The count
depends on shapes alone, so it is the same on every machine. ``--json FILE`` stores the rows.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from mplus import MPlusModel
from mplus.settings import Geometry
from mplus.training.data.text_sources import Corpus
from mplus.training.objectives.language import LanguageTask, Settings

VOCABULARY = 256


class Noise(Corpus):
    """Documents of random tokens, each exactly as long as asked."""

    def __init__(self, tokens: int) -> None:
        super().__init__([], None, 0, VOCABULARY)
        self.tokens = tokens

    def document(self, randomness: random.Random, least: int) -> list[int]:
        return [randomness.randrange(VOCABULARY) for _ in range(max(self.tokens, least))]


def step_bytes(kind: str, chunk: int, chunks: int, *, checkpointing: bool = False, stm: int = 256) -> int:
    """Bytes saved by one step.

    Args:
        kind: sub-task.
        chunk: tokens of a chunk; the text read after it is as long.
        chunks: chunks of a document (``multi_chunk``).
        stm: N.
    """
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=64, intermediate_size=128, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=8192,
    )  # fmt: skip
    geometry = Geometry(new_tokens=chunk, chunk_tokens=chunk, stm_tokens=stm, ltm_read_tokens=64, drop_tokens=16)
    lora: dict[str, Any] = {"r": 8, "lora_alpha": 16}
    model = MPlusModel.from_base(
        LlamaForCausalLM(config), geometry=geometry, attn_implementation="sdpa", read_lora=lora, write_lora=lora, key_width=16
    )
    if checkpointing:
        decoder: Any = model.parts.decoder.model
        decoder.activation_checkpointing_enable()
    fields = {"subtasks": {kind: 1.0}, "batch": 2, "read_tokens": chunk, "longest_chunks": chunks, "bank_chunks": 16, "wrong": 4}
    task = LanguageTask(model, Settings(**fields), 0, corpus=Noise((chunks + 1) * chunk)).train()
    task.prepare()
    weights = {value.untyped_storage().data_ptr() for value in task.parameters()}
    kept: dict[int, int] = {}

    def pack(value: Tensor) -> Tensor:
        storage = value.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return value

    batch = task.draw()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
        outcome = task(batch)
    assert outcome.loss.requires_grad
    return sum(kept.values())


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for kind, chunk, chunks in [
        *(("two_chunk", size, 1) for size in (32, 64, 128)),
        *(("multi_chunk", 64, count) for count in (2, 8, 32)),
    ]:
        found = {
            name: step_bytes(kind, chunk, chunks, checkpointing=on) for name, on in (("plain", False), ("checkpointed", True))
        }
        rows.append({"kind": kind, "chunk_tokens": chunk, "document_chunks": chunks, **found})
    table = Table("sub-task", "chunk tokens", "chunks written", "kept, MB", "with checkpointing, MB")
    for row in rows:
        sizes = (f"{row[name] / 1e6:.2f}" for name in ("plain", "checkpointed"))
        table.add_row(row["kind"], str(row["chunk_tokens"]), str(row["document_chunks"]), *sizes)
    Console().print(table)
    if options.json is not None:
        options.json.write_text(json.dumps({"schema": 1, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
