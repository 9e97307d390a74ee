"""Stock decoders and their tokenizers from a local directory of transformers form. Runs no code of the directory, asks no network.

A directory is looked through before transformers reads it: every JSON within bounds, every file a regular one, every tensor the
config asks for in the safetensors headers. What transformers then still stumbles over is told in one sentence.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig, PreTrainedModel

from mplus.attach.families import SUPPORTED
from mplus.checkpoints.load_report import is_finite
from mplus.checkpoints.tensors import is_there, read_json, read_shapes
from mplus.errors import CapacityError, CheckpointError, MPlusError, UnsupportedModelError
from mplus.runtime.json_file import LARGEST_BYTES

READ = (".json", ".txt", ".model", ".jinja", ".safetensors")
"""Endings of the files that transformers reads of a model directory."""
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json")
ADAPTER = "adapter_config.json"
SAFE: dict[str, Any] = {"trust_remote_code": False, "local_files_only": True}


def load_decoder(
    path: str, *, dtype: torch.dtype, device: torch.device, attention: str | None, quantization: Any = None
) -> tuple[PreTrainedModel, Any]:
    """A stock model and its tokenizer (None if it has none) from a local directory of transformers form.

    Args:
        attention: None is ``sdpa``, never what ``config.json`` says.
        quantization: a configuration of transformers to quantise by while loading.

    Raises:
        UnsupportedModelError, CheckpointError: another architecture; weights missing, damaged or not finite.
    """
    directory = Path(path)
    check_files(directory)
    fields = _check_config(directory, quantization)
    kernel = attention or "sdpa"
    with in_one_sentence(f"the base model at {path}"):
        config = AutoConfig.from_pretrained(path, attn_implementation=kernel, **SAFE)
        config._attn_implementation = kernel
        if getattr(config, "transformers_weights", None) is not None:
            config.transformers_weights = None  # could name another file than the one that was looked at
        shapes = read_shapes(directory)
        _check_shapes(directory, config, shapes, fields["num_hidden_layers"], exact=quantization is None)
        extra = {} if quantization is None else {"quantization_config": quantization, "device_map": {"": device}}
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            path,
            config=config,
            dtype=dtype,
            attn_implementation=kernel,
            use_safetensors=True,
            output_loading_info=True,
            **SAFE,
            **extra,
        )
        model: PreTrainedModel = loaded[0]
        missing = sorted(loaded[1]["missing_keys"])
        if missing:
            raise CheckpointError(
                f"the base model at {path} lacks {', '.join(missing[:6])}; give the directory of a whole transformers model"
            )
        check_finite(model.state_dict(), f"the base model at {path}")
        tokenizer = load_tokenizer(directory)
        if quantization is None:
            model.to(device)  # type: ignore[arg-type]
    return model, tokenizer


def load_tokenizer(directory: Path) -> Any:
    """The tokenizer of a model directory, or None if it has none.

    Raises:
        CheckpointError: it cannot be used.
    """
    if not any((directory / name).exists() for name in TOKENIZER_FILES):
        return None
    with in_one_sentence(f"the tokenizer in {directory}"):
        tokenizer = AutoTokenizer.from_pretrained(directory, **SAFE)
        template = tokenizer.chat_template
        named = isinstance(template, dict) and all(isinstance(one, str) for one in template.values())
        if not named and not isinstance(template, (str, type(None))):
            raise CheckpointError(f"the tokenizer in {directory} has a chat template that is no text; get an undamaged copy")
        tokenizer.decode(tokenizer("A", add_special_tokens=False)["input_ids"])
    return tokenizer


def load_generation_config(directory: Path, model: PreTrainedModel) -> None:
    """Give a model built by hand the generation settings of its directory, as transformers does."""
    if (directory / "generation_config.json").exists():
        with in_one_sentence(f"generation_config.json in {directory}"):
            model.generation_config = GenerationConfig.from_pretrained(directory, local_files_only=True)


def save_generation_config(model: PreTrainedModel, directory: Path) -> None:
    """Write a model's generation settings, stop tokens among them; what transformers would refuse to save included."""
    settings = model.generation_config
    if settings is not None:
        (directory / "generation_config.json").write_text(settings.to_json_string(use_diff=True), encoding="utf-8")


def has_tied_head(model: PreTrainedModel) -> bool:
    """Whether the head is the table of embeddings; where a file holds both, the config may say otherwise."""
    head, table = model.get_output_embeddings(), model.get_input_embeddings()
    return head is not None and cast(Tensor, head.weight).data_ptr() == cast(Tensor, table.weight).data_ptr()


