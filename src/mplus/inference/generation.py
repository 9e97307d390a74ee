"""Settings of a call of ``generate``, read from all their sources in one place. Knows no memory but that one may be read.

Sources, the first that says something wins: an argument, a ``generation_config`` argument, the model's own generation config (what its
files say), transformers' defaults. What a caller asks for is done or refused by name; what files ask for and a read of memory cannot
do is left out.
"""

from __future__ import annotations

import copy
import inspect
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from transformers import GenerationConfig

from mplus.attach.families import Decoder
from mplus.errors import InputError
from mplus.inference.own_view import refusals
from mplus.inference.request import Request
from mplus.runtime.suggest import did_you_mean

log = logging.getLogger(__name__)

DEFAULT_TOKENS = 20
"""Length of a continuation where nobody says one; as transformers."""
CHAT_TOKENS = 256
"""Length of an answer at most where nobody says one."""
RESERVED_TOKENS = 2048
"""Room for new tokens that is set aside before they come; more is made when they do."""

LENGTHS = ("max_new_tokens", "max_length", "min_new_tokens", "min_length")
UNSET_BY_NONE = (*LENGTHS, "use_cache", "cache_implementation", "num_beams", "num_return_sequences", "do_sample")
"""Settings that ``None`` leaves as they are; for the others it is a value."""
MODE_ARGUMENTS = ("tokenizer", "assistant_tokenizer", "trust_remote_code")
HUB_MODES = ("penalty_alpha", "dola_layers", "num_beam_groups", "diversity_penalty", "constraints", "force_words_ids")
"""Ways of decoding that transformers fetches as code from the hub."""
NOT_WITH_MEMORY = {
    "past_key_values": "memory is read through a cache of its own",
    "inputs_embeds": "memory is searched with token ids",
    "position_ids": "positions are counted from where memory begins",
    "cache_position": "positions are counted from where memory begins",
    "guidance_scale": "its second pass would read no memory",
    "negative_prompt_ids": "its second pass would read no memory",
    "negative_prompt_attention_mask": "its second pass would read no memory",
    "cache_implementation": "memory is read through a cache of its own",
    "cache_config": "memory is read through a cache of its own",
    "assistant_early_exit": "the early exit would run through the hooks of the read",
    "use_mtp": "the extra heads would read no memory",
    "token_healing": "it shortens the prompt after memory was searched with it",
    "custom_generate": "code from elsewhere cannot read memory",
}
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "guidance_scale": (1, 1.0),
    "cache_implementation": ("dynamic", "hybrid"),
    "num_beam_groups": (1,),
    "diversity_penalty": (0, 0.0),
    "penalty_alpha": (0, 0.0),
    "use_mtp": (False,),
    "token_healing": (False,),
}
"""Values that ask for nothing, besides ``None``."""


@dataclass(frozen=True)
class Settings:
    """Resolved settings of one call of transformers' ``generate``.

    Attributes:
        new_tokens: the most that are made.
        arguments: for transformers' ``generate``.
        storing: False: each step computes the whole text anew, and reads anew where every layer retrieves for itself.
    """

    new_tokens: int
    arguments: dict[str, Any]
    storing: bool = True


def resolve(
    given: Mapping[str, Any], request: Request, decoder: Decoder, *, per_layer: bool, default_tokens: int = DEFAULT_TOKENS
) -> Settings:
    """Resolve all settings of one call.

    Args:
        given: the caller's arguments, ``generation_config`` among them.
        decoder: has a generation config of its own.
        per_layer: every layer retrieves for itself, with the first tokens it sees.
        default_tokens: new tokens where neither caller nor model files say it.

    Raises:
        InputError: a setting is unknown, contradicts another or cannot be used with a memory; it is named.
    """
    model: Any = decoder.model
    given = dict(given)
    own, files = given.pop("generation_config", None), model.generation_config
    reads = bool(request.memories)
    if own is not None and not isinstance(own, GenerationConfig):
        raise InputError(f"generation_config must be a transformers.GenerationConfig, got {type(own).__name__}")
    config = GenerationConfig() if own is None else copy.deepcopy(own)
    names = {name for name in {*vars(config), *vars(files)} if not name.startswith("_")}
    given = {name: value for name, value in given.items() if value is not None or (name in names and name not in UNSET_BY_NONE)}
    wanted = {name: value for name, value in vars(config).items() if value is not None} if own is not None else {}
    wanted |= {name: value for name, value in given.items() if name in names}
    others = {name: value for name, value in given.items() if name not in names}
    _check_known(others, names, model, reads)
    _check_usable({**wanted, **others}, model, reads, per_layer)
    room = decoder.limit[0] - request.slots - request.tokens
    new_tokens, least = _lengths(own, given, files, request.own_tokens, room, default_tokens)
    with refusals():
        config.update(**files.to_dict(), defaults_only=True, allow_custom_entries=True)
        config.update(**{name: value for name, value in wanted.items() if name not in LENGTHS})
    config.max_new_tokens, config.max_length, config.min_new_tokens = new_tokens, None, None
    config.min_length = request.tokens + least if least else 0
    config.pad_token_id = _pad(wanted, request.pad_id, decoder.vocabulary)
    storing = wanted.get("use_cache") is not False
    for name in HUB_MODES:
        setattr(config, name, None)
    if reads:
        _leave_out(config, wanted, names, storing)
    if config.stop_strings is not None and others.get("tokenizer") is None:
        if request.tokenizer is None:
            raise InputError("stop_strings needs a tokenizer, and this model was opened without one; give tokenizer=...")
        others["tokenizer"] = request.tokenizer
    # transformers fills what is None from the model's own config again, unless it is an argument
    unset = {name: None for name in names if getattr(config, name, None) is None and getattr(files, name, None) is not None}
    unset.pop("transformers_version", None)
    return Settings(new_tokens, {**others, **unset, "generation_config": config}, storing)


