"""Every recorded case of the public reference models gives the same numbers here, in both memory formats.

What a case holds decides what is compared: its ``kind``, its metadata and which tensors are there; never its name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from mplus import Memory, MPlusModel
from mplus.checkpoints.published_memory import bookkeeping_of, memory_from_state, state_of, written_from_hidden
from mplus.memory.rows import EncodedChunk
from mplus.settings import MemoryFormat
from tests.parity.conftest import OpenModel
from tests.parity.recorded import Case, CaseRef, Check, Deviations, data_is_required, parity_dir

PROMPT = ""
"""Prefix of the tensors of a case that is one read."""


def test_recorded_case_gives_the_same_numbers(
    ref: CaseRef | None, memory_format: MemoryFormat, open_model: OpenModel, deviations: Deviations
) -> None:
    if ref is None:
        reason = f"no recorded sets at {parity_dir()} (a set is a subdirectory with index.json); point MPLUS_PARITY_DIR at them"
        if data_is_required():
            pytest.fail(reason)
        pytest.skip(reason)
    case = Case(ref)
    if case.meta["kind"] not in KINDS:
        pytest.fail(f"{ref}: kind {case.meta['kind']!r} is not known here; known: {', '.join(KINDS)}")
    model = open_model(case.checkpoint, **overrides(case))
    KINDS[case.meta["kind"]](model, case, memory_format, Check(case, memory_format, deviations))
    if left := case.not_compared():
        deviations.not_compared[str(ref)] = left


def overrides(case: Case) -> dict[str, Any]:
    """Settings a case was recorded with where they differ from its checkpoint's."""
    changed: dict[str, Any] = {"inv_freq_dtype": "bfloat16" if case.meta.get("rope_inv_freq_bf16") else "float32"}
    if "drop_memory_per_layer" in case.meta:
        changed["drop"] = "per_layer" if case.meta["drop_memory_per_layer"] else "shared"
    return changed


def starting_memory(model: MPlusModel, case: Case, memory_format: MemoryFormat) -> Memory:
    """The memory a case starts from: the tensors it brings along, else the checkpoint's."""
    state = case.below("state.")
    if not state:
        return model.new_memory(memory_format=memory_format)
    step = int((case.meta.get("state_meta") or {}).get("update_step", 0))
    return memory_from_state(model, state, update_step=step, memory_format=memory_format)


# -- reading -------------------------------------------------------------------------------------------------------


def check_read(model: MPlusModel, case: Case, memory: Memory | EncodedChunk, check: Check, prefix: str = PROMPT) -> None:
    """One read: logits, layer inputs, scores and order of what was retrieved."""
    out = model(case[f"{prefix}input_ids"], memory=memory, return_retrieved=True, output_hidden_states=True)
    assert out.hidden_states is not None and out.retrieved is not None
    check.close(f"{prefix}logits", out.logits, case[f"{prefix}logits"])
    if f"{prefix}final_hidden" in case:
        check.close(f"{prefix}final_hidden", out.hidden_states[-1], case[f"{prefix}final_hidden"])
    for layer, recorded in case.numbered(f"{prefix}layer_input"):
        check.close(f"{prefix}layer_input.{layer}", out.hidden_states[layer], recorded)
    found = out.retrieved[0].layers
    for layer, recorded in case.numbered(f"{prefix}ltm_order"):
        check.same(f"{prefix}ltm_order.{layer}", found[layer].indices, recorded)
    for layer, recorded in case.numbered(f"{prefix}ltm_scores"):
        scores = found[layer].scores
        assert scores is not None, f"{case.ref}: layer {layer} used no scores, recorded some"
        check.close(f"{prefix}ltm_scores.{layer}", scores, recorded.view(-1))


def run_read(model: MPlusModel, case: Case, memory_format: MemoryFormat, check: Check) -> None:
    check_read(model, case, starting_memory(model, case, memory_format), check)


def run_read_delta(model: MPlusModel, case: Case, memory_format: MemoryFormat, check: Check) -> None:
    """A chunk's new memory, read alone or standing in for the short-term rows that were left out."""
    memory = starting_memory(model, case, memory_format)
    delta = written_from_hidden(model, case["delta_memory_in"][0], memory)
    if "stm_kept" not in case:
        check_read(model, case, delta, check)
        return
    twin = memory.fork()
    twin.update(delta, dropped=complement(case["stm_kept"], len(memory.short_term)), keep_dropped=False)
    check_read(model, case, twin, check)


def run_generate(model: MPlusModel, case: Case, memory_format: MemoryFormat, check: Check) -> None:
    memory = starting_memory(model, case, memory_format)
    prompt = case["input_ids"]
    out = model.generate(
        prompt,
        memory=memory,
        max_new_tokens=int(case.meta["max_new_tokens"]),
        do_sample=False,
        use_cache=bool(case.meta.get("use_cache", True)),
        eos_token_id=case.meta.get("eos_token_id"),
        return_dict_in_generate=True,
        output_logits=True,
    )
    check.same("sequences", out.sequences, case["sequences"])
    steps = torch.stack(out.logits)  # [steps, B, V]
    recorded = case["step_logits"]
    check.close("step_logits", steps[:, 0] if recorded.dim() == 2 else steps, recorded)
    depth = model.parts.decoder.depth
    for number, order in case.numbered("ltm_order"):  # one entry per layer of every pass that retrieved
        step, layer = divmod(number, depth)
        retrieved = model(out.sequences[:, : prompt.shape[1] + step], memory=memory, return_retrieved=True).retrieved
        assert retrieved is not None
        check.same(f"ltm_order.{number}", retrieved[0].layers[layer].indices, order)