def check_files(directory: Path) -> None:
    """Do nothing if what transformers would read of a directory is regular files, and JSON within bounds.

    Raises:
        CheckpointError: it is not; or an adapter lies there, which transformers would load by itself.
    """
    if is_there(directory / ADAPTER):
        model = "beside the model" if is_there(directory / "config.json") else "alone"
        raise CheckpointError(
            f"{directory} holds a PEFT adapter ({ADAPTER}) {model}; give a base without one: merge it (merge_and_unload) and save that, "
            "or move the adapter elsewhere"
        )
    try:
        found = sorted(path for path in directory.iterdir() if path.suffix in READ)
        for path in found:
            if path.is_dir():
                continue
            if not path.is_file():
                raise CheckpointError(f"{path} is no regular file; get an undamaged copy of the model")
            if path.suffix != ".safetensors" and path.stat().st_size > LARGEST_BYTES:
                raise CheckpointError(
                    f"{path} has {path.stat().st_size:,} bytes, at most {LARGEST_BYTES:,} are read; get an undamaged copy"
                )
    except OSError as error:
        raise CheckpointError(f"{directory} cannot be read ({error.strerror}); make it readable") from None
    for path in found:
        if path.suffix == ".json" and path.is_file() and path.name not in ("source.json",):
            read_json(path)


def check_finite(tensors: dict[str, Tensor], whose: str) -> None:
    """Raise ``CheckpointError`` where a tensor holds NaN or infinity."""
    for name, value in tensors.items():
        if value.is_floating_point() and not is_finite(value):
            raise CheckpointError(f"{whose} has NaN or infinity in {name}; get an undamaged copy")


@contextmanager
def in_one_sentence(what: str) -> Iterator[None]:
    """Tell whatever a senseless file makes of the code that reads it, which raises anything, in one sentence.

    Raises:
        CheckpointError: instead of any exception that is not our own.
        CapacityError: there is no memory for it.
    """
    try:
        with warnings.catch_warnings():  # of odd settings; they are not the reader's
            warnings.simplefilter("ignore")
            yield
    except (MPlusError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except (MemoryError, torch.OutOfMemoryError):
        raise CapacityError(f"there is no memory for {what}; choose a smaller number type (dtype) or another device") from None
    except BaseException as error:  # a panic of the tokenizers library is no Exception
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        first = next((line.strip() for line in str(error).splitlines() if line.strip()), "")[:240]
        raise CheckpointError(
            f"{what} cannot be read ({type(error).__name__}: {first}); give the directory of a whole, undamaged transformers model"
        ) from None


def _check_config(directory: Path, quantization: Any) -> dict[str, Any]:
    fields = read_json(directory / "config.json")
    kind = fields.get("model_type")
    if kind not in SUPPORTED:
        raise UnsupportedModelError(
            f"memory cannot be attached to {str(kind)[:60]!r} at {directory}; supported: {', '.join(SUPPORTED)}"
        )
    if fields.get("quantization_config") is not None and quantization is None:
        raise CheckpointError(
            f"the weights at {directory} are quantised, which can need code from elsewhere; give an unquantised model, "
            "or pass quantization_config yourself"
        )
    layers = fields.get("num_hidden_layers")
    if isinstance(layers, bool) or not isinstance(layers, int) or layers < 1:
        raise CheckpointError(f"{directory / 'config.json'} has num_hidden_layers = {layers!r:.60}; get an undamaged copy")
    return fields


def _check_shapes(directory: Path, config: Any, shapes: dict[str, tuple[int, ...]], layers: int, *, exact: bool) -> None:
    """Compare the headers with what the config asks for, before a number of it makes anything large."""
    if layers > len(shapes):
        raise CheckpointError(
            f"{directory} has {len(shapes)} tensors, config.json asks for {layers} layers; get an undamaged copy"
        )
    if not exact:
        return
    with torch.device("meta"):
        expected = {
            name: tuple(value.shape)
            for name, value in AutoModelForCausalLM.from_config(config, trust_remote_code=False).state_dict().items()
        }
    prefix = "" if any(name.startswith("model.") for name in shapes) else "model."
    found = {name if name.startswith("lm_head.") else f"{prefix}{name}": shape for name, shape in shapes.items()}
    missing = sorted(set(expected) - set(found))
    tied = {"lm_head.weight", "model.embed_tokens.weight"}
    if config.tie_word_embeddings and len(tied & set(missing)) == 1:
        missing = [name for name in missing if name not in tied]
    if missing:
        raise CheckpointError(
            f"the base model at {directory} lacks {', '.join(missing[:6])}; give the directory of a whole transformers model"
        )
    wrong = [
        f"{name} is {list(found[name])}, expected {list(shape)}"
        for name, shape in expected.items()
        if found.get(name, shape) != shape
    ]
    if wrong:
        raise CheckpointError(f"config.json and weights at {directory} do not fit: {'; '.join(wrong[:3])}; get an undamaged copy")
