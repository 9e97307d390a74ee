"""A caller's view of generation: its own prompts, own callbacks, and refusals of transformers in one sentence. Knows no memory.

Legend: B prompts, T tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessorList, StoppingCriteriaList

from mplus.errors import InputError, MPlusError


@contextmanager
def refusals() -> Iterator[None]:
    """Say in one sentence what transformers refuses about the settings; errors of any other place go through."""
    try:
        yield
    except MPlusError:
        raise
    except (ValueError, TypeError, LookupError, AttributeError, NotImplementedError, ImportError) as error:
        if not _of_generation(error):
            raise
        said = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"transformers cannot generate with these settings: {said:.400}") from error


def _of_generation(error: BaseException) -> bool:
    """Tell whether an error was raised by the generation of transformers itself, and by no model, callback or hook."""
    trace, name = error.__traceback__, ""
    while trace is not None:
        name, trace = str(trace.tb_frame.f_globals.get("__name__", "")), trace.tb_next
    return name.startswith(("transformers.generation", "transformers.utils"))


@dataclass(frozen=True)
class OwnView:
    """A caller's view of ids [B, T]: the prompts as given and the tokens behind them, not the waiting text before them.

    Attributes:
        prompts: ids [B, T] as given.
        columns: of waiting text and prompt in the table that transformers keeps.
    """

    prompts: Tensor
    columns: int

    def of(self, ids: Tensor) -> Tensor:
        """Beams and samples of one prompt are rows beside each other."""
        mine = self.prompts.to(ids.device).repeat_interleave(ids.shape[0] // self.prompts.shape[0], 0)
        return torch.cat([mine, ids[:, self.columns :]], 1)

    def applied(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """Arguments whose streamer, processors, criteria and token filter see this view."""
        out = dict(arguments)
        if out.get("streamer") is not None:
            out["streamer"] = OwnStreamer(out["streamer"], self)
        for name, kind in (("logits_processor", LogitsProcessorList), ("stopping_criteria", StoppingCriteriaList)):
            if out.get(name):
                out[name] = kind(partial(self._shown, one) for one in out[name])
        if out.get("prefix_allowed_tokens_fn") is not None:
            allowed = out["prefix_allowed_tokens_fn"]
            out["prefix_allowed_tokens_fn"] = lambda row, ids: allowed(
                row, torch.cat([self.prompts[row].to(ids.device), ids[self.columns :]])
            )
        return out

    def _shown(self, callback: Any, ids: Tensor, *others: Any, **kwargs: Any) -> Any:
        """A processor's or criterion's word on the caller's own ids."""
        return callback(self.of(ids), *others, **kwargs)

    def of_result(self, result: Any) -> Any:
        """The result of transformers' ``generate``, ids or an output that holds them, in this view."""
        if isinstance(result, Tensor):
            return self.of(result)
        result["sequences"] = self.of(result["sequences"])
        return result


class OwnStreamer:
    """A streamer that is shown the prompts as they were given.

    Args:
        streamer: transformers' ``BaseStreamer`` or anything with ``put`` and ``end``.
    """

    def __init__(self, streamer: Any, view: OwnView) -> None:
        self.streamer = streamer
        self.view: OwnView | None = view

    def put(self, value: Tensor) -> None:
        """The first call brings the prompts, every later one new tokens."""
        self.streamer.put(value if self.view is None else self.view.of(value))
        self.view = None

    def end(self) -> None:
        """Generation is over."""
        self.streamer.end()
