"""The models that are measured, by name (``models.yaml``): real weights, or random ones of a stated shape. Knows nothing of what is measured.

Random weights make answers meaningless and cost exactly what trained ones cost.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import torch
import yaml
from pydantic import BaseModel, ConfigDict
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from mplus.checkpoints.base_models.base import locate
from mplus.errors import InputError
from mplus.model import MPlusModel
from mplus.runtime.dtypes import resolve_dtype
from mplus.runtime.suggest import hint_before
from mplus.settings import Geometry

PUBLISHED: Final = {
    "write_tap": "output",
    "drop": "per_layer",
    "retrieval": "per_layer",
    "memory_projection": "read",
    "block_tokens": 1,
    "chunk_tokens": 512,
    "eviction": "oldest",
}
"""The rules of the published M+ models."""


class Size(BaseModel):
    """A model to measure; its fields are explained in ``models.yaml``."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    shape: Mapping[str, Any] | None = None
    geometry: Mapping[str, Any] = {}
    parts: Mapping[str, Any] = {}
    dtype: str = "float32"
    for_gpu: bool = False
    ltm: tuple[int, ...] = (0, 10_000, 40_000, 150_000, 1_000_000)
    contexts: tuple[int, ...] = (2_048, 4_096, 8_192, 16_384)


SIZES: Final = {
    name: Size(**fields)
    for name, fields in yaml.safe_load(Path(__file__).with_name("models.yaml").read_text(encoding="utf-8")).items()
}
OFFERED: Final = tuple(name for name in SIZES if name != "tiny")


def unknown(what: str, name: str, known: Iterable[str]) -> InputError:
    """The error to raise for a name that is not among `known`; it has the nearest."""
    return InputError(f"there is no {what} '{name}'; {hint_before(name.lower(), known, cutoff=0.3)}choose {', '.join(known)}")


def size_named(name: str) -> Size:
    """The size called `name`.

    Raises:
        InputError: there is none; the message has the nearest.
    """
    if name not in SIZES:
        raise unknown("benchmark model", name, OFFERED)
    return SIZES[name]


def check_size(name: str, layers: int | None, dtype: str | None = None) -> None:
    """Refuse what cannot be opened here before anything is computed.

    Raises:
        InputError: unknown, or too large for a CPU.
        CheckpointError: the real weights are not on this machine.
    """
    size = size_named(name)
    if dtype is not None and resolve_dtype(dtype, torch.device("cpu")) is torch.float16:
        raise InputError(
            "a benchmark runs in float32 or bfloat16, whose limits are measured beside it; float16 is not one of them"
        )
    if layers is not None and layers < 1:
        raise InputError(f"--layers is {layers}, expected 1 or more")
    if size.shape is None:
        locate(name)
        if layers is not None:
            raise InputError(f"--layers changes the shape of random models; '{name}' has real weights, leave it out")
    if size.for_gpu and layers is None and not torch.cuda.is_available():
        raise InputError(f"'{name}' is for a GPU and this machine has none; give --layers 1 to run it end to end on the CPU")


def open_size(name: str, *, dtype: str | None = None, layers: int | None = None) -> MPlusModel:
    """The model of that name, on the GPU where there is one.

    Args:
        dtype: a name of ``dtypes.resolve_dtype``; None for the size's own.
        layers: depth of a random model, for machines that cannot hold all of it.
    """
    size = size_named(name)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind = resolve_dtype(dtype or size.dtype, device)
    if size.shape is None:
        return MPlusModel.from_pretrained(name, dtype=kind, device=device)
    decoder = _random_decoder(size, kind, device, layers)
    model = MPlusModel.from_base(decoder, geometry=Geometry(**{**PUBLISHED, **size.geometry}), **size.parts)
    _randomise(model)
    model.checkpoint.name = name if layers is None else f"{name}, {layers} of {size.shape['num_hidden_layers']} layers"
    return model


def _random_decoder(size: Size, dtype: torch.dtype, device: torch.device, layers: int | None) -> PreTrainedModel:
    assert size.shape is not None
    shape = {**size.shape, **({} if layers is None else {"num_hidden_layers": layers})}
    config = LlamaConfig(
        **shape, tie_word_embeddings=False, bos_token_id=1, eos_token_id=None, pad_token_id=None, initializer_range=0.02
    )
    before = torch.get_default_dtype()
    with torch.random.fork_rng(), torch.device(device):
        torch.manual_seed(0)
        torch.set_default_dtype(dtype)
        try:
            decoder: PreTrainedModel = LlamaForCausalLM(config).eval()
            return decoder
        finally:
            torch.set_default_dtype(before)


def _randomise(model: MPlusModel) -> None:
    """Adapters and position vector away from zero, so that what they do is computed as with trained ones."""
    generator = torch.Generator().manual_seed(1)
    decoder = model.parts.decoder
    with torch.no_grad():
        for name, value in decoder.model.named_parameters():
            if ".lora_B." in name:
                value.copy_(torch.randn(value.shape, generator=generator) * 0.02)
    if model.geometry.write.tap == "output":
        position = torch.randn(decoder.width, generator=generator) * 0.02
        model.parts.position = position.to(device=decoder.device, dtype=decoder.dtype)


def plain_twin(model: MPlusModel) -> PreTrainedModel:
    """The bare decoder on the same weight tensors, without the wrappers of adapters: what plain decoding is measured on."""
    decoder = model.parts.decoder
    weights = {
        name.replace(".base_layer.", "."): value for name, value in decoder.model.state_dict().items() if ".lora_" not in name
    }
    kind: Any = type(decoder.model)
    with torch.device("meta"):
        twin: Any = kind(copy.deepcopy(decoder.config))
    twin.load_state_dict(weights, assign=True)
    twin.tie_weights()
    twin.model.rotary_emb = decoder.body.rotary_emb  # its table is no weight
    twin.generation_config = decoder.model.generation_config
    twin.eval().requires_grad_(False)
    decoder_twin: PreTrainedModel = twin
    return decoder_twin
