"""Laws of the door: arguments that people know from transformers work or are refused by name, and so does every kind of base."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
import torch
from transformers import LlamaForCausalLM

from mplus import MPlusModel
from mplus.checkpoints.arguments import HARMLESS, REFUSED
from mplus.checkpoints.base_models import base as bases
from mplus.errors import CheckpointError, GeometryError, InputError, MPlusError, UnsupportedModelError
from tests.tiny import byte_tokenizer, ids, text_model, tiny_decoder, tiny_geometry

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("stock")
    tiny_decoder(vocabulary=256).save_pretrained(directory)
    byte_tokenizer().save_pretrained(directory)
    return directory


@pytest.fixture(scope="module")
def delta(stock: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("delta")
    MPlusModel.from_base(stock, geometry=tiny_geometry(), dtype="float32").save_pretrained(directory)
    return directory


def refused(error: MPlusError) -> str:
    """The sentence, checked to be a short one."""
    assert len(str(error).splitlines()) == 1 and len(str(error)) < 400
    return str(error)


def from_base(base: Any, **options: Any) -> MPlusModel:
    return MPlusModel.from_base(base, geometry=tiny_geometry(), **options)


# -- arguments of transformers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    [
        {"torch_dtype": "float32"},
        {"torch_dtype": torch.float32, "dtype": "float32"},
        {"dtype": "fp32"},
        {"device_map": "auto"},
        {"device_map": "cpu"},
        {"device_map": {"": "cpu"}, "device": "cpu"},
        {"revision": "main", "token": "x", "local_files_only": True},
        {"attn_implementation": "eager"},
        *({name: value} for name, values in HARMLESS.items() for value in values),
    ],
    ids=str,
)
def test_argument_with_a_meaning_works_wherever_a_model_is_opened(stock: Path, delta: Path, given: dict[str, Any]) -> None:
    for model in (MPlusModel.from_base(stock, geometry=tiny_geometry(), **given), MPlusModel.from_pretrained(delta, **given)):
        assert model.parts.decoder.config._attn_implementation == given.get("attn_implementation", "sdpa")
        assert not {"torch_dtype", "dtype"} & set(given) or model.dtype == torch.float32


@pytest.mark.parametrize(
    "short", [("fp16", torch.float16), ("half", torch.float16), ("bf16", torch.bfloat16), ("torch.bfloat16", torch.bfloat16)]
)
def test_number_types_have_their_short_names(stock: Path, short: tuple[str, torch.dtype]) -> None:
    assert from_base(stock, dtype=short[0]).dtype == short[1]


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_argument_without_a_meaning_is_refused_by_name(stock: Path, delta: Path, name: str) -> None:
    given: dict[str, Any] = {name: "x"}
    for opening, directory in ((from_base, stock), (MPlusModel.from_pretrained, delta)):
        with pytest.raises(InputError) as caught:
            opening(directory, **given)
        assert refused(caught.value).startswith(f"{name}='x' is not supported: {REFUSED[name]}")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"dtype": "fp8"}, "dtype 'fp8'"),
        ({"dtype": 16}, "dtype '16'"),
        ({"dtype": torch.int64}, "dtype 'torch.int64'"),
        ({"dtype": "float16", "torch_dtype": "float32"}, "give one of them"),
        ({"device": "gpu"}, "device 'gpu' is not known"),
        ({"device": "meta"}, "no weights to compute with"),
        ({"device": 99}, "is not here"),
        ({"device": "cuda:99"}, "is not here"),
        ({"device": "cpu", "device_map": "cuda:99"}, "is not here"),
        ({"device_map": {"a": "cpu", "b": "disk"}}, "spreads the layers over cpu, disk"),
        ({"attn_implementation": "nonsense"}, "choose one of sdpa, eager"),
        ({"attn_implementation": 3}, "attn_implementation 3"),
        ({"quantization_config": "4bit"}, "BitsAndBytesConfig"),
        ({"revision": 3}, "revision is 3"),
        ({"token": 3}, "token"),
    ],
    ids=str,
)
def test_wrong_value_is_refused_by_name(stock: Path, delta: Path, given: dict[str, Any], told: str) -> None:
    for opening, directory in ((from_base, stock), (MPlusModel.from_pretrained, delta)):
        with pytest.raises(InputError) as caught:
            opening(directory, **given)
        assert told in refused(caught.value)


def test_hub_arguments_reach_the_hub(stock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    def snapshot(hub_id: str, *, local_files_only: bool = False, **named: Any) -> str:
        asked.append({"local_files_only": local_files_only, **named})
        if local_files_only:
            raise FileNotFoundError("not cached")
        return str(stock)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    from_base("some/model", revision="v1", token="hf_x", cache_dir="/c")
    assert [(one["revision"], one["cache_dir"]) for one in asked] == [("v1", "/c")] * 2 and asked[1]["token"] == "hf_x"
    asked.clear()
    with pytest.raises(CheckpointError, match=r"'some/model' in revision 'v2' is not on this machine"):
        from_base("some/model", revision="v2", local_files_only=True)
    assert [one["local_files_only"] for one in asked] == [True]


# -- parts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        ({"read_lora": 8}, 'such as {"r": 8, "lora_alpha": 16}'),
        ({"read_lora": {"rank": 8}}, 'such as {"r": 8, "lora_alpha": 16}'),
        ({"write_lora": {"r": 0, "lora_alpha": 1}}, "write_lora has r = 0"),
        ({"write_lora": {"r": 1, "lora_alpha": "x"}}, "write_lora has lora_alpha"),
        ({"read_lora": {"r": 1, "lora_alpha": 1, "target_modules": ["nothing"]}}, "target_modules"),
        ({"voting": 2}, "voting is 2"),
        ({"voting": [0, 9]}, "different layers of 0 to 1"),
        ({"voting": []}, "voting is []"),
        ({"voting": [1, 1]}, "voting is [1, 1]"),
        ({"key_width": 0}, "key_width is 0"),
        ({"window": 1.5}, "window is 1.5"),
        ({"stm_tokens": 64}, "Geometry(stm_tokens=64)"),
        ({"read_lore": {}}, "did you mean read_lora"),
        ({"tokenizer": 3}, "tokenizer is int"),
        ({"geometry": {"stm_tokens": 3}}, "geometry is dict"),
    ],
    ids=str,
)
def test_senseless_part_is_refused_by_name(parts: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError) as caught:
        MPlusModel.from_base(tiny_decoder(), **{"geometry": tiny_geometry(), **parts})
    assert told in refused(caught.value)


def test_unknown_setting_of_a_delta_is_refused(delta: Path) -> None:
    with pytest.raises(GeometryError, match="K0"):
        MPlusModel.from_pretrained(delta, K0=3)


# -- bases -----------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("wrap", [torch.compile, torch.nn.DataParallel], ids=["compile", "DataParallel"])
def test_model_inside_a_wrapper_is_used(wrap: Any) -> None:
    plain = tiny_decoder()
    model = from_base(wrap(plain))
    assert model.parts.decoder.model is plain
    prompt = ids(5)[None]
    assert torch.equal(model(prompt).logits, plain(prompt).logits)


def adapted(kind: str) -> Any:
    from peft import LoraConfig, get_peft_model

    wrapped = get_peft_model(tiny_decoder(), LoraConfig(r=2, target_modules=["q_proj"]))
    return wrapped if kind == "PeftModel" else wrapped.base_model.model


@pytest.mark.parametrize(
    ("make", "kind", "told"),
    [
        (lambda: adapted("PeftModel"), InputError, "merge_and_unload"),
        (lambda: adapted("inside"), InputError, "merge_and_unload"),
        (lambda: tiny_decoder().model, UnsupportedModelError, "LlamaModel has no language-model head"),
        (lambda: cast(Any, tiny_decoder()).to("meta"), InputError, "'meta'"),
        (lambda: tiny_decoder().double(), InputError, "float64"),
        (lambda: torch.nn.Linear(2, 2), UnsupportedModelError, "Linear"),
        (lambda: text_model(), InputError, "MPlusModel"),
        (lambda: None, InputError, "base is None"),
        (lambda: 3, InputError, "of type int"),
        (lambda: {"a": 1}, InputError, "of type dict"),
    ],
    ids=["peft", "adapters inside", "body", "meta", "double", "linear", "mplus", "none", "int", "dict"],
)
@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")
def test_base_that_cannot_be_used_is_refused_by_name(make: Any, kind: type[MPlusError], told: str) -> None:
    with pytest.raises(kind) as caught:
        from_base(make())
    assert told in refused(caught.value)


@pytest.mark.parametrize("wrong", [None, 3, b"x", ["a"]])
def test_what_is_no_name_of_a_model_is_refused(wrong: Any) -> None:
    with pytest.raises(InputError, match="by its name, directory or hub id"):
        MPlusModel.from_pretrained(wrong)


def test_second_model_on_a_base_changes_nothing_of_the_first() -> None:
    base = tiny_decoder()
    first = from_base(base)
    before, prompt = first.fingerprint, ids(5)[None]
    logits = first(prompt).logits
    for changes in ({"read_lora": {"r": 2, "lora_alpha": 4}}, {"dtype": "bfloat16"}, {"attn_implementation": "eager"}):
        with pytest.raises(InputError, match="another MPlusModel uses this base"):
            from_base(base, **changes)
    second = from_base(base)
    assert first.fingerprint == before == second.fingerprint and torch.equal(first(prompt).logits, logits)
    del first, second
    assert from_base(base, read_lora={"r": 2, "lora_alpha": 4}).parts.adapters.read == "read"


# -- places ----------------------------------------------------------------------------------------------------------


def test_home_is_expanded(stock: Path, delta: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "delta").symlink_to(delta)
    (tmp_path / "stock").symlink_to(stock)
    MPlusModel.from_pretrained("~/delta")
    from_base("~/stock").save_pretrained("~/mine")
    assert (tmp_path / "mine" / "mplus.json").is_file()


def test_save_through_a_link_keeps_the_link(stock: Path, tmp_path: Path) -> None:
    model = from_base(stock)
    model.save_pretrained(tmp_path / "real")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    model.save_pretrained(tmp_path / "link")
    assert (tmp_path / "link").is_symlink() and sorted(path.name for path in tmp_path.iterdir()) == ["link", "real"]


def test_memory_given_as_a_model_is_told(tmp_path: Path) -> None:
    memory = text_model().new_memory()
    memory.write("Anna lives in Porto and has two grey cats and a boat.")
    memory.save(tmp_path / "m")
    for opening in (MPlusModel.from_pretrained, from_base):
        with pytest.raises(CheckpointError, match="is a memory, not a model"):
            opening(tmp_path / "m")


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b", "~nobody-of-this-name/x", "", "a/b/c/d"])
def test_name_that_no_file_can_have_is_told(name: str) -> None:
    for opening in (bases.locate, MPlusModel.from_pretrained, from_base):
        with pytest.raises(CheckpointError) as caught:
            opening(name)
        refused(caught.value)


def test_delta_given_as_a_base_is_told(delta: Path) -> None:
    with pytest.raises(InputError, match="memory parts already"):
        from_base(delta)


def test_class_of_the_base_stays(stock: Path) -> None:
    assert type(from_base(stock).parts.decoder.model) is LlamaForCausalLM
