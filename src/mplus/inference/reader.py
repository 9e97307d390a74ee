"""From a caller's prompts to transformers' ``generate`` and back. Knows prompts and settings, nothing of how memory is read.

Legend: B prompts, T prompt tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase
from transformers.utils.generic import ModelOutput

from mplus.attach.attention import grouped_on_cpu
from mplus.attach.cache import passed
from mplus.attach.find import planned_tokens
from mplus.attach.hooks import Hooks
from mplus.attach.read import Reading, Retrieved
from mplus.attach.sweep import sweep
from mplus.errors import EmptyTextError, InputError, PromptTooLongError
from mplus.inference.generation import CHAT_TOKENS, DEFAULT_TOKENS, RESERVED_TOKENS, Frame, OwnView, Settings, refusals, settled
from mplus.inference.writer import MemoryHost
from mplus.memory.budget import MemoryBudget, explain_out_of_memory
from mplus.memory.memory import Memory
from mplus.memory.rows import EncodedChunk
from mplus.runtime.turns import in_order
from mplus.text.prompts import Prompts, check_ids, encode, ids_of, separator, texts_of
from mplus.text.search_query import Query

Readable = Memory | EncodedChunk


class PromptReader(MemoryHost):
    """The asking half of ``MPlusModel``: checks what is given, and has transformers continue it."""

    tokenizer: PreTrainedTokenizerBase  # None where the model was opened without one; whoever needs it says so

    @contextmanager
    def _reading(
        self, memories: list[Readable], prompts: Prompts, *, room: int = 0, **options: Any
    ) -> Iterator[tuple[Reading | None, dict[str, Any]]]:
        """Hooks on; yields the reading (`options` are its own) and the arguments the decoder needs."""
        adapters = self.attached.adapters
        if not memories:
            with adapters.on(None):
                yield None, {"attention_mask": prompts.mask.long()}
            return
        decoder, tokens = self.attached.decoder, prompts.ids.shape[1] + room
        with (
            explain_out_of_memory(lambda free: self._no_room(memories, len(prompts), tokens, free), self.device),
            torch.no_grad(),
            grouped_on_cpu(decoder, self.attached.engine.grouped_attention),
        ):
            reading = Reading(self.attached, self.geometry, memories, prompts.ids, prompts.mask, room=tokens, **options)
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
        return MemoryBudget.of(layout, geometry, 2 * decoder.kv_heads * decoder.head_width).for_prompts(prompts, free, tokens)

    @contextmanager
    def _using(self, memories: list[Readable]) -> Iterator[None]:
        """The length of a read: nobody writes these memories, nobody else uses the model, and nothing of an earlier pass is left on."""
        with in_order(memory.turn for memory in memories if isinstance(memory, Memory)), self.turn.held():
            sweep(self.attached)
            yield

    def _behind(self, memories: list[Readable], prompts: Prompts, query: Any) -> tuple[Prompts, Query | None]:
        """Prompts as they stand behind memories, and what searches; without memories the prompts as they are."""
        if not memories:
            return prompts, None
        prompts = prompts.behind_memory(self.tokenizer, self._bos_id)
        return prompts, Query.of(self.tokenizer, prompts, query)

    def _of_ids(self, prompt: Any, mask: Any = None) -> Prompts:
        """Prompts that were given as token ids."""
        ids, mask = ids_of(prompt, mask)
        return Prompts.from_ids(ids, mask, self.device, self.vocabulary, pad_id=self._pad_id(), tokenizer=self.tokenizer)

    def _row(self, ids: Any) -> list[int]:
        """Token ids of one text, checked; an empty row is left to whoever asks."""
        if texts_of(ids) is not None:
            raise InputError("log_likelihood takes token ids, not text; tokenise prompts and continuations first")
        if not len(ids):
            return []
        row: list[int] = ids_of(ids)[0].flatten().tolist()
        check_ids(row, self.vocabulary, self.tokenizer)
        return row

    def _said(
        self, texts: list[str], memory: Any, kwargs: dict[str, Any], *, of_template: bool = False
    ) -> tuple[list[str], bool]:
        """Continuations of texts, and whether several memories read one of them."""
        if self.tokenizer is None:
            raise InputError("this model was opened without a tokenizer; give token ids instead of text")
        for name, why in (("attention_mask", "it belongs to token ids"), ("return_dict_in_generate", "it gives token ids")):
            if (told := kwargs.pop(name, None)) is not None and told is not False:
                raise InputError(f"{name} cannot be used with prompts of text: {why}; give generate the prompt as token ids")
        rows = [encode(self.tokenizer, text, templated=of_template, behind_memory=memory is not None) for text in texts]
        for text, row in zip(texts, rows, strict=True):
            if not row:
                raise EmptyTextError(f"nothing to answer: the prompt {text!r} is empty; ask something")
            check_ids(row, self.vocabulary, self.tokenizer)
        prompts = Prompts.from_rows(rows, self._pad_id(), self.device)
        default = CHAT_TOKENS if of_template else DEFAULT_TOKENS
        result, repeated = self._generated(prompts, memory, kwargs, texts=True, default=default)
        sequences = result if isinstance(result, Tensor) else result.sequences
        return self.tokenizer.batch_decode(sequences[:, prompts.ids.shape[1] :], skip_special_tokens=True), repeated

    def _generated(
        self, prompts: Prompts, memory: Any, kwargs: dict[str, Any], *, texts: bool = False, default: int = DEFAULT_TOKENS
    ) -> tuple[Any, bool]:
        """Generate; returns the result of transformers, prompts included, and whether several memories read one prompt."""
        retrieved: list[Retrieved] | None = kwargs.pop("retrieved", None)
        if retrieved is not None and not isinstance(retrieved, list):
            raise InputError(f"retrieved must be a list, to which what was read is appended; got {type(retrieved).__name__}")
        memories = self._memories(memory, len(prompts))
        if repeated := len(memories) > len(prompts):
            prompts = prompts.repeated(len(memories))
        with self._using(memories):
            return self._read(prompts, memories, kwargs, retrieved, texts, default), repeated

    def _read(
        self,
        prompts: Prompts,
        memories: list[Readable],
        kwargs: dict[str, Any],
        retrieved: list[Retrieved] | None,
        texts: bool,
        default: int,
    ) -> Any:
        exact, given = bool(kwargs.pop("exact", False)), prompts.ids
        prompts, query = self._behind(memories, prompts, kwargs.pop("query", None))
        earlier = pending_ids(memories)
        if texts and any(earlier):
            earlier = [[*part, *separator(self.tokenizer, part, row)] for part, row in zip(earlier, prompts.rows(), strict=True)]
        prompts = prompts.after(earlier, self._pad_id())
        settings = self._settings(kwargs, memories, prompts, given.shape[1], default)
        self._check_room(memories, prompts, settings.new_tokens)
        waits = prompts.ids.shape[1] > given.shape[1]
        view = OwnView(given, prompts.ids.shape[1])
        arguments = view.applied(settings.arguments) if waits else settings.arguments
        decoder: Any = self.attached.decoder.model
        room = min(settings.new_tokens, RESERVED_TOKENS)
        with self._reading(memories, prompts, query=query, room=room, storing=settings.storing, exact=exact) as (reading, own):
            with refusals():
                result = decoder.generate(prompts.ids, **own, **arguments)
            if reading is not None and isinstance(result, Tensor):  # else the caller may hold the cache
                reading.release()
        if retrieved is not None and reading is not None:
            retrieved += reading.retrieved()
        if not waits:
            return result
        if isinstance(result, Tensor):
            return view.of(result)
        assert isinstance(result, ModelOutput)
        result["sequences"] = view.of(result["sequences"])
        return result

    def _settings(
        self, kwargs: dict[str, Any], memories: list[Readable], prompts: Prompts, own_tokens: int, default: int
    ) -> Settings:
        columns = prompts.ids.shape[1]
        frame = Frame(
            prompt_tokens=own_tokens,
            earlier_tokens=columns - own_tokens,
            room=self.attached.decoder.limit[0] - _prefix_slots(memories) - columns,
            reads=bool(memories),
            per_layer=bool(memories) and self.geometry.retrieval == "per_layer",
            pad_id=self._pad_id(),
            vocabulary=self.vocabulary,
            tokenizer=self.tokenizer,
            default_tokens=default,
        )
        return settled(kwargs, self.attached.decoder.model, frame)

    def _memories(self, memory: Readable | Sequence[Readable] | None, prompts: int) -> list[Readable]:
        if memory is None:
            return []
        if isinstance(memory, (Memory, EncodedChunk)):
            found: list[Readable] = [memory] * prompts
        else:
            if isinstance(memory, (str, bytes, Path)) or not isinstance(memory, Sequence):
                raise InputError(
                    f"memory must be a Memory or a list of them, got {type(memory).__name__} {memory!r:.80}; "
                    "a stored one is opened with Memory.load(directory, model)"
                )
            found = list(memory)
            strange = [one for one in found if not isinstance(one, (Memory, EncodedChunk))]
            if strange:
                raise InputError(
                    f"memory must be a Memory or a list of them, the list holds {type(strange[0]).__name__} {strange[0]!r:.80}"
                )
            if len(found) != prompts and prompts != 1:
                raise InputError(f"{len(found)} memories for {prompts} prompts; give one memory, or one for each prompt")
            if not found:
                raise InputError(
                    "the list of memories is empty; give one memory, one for each prompt, or None for the bare model"
                )
            if len({isinstance(one, EncodedChunk) for one in found}) > 1:
                raise InputError("a chunk is read alone with another adapter than a memory; read them in two batches")
        for one in found:
            if isinstance(one, Memory) and one.encoder is not self and one.encoder.fingerprint != self.fingerprint:
                raise InputError(
                    f"this memory was written by model {one.encoder.name!r}, this is {self.name!r}; read it with the model that wrote it"
                )
        return found

    def _check_room(self, memories: list[Readable], prompts: Prompts, new_tokens: int) -> None:
        slots = _prefix_slots(memories)
        needed, (limit, why) = slots + prompts.ids.shape[1] + new_tokens, self.attached.decoder.limit
        if needed > limit:
            raise PromptTooLongError(
                f"the prompt has {prompts.ids.shape[1]} tokens; with {slots} memory slots and {new_tokens} new tokens that is {needed}, "
                f"the model has {limit} positions ({why}); shorten the prompt, or write the long text into memory and ask about it"
            )

    def _pad_id(self) -> int:
        """A token to pad with that the embedding table has."""
        known = (getattr(self.tokenizer, "pad_token_id", None), self.attached.decoder.config.eos_token_id)
        pads = [one[0] if isinstance(one, list) else one for one in known if one is not None]
        return next((int(pad) for pad in pads if 0 <= pad < self.vocabulary), 0)

    @property
    def _bos_id(self) -> int | None:
        """The token that memory's own BOS stands for."""
        holder = self.attached.decoder.config if self.tokenizer is None else self.tokenizer
        bos = getattr(holder, "bos_token_id", None)
        first = bos[0] if isinstance(bos, list) else bos
        return None if first is None else int(first)


def pending_ids(memories: list[Readable]) -> list[list[int]]:
    """Text that waits to be written, one row per prompt."""
    return [memory.pending_ids if isinstance(memory, Memory) else [] for memory in memories]


def _slots(memory: Readable) -> int:
    """Memory tokens a prompt will see."""
    return len(memory.short_term) + planned_tokens(memory) if isinstance(memory, Memory) else memory.tokens


def _prefix_slots(memories: list[Readable]) -> int:
    """Slots before the prompts: memory's BOS and what the fullest memory gives."""
    return 1 + max(map(_slots, memories)) if memories else 0
