"""An M+ model for EleutherAI's lm-evaluation-harness, registered there as "mplus". Knows requests, no task.

    python -m mplus.evaluation.integrations.lm_eval --model_args context=memory --tasks TASK --output_path DIR

The library (extra ``eval``) is imported by ``register`` and ``main`` only.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import groupby
from typing import Any, Final

import torch
from torch import Tensor
from tqdm.auto import tqdm
from transformers import StoppingCriteriaList

from mplus.errors import InputError, MPlusError
from mplus.evaluation.integrations.stopping import Stop, before, settings_of
from mplus.evaluation.systems.protocol import as_chat
from mplus.model import MPlusModel
from mplus.runtime.extras import require
from mplus.text.chat_template import templated
from mplus.text.prompts import encode

log = logging.getLogger(__name__)

NAME: Final = "mplus"
CONTEXTS: Final = ("prompt", "memory")
SPARE_TOKENS: Final = 8
"""Left free behind a prompt that was cut: tokens of two parts of a text may be more than those of both."""
BLANK_LINE: Final = re.compile(r"\n\s*\n")


@dataclass(frozen=True)
class Ask:
    """A request, ready to be asked.

    Attributes:
        place: in the list of requests.
        written: text that goes into the memory, or none.
        prompt: token ids of the rest of the context, at least one.
        rest: token ids of the continuation to be scored.
        settings: what ``generate`` is told.
    """

    place: int
    written: str
    prompt: list[int]
    rest: list[int] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)


def last_part(context: str) -> int:
    """Position of a context's last paragraph: behind its last blank line, without one behind its last line break, else 0."""
    body = context.rstrip()
    blanks = [found.end() for found in BLANK_LINE.finditer(body)]
    start = blanks[-1] if blanks else body.rfind("\n") + 1
    return start if context[:start].strip() else 0


