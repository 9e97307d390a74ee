"""Laws of adapters: one or none on at a time, exactly what was asked, every weight loaded or told."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from peft.tuners.lora.layer import Linear
from torch import Tensor

from mplus import MPlusModel
from mplus.attach.adapters import TARGETS, Adapters, adapter_names, inject, load_adapter
from mplus.errors import CheckpointError, InputError
from tests.tiny import tiny_decoder, tiny_geometry


@pytest.fixture
def adapters() -> Adapters:
    """Two random adapters of different rank and weight."""
    model = tiny_decoder()
    inject(model, "read", {"r": 2, "lora_alpha": 4})
    inject(model, "write", {"r": 3, "lora_alpha": 1})
    with torch.no_grad():
        for name, value in model.named_parameters():
            if ".lora_" in name:
                value.copy_(torch.randn_like(value))
                value.requires_grad_(True)  # before 0.21, PEFT turns gradients off for all adapters but the last
    return Adapters(model, write="write", read="read")


def projection(adapters: Adapters) -> Any:
    return adapters.model.get_submodule("model.layers.1.self_attn.k_proj")


def by_hand(layer: Any, name: str | None, rows: Tensor, scale: float) -> Tensor:
    out: Tensor = layer.base_layer(rows)
    return out if name is None else out + scale * layer.lora_B[name](layer.lora_A[name](rows))


@torch.no_grad()
@pytest.mark.parametrize(("name", "scale"), [(None, 0.0), ("read", 4 / 2), ("write", 1 / 3)])
def test_exactly_one_or_none_is_on(adapters: Adapters, name: str | None, scale: float) -> None:
    rows, layer = torch.randn(3, 32), projection(adapters)
    with adapters.on(name):
        torch.testing.assert_close(layer(rows), by_hand(layer, name, rows, scale))
    torch.testing.assert_close(layer(rows), layer.base_layer(rows))


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(32,), (3, 32), (2, 5, 32)])
def test_fused_layers_give_what_peft_gives(adapters: Adapters, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    for value in adapters.model.parameters():
        value.data = value.data.to(dtype)
    rows, layer = torch.randn(shape).to(dtype), projection(adapters)
    before = rows.clone()
    tolerance = {torch.float32: 1e-5, torch.bfloat16: 3e-2}[dtype]
    for name in ("read", "write"):
        with adapters.on(name):
            got = layer(rows)
            torch.testing.assert_close(got, Linear.forward(layer, rows), atol=tolerance, rtol=tolerance)
    assert torch.equal(rows, before)


@torch.no_grad()
def test_fused_layers_give_what_peft_gives_under_autocast(adapters: Adapters) -> None:
    """A float32 model that is trained with ``precision: bf16`` writes so."""
    rows, layer = torch.randn(3, 32), projection(adapters)
    with adapters.on("write"), torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(layer(rows), Linear.forward(layer, rows))


def test_fused_layers_let_gradient_through(adapters: Adapters) -> None:
    rows, layer = torch.randn(3, 32, requires_grad=True), projection(adapters)
    with adapters.on("read"):
        layer(rows).sum().backward()
    assert rows.grad is not None and layer.lora_A["read"].weight.grad is not None


def test_a_copied_model_has_layers_of_its_own(adapters: Adapters) -> None:
    twin = copy.deepcopy(adapters.model)
    rows, layer = torch.randn(3, 32), projection(adapters)
    other = twin.get_submodule("model.layers.1.self_attn.k_proj")
    with torch.no_grad(), adapters.on("read"):
        expected = layer(rows)
        for value in other.parameters():
            value.zero_()
        assert torch.equal(layer(rows), expected)


def test_what_was_on_before_is_on_again_even_after_an_error(adapters: Adapters) -> None:
    rows, layer = torch.randn(3, 32), projection(adapters)
    with torch.no_grad(), adapters.on("read"):
        expected = layer(rows)
        with pytest.raises(ZeroDivisionError), adapters.on("write"):
            raise ZeroDivisionError
        with adapters.on(None):
            pass
        assert torch.equal(layer(rows), expected)


def test_switching_leaves_gradients_as_they_were(adapters: Adapters) -> None:
    wanted = {name: index % 2 == 0 for index, name in enumerate(dict(adapters.model.named_parameters()))}
    for name, value in adapters.model.named_parameters():
        value.requires_grad_(wanted[name])
    with adapters.on("read"), adapters.on("write"), adapters.on(None):
        pass
    assert {name: value.requires_grad for name, value in adapters.model.named_parameters()} == wanted


def test_all_projections_but_the_attentions_output_are_adapted(adapters: Adapters) -> None:
    adapted = {name.split(".")[4] for name in adapter_names(adapters.model)}
    assert adapted == set(TARGETS) and "o_proj" not in adapted


@pytest.mark.parametrize("fault", ["missing", "extra", "shape"])
def test_adapter_that_does_not_fit_is_told_by_name(adapters: Adapters, fault: str) -> None:
    own = {name: value.clone() for name, value in adapters.model.state_dict().items() if ".lora_" in name and ".read." in name}
    name = sorted(own)[3]
    if fault == "missing":
        del own[name]
    elif fault == "extra":
        name = name.replace("layers.0", "layers.8")
        own[name] = torch.zeros(1)
    else:
        own[name] = torch.zeros(1, 2)
    with pytest.raises(CheckpointError) as caught:
        load_adapter(adapters.model, "read", own)
    assert name in str(caught.value)


def test_loaded_adapter_is_there_and_the_other_untouched(adapters: Adapters) -> None:
    state = adapters.model.state_dict()
    fresh = {name: torch.randn_like(value) for name, value in state.items() if ".lora_" in name and ".read." in name}
    other = {name: value.clone() for name, value in state.items() if name not in fresh}
    load_adapter(adapters.model, "read", fresh)
    after = adapters.model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in {**other, **fresh}.items())


def test_base_that_carries_adapters_already_is_refused() -> None:
    """Two models on one base would share, and overwrite, adapters of one name; a user's own would be switched off."""
    base = tiny_decoder()
    first = MPlusModel.from_base(base, geometry=tiny_geometry(), read_lora={"r": 2, "lora_alpha": 4})
    before = {name: value.clone() for name, value in first.parts.decoder.model.state_dict().items()}
    several: list[dict[str, Any]] = [{}, {"read_lora": {"r": 2, "lora_alpha": 4}}]
    for parts in several:
        with pytest.raises(InputError, match="adapters already"):
            MPlusModel.from_base(base, geometry=tiny_geometry(), **parts)
    after = first.parts.decoder.model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_two_models_may_share_a_base_without_adapters() -> None:
    base = tiny_decoder()
    models = [MPlusModel.from_base(base, geometry=tiny_geometry(stm_tokens=size)) for size in (16, 32)]
    assert models[0].parts.decoder.model is models[1].parts.decoder.model
    prompt = torch.arange(3, 9)[None]
    assert torch.equal(models[0](prompt).logits, models[1](prompt).logits)
