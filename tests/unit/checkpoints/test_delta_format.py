"""Laws of our own format: what was stored comes back, on the base it belongs to, every tensor accounted for."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from mplus import MPlusModel
from mplus.errors import CheckpointError, GeometryError, InputError, UnsupportedModelError
from tests.published import write_published
from tests.tiny import SETUPS, byte_tokenizer, filled, ids, tiny_decoder, tiny_geometry

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stock model in transformers' form."""
    directory = tmp_path_factory.mktemp("base")
    tiny_decoder().save_pretrained(directory)
    return directory


def representable(model: MPlusModel) -> MPlusModel:
    """Memory parts rounded to bfloat16, as they are stored; adapters, BOS, position and projectors random."""
    model_parts = model.parts
    generator = torch.Generator().manual_seed(9)

    def random(value: Tensor) -> Tensor:
        return (torch.randn(value.shape, generator=generator) * 0.3).bfloat16().float()

    with torch.no_grad():
        for name, value in model_parts.decoder.model.state_dict().items():
            if ".lora_" in name:
                value.copy_(random(value))
        model_parts.bos.copy_(random(model_parts.bos))
        if model_parts.retriever is not None:
            for value in model_parts.retriever.state_dict().values():
                value.copy_(random(value))
        if model_parts.position is not None:
            model_parts.position.copy_(random(model_parts.position))
    return model


def made(base: Path, setup: str = "shared", **options: Any) -> MPlusModel:
    fields, parts = SETUPS[setup]
    model = MPlusModel.from_base(base, geometry=tiny_geometry(**fields), dtype="float32", device="cpu", **{**parts, **options})
    if setup == "output":
        model.parts.position = torch.randn(model.parts.decoder.width)
    return representable(model)


@pytest.fixture
def stored(base: Path, tmp_path: Path) -> Path:
    """A stored delta with both adapters and a trained retriever."""
    directory = tmp_path / "delta"
    made(base, key_width=6, write_lora={"r": 2, "lora_alpha": 2}).save_pretrained(directory)
    return directory


def opened(directory: Path, **options: Any) -> MPlusModel:
    return MPlusModel.from_pretrained(directory, dtype="float32", device="cpu", **options)


