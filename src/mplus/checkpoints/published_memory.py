"""A memory's whole state under the published tensor names, both ways. Knows those names, not where they are stored.

Legend: L layers, S short-term tokens, C rows waiting for a merge (the published drop cache), D width, R retriever key width.

``memory`` [L, S, D], ``memory_ages`` [L, S]; per layer l ``ltm.l`` [M_l, D], ``ltm_keys.l`` [M_l, R], ``ltm_ages.l``,
``ltm_recall_frequencies.l`` [M_l]; while rows wait ``cached_memories`` [L, C, D], ``cached_keys`` [L, C, R], ``cached_ages`` [L, C].
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

from mplus.attach.parts import ModelParts
from mplus.attach.write_pass import project_rows
from mplus.checkpoints.load_report import LoadReport
from mplus.errors import InputError
from mplus.memory.long_term import LongTerm
from mplus.memory.memory import Memory
from mplus.memory.rows import EncodedChunk, Rows
from mplus.memory.short_term import ShortTerm
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
    rows, memory.tail = rows_of_hidden(model.parts, hidden.to(memory.layout.device, memory.layout.dtype), memory)
    births = (
        memory.now - 1 - tensors["memory_ages"].long().cpu()
        if "memory_ages" in tensors
        else memory.short_term.births[:1].expand(layers, -1)
    )
    memory.short_term = ShortTerm(memory.layout, memory.geometry.sizes.stm_tokens, groups := memory.short_term.drop_groups)
    memory.short_term.append(rows, births[0])
    memory.short_term.births = births[:groups].clone()
    memory.long_term = LongTerm(memory.layout, memory.geometry)
    if memory.geometry.sizes.ltm:
        memory.long_term.writes_since_merge = update_step // memory.geometry.sizes.new_tokens
        for layer in range(layers):
            _restore_layer(model.parts, memory, tensors, layer)
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
    waiting = memory.long_term.waiting
    for layer, store in enumerate(memory.long_term.stores if memory.geometry.sizes.ltm else []):
        merged = memory.long_term.merged(layer)
        out[f"ltm.{layer}"] = store.column("hidden")[:merged].clone()
    if memory.geometry.sizes.ltm and any(waiting):
        out["cached_memories"] = torch.stack(
            [store.column("hidden")[-count:] for store, count in zip(memory.long_term.stores, waiting, strict=True)]
        )
    return out


def bookkeeping_of(memory: Memory) -> dict[str, Tensor]:
    """The part of ``state_of`` that both memory formats hold: ages, retriever keys, recall frequencies."""
    layers, long_term = memory.layout.layers, memory.long_term
    out = {"memory_ages": memory.ages(memory.short_term.births).expand(layers, -1).clone()}
    if not memory.geometry.sizes.ltm:
        return out
    if memory.geometry.read.is_shared:
        raise InputError("published states name long-term rows per layer; this memory's layers share them")
    names = {"ltm_ages": "birth", "ltm_keys": "search", "ltm_recall_frequencies": "frequency"}
    for layer, store in enumerate(long_term.stores):
        for name, column in names.items():
            if column in store.fields:
                rows = long_term.column(layer, column)[: long_term.merged(layer)]
                out[f"{name}.{layer}"] = memory.ages(rows) if column == "birth" else rows.clone()
    if any(long_term.waiting):
        for name, column in {"cached_ages": "birth", "cached_keys": "search"}.items():
            if column in long_term.stores[0].fields:
                rows = torch.stack([long_term.column(layer, column)[-count:] for layer, count in enumerate(long_term.waiting)])
                out[name] = memory.ages(rows) if column == "birth" else rows
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


def _restore_layer(model_parts: ModelParts, memory: Memory, tensors: Mapping[str, Tensor], layer: int) -> None:
    hidden, keys, ages = tensors[f"ltm.{layer}"], tensors[f"ltm_keys.{layer}"], tensors[f"ltm_ages.{layer}"].long()
    frequency, waiting = tensors[f"ltm_recall_frequencies.{layer}"].float(), 0
    if "cached_memories" in tensors:
        hidden, keys = torch.cat([hidden, tensors["cached_memories"][layer]]), torch.cat([keys, tensors["cached_keys"][layer]])
        ages = torch.cat([ages, tensors["cached_ages"][layer].long()])
        waiting = tensors["cached_ages"].shape[1]
        frequency = torch.cat([frequency, torch.full((waiting,), memory.geometry.quirks.initial_recall_frequency)])
    dtype = memory.layout.dtype
    rows = longterm_rows(model_parts, layer, hidden.to(dtype), keys.to(dtype), memory)
    memory.long_term.restore(layer, rows, memory.now - 1 - ages, frequency, waiting=waiting)


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
        if memory.short_term.drop_groups == 1 and not bool((tensors["memory_ages"] == tensors["memory_ages"][:1]).all()):
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
