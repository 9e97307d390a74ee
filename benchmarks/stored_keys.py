"""Search keys of a long text and queries about facts in it, as ``experiments/stream_keys.py`` stores them. Searches nothing.

Legend: M tokens, F search key width, T prompt tokens.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor


@dataclass(frozen=True)
class StoredKeys:
    """Keys in the order of their text.

    Attributes:
        keys_MF: as stored, bfloat16.
        queries: vectors [T, F] and weights [T] of each question.
        spans: first and end of the tokens that each question asks for.
        window: blocks of a window of the vote.
    """

    keys_MF: Tensor
    queries: list[tuple[Tensor, Tensor]]
    spans: list[tuple[int, int]]
    window: int

    @classmethod
    def read(cls, directory: Path, questions: int) -> StoredKeys:
        """Open a directory; facts whose keys are not there yet are left out, of the others at most `questions` are taken."""
        keys = torch.cat([load_file(path)["search"] for path in sorted(directory.glob("keys-*.safetensors"))])
        table = load_file(directory / "queries.safetensors")
        stored = json.loads((directory / "facts.json").read_text(encoding="utf-8"))
        facts = stored["facts"]
        known = [number for number, fact in enumerate(facts) if fact["end"] <= len(keys)]
        known = known[:: max(1, len(known) // questions)][:questions]
        queries = [(table[f"query.{number}"], table[f"weight.{number}"]) for number in known]
        return cls(keys, queries, [(facts[number]["first"], facts[number]["end"]) for number in known], int(stored["window"]))
