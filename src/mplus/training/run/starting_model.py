"""The model a recipe starts from: a base with fresh memory parts, or a delta. Knows recipes and models, no objective."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch

from mplus.attach.adapters import inject
from mplus.attach.attention import register_training
from mplus.errors import TrainingError
from mplus.model import MPlusModel
from mplus.retrieval.late_interaction import LateInteractionRetriever
from mplus.retrieval.per_layer import PerLayerRetriever
from mplus.settings import Geometry
from mplus.training.run.recipe import Adapter, ModelSettings, Recipe, Retriever
from mplus.training.run.scratch import scratch_decoder

log = logging.getLogger(__name__)


def open_model(recipe: Recipe, device: torch.device) -> MPlusModel:
    """Open what ``recipe.model`` names and give it the parts it asks for and does not have yet.

    Fresh adapters and projectors come from torch's global generator: seed it first.

    Raises:
        CheckpointError, GeometryError, UnsupportedModelError: as ``MPlusModel.from_pretrained`` and ``from_base``.
        TrainingError: a delta has other adapters or another trained retriever than the recipe asks for.
    """
    settings = recipe.model
    grouped = settings.attention == "grouped" or (settings.attention == "auto" and device.type == "cpu")
    kernel = None if grouped or settings.attention == "auto" else settings.attention
    common: dict[str, Any] = {"dtype": settings.dtype, "device": device, "attn_implementation": kernel}
    geometry = dict(settings.geometry)
    if settings.retriever is not None and settings.retriever.voting == "per_layer":
        geometry["retrieval"] = "per_layer"
    if settings.scratch is not None:
        decoder, tokenizer = scratch_decoder(settings.scratch)
        model = MPlusModel.from_base(
            decoder, geometry=Geometry().changed(**geometry), tokenizer=tokenizer, **_parts(settings), **common
        )
    elif settings.base is not None:
        model = MPlusModel.from_base(settings.base, geometry=Geometry().changed(**geometry), **_parts(settings), **common)
    else:
        assert settings.start is not None
        _check_start(settings.start)
        model = MPlusModel.from_pretrained(settings.start, **geometry, **common)
        _add_missing(model, settings)
    if grouped:
        model.parts.decoder.model.set_attn_implementation(register_training())
    model.checkpoint.name = settings.name or recipe.name
    return model


def _parts(settings: ModelSettings) -> dict[str, Any]:
    """Arguments of ``attach_fresh``."""
    parts: dict[str, Any] = {}
    if settings.retriever is not None:
        parts["key_width"] = settings.retriever.key_width
        if isinstance(settings.retriever.voting, list):
            parts["voting"] = tuple(settings.retriever.voting)
    for role, adapter in settings.adapters.items():
        if adapter is not None:
            parts[f"{role}_lora"] = lora_of(adapter)
    return parts


def lora_of(adapter: Adapter) -> dict[str, Any]:
    """An adapter as the delta format notes it."""
    targets = {} if adapter.targets is None else {"target_modules": adapter.targets}
    return {"r": adapter.rank, "lora_alpha": adapter.alpha, **targets}


def _check_start(start: str) -> None:
    place = Path(start)
    if place.is_dir() and not any(place.iterdir()):
        raise TrainingError(f"model.start {start} is empty; give a directory that a run has stored its delta in")
    if place.is_dir() and (place / "recipe.yaml").exists() and (place / "delta").is_dir():
        raise TrainingError(f"model.start {start} is the directory of a run; its delta is {place / 'delta'}")


def _add_missing(model: MPlusModel, settings: ModelSettings) -> None:
    for role, wanted in settings.adapters.items():
        if wanted is not None:
            _add_adapter(model, role, wanted)
    if settings.retriever is not None:
        _add_retriever(model, settings.retriever)


def _add_adapter(model: MPlusModel, role: str, wanted: Adapter) -> None:
    adapters, configs = model.parts.adapters, model.checkpoint.adapter_configs
    name, config = adapters.named(role), lora_of(wanted)
    if name is not None:
        own = configs[name]
        if (own["r"], float(own["lora_alpha"])) != (wanted.rank, wanted.alpha):
            raise TrainingError(
                f"the {role} adapter of {model.name!r} has rank {own['r']} and alpha {own['lora_alpha']}, the recipe asks for "
                f"{wanted.rank} and {wanted.alpha:g}; leave out model.{role}_adapter to go on with what is there"
            )
        return
    decoder = model.parts.decoder.model
    inject(decoder, role, config)
    decoder.requires_grad_(False)
    setattr(adapters, role, role)
    configs[role] = config
    adapters.refresh()
    log.info("fresh %s adapter of rank %d", role, wanted.rank)


def _add_retriever(model: MPlusModel, wanted: Retriever) -> None:
    """A fresh retriever where the delta has an untrained one."""
    found = model.parts.retriever
    if found is None or wanted.key_width is None:
        return
    if isinstance(found, PerLayerRetriever) or found.key_width is not None:
        own = "per_layer" if isinstance(found, PerLayerRetriever) else list(found.layers)
        if found.key_width != wanted.key_width or wanted.voting not in (None, own):
            raise TrainingError(
                f"the retriever of {model.name!r} has key_width {found.key_width} and voting {own}, the recipe asks for "
                f"{wanted.key_width} and {wanted.voting}; leave out model.retriever to go on with what is there"
            )
        return
    voting = tuple(wanted.voting) if isinstance(wanted.voting, list) else found.layers
    fresh = LateInteractionRetriever(voting, found.width, wanted.key_width)
    place = model.parts.decoder
    model.parts.retriever = fresh.to(device=place.device, dtype=place.dtype).eval().requires_grad_(False)
    log.info("fresh retriever: layers %s, %d wide", voting, wanted.key_width)