def _leave_out(config: Any, wanted: dict[str, Any], names: set[str], storing: bool) -> None:
    """Unset what the model's files ask for and a read of memory cannot do."""
    config.use_cache = storing
    for name in names & set(NOT_WITH_MEMORY):
        setattr(config, name, None)
    if "prefill_chunk_size" not in wanted:
        config.prefill_chunk_size = None


def _check_known(others: dict[str, Any], names: set[str], model: Any, reads: bool) -> None:
    """Refuse arguments that nobody would read."""
    known = {*inspect.signature(model.generate).parameters, *MODE_ARGUMENTS, *NOT_WITH_MEMORY, "logits_to_keep"}
    if not reads:
        known |= set(inspect.signature(model.forward).parameters)
    known -= {"kwargs", "inputs"}
    for name in list(others):
        if name == "token_type_ids" and not torch.as_tensor(others[name], device="cpu").any():
            del others[name]  # what many tokenizers add of their own accord, and says nothing
        elif name not in known:
            elsewhere = "what a chat template is told goes into chat(..., template={...})"
            hint = did_you_mean(name, sorted(known | names), otherwise=elsewhere, cutoff=0.8)
            raise InputError(f"generate has no setting {name!r}; {hint}")


def _check_usable(wanted: dict[str, Any], model: Any, reads: bool, per_layer: bool) -> None:
    """Refuse settings that are known but cannot be done here."""
    said = {name for name, value in wanted.items() if value is not None and not _neutral(name, value)}
    for name in HUB_MODES:
        if name in said:
            raise InputError(f"{name} cannot be used: transformers runs it with code from the hub; leave it out")
    if isinstance(wanted.get("custom_generate"), str):
        raise InputError("custom_generate cannot be the name of code from the hub; give a function, or leave it out")
    streamer = wanted.get("streamer")
    if streamer is not None and not (callable(getattr(streamer, "put", None)) and callable(getattr(streamer, "end", None))):
        raise InputError(
            f"streamer must have put(token_ids) and end(), as transformers' streamers do; got {type(streamer).__name__}"
        )
    assistant = wanted.get("assistant_model")
    if assistant is not None and not isinstance(assistant, torch.nn.Module):
        raise InputError(f"assistant_model must be a model of transformers, got {type(assistant).__name__}")
    if not reads:
        return
    for name, why in NOT_WITH_MEMORY.items():
        if name in said and not (name == "custom_generate" and callable(wanted[name])):
            raise InputError(f"{name} cannot be used with a memory: {why}; leave it out")
    if assistant is not None and not set(map(id, model.modules())).isdisjoint(map(id, assistant.modules())):
        raise InputError(
            "assistant_model cannot be this model's own base, whose layers are reading memory; give a copy or another"
        )
    if "prefill_chunk_size" in said and (per_layer or wanted.get("use_cache") is False):
        why = "each layer chooses what it reads by the whole prompt" if per_layer else "nothing is kept with use_cache=False"
        raise InputError(f"prefill_chunk_size cannot be used here: {why}; leave it out")


def _neutral(name: str, value: Any) -> bool:
    return name in NEUTRAL and isinstance(value, (int, float, str)) and value in NEUTRAL[name]


def _pad(wanted: dict[str, Any], default: int, vocabulary: int) -> int:
    pad = wanted.get("pad_token_id")
    if pad is None:
        return default
    if not _is_whole(pad) or not 0 <= pad < vocabulary:
        raise InputError(f"pad_token_id must lie in 0..{vocabulary - 1}, as it is looked up; got {pad!r}")
    return int(pad)


# -- lengths -----------------------------------------------------------------------------------------------------------


def _lengths(own: Any, given: dict[str, Any], files: Any, prompt_tokens: int, room: int, default: int) -> tuple[int, int]:
    """New tokens at most and at least."""
    caller = [given, {} if own is None else vars(own)]
    for source in caller:
        for name in LENGTHS:
            if source.get(name) is not None and not _is_whole(source[name]):
                raise InputError(f"{name} must be a whole number, got {source[name]!r}")
    most = next((count for source in caller if (count := _count(source, "max", prompt_tokens)) is not None), None)
    if most is not None and most < 1:
        raise InputError(
            f"nothing to generate: {prompt_tokens} prompt tokens leave room for {most} new ones; raise max_new_tokens or max_length"
        )
    if most is None:
        most = _default_length(_count(vars(files), "max", prompt_tokens), room, default)
    least = next((count for source in (*caller, vars(files)) if (count := _count(source, "min", prompt_tokens)) is not None), 0)
    if least > most:
        log.warning("at least %d new tokens were asked for, at most %d are made", least, most)
    return most, max(0, min(least, most))


def _default_length(stated: int | None, room: int, default: int) -> int:
    """A length that no caller gave: what the model's files state, else the default; as much of it as there is room for."""
    count = default if stated is None or stated < 1 else stated
    if count > room:
        log.info("%d new tokens do not fit the model's positions: at most %d are made", count, room)
    return max(1, min(count, room))


def _count(source: Mapping[str, Any], end: str, prompt_tokens: int) -> int | None:
    """New tokens that one source asks for."""
    if source.get(f"{end}_new_tokens") is not None:
        return int(source[f"{end}_new_tokens"])
    whole = source.get(f"{end}_length")
    return None if whole is None else int(whole) - prompt_tokens


def _is_whole(value: Any) -> bool:
    return hasattr(value, "__index__") and not isinstance(value, bool)
