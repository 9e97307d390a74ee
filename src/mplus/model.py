"""The public model: a decoder that keeps what it has read in latent memory. Knows no file format and no layer internals.

Legend: B prompts, T prompt tokens, V vocabulary, L layers, D width, R retriever key width.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack, overload

import torch
from torch import Tensor
from transformers import PreTrainedModel

from mplus.attach.hooks import Hooks
from mplus.attach.read import Retrieved
from mplus.checkpoints import loading
from mplus.checkpoints.arguments import OpenSettings
from mplus.checkpoints.load_report import LoadReport
from mplus.checkpoints.storing import save_delta
from mplus.config import Geometry, MemoryFormat
from mplus.errors import InputError
from mplus.inference.likelihood import log_likelihood
from mplus.inference.reader import PromptReader, Readable, pending_ids
from mplus.text.chat_template import conversations_of, templated
from mplus.text.prompts import Prompts, texts_of, without_bos
from mplus.text.search_query import Query, asked_alone

log = logging.getLogger(__name__)


Messages = Sequence[Mapping[str, Any]]


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


class MPlusModel(PromptReader):
    """A language model with M+ memory. The model never changes; memories are values of their own.

    >>> model = MPlusModel.from_pretrained("smollm2-135m")
    >>> memory = model.new_memory()
    >>> memory.write(open("book.txt").read(), source="book.txt")
    >>> model.chat([{"role": "user", "content": "Who looks after the lighthouse?"}], memory=memory)
    """

    def __repr__(self) -> str:
        decoder, sizes = self.attached.decoder, self.geometry
        memory = f"K={sizes.new_tokens}, N={sizes.stm_tokens}, K0={sizes.ltm_read_tokens}, M={sizes.ltm_capacity}"
        return f"MPlusModel({self.name!r}, base={decoder.config.model_type}, {memory}, dtype={self.dtype}, device={self.device})"

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
        **settings: Unpack[OpenSettings],
    ) -> MPlusModel:
        """Open our own format, a published M+ or a published MemoryLLM checkpoint; which one is seen from its content.

        Args:
            path_or_id: name of an embedded model ("smollm2-135m"), local directory, or hub id.
            dtype: "auto" (see ``dtypes.resolve_dtype``), a name or a torch type.
            memory_format: what new memories keep per token: "kv", or "hidden" as in the paper; default: the smaller.
            attn_implementation: any of transformers' ("sdpa", "eager", "flash_attention_2", ...).
            settings: fields of ``Geometry`` to replace, e.g. ``ltm=False`` for MemoryLLM, ``K0=256``; transformers' ``torch_dtype``, ``device_map``
                (of one device), ``quantization_config``, ``revision``, ``token``, ``cache_dir``, ``local_files_only``; of a delta, ``base``
                (where its base lies) and ``allow_download`` (of the base it names).

        Raises:
            CheckpointError: missing, extra, misshapen, damaged or non-finite weights (the first faults of each kind are named, the rest counted).
            BaseModelMissingError: the base weights are not on this machine.
            GeometryError: a replaced field is unknown or contradicts the rest.
            InputError: an argument that is unknown or has no meaning here.
        """
        loaded = loading.open_checkpoint(
            path_or_id, settings=dict(settings), dtype=dtype, device=device, attention=attn_implementation
        )
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
        loaded = loading.open_base(
            base, geometry, tokenizer, parts=parts, dtype=dtype, device=device, attention=attn_implementation
        )
        return cls(loaded, memory_format=memory_format)

    def save_pretrained(self, directory: str | Path, *, include_base: bool = False) -> None:
        """Store the memory parts and the name and fingerprint of the base they belong to; or everything.

        What was there is replaced whole or not at all.
        """
        save_delta(self._loaded, Path(directory), include_base=include_base)

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
            input_ids: [B, T], left-padded where `attention_mask` [B, T] is 0. Behind a memory, a BOS that begins a prompt is passed
                over as padding is (its logits mean nothing): memory's own stands in front.
            memory: one for all prompts, one each, or several for one prompt; a ``EncodedChunk`` is read alone; None: the bare base.
            return_retrieved: give what each prompt drew from long-term memory.
            output_hidden_states: give what entered each layer, and the last layer's output behind the final norm.
            exact: score every long-term token; else ``Geometry.search`` says from which size on candidates are enough.
            query: what searches memory: a text, texts or token ids; default: the last user turn, see ``mplus.text.search_query``.
        """
        prompts = self._of_ids(input_ids, attention_mask)
        own = prompts.ids.shape[1]
        memories = self._memories(memory, len(prompts))
        if len(memories) > len(prompts):
            prompts = prompts.repeated(len(memories))
        states: list[Tensor] = []
        with self._using(memories), torch.no_grad():
            prompts, searching = self._behind(memories, prompts, query)
            prompts = prompts.after(pending_ids(memories), self._pad_id())
            self._check_room(memories, prompts, 0)
            with self._reading(memories, prompts, query=searching, exact=exact) as (reading, kwargs), Hooks() as hooks:
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

    @overload
    def generate(self, prompt: str, memory: Readable | None = None, **kwargs: Any) -> str: ...
    @overload
    def generate(self, prompt: str, memory: Sequence[Readable], **kwargs: Any) -> list[str]: ...
    @overload
    def generate(
        self, prompt: Sequence[str], memory: Readable | Sequence[Readable] | None = None, **kwargs: Any
    ) -> list[str]: ...
    @overload
    def generate(self, prompt: Any = None, memory: Readable | Sequence[Readable] | None = None, **kwargs: Any) -> Any: ...

    def generate(self, prompt: Any = None, memory: Readable | Sequence[Readable] | None = None, **kwargs: Any) -> Any:
        """Continue prompts that read `memory`; takes the arguments of transformers' ``generate``.

        Args:
            prompt: one text, several texts, token ids [T] or [B, T] (with ``attention_mask`` if padded on the left), or what a
                tokenizer gives. Special tokens spelled out in a text are taken as such, as in transformers. Behind a memory, a BOS
                that begins a prompt is passed over: memory's own stands in front.
            memory: one for all prompts, one each, several for one prompt, or None for the bare base model.
            kwargs: e.g. ``max_new_tokens`` (default: what the model's files say, else 20), ``do_sample``, ``num_beams``,
                ``streamer``. Ours: ``retrieved``, a list to which is appended what each prompt drew from long-term memory;
                ``exact=True`` scores every long-term token; ``query``, a text, texts or token ids that search memory instead of the
                last user turn (``mplus.text.search_query``). A setting that cannot be used with a memory is refused by name.

        Returns:
            for text, the new text (a list for several; those of one prompt together where ``num_return_sequences`` asks for more);
            for ids, what transformers returns, prompts as given included.

        Raises:
            EmptyTextError, PromptTooLongError, InputError.
        """
        for name in ("input_ids", "inputs"):  # as in ``generate(**tokenizer(...))``
            if kwargs.get(name) is not None:
                if prompt is not None:
                    raise InputError(f"the prompt was given twice, as the first argument and as {name}; give one")
                prompt = kwargs[name]
            kwargs.pop(name, None)
        texts = texts_of(prompt)
        if texts is None:
            return self._generated(self._of_ids(prompt, kwargs.pop("attention_mask", None)), memory, kwargs)[0]
        answers, repeated = self._said(texts, memory, kwargs)
        return answers[0] if isinstance(prompt, str) and len(answers) == 1 and not repeated else answers

    @overload
    def chat(
        self, messages: Messages, memory: Readable | None = None, *, template: Mapping[str, Any] | None = None, **kwargs: Any
    ) -> str: ...
    @overload
    def chat(
        self,
        messages: Sequence[Messages],
        memory: Readable | Sequence[Readable] | None = None,
        *,
        template: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> list[str]: ...
    @overload
    def chat(
        self, messages: Any, memory: Readable | Sequence[Readable] | None = None, *, template: Any = None, **kwargs: Any
    ) -> Any: ...

    def chat(
        self, messages: Any, memory: Readable | Sequence[Readable] | None = None, *, template: Any = None, **kwargs: Any
    ) -> Any:
        """Answer a conversation, or several, through the tokenizer's chat template.

        Args:
            messages: ``[{"role": "user", "content": ...}, ...]`` or a list of such lists. An assistant's message at the end is an
                answer begun, which is continued.
            template: what the chat template is told besides, e.g. ``{"enable_thinking": False}`` or ``{"tools": [...]}``.
            kwargs: as for ``generate``; ``max_new_tokens`` is 256 where neither caller nor model files say it.

        Returns:
            the answer without white space around it, or a list of them, in the order of ``generate``.
        """
        conversations, several = conversations_of(messages)
        if self.tokenizer is None or (self.tokenizer.chat_template is None and not (template and "chat_template" in template)):
            raise InputError(f"model {self.name!r} has no chat template; use generate with a prompt of your own")
        texts = [templated(self.tokenizer, conversation, template) for conversation in conversations]
        if self.geometry.retrieval == "shared" and kwargs.get("query") is None:  # else tokens of the prompt search
            kwargs["query"] = asked_alone(self.tokenizer, conversations)
        answers = [answer.strip() for answer in self._said(texts, memory, kwargs, of_template=True)[0]]
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
        if len(prompts) != len(continuations) or not len(prompts) or not all(map(len, prompts)):
            raise InputError(f"{len(continuations)} continuations for {len(prompts)} prompts; give one each, none of them empty")
        before, behind = ([self._row(row) for row in rows] for rows in (prompts, continuations))
        memories = self._memories(memory, len(before))
        if memories:
            before = [without_bos(self.tokenizer, row, self._bos_id) for row in before]
        rows = Prompts.from_rows(before, self._pad_id(), self.device)
        with self._using(memories):
            searching = Query.of(self.tokenizer, rows, query) if memories else None
            rows = rows.after(pending_ids(memories), self._pad_id())
            self._check_room(memories, rows, max(map(len, behind)))
            return log_likelihood(self, rows, behind, memories, searching)

    @contextmanager
    def untouched(self) -> Iterator[PreTrainedModel]:
        """The stock decoder with no adapter on, for baselines. Other threads wait; this one may read memories inside."""
        with self.turn.held(nests=True), self.attached.adapters.on(None):
            yield self.attached.decoder.model
