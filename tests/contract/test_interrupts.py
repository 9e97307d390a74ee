"""An interrupt may fall between any two instructions of a pass: after a sweep the model is its owner's, and answers as before."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytest
import torch

from mplus import MPlusModel
from mplus.attach.attention import STOCK
from mplus.attach.checkpointing import recomputed
from mplus.attach.hooks import Hooks
from mplus.attach.sweep import sweep
from tests.contract.test_families import hooks_of
from tests.tiny import filled, ids, tiny_model

POSITIONS = 120
WATCHED = ("/mplus/attach/", "contextlib.py")


class Interrupted:
    """Counts instructions of the attaching code, and raises ``KeyboardInterrupt`` at one of them."""

    def __init__(self, at: int | None = None) -> None:
        self.at, self.count = at, 0

    @contextmanager
    def __call__(self) -> Iterator[None]:
        before = sys.gettrace()
        sys.settrace(self.enter)
        try:
            yield
        finally:
            sys.settrace(before)

    def enter(self, frame: FrameType, event: str, arg: Any) -> Any:
        if not any(part in frame.f_code.co_filename for part in WATCHED):
            return None
        frame.f_trace_opcodes = True
        return self.step

    def step(self, frame: FrameType, event: str, arg: Any) -> Any:
        if event == "opcode":
            self.count += 1
            if self.count == self.at:
                raise KeyboardInterrupt
        return self.step


def interrupted(act: Callable[[], Any], at: int | None = None) -> int:
    """Run something, interrupted at an instruction if one is given; how many there were."""
    watch = Interrupted(at)
    try:
        # Python's own signals never fall between the end of a block and the call of its __exit__, but these may: then the
        # caller's thread is left without gradients, which is nothing of the model's.
        with torch.set_grad_enabled(torch.is_grad_enabled()), watch():
            act()
    except KeyboardInterrupt:
        pass
    return watch.count


def is_the_owners(model: MPlusModel) -> bool:
    layers = model.parts.decoder.layers
    return (
        hooks_of(model) == 0
        and not model.parts.decoder.hooked
        and model.parts.adapters._current is None
        and all(layer._disable_adapters for layer in model.parts.adapters._layers)
        and model.parts.decoder.config._attn_implementation == STOCK
        and not any("forward" in layer.__dict__ for layer in layers)
    )


@pytest.mark.parametrize("setup", ["recent", "output"])
@pytest.mark.parametrize("kind", ["read", "write"])
def test_after_an_interrupt_and_a_sweep_the_next_answer_is_the_same(setup: str, kind: str) -> None:
    model = tiny_model(setup=setup)
    memory, prompt, chunk = filled(model, 61), ids(5, 5)[None], ids(7, 6)
    acts: dict[str, Callable[[], Any]] = {
        "read": lambda: model.generate(prompt, memory=memory, max_new_tokens=2, do_sample=False, output_logits=True),
        "write": lambda: model.encode(chunk, memory),
    }
    answer, rows = model(prompt, memory=memory).logits, model.encode(chunk, memory).rows
    total = interrupted(acts[kind])
    assert total > POSITIONS
    swept = 0
    for at in random.Random(setup + kind).sample(range(1, total + 1), POSITIONS):
        interrupted(acts[kind], at)
        swept += sweep(model.parts)
        assert is_the_owners(model), f"instruction {at} of {total}"
        assert not sweep(model.parts)
        if at % 4 == 0:
            assert torch.equal(model(prompt, memory=memory).logits, answer), f"instruction {at} of {total}"
            assert all(torch.equal(value, rows[name]) for name, value in model.encode(chunk, memory).rows.items())


@pytest.mark.parametrize("part", ["hooks", "adapter", "attention", "all"])
def test_a_sweep_finds_what_was_left_on(part: str) -> None:
    """As if an interrupt had fallen between putting on and noting down, or before taking off."""
    model = tiny_model(setup="output")
    model_parts, memory, prompt = model.parts, filled(model, 61), ids(5, 5)[None]
    answer = model(prompt, memory=memory).logits
    if part in ("hooks", "all"):
        hooks = Hooks()
        hooks.before_layer(model_parts.decoder, 0, lambda hidden: hidden * 0)
        hooks.after(model_parts.decoder, model_parts.decoder.layers[1].self_attn.v_proj, lambda out: None)
        hooks._handles.clear()
    if part in ("adapter", "all"):
        hanging = model_parts.adapters.on("write")
        hanging.__enter__()
        model_parts.adapters._layers[0]._disable_adapters = True
    if part in ("attention", "all"):
        model_parts.decoder.config._attn_implementation = "mplus_sdpa"
    assert sweep(model_parts)
    assert is_the_owners(model)
    assert torch.equal(model(prompt, memory=memory).logits, answer)


def test_a_switch_that_was_interrupted_half_way_is_made_good() -> None:
    model = tiny_model(setup="output")
    adapters = model.parts.adapters
    adapters._switched = False
    adapters._layers[-1]._disable_adapters = False
    assert sweep(model.parts) and is_the_owners(model)


def test_a_sweep_leaves_hooks_around_passes_and_an_adapter_that_is_kept_on() -> None:
    model = tiny_model(setup="output")
    model_parts, seen = model.parts, list[int]()
    model_parts.adapters.keep_on("read")
    with Hooks(around_passes=True) as hooks:
        hooks.before_attention(model_parts.decoder, 0, lambda normed: seen.append(normed.shape[1]))
        assert not sweep(model_parts)
        model(ids(5, 5)[None], memory=filled(model, 20))
    assert 5 in seen
    assert hooks_of(model) == 0
    assert model_parts.adapters._current == "read"
    model_parts.adapters.keep_on(None)


def test_a_context_that_ends_late_disturbs_no_later_pass() -> None:
    """A generator that an interrupt left hanging is closed at some time, perhaps in the middle of the next pass."""
    model = tiny_model(setup="output")
    hanging = model.parts.adapters.on("write")
    hanging.__enter__()
    assert sweep(model.parts)
    with model.parts.adapters.on("read"):
        hanging.__exit__(None, None, None)
        assert model.parts.adapters._current == "read"
    assert model.parts.adapters._current is None


def test_a_sweep_of_a_clean_model_touches_no_module(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model(setup="output")

    def refused(*args: Any) -> None:
        raise AssertionError("all modules were looked through")

    monkeypatch.setattr(torch.nn.Module, "modules", refused)
    assert not sweep(model.parts)


def test_a_layer_that_a_library_wrapped_is_wrapped_after_checkpointing_too() -> None:
    model = tiny_model()
    layer = model.parts.decoder.layers[0]
    wrapped = layer.forward
    layer.forward = wrapped
    with recomputed(model.parts.decoder, (0,), lambda: Hooks()):  # type: ignore[arg-type, return-value]
        assert layer.__dict__["forward"] is not wrapped
    assert layer.__dict__["forward"] is wrapped