def spoil(directory: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    path = directory / "delta.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


def change_manifest(directory: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = directory / "mplus.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    change(manifest)
    path.write_text(json.dumps(manifest), encoding="utf-8")


# -- what was stored comes back ----------------------------------------------------------------------------------------


def test_a_base_that_was_trained_is_stored_with_the_fingerprint_of_what_is_stored(base: Path, tmp_path: Path) -> None:
    model = made(base, sorted(SETUPS)[0])
    with torch.no_grad():
        for value in model.parts.decoder.model.parameters():
            value.mul_(2.0)  # still exact in the 16 bits of what is stored
    model.save_pretrained(tmp_path / "m", include_base=True)
    again = opened(tmp_path / "m")
    prompt = ids(6, 1)[None]
    assert torch.equal(again(prompt, memory=filled(again)).logits, model(prompt, memory=filled(model)).logits)


@pytest.mark.parametrize("setup", sorted(SETUPS))
@pytest.mark.parametrize("include_base", [False, True])
def test_stored_model_comes_back_and_computes_the_same(base: Path, tmp_path: Path, setup: str, include_base: bool) -> None:
    model = made(base, setup)
    model.save_pretrained(tmp_path / "m", include_base=include_base)
    again = opened(tmp_path / "m")
    assert again.fingerprint == model.fingerprint
    assert again.geometry == model.geometry
    prompt = ids(6, 1)[None]
    assert torch.equal(again(prompt, memory=filled(again)).logits, model(prompt, memory=filled(model)).logits)


def test_all_adapters_arrive_value_for_value(base: Path, stored: Path) -> None:
    model, again = made(base, key_width=6, write_lora={"r": 2, "lora_alpha": 2}), opened(stored)
    assert (again.parts.adapters.write, again.parts.adapters.read) == ("write", "read")
    own, found = model.parts.decoder.model.state_dict(), again.parts.decoder.model.state_dict()
    lora = [name for name in own if ".lora_" in name]
    assert len(lora) == 2 * 2 * 6 * 2  # A and B, two roles, six projections, two layers
    assert all(torch.equal(own[name], found[name]) and found[name].abs().sum() > 0 for name in lora)
    assert {name for name in again.load_report.used if name.startswith("adapter.")} == {
        f"adapter.{'read' if '.read.' in name else 'write'}.{name}" for name in lora
    }


def test_an_adapter_of_the_second_look_is_left_out_by_name(base: Path, stored: Path) -> None:
    """Deltas of earlier versions may hold one."""
    path = stored / "mplus.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    manifest["adapters"]["look"] = dict(manifest["adapters"]["read"])
    path.write_text(json.dumps(manifest), encoding="utf-8")
    tensors = load_file(stored / "delta.safetensors")
    look = {name.replace("read", "look"): value.clone() for name, value in tensors.items() if name.startswith("adapter.read.")}
    save_file({**tensors, **look}, stored / "delta.safetensors")
    again = opened(stored)
    assert look and set(again.load_report.unused) == set(look)
    assert not any(".look." in name for name in again.parts.decoder.model.state_dict())


def test_delta_holds_memory_parts_only(stored: Path) -> None:
    assert sorted(path.name for path in stored.iterdir()) == ["delta.safetensors", "mplus.json"]
    names = load_file(stored / "delta.safetensors")
    assert all(name == "bos" or name.startswith(("adapter.", "retriever.")) for name in names)


def test_whole_model_opens_after_its_base_is_gone(tmp_path: Path) -> None:
    tiny_decoder(vocabulary=256).save_pretrained(tmp_path / "base")
    byte_tokenizer().save_pretrained(tmp_path / "base")
    model = MPlusModel.from_base(tmp_path / "base", geometry=tiny_geometry(), dtype="float32", device="cpu")
    model.save_pretrained(tmp_path / "m", include_base=True)
    (tmp_path / "base").rename(tmp_path / "gone")
    again = opened(tmp_path / "m")
    assert again.tokenizer("Anna")["input_ids"] == model.tokenizer("Anna")["input_ids"]
    assert again.generate("Anna", max_new_tokens=3, do_sample=False) == model.generate("Anna", max_new_tokens=3, do_sample=False)


@pytest.mark.parametrize("include_base", [False, True])
def test_tied_embeddings_stay_tied(tmp_path: Path, include_base: bool) -> None:
    tiny_decoder(tie_word_embeddings=True).save_pretrained(tmp_path / "base")
    model = made(tmp_path / "base")
    model.save_pretrained(tmp_path / "m", include_base=include_base)
    again = opened(tmp_path / "m")
    assert again.fingerprint == model.fingerprint
    decoder = again.parts.decoder.model
    assert decoder.get_parameter("lm_head.weight") is decoder.get_parameter("model.embed_tokens.weight")


def test_delta_of_a_whole_model_names_that_model_as_its_base(base: Path, tmp_path: Path) -> None:
    made(base).save_pretrained(tmp_path / "whole", include_base=True)
    whole = opened(tmp_path / "whole")
    whole.save_pretrained(tmp_path / "delta")
    assert opened(tmp_path / "delta").fingerprint == whole.fingerprint


def test_second_save_replaces_the_first(base: Path, stored: Path) -> None:
    made(base).save_pretrained(stored)
    assert opened(stored).parts.adapters.write is None
    assert [path.name for path in stored.parent.iterdir()] == ["delta"]


@pytest.mark.parametrize("step", ["save_file", "exchange", "first rename", "second rename"])
def test_failing_save_leaves_the_previous_delta(base: Path, stored: Path, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path.name: path.read_bytes() for path in stored.iterdir()}
    replace, calls = os.replace, []

    def broken(*args: Any, **kwargs: Any) -> None:
        calls.append(args)
        if not step.endswith("rename") or len(calls) == ["first rename", "second rename"].index(step) + 1:
            raise OSError("no space left on device")
        replace(*args, **kwargs)

    if step.endswith("rename"):
        monkeypatch.setattr("mplus.runtime.atomic.exchanged", lambda first, second: False)
    where = {"save_file": "mplus.checkpoints.delta.save_file", "exchange": "mplus.runtime.atomic.exchanged"}
    monkeypatch.setattr(where.get(step, "os.replace"), broken)
    with pytest.raises(CheckpointError, match="what was there is unchanged"):
        made(base).save_pretrained(stored)
    assert {path.name: path.read_bytes() for path in stored.iterdir()} == before
    assert [path.name for path in stored.parent.iterdir()] == ["delta"]


def test_foreign_directory_is_refused_and_left_alone(base: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("do not lose me", encoding="utf-8")
    with pytest.raises(InputError, match="no delta"):
        made(base).save_pretrained(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_file_in_the_place_of_a_directory_is_refused(base: Path, tmp_path: Path) -> None:
    (tmp_path / "m").write_text("hello", encoding="utf-8")
    with pytest.raises(InputError, match="is a file"):
        made(base).save_pretrained(tmp_path / "m")


def test_published_model_has_no_delta(tmp_path: Path) -> None:
    model = opened(write_published(tmp_path / "published"))
    with pytest.raises(InputError, match="published"):
        model.save_pretrained(tmp_path / "m")
    assert not (tmp_path / "m").exists()


# -- opening otherwise -------------------------------------------------------------------------------------------------


def test_stored_model_opens_without_long_term_memory(stored: Path) -> None:
    model = opened(stored, ltm=False)
    assert len(filled(model).long_term) == 0
    assert all("long-term" in reason for reason in model.load_report.unused.values())
    assert any(name.startswith("retriever.") for name in model.load_report.unused)


def test_contradicting_override_is_refused(stored: Path) -> None:
    with pytest.raises(GeometryError, match="stm_tokens"):
        opened(stored, stm_tokens=2)


def test_position_vector_is_optional(base: Path, tmp_path: Path) -> None:
    made(base, "output").save_pretrained(tmp_path / "m")
    assert opened(tmp_path / "m").parts.position is not None
    spoil(tmp_path / "m", lambda tensors: tensors.pop("position"))
    assert opened(tmp_path / "m").parts.position is None


# -- every tensor accounted for ----------------------------------------------------------------------------------------


LORA = "adapter.read.model.layers.1.mlp.up_proj.lora_B.read.weight"


@pytest.mark.parametrize("name", ["bos", LORA, "retriever.key_proj.0.2.weight", "retriever.scale"])
def test_each_fault_of_a_tensor_is_told_with_its_name(stored: Path, name: str) -> None:
    whole = load_file(stored / "delta.safetensors")
    faults: dict[str, Callable[[dict[str, Tensor]], object]] = {
        "missing": lambda tensors: tensors.pop(name),
        "misshapen": lambda tensors: tensors.update({name: torch.zeros(3, 2)}),
        "not finite": lambda tensors: tensors[name].view(-1)[:1].fill_(float("nan")),
    }
    for told, fault in faults.items():
        save_file(whole, stored / "delta.safetensors")
        spoil(stored, fault)
        with pytest.raises(CheckpointError, match=told) as caught:
            opened(stored)
        assert name in str(caught.value)


def test_unknown_tensors_are_told_all_at_once(stored: Path) -> None:
    extra = {"adapter.read.model.layers.9.mlp.up_proj.lora_B.read.weight": torch.zeros(1), "colour": torch.zeros(1)}
    spoil(stored, lambda tensors: tensors.update(extra))
    with pytest.raises(CheckpointError, match="not known") as caught:
        opened(stored)
    assert all(name in str(caught.value) for name in extra)


def test_damaged_file_is_told(stored: Path) -> None:
    path = stored / "delta.safetensors"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(CheckpointError, match="damaged"):
        opened(stored)
    path.unlink()
    with pytest.raises(CheckpointError, match="missing"):
        opened(stored)


@pytest.mark.parametrize("field", ["base", "geometry", "adapters", "retriever", "name"])
def test_manifest_that_lacks_a_field_is_refused(stored: Path, field: str) -> None:
    change_manifest(stored, lambda manifest: manifest.pop(field))
    with pytest.raises(CheckpointError, match=field):
        opened(stored)


@pytest.mark.parametrize("text", ["", "[]", "{"])
def test_unreadable_manifest_is_refused(stored: Path, text: str) -> None:
    (stored / "mplus.json").write_text(text, encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"mplus\.json"):
        opened(stored)


def test_another_format_version_asks_for_an_update(stored: Path) -> None:
    change_manifest(stored, lambda manifest: manifest.update(format=2))
    with pytest.raises(CheckpointError, match="update mplus"):
        opened(stored)


# -- the base ------------------------------------------------------------------------------------------------------


def test_delta_on_other_weights_is_refused(tmp_path: Path) -> None:
    decoder = tiny_decoder()
    decoder.save_pretrained(tmp_path / "base")
    made(tmp_path / "base").save_pretrained(tmp_path / "m")
    with torch.no_grad():
        decoder.get_parameter("model.layers.1.mlp.up_proj.weight").mul_(1.1)
    decoder.save_pretrained(tmp_path / "base")
    with pytest.raises(CheckpointError, match="other weights"):
        opened(tmp_path / "m")


@pytest.mark.parametrize("fault", ["missing", "nan", "damaged"])
def test_spoilt_base_is_told(tmp_path: Path, fault: str) -> None:
    tiny_decoder().save_pretrained(tmp_path / "base")
    path, name = tmp_path / "base" / "model.safetensors", "model.layers.1.mlp.up_proj.weight"
    tensors = load_file(path)
    if fault == "missing":
        del tensors[name]
    elif fault == "nan":
        tensors[name][3, 4] = float("nan")
    save_file(tensors, path, metadata={"format": "pt"})
    if fault == "damaged":
        path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(CheckpointError) as caught:
        made(tmp_path / "base")
    assert fault == "damaged" or name in str(caught.value)


def test_plain_model_is_told_how_to_get_memory_parts(base: Path) -> None:
    with pytest.raises(CheckpointError, match="from_base"):
        opened(base)


def test_unsupported_base_names_the_supported_ones(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(
        json.dumps({"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]}), encoding="utf-8"
    )
    with pytest.raises(UnsupportedModelError, match="qwen3"):
        MPlusModel.from_base(tmp_path, geometry=tiny_geometry())
