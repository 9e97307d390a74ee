"""Laws of the export: a published checkpoint survives opening and storing bit for bit, and what has no such form is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from mplus import MPlusModel
from mplus.checkpoints.export import published_tensors, save_published
from mplus.cli import main
from mplus.errors import CheckpointError, InputError
from tests.published import write_published
from tests.tiny import tiny_decoder, tiny_geometry

OUTPUT: dict[str, Any] = {
    "write_tap": "output",
    "memory_projection": "read",
    "drop": "per_layer",
    "retrieval": "per_layer",
    "block_tokens": 1,
    "neighbour_blocks": 0,
}


def opened(directory: Path, **options: Any) -> MPlusModel:
    return MPlusModel.from_pretrained(directory, dtype="float32", device="cpu", **options)


def logits(model: MPlusModel) -> torch.Tensor:
    memory = model.new_memory(seed=1)
    for start in (3, 9, 20):
        memory.write(torch.arange(start, start + 18))
    return model(torch.arange(5, 15)[None], memory=memory).logits


@pytest.mark.parametrize(
    "form",
    [
        {},
        {"ltm": False},
        {"drop_memory_per_layer": False},
        {"rope_theta": 5000.0, "update_ltm_frequency": 1, "decay_frequency": 2},
    ],
    ids=["mplus", "memoryllm", "shared", "rules"],
)
def test_published_checkpoint_survives_bit_for_bit(tmp_path: Path, form: dict[str, Any]) -> None:
    first = opened(write_published(tmp_path / "first", **form))
    save_published(first._loaded, tmp_path / "second")
    before, after = (load_file(tmp_path / name / "model.safetensors") for name in ("first", "second"))
    assert set(before) - set(after) == set() and set(after) - set(before) <= {"initialized"}
    for name, value in before.items():
        assert torch.equal(value, after[name].to(value.dtype)), name
    second = opened(tmp_path / "second")
    assert second.geometry == first.geometry
    assert second.fingerprint == first.fingerprint
    assert torch.equal(logits(first), logits(second))
    config = json.loads((tmp_path / "second" / "config.json").read_text(encoding="utf-8"))
    source = json.loads((tmp_path / "first" / "config.json").read_text(encoding="utf-8"))
    assert {name: config[name] for name in source} == source


@pytest.mark.parametrize("ltm", [True, False])
def test_model_trained_here_with_the_output_tap_has_the_published_form(tmp_path: Path, ltm: bool) -> None:
    geometry = tiny_geometry(
        **OUTPUT, ltm=ltm, chunk_tokens=512, min_write_tokens=16, stm_ages="frozen", small_ltm="repeat", eviction="countdown"
    )
    lora = {"r": 2, "lora_alpha": 4}
    with torch.random.fork_rng():
        torch.manual_seed(2)
        model = MPlusModel.from_base(
            tiny_decoder(positions=1024, tie_word_embeddings=True),
            geometry=geometry,
            key_width=6,
            read_lora=lora,
            write_lora=lora,
        )
        with torch.no_grad():
            for name, value in model.attached.decoder.model.named_parameters():
                if ".lora_B." in name:
                    value.copy_(torch.randn_like(value) * 0.3)
    model.attached.position = torch.full((32,), 0.1)
    save_published(model._loaded, tmp_path / "out")
    second = opened(tmp_path / "out")
    assert second.geometry.changed(ltm_capacity=400, search="auto", **({} if ltm else {"ltm_read_tokens": 8})) == geometry
    ours, theirs = published_tensors(model._loaded), published_tensors(second._loaded)
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    prompt, written = torch.arange(5, 15)[None], model.encode(torch.arange(7, 47))
    assert torch.equal(model(prompt, memory=written).logits, second(prompt, memory=written).logits)
    assert not second.new_memory().initialised


@pytest.mark.parametrize(
    ("changed", "parts", "named"),
    [
        ({}, {"read_lora": {"r": 2, "lora_alpha": 4}}, "lacks one"),
        (
            {},
            {"read_lora": {"r": 2, "lora_alpha": 4}, "write_lora": {"r": 3, "lora_alpha": 4}},
            "one LoRA shape for both",
        ),
        ({}, {"read_lora": {"r": 2, "lora_alpha": 4}, "write_lora": {"r": 2, "lora_alpha": 4}}, "write_tap = 'output'.*'input'"),
        (
            {"ltm_read_tokens": 12},
            {"read_lora": {"r": 2, "lora_alpha": 4}, "write_lora": {"r": 2, "lora_alpha": 4}},
            "blocks of K = 8",
        ),
    ],
)
def test_model_without_a_published_form_is_told(
    tmp_path: Path, changed: dict[str, Any], parts: dict[str, Any], named: str
) -> None:
    model = MPlusModel.from_base(tiny_decoder(), geometry=tiny_geometry(**changed), **parts)
    with pytest.raises(InputError, match=named):
        save_published(model._loaded, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_directory_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    model = opened(write_published(tmp_path / "first"))
    with pytest.raises(InputError, match="holds something already"):
        save_published(model._loaded, tmp_path / "first")


def test_failed_export_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mplus.checkpoints import export

    def full(*arguments: Any, **named: Any) -> None:
        raise OSError(28, "No space left on device")

    model = opened(write_published(tmp_path / "first"))
    monkeypatch.setattr(export, "save_torch_state_dict", full)
    with pytest.raises(CheckpointError, match="No space left"):
        save_published(model._loaded, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["first"]


def test_command_stores_and_names_the_directory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_published(tmp_path / "first")
    assert main(["export", str(tmp_path / "first"), "--out", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "out")
    assert opened(tmp_path / "out").geometry == opened(tmp_path / "first").geometry
