"""Every rotary type that transformers has: a read is plain concatenation, by one table for memory and prompt."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from mplus import MPlusModel
from mplus.attach.families import ROTARY, Decoder
from mplus.attach.parts import ModelParts
from mplus.errors import GeometryError, PromptTooLongError, UnsupportedModelError
from tests.contract.plain import Plain
from tests.tiny import FAMILIES, SETUPS, filled, ids, tiny_decoder, tiny_geometry, tiny_model

FACTORS = {"short_factor": [1.0, 1.5, 2.0, 3.0], "long_factor": [4.0, 4.0, 5.0, 6.0]}
TYPES: dict[str, dict[str, Any]] = {
    "default": {"rope_type": "default"},
    "base": {"rope_type": "default", "rope_theta": 500.0},
    "linear": {"rope_type": "linear", "factor": 3.0},
    "dynamic": {"rope_type": "dynamic", "factor": 3.0},
    "yarn": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128},
    "yarn attention": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128, "attention_factor": 1.5},
    "yarn mscale": {
        "rope_type": "yarn",
        "factor": 4.0,
        "original_max_position_embeddings": 128,
        "mscale": 1.0,
        "mscale_all_dim": 0.5,
    },
    "longrope": {"rope_type": "longrope", "original_max_position_embeddings": 128, "factor": 4.0, **FACTORS},
    "longrope attention": {
        "rope_type": "longrope",
        "original_max_position_embeddings": 128,
        "factor": 4.0,
        "attention_factor": 0.7,
        **FACTORS,
    },
    "llama3": {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    },
    "proportional": {"rope_type": "proportional", "partial_rotary_factor": 0.5},
}
SCALING = [name for name in TYPES if name.startswith(("yarn", "longrope"))]
SAME_AS_DEFAULT = ("default", "dynamic")
"""`dynamic` is the default up to ``max_position_embeddings``, and memory goes no further."""

ATOL = 1e-4


def rotary(name: str, **others: Any) -> dict[str, Any]:
    """Configuration of a decoder with a rotary type."""
    return {"rope_parameters": {"rope_theta": 10_000.0, **TYPES[name]}, **others}


def close(got: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(got, expected, atol=ATOL, rtol=1e-4)


def far(got: Tensor, expected: Tensor) -> None:
    assert float((got - expected).abs().max()) > 100 * ATOL


def whole_text(base: Any, text: Tensor, prompt: Tensor) -> Tensor:
    """Logits of the prompt in one plain pass over [BOS | text | prompt]."""
    with torch.no_grad():
        logits: Tensor = base(torch.cat([torch.tensor([1]), text, prompt])[None]).logits[0, -len(prompt) :]
    return logits


def test_every_type_that_transformers_has_is_among_these() -> None:
    known = {*ROPE_INIT_FUNCTIONS, "default"}
    assert known <= set(ROTARY), "a rotary type that transformers has come to know is not tried here"
    assert {fields["rope_type"] for fields in TYPES.values()} == set(ROTARY)


@pytest.mark.parametrize("family", sorted(FAMILIES))
@pytest.mark.parametrize("name", TYPES)
def test_reading_a_text_from_memory_is_reading_it_plainly(family: str, name: str) -> None:
    base, text, prompt = tiny_decoder(family, **rotary(name)), ids(30, 3), ids(9, 4)
    expected = whole_text(base, text, prompt)
    default = whole_text(tiny_decoder(family), text, prompt)
    model = MPlusModel.from_base(base, geometry=tiny_geometry(chunk_tokens=32, new_tokens=32, stm_tokens=64))
    for memory_format in ("kv", "hidden"):
        memory = model.new_memory(memory_format=memory_format)
        memory.write(text)
        close(model(prompt[None], memory=memory).logits[0], expected)
    if name in SAME_AS_DEFAULT:
        assert torch.equal(expected, default)
    else:
        far(expected, default)


@pytest.fixture(params=[name for name in TYPES if name not in ("default", "base")])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=sorted(SETUPS))
def model(request: pytest.FixtureRequest, name: str) -> Iterator[MPlusModel]:
    yield tiny_model("qwen3" if request.param == "mixed" else "llama", request.param, config=rotary(name))


def test_reads_and_writes_equal_plain_concatenation(model: MPlusModel) -> None:
    """Through every setup: search, second look, found and recent tokens, both taps."""
    memory, prompt = filled(model, tokens=60, memory_format="hidden"), ids(7, seed=23)
    plain = Plain(model).read(prompt, memory)
    out = model(prompt[None], memory=memory, return_retrieved=True)
    assert out.retrieved is not None
    long = [[row for row in rows if row < len(memory.long_term)] for rows in plain.chosen]
    found = out.retrieved[0].indices
    assert (found * len(long) if len(found) == 1 else found) == long
    close(out.logits[0], plain.logits)
    chunk = ids(5, seed=21)
    written = model.encode(chunk, memory)
    assert written.hidden is not None
    close(written.hidden, Plain(model).write(chunk, memory.short_term.newest(model.geometry.sizes.new_tokens)["hidden"]))


@pytest.mark.parametrize("name", SCALING)
def test_leaving_the_scale_of_the_bos_key_out_shows(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model(config=rotary(name))
    memory, prompt = filled(model, 40), ids(7, 5)[None]
    right = model(prompt, memory=memory).logits
    scaling = model.parts.decoder.body.rotary_emb.attention_scaling
    assert scaling != 1.0
    scaled = ModelParts.bos_kv

    def unscaled(self: ModelParts, adapter: str | None, layers: int) -> list[tuple[Tensor, Tensor]]:
        return [(keys / scaling, values) for keys, values in scaled(self, adapter, layers)]

    monkeypatch.setattr(ModelParts, "bos_kv", unscaled)
    model.parts.prefix_pool = type(model.parts.prefix_pool)()
    far(model(prompt, memory=memory).logits, right)


@pytest.mark.parametrize("name", ["dynamic", "longrope"])
def test_a_long_pass_of_the_owner_changes_no_later_read(name: str) -> None:
    model = tiny_model(config=rotary(name))
    memory, prompt = filled(model, 40), ids(7, 5)[None]
    before = model(prompt, memory=memory).logits
    with torch.no_grad(), model.untouched() as base:
        base(ids(700, 6)[None])
    frequencies = model.parts.decoder.body.rotary_emb.inv_freq.clone()
    model.parts.prefix_pool = type(model.parts.prefix_pool)()
    assert torch.equal(model(prompt, memory=memory).logits, before)
    assert not torch.equal(model.parts.decoder.body.rotary_emb.inv_freq, frequencies), "the long pass changed no table"
    again = filled(model, 40)
    assert torch.equal(model(prompt, memory=again).logits, before)


# -- what cannot be exact is refused -----------------------------------------------------------------------------------


def test_memory_ends_where_longrope_changes_all_frequencies() -> None:
    model = tiny_model(config=rotary("longrope"))
    assert model.parts.decoder.positions == 128
    memory = filled(model, 60)
    room = 128 - 1 - 16 - 8
    assert model(ids(room, 5)[None], memory=memory).logits.shape[1] == room
    with pytest.raises(PromptTooLongError, match="longrope"):
        model(ids(room + 1, 5)[None], memory=memory)
    with pytest.raises(GeometryError, match="longrope") as caught:
        tiny_model(config=rotary("longrope"), stm_tokens=112)
    assert "\n" not in str(caught.value)


def test_a_rotary_type_that_is_not_known_is_refused_by_name() -> None:
    base = tiny_decoder()
    base.model.rotary_emb.rope_type = "spiral"
    with pytest.raises(UnsupportedModelError, match=r"'spiral'.*known types: default, linear"):
        Decoder(base)


@pytest.mark.parametrize("kind", ["linear", "yarn"])
def test_keys_that_turn_in_part_are_refused_by_name(kind: str) -> None:
    """transformers builds such a decoder, whose own passes fail."""
    config = rotary(kind)
    config["rope_parameters"]["partial_rotary_factor"] = 0.5
    with pytest.raises(UnsupportedModelError, match="turns 4 of the 8 numbers of a key"):
        MPlusModel.from_base(tiny_decoder(**config), geometry=tiny_geometry())
