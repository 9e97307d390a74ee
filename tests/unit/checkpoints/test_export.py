"""Laws of the export: a published checkpoint survives opening and storing bit for bit, and what has no such form is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from mplus import Geometry, MPlusModel
from mplus.checkpoints.export import published_tensors, save_published
from mplus.cli import main
from mplus.errors import CheckpointError, InputError
from mplus.training.run.recipe_file import read_recipe
from mplus.training.run.starting_model import _parts
from tests.published import write_published
from tests.tiny import tiny_decoder, tiny_geometry

pytestmark = pytest.mark.slow

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
    save_published(first.checkpoint, tmp_path / "second")
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
            for name, value in model.parts.decoder.model.named_parameters():
                if ".lora_B." in name:
                    value.copy_(torch.randn_like(value) * 0.3)
    model.parts.position = torch.full((32,), 0.1)
    save_published(model.checkpoint, tmp_path / "out")
    second = opened(tmp_path / "out")
    assert (
        Geometry(**{**second.geometry.flat(), "ltm_capacity": 400, "search": "auto", **({} if ltm else {"ltm_read_tokens": 8})})
        == geometry
    )
    ours, theirs = published_tensors(model.checkpoint), published_tensors(second.checkpoint)
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
        save_published(model.checkpoint, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_directory_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    model = opened(write_published(tmp_path / "first"))
    with pytest.raises(InputError, match="holds something already"):
        save_published(model.checkpoint, tmp_path / "first")


def test_failed_export_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mplus.checkpoints import export

    def full(*arguments: Any, **named: Any) -> None:
        raise OSError(28, "No space left on device")

    model = opened(write_published(tmp_path / "first"))
    monkeypatch.setattr(export, "save_torch_state_dict", full)
    with pytest.raises(CheckpointError, match="No space left"):
        save_published(model.checkpoint, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["first"]


def test_command_stores_and_names_the_directory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_published(tmp_path / "first")
    assert main(["export", str(tmp_path / "first"), "--out", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "out")
    assert opened(tmp_path / "out").geometry == opened(tmp_path / "first").geometry


RECIPES = sorted((Path(__file__).parents[3] / "recipes").rglob("*.yaml"))


def recipe_model(path: Path) -> MPlusModel:
    """The model that a recipe makes, on a tiny base; what it starts from is made by the recipe of that name."""
    asked = read_recipe(path)
    settings, parts = asked.model, dict[str, Any]()
    while settings.start is not None:
        parts = {**_parts(settings), **parts}
        name = Path(settings.start).parent.name
        before = next((read_recipe(one) for one in RECIPES if read_recipe(one).name == name), None)
        if before is None:
            break
        settings = before.model
    parts = {**_parts(settings), **parts}
    geometry = dict(asked.model.geometry)
    if settings.retriever is not None and settings.retriever.voting == "per_layer":
        geometry["retrieval"] = "per_layer"
    layers = 30 if "voting" in parts else 2
    return MPlusModel.from_base(
        tiny_decoder(layers=layers, positions=32768), geometry=Geometry().changed(**geometry), dtype="float32", **parts
    )


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_recipe_of_the_papers_form_exports_and_the_others_are_told(path: Path, tmp_path: Path) -> None:
    model = recipe_model(path)
    trains_the_base = model.parts.adapters.write is None  # as paper-tiny does; the published form has adapters
    if model.geometry.write.tap != "output" or model.geometry.read.is_shared or trains_the_base:
        with pytest.raises(InputError, match="the published form has"):
            save_published(model.checkpoint, tmp_path / "out")
        return
    save_published(model.checkpoint, tmp_path / "out")
    again = opened(tmp_path / "out")
    prompt, written = torch.arange(5, 15)[None], model.encode(torch.arange(7, 47))
    assert torch.allclose(model(prompt, memory=written).logits, again(prompt, memory=written).logits, atol=1e-5)


def test_the_papers_form_is_among_the_recipes() -> None:
    forms = {f"{path.parent.name}/{path.stem}": read_recipe(path).model.geometry.get("write_tap") for path in RECIPES}
    assert {name for name, tap in forms.items() if tap == "output"} >= {"adapt/paper", "llama-3.1-8b/stage1"}


# -- generation settings and heads -----------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["own", "published"])
def test_stop_tokens_survive_storing_and_opening(tmp_path: Path, form: str) -> None:
    """Those of ``generation_config.json``, which may be others than the config's."""
    if form == "own":
        decoder = tiny_decoder(vocabulary=256)
        decoder.save_pretrained(tmp_path / "first")
    else:
        write_published(tmp_path / "first")
    stops = {
        "eos_token_id": [2, 17],
        "bos_token_id": 1,
        "temperature": 0.5,
        "do_sample": False,
    }  # transformers refuses to save these
    (tmp_path / "first" / "generation_config.json").write_text(json.dumps(stops), encoding="utf-8")
    if form == "own":
        model = MPlusModel.from_base(tmp_path / "first", geometry=tiny_geometry(), dtype="float32", device="cpu")
        model.save_pretrained(tmp_path / "second", include_base=True)
    else:
        model = opened(tmp_path / "first")
        save_published(model.checkpoint, tmp_path / "second")
    for found in (model, opened(tmp_path / "second")):
        settings = found.parts.decoder.model.generation_config
        assert settings is not None and settings.eos_token_id == [2, 17] and settings.temperature == 0.5


@pytest.mark.parametrize("form", ["own", "published"])
def test_head_of_its_own_is_kept_where_the_config_says_tied(tmp_path: Path, form: str) -> None:
    if form == "own":
        tiny_decoder().save_pretrained(tmp_path / "first")
    else:
        write_published(tmp_path / "first")
    path = tmp_path / "first" / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**config, "tie_word_embeddings": True}), encoding="utf-8")
    head = load_file(tmp_path / "first" / "model.safetensors")["lm_head.weight"].float()
    if form == "own":
        model = MPlusModel.from_base(tmp_path / "first", geometry=tiny_geometry(), dtype="float32", device="cpu")
        model.save_pretrained(tmp_path / "second", include_base=True)
    else:
        model = opened(tmp_path / "first")
        save_published(model.checkpoint, tmp_path / "second")
    again = opened(tmp_path / "second")
    for found in (model, again):
        assert torch.equal(found.parts.decoder.model.get_parameter("lm_head.weight"), head)
    prompt = torch.arange(5, 15)[None]
    assert torch.equal(model(prompt).logits, again(prompt).logits)


def test_published_model_with_a_tied_head_opens_without_one_in_its_file(tmp_path: Path) -> None:
    write_published(tmp_path / "first", tie_word_embeddings=True)
    path = tmp_path / "first" / "model.safetensors"
    tensors = load_file(path)
    head = tensors.pop("lm_head.weight")
    save_file(tensors, path)
    assert not torch.equal(head, tensors["model.embed_tokens.weight"])
    decoder = opened(tmp_path / "first").parts.decoder.model
    assert torch.equal(decoder.get_parameter("lm_head.weight"), tensors["model.embed_tokens.weight"].float())