class HarnessModel:
    """All of the registered class but its base, which ``register`` adds.

    Args:
        pretrained: name, directory or hub id, or an open model.
        context: "prompt": all of a context stands in the prompt of the bare base; "memory": all but its last part is read from memory.
        keep_tokens: with "memory", so many last tokens of a context stay in the prompt instead of its last paragraph.
        chat: the prompt is a user's message in the model's chat template; answers lose white space around them.
        batch_size: prompts in one pass.
        max_length: positions to use at most; default: the model's.
        device: CUDA, which the harness asks for by itself, only where there is any.
        dtype: as in ``MPlusModel.from_pretrained``.
        max_batch_size: ignored; the harness gives it.

    Raises:
        InputError: an argument is wrong; it is named.
    """

    cache_hook: Any

    def __init__(
        self,
        pretrained: str | MPlusModel = "smollm2-135m",
        context: str = "prompt",
        keep_tokens: int | None = None,
        chat: bool = False,
        batch_size: int | str = 1,
        max_length: int | None = None,
        device: str | None = None,
        dtype: str = "auto",
        max_batch_size: int | None = None,
    ) -> None:
        super().__init__()
        if context not in CONTEXTS:
            raise InputError(f"context is '{context}', expected one of: {', '.join(CONTEXTS)}")
        if keep_tokens is not None and context != "memory":
            raise InputError(
                f"keep_tokens={keep_tokens} has no meaning with context={context}; add context=memory or leave it out"
            )
        self.in_memory, self.chat = context == "memory", bool(chat)
        self.keep_tokens = None if keep_tokens is None else _number("keep_tokens", keep_tokens)
        self.batch_size = _number("batch_size", batch_size)
        self.model = pretrained if isinstance(pretrained, MPlusModel) else _opened(pretrained, device, dtype)
        self._device = self.model.device
        positions = self.model.parts.decoder.positions
        self.max_length = positions if max_length is None else min(positions, _number("max_length", max_length))

    # -- what the harness calls ------------------------------------------------------------------------------------

    def loglikelihood(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """Log-probability of each continuation, and whether greedy decoding would say it."""
        asks = [self._scored(place, *request.args) for place, request in enumerate(requests)]
        found: list[tuple[float, bool]] = [(0.0, False)] * len(asks)
        for memory, batch in self._batches(asks, disable_tqdm):
            scores = self.model.log_likelihood([ask.prompt for ask in batch], [ask.rest for ask in batch], memory)
            for ask, score in zip(batch, scores, strict=True):
                # what is likelier than everything else together needs no second look
                greedy = bool(score.min() > torch.tensor(0.5).log()) or self._says(ask, memory)
                found[ask.place] = (float(score.sum()), greedy)
                self.cache_hook.add_partial("loglikelihood", requests[ask.place].args, found[ask.place])
        return found

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
        """Log-probability of whole texts: each window behind a token or, with a memory, behind all that came before it."""
        found = []
        for request in tqdm(requests, disable=disable_tqdm or None):
            ids = self._encode(request.args[0])
            pieces = self._rolling_memory(ids) if self.in_memory else self._rolling_prompt(ids)
            found.append(sum(pieces, 0.0))
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, found[-1])
        return found

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """Generate an answer to each context, up to the first stop text."""
        asks = []
        for place, request in enumerate(requests):
            context, settings = request.args[0], settings_of(request.args[1])
            written, prompt = self._asked(context, settings["max_new_tokens"])
            asks.append(Ask(place, written, prompt, settings=settings))
        found = [""] * len(asks)
        for memory, batch in self._batches(asks, disable_tqdm):
            for ask, said in zip(batch, self._said(batch, memory), strict=True):
                found[ask.place] = said
                self.cache_hook.add_partial("generate_until", requests[ask.place].args, said)
        return found

    @property
    def tokenizer_name(self) -> str:
        """Names requests that the harness keeps."""
        return str(self.model.name)

    def apply_chat_template(self, chat_history: Any, add_generation_prompt: bool = True) -> str:
        """Refused: a template around all of a context would be cut apart."""
        raise InputError("--apply_chat_template is not supported by model 'mplus'; use --model_args chat=true")

    # -- what of a context is written, and what is asked -----------------------------------------------------------

    def _scored(self, place: int, context: str, continuation: str) -> Ask:
        if not self.chat:  # a space belongs to the word behind it
            spaces = len(context) - len(context.rstrip())
            context, continuation = context[: len(context) - spaces], context[len(context) - spaces :] + continuation
        written, kept = self._split(context)
        if not kept:
            ids = self._encode(continuation)
            ids = ids if ids[:1] == [self._first_token()] else [self._first_token(), *ids]
            return Ask(place, written, ids[:1], ids[1:])
        rest = self._encode(continuation) if self.chat else self._encode(kept + continuation)[len(self._encode(kept)) :]
        written, prompt = self._asked(context, len(rest))
        return Ask(place, written, prompt, rest)

    def _asked(self, context: str, new_tokens: int) -> tuple[str, list[int]]:
        """Split a context into the text that is written and the prompt that leaves room for so many tokens."""
        written, kept = self._split(context)
        prompt = self._prompt(kept, written)
        room = self.max_length - new_tokens - (self._read_tokens() if self.in_memory else 0)
        if len(prompt) > room:
            own = len(self._encode(kept))
            start = self._last_tokens(kept, max(1, own - (len(prompt) - room) - SPARE_TOKENS))
            fate = "are read from memory" if self.in_memory else "are left out"
            log.warning("%d tokens leave no room for %d: the first %d characters %s", len(prompt), new_tokens, start, fate)
            written, kept = written + kept[:start] if self.in_memory else "", kept[start:]
            prompt = self._prompt(kept, written)
        return written, prompt

    def _split(self, context: str) -> tuple[str, str]:
        """The text for the memory, and the text for the prompt."""
        if not self.in_memory:
            return "", context
        at = last_part(context) if self.keep_tokens is None else self._last_tokens(context, self.keep_tokens)
        return context[:at], context[at:]

    def _last_tokens(self, text: str, count: int) -> int:
        """Position at which the last `count` tokens of a text begin."""
        if not getattr(self.model.tokenizer, "is_fast", False):
            raise InputError(
                f"the tokenizer of model '{self.model.name}' cannot tell where a token begins; leave keep_tokens out"
            )
        encoded = self.model.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        offsets = encoded["offset_mapping"]
        return int(offsets[-count][0]) if len(offsets) > count else 0

    def _prompt(self, kept: str, written: str) -> list[int]:
        tokenizer = self.model.tokenizer
        text = templated(tokenizer, as_chat(kept)) if self.chat else kept
        has_bos = self.chat or bool(tokenizer.bos_token and kept.startswith(tokenizer.bos_token))
        return encode(tokenizer, text, templated=has_bos, behind_memory=bool(written)) or [self._first_token()]

    def _encode(self, text: str) -> list[int]:
        return list(self.model.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    def _first_token(self) -> int:
        """Token that stands before the first one of a text."""
        tokenizer, config = self.model.tokenizer, self.model.parts.decoder.config
        known = (tokenizer.bos_token_id, tokenizer.eos_token_id, config.bos_token_id, config.eos_token_id)
        found = next((one for one in known if one is not None), 0)
        return int(found[0] if isinstance(found, list) else found)

    def _read_tokens(self) -> int:
        """Most tokens that stand before a prompt which reads a memory."""
        geometry = self.model.geometry
        return int(1 + geometry.sizes.stm_tokens + geometry.sizes.ltm_read_tokens + geometry.sizes.min_write_tokens)

    # -- asking ----------------------------------------------------------------------------------------------------

    def _batches(self, asks: list[Ask], quiet: bool) -> Iterator[tuple[Any, list[Ask]]]:
        """Requests in batches, each with the memory they read; those that share the written text share one memory."""

        def alike(ask: Ask) -> tuple[str, str]:
            return ask.written, repr(ask.settings)

        with tqdm(total=len(asks), disable=quiet or None) as bar:
            for written, sharing in groupby(sorted(asks, key=alike), key=lambda ask: ask.written):
                memory = self._read(written)
                for _, same in groupby(sharing, key=alike):
                    group = list(same)
                    for start in range(0, len(group), self.batch_size):
                        batch = group[start : start + self.batch_size]
                        yield memory, batch
                        bar.update(len(batch))

    def _read(self, written: str) -> Any:
        """A memory of a text; None, the bare base, where there is none."""
        if not written:
            return None
        memory = self.model.new_memory()
        log.info("wrote %d tokens into a memory", memory.write(written))
        return memory

    def _says(self, ask: Ask, memory: Any) -> bool:
        """Tell whether greedy decoding gives this continuation; asked token by token, up to the first other one."""
        wanted = torch.tensor(ask.rest, device=self.model.device)

        def wrong(said: Tensor) -> list[bool]:
            return [not torch.equal(row, wanted[: len(row)]) for row in said]

        ids = torch.tensor([ask.prompt], device=self.model.device)
        out = self.model.generate(
            ids, memory, max_new_tokens=len(wanted), do_sample=False, stopping_criteria=StoppingCriteriaList([Stop(wrong)])
        )
        return torch.equal(out[0, len(ask.prompt) :], wanted)

    def _said(self, batch: list[Ask], memory: Any) -> list[str]:
        """Answers to prompts with the same settings."""
        settings = dict(batch[0].settings)
        until: list[str] = settings.pop("until")
        tokenizer, device = self.model.tokenizer, self.model.device

        def texts(said: Tensor) -> list[str]:
            return [str(text) for text in tokenizer.batch_decode(said, skip_special_tokens=True)]

        def done(said: Tensor) -> list[bool]:
            return [any(stop in text for stop in until) for text in texts(said)]

        width = max(len(ask.prompt) for ask in batch)
        rows = [[0] * (width - len(ask.prompt)) + ask.prompt for ask in batch]
        mask = [[0] * (width - len(ask.prompt)) + [1] * len(ask.prompt) for ask in batch]
        stops = StoppingCriteriaList([Stop(done)] if until else [])
        ids, seen = torch.tensor(rows, device=device), torch.tensor(mask, device=device)
        out = self.model.generate(ids, memory, attention_mask=seen, stopping_criteria=stops, **settings)
        answers = [before(text, until) for text in texts(out[:, width:])]
        return [answer.strip() for answer in answers] if self.chat else answers

    # -- whole texts -----------------------------------------------------------------------------------------------

    def _rolling_prompt(self, ids: list[int]) -> Iterator[float]:
        """Windows as the harness makes them: each token once, behind the tokens of its window."""
        utils = _lm_eval("utils")
        size = self.max_length - 1  # the model counts the last token too, whose successor nobody asks for
        for window in utils.get_rolling_token_windows(ids, self._first_token(), size, 1):
            before, rest = utils.make_disjoint_window(window)
            yield float(self.model.log_likelihood([before], [rest])[0].sum())

    def _rolling_memory(self, ids: list[int]) -> Iterator[float]:
        """Pieces of one chunk behind ``keep_tokens`` (default: a chunk) in the prompt and everything earlier in memory."""
        size = self.model.geometry.sizes.chunk_tokens
        keep, memory, done = self.keep_tokens or size, self.model.new_memory(), 0
        for start in range(0, len(ids), size):
            cut = max(0, start - keep)
            if cut > done:
                memory.write(ids[done:cut])
                done = cut
            before = ids[cut:start] if cut else [self._first_token(), *ids[:start]]
            rest = ids[start : start + size]
            yield float(self.model.log_likelihood([before], [rest], memory if cut else None)[0].sum())


def _opened(pretrained: str, device: str | None, dtype: str) -> MPlusModel:
    if device is not None and device.startswith("cuda") and not torch.cuda.is_available():
        log.warning("no CUDA here: device %s is not used", device)
        device = None
    return MPlusModel.from_pretrained(pretrained, device=device, dtype=dtype)


def _number(name: str, value: Any) -> int:
    """A number of at least one."""
    if not str(value).isdecimal() or int(value) < 1:
        raise InputError(f"{name} is {value!r}, expected a whole number of at least 1")
    return int(value)


# -- the library -------------------------------------------------------------------------------------------------------


def _lm_eval(module: str) -> Any:
    """One of lm-eval's modules."""
    return require(f"lm_eval.{module}", "the harness adapter")


@cache
def register() -> Any:
    """Make "mplus" known to the harness; gives the class, which is made once.

    Raises:
        InputError: the library is not installed.
    """
    made = type("MPlusLM", (HarnessModel, _lm_eval("api.model").LM), {"__doc__": HarnessModel.__doc__, "__module__": __name__})
    return _lm_eval("api.registry").register_model(NAME)(made)


def main(arguments: Sequence[str] | None = None) -> int:
    """The harness' own command with the model registered and chosen; gives the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] not in (["ls"], ["validate"]):
        given = ["run", "--model", NAME, *(given[1:] if given[:1] == ["run"] else given)]
    before, sys.argv = sys.argv, ["mplus.evaluation.integrations.lm_eval", *given]  # the command reads nothing else
    try:
        register()
        _lm_eval("__main__").cli_evaluate()
    except MPlusError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    finally:
        sys.argv = before
    return 0


if __name__ == "__main__":
    sys.exit(main())
