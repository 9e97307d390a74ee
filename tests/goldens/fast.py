"""Outputs of tiny random models: logits, retrieval, answers and operations in the ways a memory works. Needs no real weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from mplus import Memory, MPlusModel
from tests.tiny import ids, tiny_model

SETUPS: dict[str, tuple[str, dict[str, Any]]] = {
    "shared": ("shared", {}),
    "best_last": ("best_last", {}),
    "recency_tail": ("best_last", {"recent_tokens": 8}),
    "per_layer": ("per_layer", {}),
    "mixed": ("mixed", {}),
    "published": ("output", {}),
}
"""Name of a golden to (name in ``tests.tiny.SETUPS``, changed settings)."""

FAMILIES = ("llama", "qwen3")


def outputs() -> dict[str, Any]:
    """Results by family and setup, as plain JSON data."""
    found: dict[str, Any] = {}
    for family in FAMILIES:
        for name, (setup, changed) in SETUPS.items():
            model = tiny_model(family, setup, **{"write_context": "memory", **changed})  # as recorded
            memory = model.new_memory(seed=3)
            memory.write(ids(93, 1), source="first")
            memory.write(ids(20, 2), source="second")
            found[f"{family} {name}"] = {**_read(model, memory), "operations": _operations(model, memory)}
    return found


def _read(model: MPlusModel, memory: Memory) -> dict[str, Any]:
    prompts = torch.stack([ids(7, 5), ids(7, 6)])
    out = model(prompts, memory=memory, return_retrieved=True)
    answer = model.generate(prompts, memory, max_new_tokens=6, do_sample=False)
    assert out.retrieved is not None
    return {
        "logits": out.logits[:, -1, :12].tolist(),
        "all_logits": float(out.logits.double().sum()),
        "retrieved": [one.indices for one in out.retrieved],
        "answers": answer.tolist(),
        "tokens": [memory.stats().stm_tokens, memory.stats().ltm_tokens],
    }


def _operations(model: MPlusModel, memory: Memory) -> dict[str, int]:
    """Floating-point operations of a first read, a second one, five generated tokens and a write, as torch counts them."""
    copy = memory.fork()
    prompt = ids(6, 8)[None]
    acts: dict[str, Callable[[], Any]] = {
        "first read": lambda: model(prompt, memory=copy),
        "second read": lambda: model(prompt, memory=copy),
        "generation": lambda: model.generate(prompt, copy, max_new_tokens=5, do_sample=False),
        "write": lambda: copy.write(ids(40, 9)),
    }
    counts = {}
    for name, act in acts.items():
        with FlopCounterMode(display=False) as counter:
            act()
        counts[name] = counter.get_total_flops()
    return counts
