"""Laws of the published formats: recognised by content, every tensor used or named, every fault named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from mplus import Memory, MPlusModel
from mplus.errors import CheckpointError
from tests.published import KEY_WIDTH, LAYERS, NEW, WIDTH, write_published
from tests.tiny import contents, same_contents

pytestmark = pytest.mark.slow


def opened(directory: Path, **options: Any) -> MPlusModel:
    return MPlusModel.from_pretrained(directory, dtype="float32", device="cpu", **options)


def written(model: MPlusModel, **options: Any) -> Memory:
    memory = model.new_memory(**options)
    for step in range(5):
        memory.write(torch.arange(3, 23) + step)
    return memory


# -- recognised ------------------------------------------------------------------------------------------------------


def test_mplus_is_recognised_with_its_rules(tmp_path: Path) -> None:
    geometry = opened(write_published(tmp_path)).geometry
    assert (geometry.sizes.new_tokens, geometry.sizes.stm_tokens, geometry.sizes.ltm_read_tokens, geometry.sizes.ltm) == (
        NEW,
        16,
        8,
        True,
    )
    assert (geometry.write.tap, geometry.read.memory_projection, geometry.write.drop, geometry.read.retrieval.kind) == (
        "output",
        "read",
        "per_layer",
        "per_layer",
    )
    assert (
        geometry.quirks.eviction,
        geometry.quirks.merge_every_writes,
        geometry.quirks.initial_recall_frequency,
        geometry.quirks.recall_decay,
    ) == (
        "countdown",
        2,
        3,
        1,
    )
    assert (geometry.quirks.stm_ages, geometry.quirks.small_ltm, geometry.quirks.inv_freq_dtype) == (
        "frozen",
        "repeat",
        "float32",
    )


def test_memoryllm_is_recognised_and_has_no_long_term_memory(tmp_path: Path) -> None:
    model = opened(write_published(tmp_path, ltm=False))
    assert (model.geometry.sizes.stm_tokens, model.geometry.sizes.ltm) == (24, False)
    assert len(model.new_memory().short_term) == 24
    assert len(written(model).long_term) == 0


def test_rotary_frequencies_are_rounded_for_the_model_that_was_run_so() -> None:
    from mplus.checkpoints.published import geometry_of
    from tests.published import published_config

    assert geometry_of(published_config(hidden_size=4096)).quirks.inv_freq_dtype == "bfloat16"
    assert geometry_of(published_config(ltm=False, hidden_size=4096)).quirks.inv_freq_dtype == "float32"


def test_rounded_rotary_frequencies_change_the_numbers(tmp_path: Path) -> None:
    exact, rounded = opened(write_published(tmp_path)), opened(tmp_path, inv_freq_dtype="bfloat16")
    prompt = torch.arange(3, 30)[None]
    difference = (
        (exact(prompt, memory=exact.new_memory()).logits - rounded(prompt, memory=rounded.new_memory()).logits).abs().max()
    )
    assert 1e-6 < float(difference) < 1.0


# -- the memory it comes with ------------------------------------------------------------------------------------------


def test_new_memory_is_the_checkpoints_own_every_time(tmp_path: Path) -> None:
    model = opened(write_published(tmp_path))
    tensors = load_file(tmp_path / "model.safetensors")
    first = model.new_memory(memory_format="hidden")
    before = contents(first)
    assert torch.equal(before["stm.hidden"], tensors["memory"])
    for layer in range(LAYERS):
        assert torch.equal(before[f"ltm.{layer}.hidden"], tensors[f"ltm.{layer}"])
        assert torch.equal(first.ages(before[f"ltm.{layer}.births"]), tensors[f"ltm_ages.{layer}"].long())
    written(model, memory_format="hidden")
    first.write(torch.arange(20))
    assert same_contents(before, contents(model.new_memory(memory_format="hidden")))


def test_clear_brings_the_checkpoints_memory_back(tmp_path: Path) -> None:
    model = opened(write_published(tmp_path))
    memory = written(model, seed=3)
    memory.clear()
    assert same_contents(contents(memory), contents(model.new_memory(seed=3)))


@pytest.mark.parametrize("ltm", [True, False])
@pytest.mark.parametrize("drop_memory_per_layer", [True, False])
def test_keys_and_values_equal_hidden_states(tmp_path: Path, ltm: bool, drop_memory_per_layer: bool) -> None:
    model = opened(write_published(tmp_path, ltm=ltm, drop_memory_per_layer=drop_memory_per_layer))
    assert model.geometry.write.drop == ("per_layer" if drop_memory_per_layer else "shared")
    hidden, kv = written(model, memory_format="hidden"), written(model, memory_format="kv")
    prompt = torch.arange(3, 11)[None]
    first, second = (model(prompt, memory=memory, return_retrieved=True) for memory in (hidden, kv))
    torch.testing.assert_close(first.logits, second.logits, atol=1e-5, rtol=1e-4)
    assert [found.indices for found in first.retrieved or []] == [found.indices for found in second.retrieved or []]


def test_one_switch_makes_memoryllm_of_mplus(tmp_path: Path) -> None:
    model = opened(write_published(tmp_path), ltm=False)
    assert len(written(model).long_term) == 0
    assert "ltm.0" in model.load_report.unused and "model.layers.0.self_attn.query_proj.0.weight" in model.load_report.unused


def test_single_matrix_selector_is_read(tmp_path: Path) -> None:
    write_published(tmp_path, num_selector_layers=1)
    path = tmp_path / "model.safetensors"
    tensors = load_file(path)
    for name in [name for name in tensors if "query_proj" in name or "key_proj" in name]:
        value = tensors.pop(name)
        if ".0.weight" in name:
            tensors[name.replace(".0.weight", ".weight")] = value[:KEY_WIDTH].contiguous()
    save_file(tensors, path)
    model = opened(tmp_path)
    assert model(torch.arange(3, 9)[None], memory=written(model)).logits.isfinite().all()


def test_one_adapter_serves_both_passes_where_there_is_no_second(tmp_path: Path) -> None:
    path = write_published(tmp_path, ltm=False, add_decoder_lora=False) / "model.safetensors"
    save_file({name: value for name, value in load_file(path).items() if "decoder_adapter" not in name}, path)
    adapters = opened(tmp_path).parts.adapters
    assert adapters.read == adapters.write == "default"


def test_pool_marked_as_not_initialised_waits_for_its_first_write(tmp_path: Path) -> None:
    model = opened(write_published(tmp_path, ltm=False, change={"initialized": torch.tensor(0, dtype=torch.uint8)}))
    memory = model.new_memory()
    assert not memory.initialised and len(memory.short_term) == 0
    memory.write(torch.arange(20))
    assert memory.initialised and len(memory.short_term) == 24


# -- every tensor accounted for ----------------------------------------------------------------------------------------


def test_every_tensor_is_used_or_unused_for_a_reason(tmp_path: Path) -> None:
    report = opened(write_published(tmp_path)).load_report
    names = set(load_file(tmp_path / "model.safetensors"))
    assert report.used | set(report.unused) == names
    assert not report.used & set(report.unused)
    assert {name.split(".")[4] for name in report.unused} == {"encoder_query_proj"}
    assert all(report.unused.values())


EXAMPLES = [
    "model.embed_tokens.weight",
    "lm_head.weight",
    "model.layers.1.input_layernorm.weight",
    "model.layers.0.self_attn.k_proj.base_layer.weight",
    "model.layers.1.mlp.down_proj.lora_B.decoder_adapter.weight",
    "model.layers.0.self_attn.q_proj.lora_A.default.weight",
    "model.layers.1.self_attn.query_proj.2.weight",
    "memory",
    "bos_embedding",
    "new_memory_positional_emb",
    "ltm.1",
    "ltm_keys.0",
    "ltm_ages.1",
    "ltm_recall_frequencies.0",
]


@pytest.mark.parametrize("name", EXAMPLES)
def test_missing_tensor_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(CheckpointError, match="missing") as caught:
        opened(write_published(tmp_path, drop=name))
    assert name in str(caught.value)


@pytest.mark.parametrize("shape", [(3, 2), (), (1, 1, 1, 1)])
@pytest.mark.parametrize("name", EXAMPLES)
def test_misshapen_tensor_is_named(tmp_path: Path, name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(CheckpointError, match="misshapen") as caught:
        opened(write_published(tmp_path, change={name: torch.ones(shape)}))
    assert f"{name} is {list(shape)}" in str(caught.value) or name.startswith("ltm.")


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", EXAMPLES)
def test_tensor_that_is_not_finite_is_named(tmp_path: Path, name: str, bad: float) -> None:
    from tests.published import published_config, published_tensors

    value = published_tensors(published_config())[name]
    value.view(-1)[0] = bad
    with pytest.raises(CheckpointError, match="not finite") as caught:
        opened(write_published(tmp_path, change={name: value}))
    assert name in str(caught.value)


def test_unknown_tensor_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"not known: model\.layers\.7\.colour"):
        opened(write_published(tmp_path, change={"model.layers.7.colour": torch.ones(2)}))


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    change = {"colour": torch.ones(1), "memory": torch.ones(2, 2), "bos_embedding": torch.full((LAYERS, 1, WIDTH), float("nan"))}
    with pytest.raises(CheckpointError) as caught:
        opened(write_published(tmp_path, drop="lm_head.weight", change=change))
    assert all(part in str(caught.value) for part in ("lm_head.weight", "colour", "memory is [2, 2]", "bos_embedding"))


# -- files ---------------------------------------------------------------------------------------------------------


def test_sharded_checkpoint_gives_the_same_model(tmp_path: Path) -> None:
    whole = opened(write_published(tmp_path))
    path = tmp_path / "model.safetensors"
    tensors = load_file(path)
    names = sorted(tensors)
    shards = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, own in shards.items():
        save_file({name: tensors[name] for name in own}, tmp_path / file)
    index = {"metadata": {}, "weight_map": {name: file for file, own in shards.items() for name in own}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    path.unlink()
    assert opened(tmp_path).fingerprint == whole.fingerprint
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"model-00002-of-00002\.safetensors is missing"):
        opened(tmp_path)


@pytest.mark.parametrize("weight_map", [None, [], {"memory": 3}, {"memory": "../elsewhere.safetensors"}])
def test_senseless_index_is_refused(tmp_path: Path, weight_map: Any) -> None:
    write_published(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}), encoding="utf-8")
    with pytest.raises(CheckpointError):
        opened(tmp_path)


@pytest.mark.parametrize("keep", [0, 5, 100, -20])
def test_damaged_file_is_told(tmp_path: Path, keep: int) -> None:
    path = write_published(tmp_path) / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match="damaged"):
        opened(tmp_path)


def test_directory_without_weights_is_told(tmp_path: Path) -> None:
    (write_published(tmp_path) / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="missing"):
        opened(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", '"x"'])
def test_unreadable_config_is_told(tmp_path: Path, text: str) -> None:
    (write_published(tmp_path) / "config.json").write_text(text, encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"config\.json"):
        opened(tmp_path)


@pytest.mark.parametrize("field", ["num_tokens", "hidden_size", "selector_hidden_dim", "lora_config"])
@pytest.mark.parametrize("value", [None, "many", -1])
def test_senseless_config_is_told(tmp_path: Path, field: str, value: Any) -> None:
    with pytest.raises(CheckpointError):
        opened(write_published(tmp_path, **{field: value}))
