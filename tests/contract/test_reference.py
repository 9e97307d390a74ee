"""Every way to save time gives what the published procedure gives (benchmarks/reference.py), and leaves nothing stale behind."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.reference import DIFFERENCES, PublishedProcedure
from mplus import Memory, MPlusModel
from mplus.attach.attention import NAME, grouped, grouped_on_cpu
from mplus.attach.prefix_buffers import PrefixCachePool
from mplus.memory.rows import EncodedChunk
from tests.conftest import TinyModel
from tests.tiny import FAMILIES, SETUPS, filled, ids

ANEW = ["reuse_prefix"]
"""The part of the published procedure by which a read leaves nothing behind."""


KINDS = [("llama", setup) for setup in SETUPS] + [(family, "shared") for family in FAMILIES if family != "llama"]


@pytest.fixture(params=KINDS, ids="-".join)
def model(request: pytest.FixtureRequest, tiny_model: TinyModel) -> Iterator[MPlusModel]:
    """Each kind of memory on Llama, and each family."""
    model = tiny_model(*request.param)
    yield model
    model.parts.prefix_pool = PrefixCachePool()


def close(got: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(got, expected, atol=2e-5, rtol=2e-5)


def read(model: MPlusModel, memory: Any, prompt: Tensor, parts: Collection[str] = ()) -> Tensor:
    with PublishedProcedure(model, parts):
        return model(prompt, memory=memory).logits


def answer(model: MPlusModel, memory: Any, prompt: Tensor, parts: Collection[str] = (), **options: Any) -> Tensor:
    with PublishedProcedure(model, parts):
        found: Tensor = model.generate(prompt, memory, max_new_tokens=6, do_sample=False, **options)
    return found


SWITCHES = [*DIFFERENCES, "all"]


@pytest.mark.parametrize(
    ("model", "switch", "memory_format"),
    [
        (kind, switch, ("kv", "hidden")[(one + two) % 2])  # every two of the three occur together
        for one, kind in enumerate(KINDS)
        for two, switch in enumerate(SWITCHES)
    ],
    indirect=["model"],
)
def test_every_way_to_save_time_gives_what_the_published_procedure_gives(
    model: MPlusModel, switch: str, memory_format: Any
) -> None:
    parts = [] if switch == "all" else [part for part in DIFFERENCES if part != switch]
    with PublishedProcedure(model):
        slow = filled(model, memory_format=memory_format)
    with PublishedProcedure(model, parts):
        fast = filled(model, memory_format=memory_format)
    for name, value in slow.short_term.at_slots(slow.short_term.order).items():
        close(fast.short_term.at_slots(fast.short_term.order)[name], value)
    prompt = ids(6, 50)[None]
    for _ in range(2):  # the second read may find buffers of the first
        close(read(model, fast, prompt, parts), read(model, slow, prompt, DIFFERENCES))
    assert torch.equal(answer(model, fast, prompt, parts), answer(model, slow, prompt, DIFFERENCES))


def test_reads_in_any_order_equal_reads_of_a_fresh_model(model: MPlusModel) -> None:
    """Long and short prompts, answers, batches and forks between each other: nothing of an earlier read shows in a later one."""
    one, two = filled(model, text_seed=4), filled(model, text_seed=5)
    asked: list[tuple[Any, Tensor]] = [
        (one, ids(5, 60)[None]),
        (one, ids(17, 61)[None]),
        (two, ids(5, 60)[None]),
        (one, torch.stack([ids(5, 62), ids(5, 63)])),
        ([one, two], torch.stack([ids(5, 62), ids(5, 63)])),
        (one.fork(), ids(5, 60)[None]),
        (one, ids(140, 64)[None]),
        (one, ids(3, 65)[None]),
    ]
    expected = [read(model, memory, prompt, ANEW) for memory, prompt in asked]
    for turn in (1, -1, 1):
        for (memory, prompt), logits in list(zip(asked, expected, strict=True))[::turn]:
            close(read(model, memory, prompt), logits)
            answer(model, memory, prompt)


def test_a_write_between_two_reads_is_seen(model: MPlusModel) -> None:
    memory, prompt = filled(model), ids(6, 51)[None]
    before = read(model, memory, prompt)
    memory.write(ids(8, 52))
    after = read(model, memory, prompt)
    close(after, read(model, memory, prompt, ANEW))
    assert (after - before).abs().max() > 1e-3
    memory.clear()
    memory.write(ids(8, 53))
    close(read(model, memory, prompt), read(model, memory, prompt, ANEW))


def test_buffers_hold_no_memory_alive_and_one_prefix_at_most(model: MPlusModel) -> None:
    one, two = filled(model, text_seed=4), filled(model, text_seed=5)
    pool = model.parts.prefix_pool
    read(model, one, ids(6, 54)[None])
    assert pool._held is not None and pool._held[0]() is one.short_term.lineage
    read(model, two, ids(6, 54)[None])
    assert pool._held[0]() is two.short_term.lineage
    lineage = pool._held[0]
    del two
    assert lineage() is None


def test_buffers_of_a_read_whose_cache_the_caller_holds_are_not_used_again(model: MPlusModel) -> None:
    memory, prompt = filled(model), ids(6, 55)[None]
    held = answer(model, memory, prompt, return_dict_in_generate=True)
    keys = held.past_key_values.layers[0].keys  # type: ignore[attr-defined]
    before = keys.clone()
    answer(model, memory, ids(6, 56)[None])
    assert torch.equal(keys, before)


def test_a_failed_read_leaves_no_buffers(model: MPlusModel, monkeypatch: pytest.MonkeyPatch) -> None:
    memory, prompt = filled(model), ids(6, 57)[None]
    expected = read(model, memory, prompt)

    def broken(*args: Any, **kwargs: Any) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
        patch.setattr(model.parts.decoder.layers[-1].mlp, "forward", broken)
        read(model, memory, prompt)
    assert model.parts.prefix_pool._held is None
    close(read(model, memory, prompt), expected)


@pytest.mark.parametrize("replaced", [False, True])
def test_changed_weights_are_seen(model: MPlusModel, replaced: bool) -> None:
    """A training step between two reads, which changes BOS in place or puts another tensor there: that of before is not read again."""
    memory, prompt = filled(model, memory_format="hidden"), ids(6, 58)[None]
    held = model.parts.bos
    original = held.detach().clone()
    before = read(model, memory, prompt)
    try:
        if replaced:
            other = original.flip(-1)
            for _ in range(held._version):  # as often changed as the one before: versions alone do not tell them apart
                other.add_(0)
            model.parts.bos = other
        else:
            with torch.no_grad():
                held.copy_(original.flip(-1))
        after, slow = read(model, memory, prompt), read(model, memory, prompt, DIFFERENCES)
    finally:
        with torch.no_grad():
            held.copy_(original)
        model.parts.bos = held
    close(after, slow)
    assert (after - before).abs().max() > 1e-4
    close(read(model, memory, prompt), before)


def test_a_write_that_computes_only_what_it_keeps_writes_the_same(model: MPlusModel) -> None:
    memory = filled(model)
    for tokens in {1, model.geometry.sizes.new_tokens, model.geometry.sizes.chunk_tokens}:
        passes: dict[bool, EncodedChunk] = {}
        for short, parts in ((False, ["short_writes"]), (True, [])):
            with PublishedProcedure(model, parts):
                passes[short] = model.encode(ids(tokens, 70), memory)
        for name, value in passes[False].rows.items():
            close(passes[True].rows[name], value)


def test_the_decoder_has_its_own_attention_again_after_every_pass(model: MPlusModel) -> None:
    before = model.parts.decoder.config._attn_implementation
    memory: Memory = filled(model)
    answer(model, memory, ids(6, 59)[None])
    assert model.parts.decoder.config._attn_implementation == before
    with torch.no_grad(), grouped_on_cpu(model.parts.decoder):
        assert model.parts.decoder.config._attn_implementation == NAME
    with grouped_on_cpu(model.parts.decoder):  # with gradient the fused kernel may be the slower one
        assert model.parts.decoder.config._attn_implementation == before


@pytest.mark.parametrize("masked", [False, True])
def test_grouped_attention_equals_attention_written_out(masked: bool) -> None:
    generator = torch.Generator().manual_seed(1)
    query = torch.randn(2, 6, 5, 8, generator=generator)
    key, value = torch.randn(2, 2, 9, 8, generator=generator), torch.randn(2, 2, 9, 8, generator=generator)
    mask = torch.ones(5, 9, dtype=torch.bool).tril(4).expand(2, 1, 5, 9) if masked else None
    every_key, every_value = key.repeat_interleave(3, 1), value.repeat_interleave(3, 1)
    scores = query @ every_key.transpose(2, 3) * 0.3
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    expected = (scores.softmax(-1) @ every_value).transpose(1, 2)
    got, _ = grouped(None, query, key, value, mask, scaling=0.3, is_causal=False)
    torch.testing.assert_close(got, expected, atol=1e-6, rtol=1e-5)
