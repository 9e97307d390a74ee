"""Laws of sizes in files from elsewhere: nothing is made larger than the tensors beside them, and no save loses what a model needs."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from tokenizers import normalizers

from mplus import MPlusModel
from mplus.checkpoints.fingerprint import tokenizer_print
from mplus.errors import CheckpointError, InputError
from mplus.evaluation.systems.adapted import open_adapted
from tests.published import write_published
from tests.tiny import byte_tokenizer, tiny_decoder, tiny_geometry

PARTS: dict[str, Any] = {"key_width": 6, "read_lora": {"r": 2, "lora_alpha": 4}}


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("stock")
    tiny_decoder(vocabulary=256).save_pretrained(directory)
    byte_tokenizer().save_pretrained(directory)
    return directory


@pytest.fixture
def model(stock: Path) -> MPlusModel:
    return MPlusModel.from_base(stock, geometry=tiny_geometry(), dtype="float32", device="cpu", **PARTS)


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    data = json.loads(path.read_text(encoding="utf-8"))
    change(data)
    path.write_text(json.dumps(data), encoding="utf-8")


@pytest.mark.parametrize("size", [4096, 10**7, 10**18])
@pytest.mark.parametrize("name", ["r", "key_width"])
def test_delta_makes_nothing_larger_than_its_tensors(
    model: MPlusModel, tmp_path: Path, name: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.save_pretrained(tmp_path / "m")
    where = "adapters" if name == "r" else "retriever"
    edit(tmp_path / "m" / "mplus.json", lambda data: (data[where]["read"] if name == "r" else data[where]).update({name: size}))
    monkeypatch.setattr("mplus.checkpoints.delta.attach_fresh", lambda *_, **__: pytest.fail("parts were made"))
    with pytest.raises(CheckpointError, match=f"{name} is {size}, the largest size of a tensor"):
        MPlusModel.from_pretrained(tmp_path / "m", dtype="float32", device="cpu")


@pytest.mark.parametrize("name", ["r", "selector_hidden_dim", "num_selector_layers"])
def test_published_model_makes_nothing_larger_than_its_tensors(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_published(tmp_path)
    edit(tmp_path / "config.json", lambda data: (data["lora_config"] if name == "r" else data).update({name: 10**9}))
    monkeypatch.setattr("mplus.checkpoints.published.PerLayerRetriever", lambda *_, **__: pytest.fail("a retriever was made"))
    with pytest.raises(CheckpointError, match=f"{name} is 1000000000"):
        MPlusModel.from_pretrained(tmp_path, dtype="float32", device="cpu")


def test_window_is_bounded_wherever_it_comes_from(model: MPlusModel, stock: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="window is 1000000000, expected at most"):
        MPlusModel.from_base(stock, geometry=tiny_geometry(), window=10**9)
    model.save_pretrained(tmp_path / "m")
    edit(tmp_path / "m" / "mplus.json", lambda data: data["retriever"].update(window=10**9))
    with pytest.raises(CheckpointError, match=r"mplus\.json.*window is 1000000000, expected at most"):
        MPlusModel.from_pretrained(tmp_path / "m", dtype="float32", device="cpu")


def test_unknown_kind_of_retriever_is_refused(model: MPlusModel, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path / "m")
    edit(tmp_path / "m" / "mplus.json", lambda data: data["retriever"].update(kind="x"))
    with pytest.raises(CheckpointError, match="kind vote or per_layer"):
        MPlusModel.from_pretrained(tmp_path / "m", dtype="float32", device="cpu")


@pytest.mark.parametrize("form", ["directory", "link"])
def test_save_of_memory_parts_over_their_own_base_is_refused(model: MPlusModel, tmp_path: Path, form: str) -> None:
    model.save_pretrained(tmp_path / "m", include_base=True)
    again = MPlusModel.from_pretrained(tmp_path / "m", dtype="float32", device="cpu")
    target = tmp_path / ("m" if form == "directory" else "link")
    if form == "link":
        target.symlink_to(tmp_path / "m")
    before = {path.name: path.read_bytes() for path in (tmp_path / "m").iterdir()}
    with pytest.raises(InputError, match="would lose it"):
        again.save_pretrained(target)
    assert {path.name: path.read_bytes() for path in (tmp_path / "m").iterdir()} == before
    again.save_pretrained(target, include_base=True)
    assert MPlusModel.from_pretrained(tmp_path / "m", dtype="float32", device="cpu").fingerprint == model.fingerprint


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("adapter")
    with warnings.catch_warnings():  # PEFT still asks transformers for an attribute by its old name
        warnings.simplefilter("ignore", FutureWarning)
        get_peft_model(tiny_decoder(vocabulary=256), LoraConfig(r=2, target_modules=["q_proj"])).save_pretrained(str(directory))
    return directory


@pytest.mark.parametrize("fault", ["pickle", "cut", "deep config", "no config"])
def test_adapter_of_a_plain_system_is_safetensors_or_refused_in_one_sentence(
    model: MPlusModel, adapter: Path, tmp_path: Path, fault: str
) -> None:
    place = tmp_path / "a"
    shutil.copytree(adapter, place)
    weights, config = place / "adapter_model.safetensors", place / "adapter_config.json"
    if fault == "pickle":
        torch.save(load_file(weights), place / "adapter_model.bin")
        weights.unlink()
    elif fault == "cut":
        weights.write_bytes(weights.read_bytes()[:-9])
    elif fault == "deep config":
        config.write_text('{"r": ' + "[" * 5000, encoding="utf-8")
    else:
        config.unlink()
    told = {"pickle": "a pickle", "cut": "damaged", "deep config": "nested deeper", "no config": "no adapter"}[fault]
    with pytest.raises(CheckpointError, match=told) as caught:
        open_adapted(model, place)
    assert "\n" not in str(caught.value)


def test_adapter_of_a_plain_system_opens(model: MPlusModel, adapter: Path) -> None:
    assert any(".lora_" in name for name in open_adapted(model, adapter).state_dict())


def test_name_in_a_delta_reaches_no_terminal_as_control_signs(model: MPlusModel, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path / "m")
    edit(tmp_path / "m" / "mplus.json", lambda data: data["base"].update(name="\x1b[2Jx/y z"))
    with pytest.raises(CheckpointError) as caught:
        MPlusModel.from_pretrained(tmp_path / "m")
    assert str(caught.value).isprintable()


def test_normaliser_that_touches_few_signs_is_another_tokenizer() -> None:
    changed = byte_tokenizer()
    changed.backend_tokenizer.normalizer = normalizers.Replace("zq", "x")
    assert tokenizer_print(changed) != tokenizer_print(byte_tokenizer())