# -- writing -------------------------------------------------------------------------------------------------------


def run_write(model: MPlusModel, case: Case, memory_format: MemoryFormat, check: Check) -> None:
    """A write pass without an update, after the memory's newest tokens or after an earlier chunk's."""
    memory = starting_memory(model, case, memory_format)
    ids = case["input_ids"]
    if "delta_memory_in" in case:
        tails = [written_from_hidden(model, rows, memory) for rows in case["delta_memory_in"]]
        written = [model.encode(row, memory, tail=tail, logits=True) for row, tail in zip(ids, tails, strict=True)]
    else:
        written = model.writer.encode_batch(ids, memory, logits=True)
    check.close("delta_memory", new_hidden(written), case["delta_memory"])
    if "logits" in case:
        check.close("logits", torch.stack([row.logits for row in written if row.logits is not None]), case["logits"])
    for layer, recorded in case.numbered("layer_input"):
        entered = [row.layer_input[layer] for row in written if row.layer_input is not None]
        check.close(f"layer_input.{layer}", torch.stack(entered), recorded)


def run_first_write(model: MPlusModel, case: Case, memory_format: MemoryFormat, check: Check) -> None:
    """The first write of a model whose pool does not exist yet."""
    memory = model.new_memory(memory_format=memory_format, initialised=False)
    written = model.encode(case["input_ids"][0], memory)
    check.close("delta_memory", new_hidden([written]), case["delta_memory"])
    memory.update(written)
    assert memory.initialised == bool(case.meta.get("initialized_after", 1))
    check_state(memory, case, "after.", check)
    check_probe(model, case, memory, check, "probe.")


def run_trajectory(model: MPlusModel, case: Case, memory_format: MemoryFormat, check: Check) -> None:
    """Successive updates, never set back to the recorded state."""
    memory = starting_memory(model, case, memory_format)
    check_state(memory, case, "initial.", check)
    for step, meta in enumerate(case.meta["steps"]):
        written = model.encode(case[f"step{step}.input_ids"][0], memory)
        check.close(f"step{step}.delta_memory", new_hidden([written]), case[f"step{step}.delta_memory"])
        dropped = complement(case[f"step{step}.remaining"], len(memory.short_term))
        if f"step{step}.dropped" in case:
            check.same(f"step{step}.dropped", dropped, case[f"step{step}.dropped"])
        memory.update(written, dropped=dropped)
        check_counters(memory, meta, f"{case.ref} step {step}")
        check_state(memory, case, f"step{step}.after.", check)
        check_probe(model, case, memory, check, f"step{step}.probe.")


def check_state(memory: Memory, case: Case, prefix: str, check: Check) -> None:
    """All recorded tensors of a memory; a memory of keys and values has no hidden states to compare."""
    recorded = case.below(prefix)
    if not recorded:
        return
    own = state_of(memory) if memory.format == "hidden" else bookkeeping_of(memory)
    for name, value in recorded.items():
        if name in own:
            check.close(prefix + name, own[name], value)
        else:
            hidden = name.startswith(("memory", "ltm.", "cached_memories"))
            assert hidden and memory.format == "kv", f"{case.ref}: this memory has no {prefix}{name}"
    assert ("cached_ages" in own) == ("cached_ages" in recorded), f"{case.ref}: {prefix} rows waiting for a merge differ"


def check_counters(memory: Memory, meta: dict[str, Any], where: str) -> None:
    longterm = memory.long_term
    if "update_step" in meta:
        assert memory.placement.writes_since_merge * memory.geometry.sizes.new_tokens == meta["update_step"], where
    if "ltm_len_after" in meta:
        assert [longterm.merged(layer) for layer in range(longterm.groups)] == meta["ltm_len_after"], where
    if "cached_present" in meta:
        assert any(longterm.waiting) == meta["cached_present"], where


def check_probe(model: MPlusModel, case: Case, memory: Memory, check: Check, prefix: str) -> None:
    if f"{prefix}input_ids" in case:
        check_read(model, case, memory, check, prefix)


def new_hidden(written: list[EncodedChunk]) -> Tensor:
    """[B, L, n, D] hidden states of what write passes produced."""
    return torch.stack([one.hidden for one in written if one.hidden is not None])


def complement(kept: Tensor, size: int) -> Tensor:
    """[L, size - n] ascending ranks that are not in `kept` [L, n]."""
    mask = torch.ones(kept.shape[0], size, dtype=torch.bool).scatter_(1, kept, False)
    return mask.nonzero()[:, 1].view(kept.shape[0], -1)


KINDS: dict[str, Callable[[MPlusModel, Case, MemoryFormat, Check], None]] = {
    "read": run_read,
    "read_delta": run_read_delta,
    "generate": run_generate,
    "write": run_write,
    "first_write": run_first_write,
    "trajectory": run_trajectory,
}
