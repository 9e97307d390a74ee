"""A memory's whole state under the published tensor names, both ways. Knows those names, not where they are stored.

Legend: L layers, S short-term tokens, C rows waiting for a merge (the published drop cache), D width, R retriever key width.

``memory`` [L, S, D], ``memory_ages`` [L, S]; per layer l ``ltm.l`` [M_l, D], ``ltm_keys.l`` [M_l, R], ``ltm_ages.l``,
``ltm_recall_frequencies.l`` [M_l]; while rows wait ``cached_memories`` [L, C, D], ``cached_keys`` [L, C, R], ``cached_ages`` [L, C].
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor

from mplus.attach.parts import ModelParts
from mplus.attach.write_pass import project_rows
from mplus.checkpoints.load_report import LoadReport
from mplus.errors import InputError
from mplus.memory.memory import Memory
from mplus.memory.rewriting import with_rows
from mplus.memory.rows import EncodedChunk, Rows
from mplus.memory.state import ordinary_tensors
from mplus.settings import MemoryFormat

CACHED = ("cached_memories", "cached_keys", "cached_ages")


class PublishedModel(Protocol):
    """A model with the rules of the published checkpoints, as far as its memory is concerned."""

    @property
    def parts(self) -> ModelParts: ...
    def new_memory(self, *, seed: int = 0, memory_format: MemoryFormat | None = None, initialised: bool = True) -> Memory: ...


def memory_from_state(
    model: PublishedModel,
    tensors: Mapping[str, Tensor],
    *,
    update_step: int = 0,
    memory_format: MemoryFormat | None = None,
    seed: int = 0,
) -> Memory:
    """A memory of `model` that holds exactly the given rows.

    Args:
        tensors: by published name; ``memory_ages`` may be absent (a fresh checkpoint's ages), ``ltm*`` where there is no
            long-term memory, ``cached_*`` where nothing waits.
        update_step: the published counter: memory tokens written since the last merge.

    Raises:
        CheckpointError: a tensor is missing, unknown, misshapen or not finite (the first of each kind are named, the rest counted).
    """
    memory = model.new_memory(seed=seed, memory_format=memory_format)
    if memory.geometry.read.is_shared:
        raise InputError(
            "published states name long-term rows per layer; this model's layers share them, use Memory.save and load"
        )
    _check(tensors, memory, model.parts.decoder.width)
    layers, hidden = memory.layout.layers, tensors["memory"]
    rows, tail = rows_of_hidden(model.parts, hidden.to(memory.layout.device, memory.layout.dtype), memory)
    births = (
        memory.now - 1 - tensors["memory_ages"].long().cpu()
        if "memory_ages" in tensors
        else memory.placement.births[:1].expand(layers, -1)
    )
    with ordinary_tensors():
        has_ltm = memory.geometry.sizes.ltm
        long = [_layer_of(model.parts, memory, tensors, layer) for layer in range(layers)] if has_ltm else []
        empty = replace(memory.empty_state(), tail=tail)
        since = update_step // memory.geometry.sizes.new_tokens if has_ltm else 0
        own_births = births[: memory.placement.groups]
        memory.become(with_rows(memory, empty, rows, own_births, long, writes_since_merge=since))
    return memory


def state_of(memory: Memory) -> dict[str, Tensor]:
    """All rows of a memory by published name, copied to the CPU.

    Raises:
        InputError: a memory of format "kv" keeps no hidden states; its layers share one long-term store.
    """
    if memory.format != "hidden":
        raise InputError(
            "a published state holds hidden states, this memory keeps keys and values; make it with memory_format='hidden'"
        )
    out = bookkeeping_of(memory)
    out["memory"] = memory.short_term.at_slots(memory.short_term.order)["hidden"].cpu().clone()
    long_term, waiting = memory.long_term, memory.long_term.waiting
    for layer in range(long_term.groups if memory.geometry.sizes.ltm else 0):
        out[f"ltm.{layer}"] = long_term.column(layer, "hidden")[: long_term.merged(layer)].clone()
    if memory.geometry.sizes.ltm and any(waiting):
        out["cached_memories"] = torch.stack([long_term.column(layer, "hidden")[-count:] for layer, count in enumerate(waiting)])
    return out


def bookkeeping_of(memory: Memory) -> dict[str, Tensor]:
    """The part of ``state_of`` that both memory formats hold: ages, retriever keys, recall frequencies."""
    layers, long_term = memory.layout.layers, memory.long_term
    out = {"memory_ages": memory.ages(memory.placement.births).expand(layers, -1).clone()}
    if not memory.geometry.sizes.ltm:
        return out
    if memory.geometry.read.is_shared:
        raise InputError("published states name long-term rows per layer; this memory's layers share them")
    searched, waiting = "search" in memory.layout.fields, long_term.waiting
    for layer in range(long_term.groups):
        merged, frequency = long_term.merged(layer), long_term.frequencies(layer)
        out[f"ltm_ages.{layer}"] = memory.ages(long_term.births(layer)[:merged])
        if searched:
            out[f"ltm_keys.{layer}"] = long_term.column(layer, "search")[:merged].clone()
        if frequency is not None:
            out[f"ltm_recall_frequencies.{layer}"] = frequency[:merged].clone()
    if any(waiting):
        out["cached_ages"] = memory.ages(torch.stack([long_term.births(layer)[-n:] for layer, n in enumerate(waiting)]))
        if searched:
            out["cached_keys"] = torch.stack([long_term.column(layer, "search")[-n:] for layer, n in enumerate(waiting)])
    return out


def written_from_hidden(model: PublishedModel, hidden: Tensor, memory: Memory) -> EncodedChunk:
    """What a write pass with these new hidden states [L, n, D] would have produced for `memory`.

    Raises:
        InputError: another shape.
    """
    layers, width = memory.layout.layers, model.parts.decoder.width
    if hidden.dim() != 3 or hidden.shape[0] != layers or hidden.shape[2] != width:
        raise InputError(f"hidden states have shape {list(hidden.shape)}; this model needs [{layers}, tokens, {width}]")
    own = hidden.to(memory.layout.device, memory.layout.dtype)
    return EncodedChunk(rows_of_hidden(model.parts, own, memory)[0], 0, hidden=own)


def rows_of_hidden(model_parts: ModelParts, hidden: Tensor, memory: Memory) -> tuple[Rows, Tensor]:
    """Memory rows, [L, n, ...], of hidden states [L, n, D], and the tail they leave."""
    with torch.no_grad():
        if memory.format == "hidden":
            rows: Rows = {"hidden": hidden}
        else:
            rows = {name: value[0] for name, value in project_rows(model_parts, memory.geometry, hidden[None]).items()}
        if "search" in memory.layout.fields:
            retriever = model_parts.retriever
            assert retriever is not None
            normed = {layer: model_parts.decoder.normed(layer, hidden[layer][None]) for layer in retriever.layers}
            rows["search"] = retriever.search_keys(normed)[0]
    return rows, hidden[:, -memory.geometry.sizes.new_tokens :].clone()


def longterm_rows(model_parts: ModelParts, layer: int, hidden: Tensor, keys: Tensor, memory: Memory) -> Rows:
    """Long-term rows [n, ...] of one layer from hidden states [n, D] and retriever keys [n, R] stored beside them."""
    rows: Rows = {"search": keys}
    if memory.format == "hidden":
        rows["hidden"] = hidden
        return rows
    role = memory.geometry.read.memory_projection
    with torch.no_grad(), model_parts.adapters.on(model_parts.adapters.named(role)):
        rows["keys"], rows["values"] = model_parts.decoder.project(layer, hidden.to(memory.layout.device))
    return rows


def _layer_of(
    model_parts: ModelParts, memory: Memory, tensors: Mapping[str, Tensor], layer: int
) -> tuple[Rows, Tensor, Tensor, int]:
    """Long-term rows of a layer, their births, recall frequencies, and how many wait."""
    hidden, keys, ages = tensors[f"ltm.{layer}"], tensors[f"ltm_keys.{layer}"], tensors[f"ltm_ages.{layer}"].long()
    frequency, waiting = tensors[f"ltm_recall_frequencies.{layer}"].float(), 0
    if "cached_memories" in tensors:
        hidden, keys = torch.cat([hidden, tensors["cached_memories"][layer]]), torch.cat([keys, tensors["cached_keys"][layer]])
        ages = torch.cat([ages, tensors["cached_ages"][layer].long()])
        waiting = tensors["cached_ages"].shape[1]
        frequency = torch.cat([frequency, torch.full((waiting,), memory.geometry.quirks.initial_recall_frequency)])
    dtype = memory.layout.dtype
    rows = longterm_rows(model_parts, layer, hidden.to(dtype), keys.to(dtype), memory)
    return rows, memory.now - 1 - ages, frequency, waiting


def _check(tensors: Mapping[str, Tensor], memory: Memory, width: int) -> None:
    layers, report = memory.layout.layers, LoadReport("state of a memory")

    def need(name: str, *shape: int) -> None:
        if name in tensors:
            report.check_tensor(name, tensors[name], shape)
        else:
            report.missing.append(name)

    size = memory.geometry.sizes.stm_tokens
    need("memory", layers, size, width)
    if "memory_ages" in tensors:
        need("memory_ages", layers, size)
        if memory.placement.groups == 1 and not bool((tensors["memory_ages"] == tensors["memory_ages"][:1]).all()):
            report.misshapen.append("memory_ages differ between layers, but this model drops the same tokens in all of them")
    if memory.geometry.sizes.ltm:
        key_width = memory.layout.fields["search"][0] if "search" in memory.layout.fields else 0
        for layer in range(layers):
            count = tensors[f"ltm.{layer}"].shape[0] if tensors.get(f"ltm.{layer}", torch.empty(())).dim() else 0
            need(f"ltm.{layer}", count, width)
            need(f"ltm_keys.{layer}", count, key_width)
            need(f"ltm_ages.{layer}", count)
            need(f"ltm_recall_frequencies.{layer}", count)
        if any(name in tensors for name in CACHED):
            waiting = max((tensors[name].shape[1] for name in CACHED if name in tensors and tensors[name].dim() > 1), default=0)
            need("cached_memories", layers, waiting, width)
            need("cached_keys", layers, waiting, key_width)
            need("cached_ages", layers, waiting)
    report.extra = sorted(set(tensors) - report.used)
    report.raise_if_bad()
