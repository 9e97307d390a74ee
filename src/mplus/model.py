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
from transformers.utils import ModelOutput

from mplus import chunking
from mplus.attach.hooks import Hooks
from mplus.attach.read import Reading, Retrieved
from mplus.attach.write import Tail, keeps_write_kv, project_rows, search_keys, write_pass
from mplus.checkpoints import opening
from mplus.checkpoints.adapted import save_own
from mplus.checkpoints.fingerprint import fingerprint
from mplus.checkpoints.loaded import Loaded
from mplus.checkpoints.report import LoadReport
from mplus.config import Geometry, MemoryFormat
from mplus.errors import EmptyTextError, InputError, PromptTooLongError
from mplus.memory.memory import Memory
from mplus.memory.rows import RowLayout, Rows, Written
from mplus.prompts import Prompts
from mplus.retriever import VoteRetriever

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


class MPlusModel:
    """A language model with M+ memory. The model never changes; memories are values of their own.

    >>> model = MPlusModel.from_pretrained("smollm2-135m")
    >>> memory = model.new_memory()
    >>> memory.write(open("book.txt").read(), source="book.txt")
    >>> model.chat([{"role": "user", "content": "Who looks after the lighthouse?"}], memory=memory)
    """

    def __init__(self, loaded: Loaded, *, memory_format: MemoryFormat = "kv") -> None:
        self._loaded = loaded
        self.attached = loaded.attached
        self.geometry = loaded.geometry
        self.tokenizer = loaded.tokenizer
        self.name = loaded.name
        self.memory_format: MemoryFormat = memory_format
        self._initial: dict[tuple[str, bool], tuple[Rows, Tensor | None]] = {}
        self._fingerprint: str | None = None

    # -- opening and storing ---------------------------------------------------------------------------------------

    @classmethod
    def from_pretrained(
        cls,
        path_or_id: str | Path,
        *,
        dtype: str | torch.dtype = "auto",
        device: str | torch.device | None = None,
        memory_format: MemoryFormat = "kv",
        attn_implementation: str | None = None,
        **geometry: Any,
    ) -> MPlusModel:
        """Open our own format, a published M+ or a published MemoryLLM checkpoint; which one is seen from its content.

        Args:
            path_or_id: name of an embedded model ("smollm2-135m"), local directory, or hub id.
            dtype: "auto" (see ``dtypes.resolve_dtype``), a name or a torch type.
            memory_format: what new memories keep per token: "kv", or "hidden" as in the paper.
            attn_implementation: any of transformers' ("sdpa", "eager", "flash_attention_2", ...).
            geometry: fields of ``Geometry`` to replace, e.g. ``ltm=False`` for MemoryLLM.

        Raises:
            CheckpointError: missing, extra, misshapen, damaged or non-finite weights (all faults are listed).
            BaseModelMissingError: the base weights are not on this machine.
            GeometryError: a replaced field is unknown or contradicts the rest.
        """
        loaded = opening.open_checkpoint(
            str(path_or_id), dtype=dtype, device=device, attention=attn_implementation, overrides=geometry
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
        memory_format: MemoryFormat = "kv",
        attn_implementation: str | None = None,
        **parts: Any,
    ) -> MPlusModel:
        """Fresh memory parts on a stock decoder; it reads and finds at once, without any training.

        Args:
            base: a loaded ``...ForCausalLM`` (then give its `tokenizer`), or the name, directory or hub id of one.
            geometry: sizes and rules; default ``Geometry()``.
            parts: ``key_width`` (trainable retriever), ``voting``, ``read_lora``, ``write_lora``; see ``attach_fresh``.

        Raises:
            UnsupportedModelError: another architecture; the message lists the supported ones.
            GeometryError: the memory does not fit the decoder's positions.
        """
        loaded = opening.open_base(
            base, geometry, tokenizer, dtype=dtype, device=device, attention=attn_implementation, parts=parts
        )
        return cls(loaded, memory_format=memory_format)

    def save_pretrained(self, directory: str | Path, *, include_base: bool = False) -> None:
        """Store the memory parts and the name and fingerprint of the base they belong to; or everything."""
        save_own(self._loaded, Path(directory), include_base=include_base)

    @property
    def load_report(self) -> LoadReport:
        """What became of every tensor of the checkpoint."""
        return self._loaded.report

    @property
    def fingerprint(self) -> str:
        """Identity of base, adapters and memory parts; a memory opens only with the model that wrote it."""
        if self._fingerprint is None:
            tensors = dict(self.attached.decoder.model.state_dict())
            tensors["mplus.bos"] = self.attached.bos
            if self.attached.position is not None:
                tensors["mplus.position"] = self.attached.position
            if self.attached.retriever is not None:
                tensors.update({f"mplus.retriever.{name}": value for name, value in self.attached.retriever.state_dict().items()})
            self._fingerprint = fingerprint(tensors)
        return self._fingerprint

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return self.attached.decoder.device

    @property
    def dtype(self) -> torch.dtype:
        """Type of its weights."""
        return self.attached.decoder.dtype

    # -- memories --------------------------------------------------------------------------------------------------

    def new_memory(
        self, *, seed: int = 0, memory_format: MemoryFormat | None = None, initialised: bool = True, **geometry: Any
    ) -> Memory:
        """An empty memory (published models: with their initial pool).

        Args:
            seed: of the memory's own generator of random drops.
            memory_format: "kv" or "hidden"; default: the model's.
            initialised: False starts a published MemoryLLM without a pool; its first write makes one.
            geometry: sizes to replace, e.g. ``stm_tokens=1536, ltm=False``.
        """
        chosen = self.geometry.changed(**geometry) if geometry else self.geometry
        start = initialised and (self._loaded.initial is None or self._loaded.initial.initialised)
        return Memory(self, chosen, memory_format or self.memory_format, seed, initialised=start)

    def encode(
        self, ids: Sequence[int] | Tensor, memory: Memory | None = None, *, tail: Written | None = None, logits: bool = False
    ) -> Written:
        """Run one chunk through the write pass without changing `memory`.

        Args:
            ids: [T] token ids, T at most ``geometry.chunk_tokens``.
            memory: whose newest tokens the chunk sees; None: a new one's.
            tail: an earlier chunk to be seen instead, as if it had just been written.
            logits: also keep logits and layer inputs.
        """
        table = torch.as_tensor(ids, dtype=torch.long)
        return self.encode_batch(table.view(1, -1), memory, tail=tail, logits=logits)[0]

    def encode_batch(
        self, ids: Tensor, memory: Memory | None = None, *, tail: Written | None = None, logits: bool = False
    ) -> list[Written]:
        """Several chunks of one length, [B, T], each as if written next; they do not see each other."""
        memory = memory or self.new_memory()
        seen = self._tail(memory) if tail is None else self._tail_of(tail)
        initial = not memory.initialised
        return write_pass(
            self.attached, memory.geometry, memory.layout, ids.to(self.device), Tail() if initial else seen, initial=initial, logits=logits
        )

    def cut(self, text: str) -> list[list[int]]:
        """Token ids of a text in chunks as ``memory.write`` makes them.

        Raises:
            EmptyTextError: there is nothing but white space.
        """
        if not text.strip():
            raise EmptyTextError("nothing to write: the text is empty; give text with at least one word")
        if self.tokenizer is None:
            raise InputError("this model was opened without a tokenizer; give token ids instead of text")
        return chunking.cut(self.tokenizer, text, self.geometry.chunk_tokens)

    # -- reading ---------------------------------------------------------------------------------------------------

    def __call__(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        memory: Readable | Sequence[Readable] | None = None,
        *,
        return_retrieved: bool = False,
        output_hidden_states: bool = False,
    ) -> MPlusOutput:
        """Logits of prompts that read `memory`.

        Args:
            input_ids: [B, T], left-padded where `attention_mask` [B, T] is 0.
            memory: one for all prompts or one each; a ``Written`` is read alone; None: the bare base model.
            return_retrieved: give what each prompt drew from long-term memory.
        """
        prompts = Prompts.from_ids(input_ids, attention_mask, self.device)
        own = prompts.ids.shape[1]
        memories = self._memories(memory, len(prompts))
        prompts = prompts.after(_pending(memories))
        with torch.no_grad(), self._reading(memories, prompts) as (reading, kwargs):
            out = self.attached.decoder.model(
                input_ids=prompts.ids, use_cache=reading is not None, output_hidden_states=output_hidden_states, **kwargs
            )
        states = out.hidden_states if output_hidden_states else None
        return MPlusOutput(
            out.logits[:, -own:],
            reading.retrieved() if reading is not None and return_retrieved else None,
            None if states is None else tuple(part[:, -own:] for part in states),
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
            memory: one for all prompts, one each, or None for the bare base model.
            kwargs: e.g. ``max_new_tokens``, ``do_sample``, ``num_beams``, ``streamer``.

        Returns:
            for text, the new text (a list for several); for ids, what transformers returns, prompts included.

        Raises:
            EmptyTextError, PromptTooLongError, InputError.
        """
        prompts, single = self._prompts(prompt, kwargs.pop("attention_mask", None))
        own = prompts.ids.shape[1]
        memories = self._memories(memory, len(prompts))
        if len(memories) > len(prompts) == 1:
            prompts, single = prompts.repeated(len(memories)), False
        own_mask = prompts.mask
        prompts = prompts.after(_pending(memories))
        room = int(kwargs.get("max_new_tokens") or 64)
        self._check_room(memories, prompts, room)
        with self._reading(memories, prompts, room=room, storing=kwargs.get("use_cache", True) is not False) as (_, reading_kwargs):
            kwargs.setdefault("pad_token_id", self._pad_id())
            result = self.attached.decoder.model.generate(prompts.ids, **{**reading_kwargs, **kwargs})
        result = self._without_pending(result, prompts.ids.shape[1] - own, own_mask)
        if not isinstance(prompt, str) and not _is_texts(prompt):
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
            the answer, or a list of them.
        """
        if not messages:
            raise EmptyTextError("nothing to answer: the list of messages is empty; give at least one")
        several = not isinstance(messages[0], dict)
        conversations: Any = messages if several else [messages]
        for conversation in conversations:
            _check_messages(conversation)
        if self.tokenizer is None or self.tokenizer.chat_template is None:
            raise InputError(f"model {self.name!r} has no chat template; use generate with a prompt of your own")
        texts = [self.tokenizer.apply_chat_template(list(part), tokenize=False, add_generation_prompt=True) for part in conversations]
        answers = self.generate(texts, memory, **kwargs)
        return answers if several or len(answers) != 1 else answers[0]

    @contextmanager
    def untouched(self) -> Iterator[PreTrainedModel]:
        """The stock decoder with no adapter on, for baselines."""
        with self.attached.adapters.on(None):
            yield self.attached.decoder.model

    # -- what a memory asks of its model ---------------------------------------------------------------------------

    def layout(self, memory_format: MemoryFormat, geometry: Geometry) -> RowLayout:
        """Fields of one memory token."""
        decoder, retriever = self.attached.decoder, self.attached.retriever
        heads = (decoder.kv_heads, decoder.head_width)
        fields: dict[str, tuple[int, ...]] = {"hidden": (decoder.width,)} if memory_format == "hidden" else {"keys": heads, "values": heads}
        groups = 0
        if geometry.reads_ltm and retriever is not None:
            vote = isinstance(retriever, VoteRetriever)
            fields["search"] = (retriever.total_width if isinstance(retriever, VoteRetriever) else retriever.key_width,)
            groups = 1 if vote else decoder.depth
        return RowLayout(
            format=memory_format, layers=decoder.depth, fields=fields, search_groups=groups, dtype=decoder.dtype, device=decoder.device
        )

    def tokenize(self, text: str) -> list[int]:
        """Token ids of a text, no special tokens added."""
        return [token for chunk in self.cut(text) for token in chunk]

    def cut_ids(self, text: str) -> list[list[int]]:
        """See ``cut``."""
        return self.cut(text)

    def initial_rows(self, memory: Memory) -> tuple[Rows, Tensor | None] | None:
        """Rows of the pool a published model starts with, and the tail's hidden states."""
        initial = self._loaded.initial
        if initial is None:
            return None
        key = (memory.format, "search" in memory.layout.fields)
        if key not in self._initial:
            self._initial[key] = self._rows_of_hidden(initial.stm.to(self.device), memory)
        rows, tail = self._initial[key]
        return {name: value.clone() for name, value in rows.items()}, tail

    def initial_longterm(self, memory: Memory) -> list[tuple[Rows, Tensor, Tensor | None]] | None:
        """Rows, ages and recall frequencies per layer of the long-term memory a published model starts with."""
        initial = self._loaded.initial
        if initial is None or not initial.ltm or not memory.geometry.ltm or not memory.initialised:
            return None
        return [
            (self._longterm_rows(layer, rows, keys, memory), initial.ltm_ages[layer], initial.ltm_frequencies[layer])
            for layer, (rows, keys) in enumerate(zip(initial.ltm, initial.ltm_keys, strict=True))
        ]

    def _rows_of_hidden(self, hidden: Tensor, memory: Memory) -> tuple[Rows, Tensor]:
        """Memory rows, [L, n, ...], of hidden states [L, n, D], and the tail they leave."""
        with torch.no_grad():
            if memory.format == "hidden":
                rows: Rows = {"hidden": hidden}
            else:
                rows = {name: value[0] for name, value in project_rows(self.attached, memory.geometry, hidden[None]).items()}
            if "search" in memory.layout.fields:
                retriever = self.attached.retriever
                layers = retriever.voting if isinstance(retriever, VoteRetriever) else tuple(range(hidden.shape[0]))
                normed = {layer: self.attached.decoder.normed(layer, hidden[layer][None]) for layer in layers}
                rows["search"] = search_keys(self.attached, normed)[0]
        return rows, hidden[:, -memory.geometry.new_tokens :].clone()

    def _longterm_rows(self, layer: int, hidden: Tensor, keys: Tensor, memory: Memory) -> Rows:
        rows: Rows = {"search": keys}
        if memory.format == "hidden":
            rows["hidden"] = hidden
            return rows
        role = memory.geometry.memory_projection
        with torch.no_grad(), self.attached.adapters.on(self.attached.adapters.named(role)):
            rows["keys"], rows["values"] = self.attached.decoder.project(layer, hidden.to(self.device))
        return rows

    def _tail(self, memory: Memory) -> Tail:
        if memory.tail is not None:
            return Tail(hidden=memory.tail[None])
        if not len(memory.pool) or not keeps_write_kv(memory.geometry):
            return Tail()
        newest = memory.pool.newest(memory.geometry.new_tokens)
        return Tail(keys=newest["keys"][None], values=newest["values"][None])

    def _tail_of(self, written: Written) -> Tail:
        if written.hidden is not None:
            return Tail(hidden=written.hidden[None].to(self.device))
        return Tail(keys=written.rows["keys"][None], values=written.rows["values"][None])

    # -- prompts ---------------------------------------------------------------------------------------------------

    @contextmanager
    def _reading(
        self, memories: list[Readable], prompts: Prompts, *, room: int = 0, storing: bool = True
    ) -> Iterator[tuple[Reading | None, dict[str, Any]]]:
        """Hooks on; yields the reading and the arguments the decoder needs."""
        adapters = self.attached.adapters
        if not memories:
            with adapters.on(None):
                yield None, {"attention_mask": prompts.mask.long()}
            return
        reading = Reading(self.attached, self.geometry, memories, prompts.ids, prompts.mask)
        mask = torch.cat([reading.mask(), prompts.mask.long()], 1)
        cache = reading.cache(prompts.ids.shape[1] + room, storing=storing)
        kwargs: dict[str, Any] = {"attention_mask": mask, "past_key_values": cache}
        if room == 0:
            kwargs["position_ids"] = (mask.cumsum(1) - 1)[:, reading.prefix :].clamp(min=0)
        with adapters.on(reading.adapter), Hooks() as hooks:
            reading.install(hooks)
            yield reading, kwargs

    def _memories(self, memory: Readable | Sequence[Readable] | None, prompts: int) -> list[Readable]:
        if memory is None:
            return []
        if isinstance(memory, (Memory, Written)):
            found: list[Readable] = [memory] * prompts
        else:
            found = list(memory)
            if len(found) != prompts and prompts != 1:
                raise InputError(f"{len(found)} memories for {prompts} prompts; give one memory, or one for each prompt")
        for one in found:
            if isinstance(one, Memory) and one.host is not self and one.host.fingerprint != self.fingerprint:
                raise InputError(
                    f"this memory was written by model {one.host.name!r}, this is {self.name!r}; read it with the model that wrote it"
                )
        return found

    def _prompts(self, prompt: Any, mask: Tensor | None) -> tuple[Prompts, bool]:
        if isinstance(prompt, str) or _is_texts(prompt):
            if self.tokenizer is None:
                raise InputError("this model was opened without a tokenizer; give token ids instead of text")
            texts = [prompt] if isinstance(prompt, str) else list(prompt)
            return Prompts.from_texts(texts, self.tokenizer, self._pad_id(), self.device), isinstance(prompt, str)
        ids = torch.as_tensor(prompt)
        return Prompts.from_ids(ids.view(1, -1) if ids.dim() == 1 else ids, mask, self.device), ids.dim() == 1

    def _check_room(self, memories: list[Readable], prompts: Prompts, new_tokens: int) -> None:
        slots = 0
        if memories:
            ltm = self.geometry.ltm_read_tokens if self.geometry.ltm else 0
            slots = 1 + max((len(one.pool) + ltm * bool(one.geometry.ltm) if isinstance(one, Memory) else one.tokens) for one in memories)
        needed, limit = slots + prompts.ids.shape[1] + new_tokens, self.attached.decoder.positions
        if needed > limit:
            raise PromptTooLongError(
                f"the prompt has {prompts.ids.shape[1]} tokens; with {slots} memory slots and {new_tokens} new tokens that is {needed}, "
                f"the model has {limit} positions; shorten the prompt, or write the long text into memory and ask about it"
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


def _is_texts(prompt: Any) -> bool:
    return isinstance(prompt, (list, tuple)) and bool(prompt) and all(isinstance(part, str) for part in prompt)


def _check_messages(conversation: Any) -> None:
    if not isinstance(conversation, (list, tuple)) or not conversation:
        raise InputError("a conversation must be a non-empty list of messages like {'role': 'user', 'content': '...'}")
    for message in conversation:
        if not isinstance(message, dict) or not isinstance(message.get("content"), str) or "role" not in message:
            raise InputError(f"a message must look like {{'role': 'user', 'content': '...'}}, got {message!r}")
    if not conversation[-1]["content"].strip():
        raise EmptyTextError("nothing to answer: the last message is empty; ask something")
