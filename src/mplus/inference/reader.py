"""The reading half of a model: prompts behind memory, forward passes, generation, likelihood. Knows no layer internals.

Legend: B prompts, T prompt tokens, C continuation tokens, V vocabulary, L layers, D width.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mplus.attach.attention import grouped_on_cpu
from mplus.attach.hooks import Hooks
from mplus.attach.read_pass import Reading
from mplus.attach.sweep import sweep
from mplus.errors import EmptyTextError, InputError
from mplus.inference.generation import CHAT_TOKENS, DEFAULT_TOKENS, RESERVED_TOKENS, resolve
from mplus.inference.likelihood import log_likelihood
from mplus.inference.own_view import OwnView, refusals
from mplus.inference.request import Request, memories_of
from mplus.inference.tracing import Tracing, Wish, traced
from mplus.inference.writer import Writer
from mplus.memory.budget import MemoryBudget, explain_out_of_memory
from mplus.memory.memory import Memory
from mplus.retrieval.result import Retrieved
from mplus.runtime.turns import in_order
from mplus.text.chat_template import conversations_of, templated
from mplus.text.prompts import Prompts, check_ids, encode, ids_of, separator, texts_of, without_bos
from mplus.text.search_query import Query, last_user_messages


@dataclass
class MPlusOutput:
    """Result of one forward pass.

    Attributes:
        logits: [B, T, V].
        retrieved: per prompt, what was drawn from long-term memory; None unless asked for.
        hidden_states: tuple of L + 1 tensors [B, T, D]; None unless asked for.
    """

    logits: Tensor
    retrieved: list[Retrieved] | None = None
    hidden_states: tuple[Tensor, ...] | None = None


class Reader:
    """Reads memories with the model of a writer: every pass of prompts goes through ``request`` and ``open``."""

    def __init__(self, writer: Writer) -> None:
        self.writer, self.checkpoint, self.parts = writer, writer.checkpoint, writer.parts

    # -- a read ----------------------------------------------------------------------------------------------------

    @contextmanager
    def request(
        self, prompts: Prompts, memory: Any, *, query: Any = None, rounds: int = 1, separate: bool = False
    ) -> Iterator[Request]:
        """Prompts behind memories; inside nobody writes these, nobody else uses the model, and nothing of an earlier pass is left on.

        Args:
            memory: one for all prompts, one each, several for one prompt; None: the bare base.
            query, rounds: see ``Query.of``.
            separate: text that waits is set apart from the prompts.
        """
        memories, tokenizer = memories_of(memory, len(prompts), self.writer), self.checkpoint.tokenizer
        if len(memories) > len(prompts):
            prompts = prompts.repeated(len(memories))
        with in_order(memory.turn for memory in memories if isinstance(memory, Memory)), self.writer.turn.held():
            sweep(self.parts)
            own, searching = prompts.ids, None
            if memories:
                prompts = prompts.behind_memory(tokenizer, self._bos_id)
                searching = Query.of(tokenizer, prompts, query, rounds=rounds)
            waiting = [memory.pending_ids if isinstance(memory, Memory) else [] for memory in memories]
            if separate and any(waiting):
                waiting = [[*part, *separator(tokenizer, part, row)] for part, row in zip(waiting, prompts.rows(), strict=True)]
            yield Request(memories, prompts.after(waiting, self.pad_id), own, searching, tokenizer, self.pad_id)

    @contextmanager
    def open(
        self, request: Request, *, new_tokens: int = 0, exact: bool = False, storing: bool = True
    ) -> Iterator[tuple[Reading | None, dict[str, Any]]]:
        """Hooks on; yields the reading (None: the bare base) and the arguments the decoder needs.

        Args:
            new_tokens: that will stand behind the prompts.
            exact, storing: see ``Reading``.

        Raises:
            PromptTooLongError: the model has not as many positions.
        """
        request.check_positions(new_tokens, self.parts.decoder)
        parts, prompts = self.parts, request.prompts
        if not request.memories:
            with parts.adapters.on(None):
                yield None, {"attention_mask": prompts.mask.long()}
            return
        room = request.tokens + min(new_tokens, RESERVED_TOKENS)
        with self.for_reading(request, room):
            reading = self.reading(request, room=room, storing=storing, exact=exact)
            kwargs = reading.prefix_pass.arguments
            if new_tokens:  # positions grow with them: generation and likelihood count for themselves
                del kwargs["position_ids"], kwargs["use_cache"]
            with parts.adapters.on(reading.adapter), Hooks() as hooks:
                reading.install(hooks)
                yield reading, kwargs

    @contextmanager
    def for_reading(self, request: Request, room: int) -> Iterator[None]:
        """Compute as a read does: no gradient, grouped attention, one sentence where keys and values find no room."""
        with (
            explain_out_of_memory(lambda free: self._no_room(request, room, free), self.writer.device),
            torch.no_grad(),
            grouped_on_cpu(self.parts.decoder),
        ):
            yield

    def reading(self, request: Request, *, room: int, storing: bool = True, exact: bool = False) -> Reading:
        """Search the memories of a request, where one search serves all layers; nothing is installed yet.

        Args:
            room, storing, exact: see ``Reading``.
        """
        ids, mask = request.prompts.ids, request.prompts.mask
        return Reading(
            self.parts,
            self.checkpoint.geometry,
            request.memories,
            ids,
            mask,
            room=room,
            storing=storing,
            exact=exact,
            query=request.query,
        )

    def forward(
        self,
        prompts: Prompts,
        memory: Any,
        *,
        return_retrieved: bool,
        output_hidden_states: bool,
        exact: bool,
        query: Any,
        rounds: int = 1,
    ) -> MPlusOutput:
        """See ``MPlusModel.__call__``."""
        decoder, states = self.parts.decoder, list[Tensor]()
        with (
            self.request(prompts, memory, query=query, rounds=rounds) as request,
            torch.no_grad(),
            self.open(request, exact=exact) as (reading, kwargs),
            Hooks() as hooks,
        ):
            if output_hidden_states:  # by hooks of our own: those of transformers would stay on the model
                hooks.on_states(decoder, states.append)
            out = decoder.model(input_ids=request.prompts.ids, **{"use_cache": reading is not None, **kwargs})
            if reading is not None:
                reading.release()
        own = slice(-request.own_tokens, None)
        return MPlusOutput(
            out.logits[:, own],
            reading.retrieved() if reading is not None and return_retrieved else None,
            tuple(part[:, own] for part in states) if output_hidden_states else None,
        )

    def log_likelihood(
        self, prompts: Sequence[Any], continuations: Sequence[Any], memory: Any = None, *, query: Any = None, rounds: int = 1
    ) -> list[Tensor]:
        """See ``MPlusModel.log_likelihood``."""
        if len(prompts) != len(continuations) or not len(prompts) or not all(map(len, prompts)):
            raise InputError(f"{len(continuations)} continuations for {len(prompts)} prompts; give one each, none of them empty")
        before, behind = ([self._row(row) for row in rows] for rows in (prompts, continuations))
        if not all(behind):
            raise EmptyTextError("a continuation is empty; give at least one token whose likelihood is asked for")
        if memory is not None:
            before = [without_bos(self.checkpoint.tokenizer, row, self._bos_id) for row in before]
        with self.request(self._padded(before), memory, query=query, rounds=rounds) as request:
            behind = behind * (len(request.prompts) // len(behind))  # several memories for one prompt
            with self.open(request, new_tokens=max(map(len, behind))) as (reading, kwargs):
                return log_likelihood(self.parts.decoder, request.prompts, behind, reading, kwargs)

    # -- generation ------------------------------------------------------------------------------------------------

    def generate(self, prompt: Any, memory: Any, kwargs: dict[str, Any]) -> Any:
        """See ``MPlusModel.generate``."""
        for name in ("input_ids", "inputs"):  # as in ``generate(**tokenizer(...))``
            if kwargs.get(name) is not None:
                if prompt is not None:
                    raise InputError(f"the prompt was given twice, as the first argument and as {name}; give one")
                prompt = kwargs[name]
            kwargs.pop(name, None)
        texts = texts_of(prompt)
        if texts is None:
            for name in ("trace", "confidence", "min_confidence"):
                if kwargs.pop(name, None) not in (None, False):
                    raise InputError(f"{name} is of answers as text; give the prompt as text, not as token ids")
            return self._generated(self.prompts_of(prompt, kwargs.pop("attention_mask", None)), memory, kwargs)
        answers = self._answers(texts, memory, kwargs)
        return answers[0] if isinstance(prompt, str) and len(answers) == 1 else answers

    def chat(self, messages: Any, memory: Any, template: Mapping[str, Any] | None, kwargs: dict[str, Any]) -> Any:
        """See ``MPlusModel.chat``."""
        conversations, several = conversations_of(messages)
        texts = self._templated(conversations, template)
        if kwargs.get("query") is None:
            kwargs["query"] = self._query_of(conversations)
        answers = self._answers(texts, memory, kwargs, of_template=True)
        return answers if several or len(answers) != 1 else answers[0]

    def chat_row(self, messages: Any, *, behind_memory: bool) -> tuple[list[int], list[list[int]] | None]:
        """Token ids of one conversation's prompt, and of what searches memory for it (None: tokens of the prompt); from any thread.

        Raises:
            EmptyTextError, InputError: see ``MPlusModel.chat``.
        """
        conversations, several = conversations_of(messages)
        if several or len(conversations) != 1:
            raise InputError(f"{len(conversations)} conversations where one is expected; give one list of messages")
        texts = self._templated(conversations, None)
        (row,) = self.text_rows(texts, behind_memory=behind_memory, of_template=True)
        return row, self._query_of(conversations)

    def _templated(self, conversations: Sequence[Any], template: Mapping[str, Any] | None) -> list[str]:
        tokenizer = self.checkpoint.tokenizer
        if tokenizer is None or (tokenizer.chat_template is None and not (template and "chat_template" in template)):
            raise InputError(f"model {self.writer.name!r} has no chat template; use generate with a prompt of your own")
        return [templated(tokenizer, conversation, template) for conversation in conversations]

    def _query_of(self, conversations: Sequence[Any]) -> list[list[int]] | None:
        """The tokens that search for conversations; None: tokens of the prompt do."""
        if not self.checkpoint.geometry.read.is_shared:
            return None
        return last_user_messages(self.checkpoint.tokenizer, conversations)

    def text_rows(self, texts: Sequence[str], *, behind_memory: bool, of_template: bool = False) -> list[list[int]]:
        """Token ids of prompts of text, checked; from any thread.

        Raises:
            EmptyTextError, InputError: see ``MPlusModel.generate``.
        """
        tokenizer = self.checkpoint.tokenizer
        if tokenizer is None:
            raise InputError("this model was opened without a tokenizer; give token ids instead of text")
        rows = [encode(tokenizer, text, templated=of_template, behind_memory=behind_memory) for text in texts]
        for text, row in zip(texts, rows, strict=True):
            if not row:
                raise EmptyTextError(f"nothing to answer: the prompt {text!r} is empty; ask something")
            check_ids(row, self.writer.vocabulary, tokenizer)
        return rows

    def _answers(self, texts: list[str], memory: Any, kwargs: dict[str, Any], *, of_template: bool = False) -> list[Any]:
        """Continuations of texts, those of a template without white space around them; with ``trace`` as ``Answer``."""
        tokenizer = self.checkpoint.tokenizer
        if tokenizer is None:
            raise InputError("this model was opened without a tokenizer; give token ids instead of text")
        for name, why in (("attention_mask", "it belongs to token ids"), ("return_dict_in_generate", "it gives token ids")):
            if (value := kwargs.pop(name, None)) is not None and value is not False:
                raise InputError(f"{name} cannot be used with prompts of text: {why}; give generate the prompt as token ids")
        rows = self.text_rows(texts, behind_memory=memory is not None, of_template=of_template)
        wish = Wish.of(kwargs, memory, self.checkpoint.calibration)
        tracing = None if wish is None else Tracing(wish, self.checkpoint.calibration, tokenizer)
        prompts = self._padded(rows)
        default = CHAT_TOKENS if of_template else DEFAULT_TOKENS
        result = self._generated(prompts, memory, kwargs, texts=True, default_tokens=default, tracing=tracing)
        sequences = result if isinstance(result, Tensor) else result.sequences
        answers: list[str] = tokenizer.batch_decode(sequences[:, prompts.ids.shape[1] :], skip_special_tokens=True)
        if of_template:
            answers = [answer.strip() for answer in answers]
        return answers if tracing is None else tracing.answers(answers)

    def _generated(
        self,
        prompts: Prompts,
        memory: Any,
        kwargs: dict[str, Any],
        *,
        texts: bool = False,
        default_tokens: int = DEFAULT_TOKENS,
        tracing: Tracing | None = None,
    ) -> Any:
        """The result of transformers, prompts as they were given included."""
        retrieved: list[Retrieved] | None = kwargs.pop("retrieved", None)
        if retrieved is not None and not isinstance(retrieved, list):
            raise InputError(f"retrieved must be a list, to which what was read is appended; got {type(retrieved).__name__}")
        exact, query, rounds = bool(kwargs.pop("exact", False)), kwargs.pop("query", None), kwargs.pop("rounds", 1)
        decoder: Any = self.parts.decoder.model
        with self.request(prompts, memory, query=query, rounds=rounds, separate=texts) as request:
            per_layer = not self.checkpoint.geometry.read.is_shared
            settings = resolve(kwargs, request, self.parts.decoder, per_layer=per_layer, default_tokens=default_tokens)
            view, waits = OwnView(request.own, request.tokens), request.tokens > request.own_tokens
            arguments = view.applied(settings.arguments) if waits else settings.arguments
            with self.open(request, new_tokens=settings.new_tokens, exact=exact, storing=settings.storing) as (reading, own):
                with traced(tracing, reading, settings), refusals():
                    result = decoder.generate(request.prompts.ids, **own, **arguments)
                if reading is not None and isinstance(result, Tensor):  # else the caller may hold the cache
                    reading.release()
            if retrieved is not None and reading is not None:
                retrieved += reading.retrieved()
            return view.of_result(result) if waits else result

    # -- arguments -------------------------------------------------------------------------------------------------

    def prompts_of(self, prompt: Any, mask: Any = None) -> Prompts:
        """Prompts that were given as token ids."""
        ids, mask = ids_of(prompt, mask)
        writer = self.writer
        return Prompts.from_ids(
            ids, mask, writer.device, writer.vocabulary, pad_id=self.pad_id, tokenizer=self.checkpoint.tokenizer
        )

    def _padded(self, rows: list[list[int]]) -> Prompts:
        return Prompts.from_rows(rows, self.pad_id, self.writer.device)

    def _row(self, ids: Any) -> list[int]:
        """Token ids of one text, checked; an empty row is left to the caller."""
        if texts_of(ids) is not None:
            raise InputError("log_likelihood takes token ids, not text; tokenise prompts and continuations first")
        if not len(ids):
            return []
        row: list[int] = ids_of(ids)[0].flatten().tolist()
        check_ids(row, self.writer.vocabulary, self.checkpoint.tokenizer)
        return row

    def _no_room(self, request: Request, tokens: int, free: int | None) -> str:
        """The sentence for keys and values of prompts that find no memory."""
        decoder = self.parts.decoder
        held = next((memory for memory in request.memories if isinstance(memory, Memory)), None)
        geometry = self.checkpoint.geometry if held is None else held.geometry
        layout = self.writer.layout(self.writer.memory_format, geometry) if held is None else held.layout
        return MemoryBudget.of(layout, geometry, 2 * decoder.kv_heads * decoder.head_width).for_prompts(
            len(request.memories), free, tokens
        )

    @property
    def pad_id(self) -> int:
        """A token to pad with that the embedding table has."""
        known = (getattr(self.checkpoint.tokenizer, "pad_token_id", None), self.parts.decoder.config.eos_token_id)
        pads = [one[0] if isinstance(one, list) else one for one in known if one is not None]
        return next((int(pad) for pad in pads if 0 <= pad < self.writer.vocabulary), 0)

    @property
    def _bos_id(self) -> int | None:
        """The token that memory's own BOS stands for."""
        holder = self.parts.decoder.config if self.checkpoint.tokenizer is None else self.checkpoint.tokenizer
        bos = getattr(holder, "bos_token_id", None)
        first = bos[0] if isinstance(bos, list) else bos
        return None if first is None else int(first)
