"""The public model: a decoder that keeps what it has read in latent memory. Knows no file format and no layer internals.

Legend: B prompts, T prompt tokens, V vocabulary, L layers, D width, R retriever key width.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.utils.generic import ModelOutput

from mplus.attach.attention import grouped_on_cpu
from mplus.attach.cache import passed
from mplus.attach.find import planned_tokens
from mplus.attach.hooks import Hooks
from mplus.attach.read import Reading, Retrieved
from mplus.checkpoints import opening
from mplus.checkpoints.report import LoadReport
from mplus.checkpoints.storing import save_own
from mplus.config import Geometry, MemoryFormat
from mplus.errors import EmptyTextError, InputError, PromptTooLongError
from mplus.host import MemoryHost
from mplus.likelihood import log_likelihood
from mplus.memory.memory import Memory
from mplus.memory.room import Room, told
from mplus.memory.rows import Written
from mplus.prompts import OwnPrompt, Prompts, check_messages, is_texts, tokens_to_make
from mplus.search_query import Query, asked_alone

log = logging.getLogger(__name__)


Readable = Memory | Written
Messages = Sequence[dict[str, str]]


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


class MPlusModel(MemoryHost):
    """A language model with M+ memory. The model never changes; memories are values of their own.

    >>> model = MPlusModel.from_pretrained("smollm2-135m")
    >>> memory = model.new_memory()
    >>> memory.write(open("book.txt").read(), source="book.txt")
    >>> model.chat([{"role": "user", "content": "Who looks after the lighthouse?"}], memory=memory)
    """

    # -- opening and storing ---------------------------------------------------------------------------------------

    @classmethod
    def from_pretrained(
        cls,
        path_or_id: str | Path,
        *,
        dtype: str | torch.dtype = "auto",
        device: str | torch.device | None = None,
        memory_format: MemoryFormat | None = None,
        attn_implementation: str | None = None,
        **settings: Any,
    ) -> MPlusModel:
        """Open our own format, a published M+ or a published MemoryLLM checkpoint; which one is seen from its content.

        Args:
            path_or_id: name of an embedded model ("smollm2-135m"), local directory, or hub id.
            dtype: "auto" (see ``dtypes.resolve_dtype``), a name or a torch type.
            memory_format: what new memories keep per token: "kv", or "hidden" as in the paper; default: the smaller.
            attn_implementation: any of transformers' ("sdpa", "eager", "flash_attention_2", ...).
            settings: fields of ``Geometry`` to replace, e.g. ``ltm=False`` for MemoryLLM; transformers' ``torch_dtype``, ``device_map``
                (of one device), ``quantization_config``, ``revision``, ``token``, ``cache_dir``, ``local_files_only``; of a delta, ``base``
                (where its base lies) and ``allow_download`` (of the base it names).

        Raises:
            CheckpointError: missing, extra, misshapen, damaged or non-finite weights (all faults are listed).
            BaseModelMissingError: the base weights are not on this machine.
            GeometryError: a replaced field is unknown or contradicts the rest.
            InputError: an argument that is unknown or has no meaning here.
        """
        loaded = opening.open_checkpoint(path_or_id, settings=settings, dtype=dtype, device=device, attention=attn_implementation)
        return cls(loaded, memory_format=memory_format)

    @classmethod
    def from_base(
        cls,
        base: PreTrainedModel | str | Path,
        *,
        geometry: Geometry | None = None,
        tokenizer: Any = None,
        dtype: str | torch.dtype = "auto",
        device: str | torch.device | None = None,
        memory_format: MemoryFormat | None = None,
        attn_implementation: str | None = None,
        **parts: Any,
    ) -> MPlusModel:
        """Fresh memory parts on a stock decoder; it reads and finds at once, without any training.

        Args:
            base: a loaded ``...ForCausalLM`` (then give its `tokenizer`), or the name, directory or hub id of one.
            geometry: sizes and rules; default ``Geometry()``.
            parts: ``key_width`` (trainable retriever), ``voting``, ``read_lora``, ``write_lora``, ``look_lora``; see ``attach_fresh``. And
                the arguments of transformers that ``from_pretrained`` takes.

        Raises:
            UnsupportedModelError: another architecture; the message lists the supported ones.
            GeometryError: the memory does not fit the decoder's positions.
            InputError: an argument that is unknown or has no meaning here.
        """
        loaded = opening.open_base(
            base, geometry, tokenizer, parts=parts, dtype=dtype, device=device, attention=attn_implementation
        )
        return cls(loaded, memory_format=memory_format)

    def save_pretrained(self, directory: str | Path, *, include_base: bool = False) -> None:
        """Store the memory parts and the name and fingerprint of the base they belong to; or everything.

        What was there is replaced whole or not at all.
        """
        save_own(self._loaded, Path(directory), include_base=include_base)

    @property
    def load_report(self) -> LoadReport:
        """What became of every tensor of the checkpoint."""
        return self._loaded.report

    # -- reading ---------------------------------------------------------------------------------------------------

    def __call__(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        memory: Readable | Sequence[Readable] | None = None,
        *,
        return_retrieved: bool = False,
        output_hidden_states: bool = False,
        exact: bool = False,
        query: Any = None,
    ) -> MPlusOutput:
        """Logits of prompts that read `memory`.

        Args:
            input_ids: [B, T], left-padded where `attention_mask` [B, T] is 0.
            memory: one for all prompts, one each, or several for one prompt; a ``Written`` is read alone; None: the bare base.
            return_retrieved: give what each prompt drew from long-term memory.
            output_hidden_states: give what entered each layer, and the last layer's output behind the final norm.
            exact: score every long-term token; else ``Geometry.search`` says from which size on candidates are enough.
            query: what searches memory: a text, texts or token ids; default: the last user turn, see ``mplus.search_query``.
        """
        prompts = Prompts.from_ids(input_ids, attention_mask, self.device, self.vocabulary)
        own = prompts.ids.shape[1]
        memories = self._memories(memory, len(prompts))
        if len(memories) > len(prompts):
            prompts = prompts.repeated(len(memories))
        searching = Query.of(self.tokenizer, prompts, query) if memories else None
        prompts = prompts.after(_pending(memories))
        self._check_room(memories, prompts, 0)
        states: list[Tensor] = []
        with torch.no_grad(), self._reading(memories, prompts, searching, exact=exact) as (reading, kwargs), Hooks() as hooks:
            if output_hidden_states:  # by hooks of our own: those of transformers would stay on the model
                hooks.on_states(self.attached.decoder, states.append)
            out = self.attached.decoder.model(input_ids=prompts.ids, use_cache=reading is not None, **kwargs)
            if reading is not None:
                reading.release()
        return MPlusOutput(
            out.logits[:, -own:],
            reading.retrieved() if reading is not None and return_retrieved else None,
            tuple(part[:, -own:] for part in states) if output_hidden_states else None,
        )

    def generate(
        self,
        prompt: str | Sequence[str] | Sequence[int] | Tensor,
        memory: Readable | Sequence[Readable] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Continue prompts that read `memory`; takes every argument of transformers' ``generate``.

        Args:
            prompt: one text, several texts, token ids [T] or [B, T] (with ``attention_mask`` if padded on the left).
            memory: one for all prompts, one each, several for one prompt, or None for the bare base model.
            kwargs: e.g. ``max_new_tokens``, ``do_sample``, ``num_beams``, ``streamer``. Ours: ``retrieved``, a list to which is
                appended what each prompt drew from long-term memory; ``exact=True`` scores every long-term token; ``query``, a
                text, texts or token ids that search memory instead of the last user turn (``mplus.search_query``).

        Returns:
            for text, the new text (a list for several); for ids, what transformers returns, prompts included.

        Raises:
            EmptyTextError, PromptTooLongError, InputError.
        """
        prompts, single = self._prompts(prompt, kwargs.pop("attention_mask", None))
        retrieved: list[Retrieved] | None = kwargs.pop("retrieved", None)
        exact = bool(kwargs.pop("exact", False))
        own = prompts.ids.shape[1]
        memories = self._memories(memory, len(prompts))
        if len(memories) > len(prompts) == 1:
            prompts, single = prompts.repeated(len(memories)), False
        own_mask, asked = prompts.mask, kwargs.pop("query", None)
        query = Query.of(self.tokenizer, prompts, asked) if memories else None
        prompts = prompts.after(_pending(memories))
        room = tokens_to_make(kwargs, own)
        if room < 1:
            raise InputError(
                f"nothing to generate: {own} prompt tokens leave room for {room} new ones; raise max_new_tokens or max_length"
            )
        self._check_room(memories, prompts, room)
        storing = kwargs.get("use_cache", True) is not False
        decoder: Any = self.attached.decoder.model
        extra = prompts.ids.shape[1] - own
        if extra and kwargs.get("max_length") is not None:
            kwargs["max_length"] += extra
        if extra and kwargs.get("streamer") is not None:
            kwargs["streamer"] = OwnPrompt(kwargs["streamer"], extra)
        with self._reading(memories, prompts, query, room=room, storing=storing, exact=exact) as (reading, reading_kwargs):
            result = decoder.generate(prompts.ids, **{"pad_token_id": self._pad_id(), **reading_kwargs, **kwargs})
            if reading is not None and isinstance(result, Tensor):  # else the caller may hold the cache
                reading.release()
        if retrieved is not None and reading is not None:
            retrieved += reading.retrieved()
        result = self._without_pending(result, extra, own_mask)
        if not isinstance(prompt, str) and not is_texts(prompt):
            return result
        sequences = result if isinstance(result, Tensor) else result.sequences
        texts: list[str] = self.tokenizer.batch_decode(sequences[:, own:], skip_special_tokens=True)
        return texts[0] if single and len(texts) == 1 else texts

    def chat(
        self, messages: Messages | Sequence[Messages], memory: Readable | Sequence[Readable] | None = None, **kwargs: Any
    ) -> Any:
        """Answer a conversation, or several, through the tokenizer's chat template.

        Args:
            messages: ``[{"role": "user", "content": ...}, ...]`` or a list of such lists.
            kwargs: as for ``generate``.

        Returns:
            the answer without white space around it, or a list of them.
        """
        if not messages:
            raise EmptyTextError("nothing to answer: the list of messages is empty; give at least one")
        several = not isinstance(messages[0], dict)
        conversations: Any = messages if several else [messages]
        for conversation in conversations:
            check_messages(conversation)
        if self.tokenizer is None or self.tokenizer.chat_template is None:
            raise InputError(f"model {self.name!r} has no chat template; use generate with a prompt of your own")
        texts = [
            self.tokenizer.apply_chat_template(list(part), tokenize=False, add_generation_prompt=True) for part in conversations
        ]
        if self.geometry.retrieval == "shared":  # else tokens of the prompt search
            kwargs.setdefault("query", asked_alone(self.tokenizer, conversations))
        answers = [answer.strip() for answer in self.generate(texts, memory, **kwargs)]
        return answers if several or len(answers) != 1 else answers[0]

    def log_likelihood(
        self,
        prompts: Sequence[Sequence[int]],
        continuations: Sequence[Sequence[int]],
        memory: Readable | Sequence[Readable] | None = None,
        *,
        query: Any = None,
    ) -> list[Tensor]:
        """Log-probabilities [C_b] of the tokens of each continuation behind its prompt; the prompt alone chooses what is read.

        Args:
            prompts, continuations: token ids, at least one each.
            query: as for a call of the model.
        """
        if len(prompts) != len(continuations) or not prompts or not all(map(len, prompts)):
            raise InputError(f"{len(continuations)} continuations for {len(prompts)} prompts; give one each, none of them empty")
        rows = Prompts.from_rows([list(prompt) for prompt in prompts], self._pad_id(), self.device)
        memories = self._memories(memory, len(rows))
        searching = Query.of(self.tokenizer, rows, query) if memories else None
        rows = rows.after(_pending(memories))
        self._check_room(memories, rows, max(map(len, continuations)))
        return log_likelihood(self, rows, continuations, memories, searching)

    @contextmanager
    def untouched(self) -> Iterator[PreTrainedModel]:
        """The stock decoder with no adapter on, for baselines."""
        with self.attached.adapters.on(None):
            yield self.attached.decoder.model

    # -- prompts ---------------------------------------------------------------------------------------------------

    @contextmanager
    def _reading(
        self, memories: list[Readable], prompts: Prompts, query: Query | None, *, room: int = 0, **options: bool
    ) -> Iterator[tuple[Reading | None, dict[str, Any]]]:
        """Hooks on; yields the reading (`options`: ``storing``, ``exact``) and the arguments the decoder needs."""
        adapters = self.attached.adapters
        if not memories:
            with adapters.on(None):
                yield None, {"attention_mask": prompts.mask.long()}
            return
        decoder, tokens = self.attached.decoder, prompts.ids.shape[1] + room
        with (
            told(lambda free: self._no_room(memories, len(prompts), tokens, free), self.device),
            torch.no_grad(),
            grouped_on_cpu(decoder, self.attached.engine.grouped_attention),
        ):
            parts = (self.attached, self.geometry, memories, prompts.ids, prompts.mask)
            reading = Reading(*parts, room=tokens, query=query, **options)
            mask = torch.cat([reading.mask(), prompts.mask.long()], 1)
            kwargs: dict[str, Any] = {"attention_mask": mask, **passed(reading.cache())}
            if room == 0:
                kwargs["position_ids"] = (mask.cumsum(1) - 1)[:, reading.prefix :].clamp(min=0)
            with adapters.on(reading.adapter), Hooks() as hooks:
                reading.install(hooks)
                yield reading, kwargs

    def _no_room(self, memories: list[Readable], prompts: int, tokens: int, free: int | None) -> str:
        """What to say when keys and values of prompts find no memory."""
        decoder = self.attached.decoder
        held = next((memory for memory in memories if isinstance(memory, Memory)), None)
        geometry = self.geometry if held is None else held.geometry
        layout = self.layout(self.memory_format, geometry) if held is None else held.layout
        return Room.of(layout, geometry, 2 * decoder.kv_heads * decoder.head_width).for_prompts(prompts, free, tokens)

    def _memories(self, memory: Readable | Sequence[Readable] | None, prompts: int) -> list[Readable]:
        if memory is None:
            return []
        if isinstance(memory, (Memory, Written)):
            found: list[Readable] = [memory] * prompts
        else:
            found = list(memory)
            if len(found) != prompts and prompts != 1:
                raise InputError(f"{len(found)} memories for {prompts} prompts; give one memory, or one for each prompt")
            if not found:
                raise InputError(
                    "the list of memories is empty; give one memory, one for each prompt, or None for the bare model"
                )
            if len({isinstance(one, Written) for one in found}) > 1:
                raise InputError("a chunk is read alone with another adapter than a memory; read them in two batches")
        for one in found:
            if isinstance(one, Memory) and one.host is not self and one.host.fingerprint != self.fingerprint:
                raise InputError(
                    f"this memory was written by model {one.host.name!r}, this is {self.name!r}; read it with the model that wrote it"
                )
        return found

    def _prompts(self, prompt: Any, mask: Tensor | None) -> tuple[Prompts, bool]:
        if isinstance(prompt, str) or is_texts(prompt):
            if self.tokenizer is None:
                raise InputError("this model was opened without a tokenizer; give token ids instead of text")
            texts = [prompt] if isinstance(prompt, str) else list(prompt)
            return Prompts.from_texts(texts, self.tokenizer, self._pad_id(), self.device), isinstance(prompt, str)
        try:
            ids = torch.as_tensor(prompt)
        except (TypeError, ValueError, RuntimeError):
            raise InputError(f"a prompt is a text, texts, or token ids of one length; got {prompt!r:.80}") from None
        table = ids.view(1, -1) if ids.dim() == 1 else ids
        return Prompts.from_ids(table, mask, self.device, self.vocabulary), ids.dim() == 1

    def _check_room(self, memories: list[Readable], prompts: Prompts, new_tokens: int) -> None:
        slots = 1 + max(map(_slots, memories)) if memories else 0
        needed, (limit, why) = slots + prompts.ids.shape[1] + new_tokens, self.attached.decoder.limit
        if needed > limit:
            raise PromptTooLongError(
                f"the prompt has {prompts.ids.shape[1]} tokens; with {slots} memory slots and {new_tokens} new tokens that is {needed}, "
                f"the model has {limit} positions ({why}); shorten the prompt, or write the long text into memory and ask about it"
            )

    def _pad_id(self) -> int:
        pad = getattr(self.tokenizer, "pad_token_id", None)
        if pad is None:
            pad = self.attached.decoder.config.eos_token_id
        pad = pad[0] if isinstance(pad, list) else pad
        return 0 if pad is None else int(pad)

    def _without_pending(self, result: Any, extra: int, own_mask: Tensor) -> Any:
        """Cut the columns of pending text out of generated sequences."""
        if not extra:
            return result
        sequences = (result if isinstance(result, Tensor) else result.sequences)[:, extra:].clone()
        repeat = sequences.shape[0] // own_mask.shape[0]
        hole = ~own_mask.repeat_interleave(repeat, 0)
        sequences[:, : hole.shape[1]][hole] = self._pad_id()
        if isinstance(result, Tensor):
            return sequences
        assert isinstance(result, ModelOutput)
        result["sequences"] = sequences
        return result


def _pending(memories: list[Readable]) -> list[list[int]]:
    return [memory.pending_ids if isinstance(memory, Memory) else [] for memory in memories]


def _slots(memory: Readable) -> int:
    """Memory tokens a prompt will see."""
    return len(memory.pool) + planned_tokens(memory) if isinstance(memory, Memory) else memory.tokens
