"""Laws of what weights do not show: another configuration or tokenizer is named and refused, and old files open with one warning."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from tokenizers import normalizers
from transformers import AutoConfig, PreTrainedTokenizerFast

from mplus import Memory, MPlusModel
from mplus.checkpoints.fingerprint import decoder_settings, tokenizer_print
from mplus.checkpoints.loading import ASSETS
from mplus.errors import CheckpointError, WrongModelError
from mplus.runtime.differences import differing
from tests.tiny import byte_tokenizer, tiny_decoder, tiny_geometry

EDITS: dict[str, dict[str, Any]] = {
    "rms_norm_eps": {"rms_norm_eps": 0.01},
    "hidden_act": {"hidden_act": "gelu"},
    "rotary.rope_theta": {"rope_parameters": {"rope_type": "default", "rope_theta": 5000.0}},
    "rotary.rope_type": {"rope_parameters": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.0}},
    "rotary.factor": {
        "rope_parameters": {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 128}
    },
}


@pytest.fixture
def stock(tmp_path: Path) -> Path:
    tiny_decoder(vocabulary=256).save_pretrained(tmp_path / "base")
    byte_tokenizer().save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def from_base(directory: Path) -> MPlusModel:
    return MPlusModel.from_base(directory, geometry=tiny_geometry(), dtype="float32", device="cpu")


def opened(directory: Path) -> MPlusModel:
    return MPlusModel.from_pretrained(directory, dtype="float32", device="cpu")


def edit(path: Path, **fields: Any) -> None:
    data = json.loads(path.read_text(encoding="utf-8"))
    if "rope_parameters" in fields:
        data.pop("rope_theta", None)
        data.pop("rope_scaling", None)
    data.update(fields)
    path.write_text(json.dumps(data), encoding="utf-8")


def stored(stock: Path, where: Path) -> MPlusModel:
    model = from_base(stock)
    model.save_pretrained(where / "delta")
    memory = opened(where / "delta").new_memory()
    memory.write("Anna lives in Porto and has two grey cats and a boat.")
    memory.save(where / "memory")
    return model


@pytest.mark.parametrize("name", sorted(EDITS))
def test_edit_of_the_config_that_changes_arithmetic_is_named_and_refused(stock: Path, tmp_path: Path, name: str) -> None:
    stored(stock, tmp_path)
    edit(stock / "config.json", **EDITS[name])
    with pytest.raises(CheckpointError, match=f"{name} was"):
        opened(tmp_path / "delta")
    (tmp_path / "new").mkdir()
    with pytest.raises(WrongModelError, match=f"{name} was"):
        Memory.load(tmp_path / "memory", from_base(stock))


@pytest.mark.parametrize(
    "fields", [{"bos_token_id": 5}, {"max_position_embeddings": 4096}, {"attention_dropout": 0.5}, {"head_dim": 8}]
)
def test_edit_that_changes_no_arithmetic_is_no_difference(stock: Path, tmp_path: Path, fields: dict[str, Any]) -> None:
    stored(stock, tmp_path)
    edit(stock / "config.json", **fields)
    Memory.load(tmp_path / "memory", opened(tmp_path / "delta"))


def other_tokenizers() -> dict[str, PreTrainedTokenizerFast]:
    added, lower, shuffled = byte_tokenizer(), byte_tokenizer(), byte_tokenizer()
    added.add_special_tokens({"additional_special_tokens": ["<x>"]})
    lower.backend_tokenizer.normalizer = normalizers.Lowercase()
    model = json.loads(shuffled.backend_tokenizer.to_str())
    letters = sorted(model["model"]["vocab"], reverse=True)
    model["model"]["vocab"] = {letter: number for number, letter in enumerate(letters)}
    again = type(shuffled.backend_tokenizer).from_str(json.dumps(model))
    return {"added": added, "normaliser": lower, "vocabulary": PreTrainedTokenizerFast(tokenizer_object=again)}


@pytest.mark.parametrize("what", ["added", "normaliser", "vocabulary"])
def test_another_tokenizer_is_refused(stock: Path, tmp_path: Path, what: str) -> None:
    stored(stock, tmp_path)
    other_tokenizers()[what].save_pretrained(stock)
    with pytest.raises(CheckpointError, match="another tokenizer"):
        opened(tmp_path / "delta")
    with pytest.raises(WrongModelError, match="its tokenizer differs"):
        Memory.load(tmp_path / "memory", from_base(stock))


def test_print_of_a_tokenizer_survives_storing_and_leaves_its_template_out(tmp_path: Path) -> None:
    tokenizer = byte_tokenizer()
    first = tokenizer_print(tokenizer)
    tokenizer.chat_template = "{{ messages }}"
    tokenizer.save_pretrained(tmp_path)
    assert tokenizer_print(PreTrainedTokenizerFast.from_pretrained(tmp_path)) == tokenizer_print(tokenizer) == first
    assert tokenizer_print(None) is None


def without_prints(where: Path) -> None:
    """Files as versions before wrote them."""
    path = where / "delta" / "mplus.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    manifest["base"] = {name: manifest["base"][name] for name in ("name", "fingerprint")}
    path.write_text(json.dumps(manifest), encoding="utf-8")
    path = where / "memory" / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    manifest["model"] = {name: manifest["model"][name] for name in ("name", "fingerprint")}
    manifest.pop("checksum", None)
    path.write_text(json.dumps(manifest), encoding="utf-8")


def test_files_of_before_open_with_one_warning_each(stock: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    stored(stock, tmp_path)
    without_prints(tmp_path)
    with caplog.at_level(logging.WARNING, "mplus"):
        memory = Memory.load(tmp_path / "memory", opened(tmp_path / "delta"))
    assert [record.message.split()[0] for record in caplog.records] == ["delta", "memory"]
    caplog.clear()
    memory.save(tmp_path / "memory2")
    opened(tmp_path / "delta").save_pretrained(tmp_path / "delta2")
    caplog.clear()
    Memory.load(tmp_path / "memory2", opened(tmp_path / "delta2"))
    assert not caplog.records


def test_shipped_delta_has_both_prints_and_the_form_that_older_versions_read() -> None:
    manifest = json.loads((ASSETS / "smollm2-135m" / "mplus.json").read_text(encoding="utf-8"))
    assert manifest["format"] == 1 and set(manifest["base"]) == {"name", "fingerprint", "settings", "tokenizer"}
    assert manifest["base"]["settings"]["num_hidden_layers"] == 30 and len(manifest["base"]["tokenizer"]) == 64


def test_difference_is_told_in_few_words() -> None:
    one = decoder_settings(tiny_decoder().config)
    assert differing(one, dict(one)) is None
    assert "and 5 more" in str(differing(one, dict.fromkeys(list(one)[:9], "x" * 500) | {key: one[key] for key in list(one)[9:]}))
    assert len(str(differing(one, {}))) < 800


def test_settings_of_a_stored_config_are_those_of_the_model(stock: Path) -> None:
    assert decoder_settings(AutoConfig.from_pretrained(stock)) == from_base(stock).writer.decoder_settings
