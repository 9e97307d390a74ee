"""The writing half of a model: layouts, write passes, initial rows, identity. Knows no prompts and no file format.

Legend: B chunks, T text tokens, L layers, D width, n tokens, R retriever key width.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from typing import Any, get_args

import torch
from torch import Tensor

from mplus.attach.sweep import sweep
from mplus.attach.write_pass import Tail, joined, keeps_write_kv, write_pass
from mplus.checkpoints.fingerprint import decoder_settings, fingerprint, tokenizer_print
from mplus.checkpoints.loaded_model import LoadedModel
from mplus.checkpoints.published_memory import longterm_rows, rows_of_hidden
from mplus.errors import EmptyTextError, GeometryError, InputError
from mplus.memory.budget import explain_out_of_memory, no_room_for_chunks
from mplus.memory.memory import Memory
from mplus.memory.rows import ChunkToEncode, EncodedChunk, RowLayout, Rows
from mplus.memory.shared_rows import SharedRows
from mplus.memory.source_writing import newest_of
from mplus.memory.state import ordinary_tensors
from mplus.runtime.turns import TurnLock, turn_of
from mplus.settings import Geometry, MemoryFormat
from mplus.text import chunking
from mplus.text.literal import literal_ids
from mplus.text.neutral import NEUTRAL
from mplus.text.prompts import check_ids

IN_A_PASS = (
    "this model is answering or writing already: a streamer, stopping criterion, processor or progress function called it again from "
    "inside that call; collect what is to be asked or written and do it when the call has returned"
)
RULES_OF_A_READ = ("write_tap", "memory_projection", "retrieval", "block_tokens", "inv_freq_dtype")
"""Settings that decide what stored rows mean; a model opened with others is another model to a memory."""


class Writer:
    """Encodes chunks of text as memory rows; the ``mplus.memory.encoder.Encoder`` of every memory of a model.

    Args:
        checkpoint: the opened model, whose name, settings and tokenizer hold here.
        memory_format: of new memories; default: the smaller one, keys and values where rows are pooled.
    """

    def __init__(self, checkpoint: LoadedModel, *, memory_format: MemoryFormat | None = None) -> None:
        self.checkpoint, self.parts = checkpoint, checkpoint.parts
        is_pooled = checkpoint.geometry.sizes.tokens_per_row > 1
        self.memory_format: MemoryFormat = memory_format or ("kv" if is_pooled else _smaller_format(checkpoint))
        self._initial: dict[tuple[str, bool], tuple[Rows, Tensor | None]] = {}
        self._fingerprint: str | None = None
        self._shared: dict[Hashable, SharedRows] = {}
        self._openings: dict[Hashable, EncodedChunk] = {}

    # -- identity --------------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The name of the model."""
        return self.checkpoint.name

    @property
    def fingerprint(self) -> str:
        """Identity of base, adapters and memory parts; a memory opens only with the model that wrote it."""
        if self._fingerprint is None:
            tensors = dict(self.parts.decoder.model.state_dict())
            tensors["mplus.bos"] = self.parts.bos
            if self.parts.position is not None:
                tensors["mplus.position"] = self.parts.position
            if self.parts.retriever is not None:
                tensors.update({f"mplus.retriever.{name}": value for name, value in self.parts.retriever.state_dict().items()})
            rules = {name: value for name, value in self.checkpoint.geometry.flat().items() if name in RULES_OF_A_READ}
            self._fingerprint = fingerprint(tensors, note=repr(sorted(rules.items())))
        return self._fingerprint

    def weights_changed(self) -> None:
        """Compute the fingerprint anew when it is next asked for, as after training."""
        self._fingerprint = None

    def wrote(self, memory: Memory) -> bool:
        """Tell whether a memory was written by this model, or by one with the same weights and rules."""
        return memory.encoder is self or memory.encoder.fingerprint == self.fingerprint

    @property
    def decoder_settings(self) -> dict[str, Any]:
        """Settings that decide what the weights compute, beside them; a memory notes them."""
        return decoder_settings(self.parts.decoder.config)

    @property
    def tokenizer_print(self) -> str | None:
        """Identity of the tokenizer, None without one; a memory notes it."""
        return tokenizer_print(self.checkpoint.tokenizer)

    @property
    def device(self) -> torch.device:
        """The device the model computes on."""
        return self.parts.decoder.device

    @property
    def vocabulary(self) -> int:
        """Rows of the embedding table."""
        return self.parts.decoder.vocabulary

    @property
    def turn(self) -> TurnLock:
        """Held during every pass: hooks and adapters lie on the base, which other models may share."""
        return turn_of(self.parts.decoder.model, IN_A_PASS)

    def refuse_reentry(self) -> None:
        """Raise ``ReentryError`` when the calling thread is inside a pass of this model."""
        self.turn.refuse_reentry()

    # -- write passes ----------------------------------------------------------------------------------------------

    def encode(
        self,
        ids: Sequence[int] | Tensor,
        memory: Memory | None = None,
        *,
        source: str | None = None,
        tail: EncodedChunk | None = None,
        logits: bool = False,
    ) -> EncodedChunk:
        """See ``MPlusModel.encode``."""
        table = torch.as_tensor(ids, device=ids.device if isinstance(ids, Tensor) else "cpu")
        return self.encode_batch(table.view(1, -1), memory, source=source, tail=tail, logits=logits)[0]

    def encode_batch(
        self,
        ids: Tensor,
        memory: Memory | None = None,
        *,
        source: str | None = None,
        tail: EncodedChunk | None = None,
        logits: bool = False,
    ) -> list[EncodedChunk]:
        """Several chunks of one length, [B, T], each as if written next; they do not see each other."""
        memory = memory or Memory(self, self.checkpoint.geometry, self.memory_format, 0)
        self._check_chunk(ids)
        with memory.turn.held_or_mine():
            seen = self._tail(memory, source) if tail is None else self._tail_of(tail)
            written = self._pass(memory, ids, seen, logits=logits)
            behind = memory.ledger.key_of(source) if tail is None else None
        for row, one in zip(ids.tolist(), written, strict=True):
            one.ids, one.behind = tuple(row), behind
        return written

    def _pass(self, memory: Memory, ids: Tensor, tail: Tail, **options: Any) -> list[EncodedChunk]:
        """One write pass for memories like this one: nobody else uses the model, and too little memory is one sentence."""
        initial, (chunks, tokens) = not memory.initialised, ids.shape
        with self.turn.held(), explain_out_of_memory(lambda free: no_room_for_chunks(chunks, tokens, free), self.device):
            sweep(self.parts)
            ids, seen = ids.to(self.device), Tail() if initial else tail
            return write_pass(self.parts, memory.geometry, memory.layout, ids, seen, initial=initial, **options)

    def _check_chunk(self, ids: Tensor) -> None:
        if ids.is_floating_point() or ids.dtype == torch.bool or ids.dim() != 2 or not ids.numel():
            raise InputError(f"a chunk is token ids [T], whole numbers; got {ids.dtype} of shape {list(ids.shape)}")
        check_ids(ids, self.vocabulary, self.checkpoint.tokenizer)

    def encode_many(self, requests: Sequence[tuple[ChunkToEncode, Memory]], *, batch: int = 8) -> list[EncodedChunk]:
        """Chunks that do not see each other, each as ``encode`` would give it, in as few passes as possible.

        Args:
            requests: a chunk, and the memory that it is for.
            batch: chunks of one pass at most. Those of one pass are about equally long: shorter ones are padded.
        """
        out: dict[int, EncodedChunk] = {}
        tails = [self._tail(memory) if chunk.tail is None else self._tail_of(chunk.tail) for chunk, memory in requests]
        for numbers in _passes(requests, tails, batch):
            chunks, first = [list(requests[number][0].ids) for number in numbers], requests[numbers[0]][1]
            lengths = tuple(map(len, chunks))
            longest = max(lengths)
            table = torch.tensor([ids + ids[-1:] * (longest - len(ids)) for ids in chunks], device=self.device)
            tail = joined([tails[number] for number in numbers])
            written = self._pass(first, table, tail, lengths=lengths if min(lengths) < longest else None)
            for ids, one in zip(chunks, written, strict=True):
                one.ids = tuple(ids)
            out.update(zip(numbers, written, strict=True))
        return [out[number] for number in range(len(requests))]

    def cut(self, text: str, *, special_tokens: bool = False) -> list[list[int]]:
        """Token ids of a text in chunks as ``memory.write`` makes them.

        Args:
            special_tokens: take special tokens that the text spells out as such; else they are characters as others are.

        Raises:
            EmptyTextError: there is nothing but white space.
        """
        if not text.strip():
            raise EmptyTextError("nothing to write: the text is empty; give text with at least one word")
        if self.checkpoint.tokenizer is None:
            raise InputError("this model was opened without a tokenizer; give token ids instead of text")
        size = self.checkpoint.geometry.sizes.chunk_tokens
        return chunking.cut(self.checkpoint.tokenizer, text, size, special_tokens=special_tokens)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids.

        Raises:
            InputError: the model was opened without a tokenizer.
        """
        if self.checkpoint.tokenizer is None:
            raise InputError("this model was opened without a tokenizer, so token ids have no text; open it with one")
        return str(self.checkpoint.tokenizer.decode(list(ids), clean_up_tokenization_spaces=False))

    def opening(self, memory: Memory) -> EncodedChunk:
        """At most K tokens of a neutral text, which the first chunk of a source sees where later ones see what stands before them.

        A chunk that sees nothing is read worse: the model was trained with chunks that see others (docs/decisions/0032). Empty where the
        model was opened without a tokenizer.
        """
        key = self._form(memory)
        if key not in self._openings:
            with ordinary_tensors():
                self._openings[key] = self._encoded_opening(memory)
        return self._openings[key]

    def _encoded_opening(self, memory: Memory) -> EncodedChunk:
        nothing = memory.layout.empty(0)
        if self.checkpoint.tokenizer is None:
            return EncodedChunk(nothing, 0, hidden=nothing.get("hidden"))
        sizes = memory.geometry.sizes
        ids = literal_ids(self.checkpoint.tokenizer, NEUTRAL)[: min(sizes.new_tokens * sizes.tokens_per_row, sizes.chunk_tokens)]
        written = self._pass(memory, torch.tensor([ids], device=self.device), Tail())[0]
        written.rows = memory.codec.rounded(written.rows)
        return EncodedChunk(written.rows, 0, hidden=written.rows.get("hidden", written.hidden))

    def _form(self, memory: Memory) -> Hashable:
        """What two memories have in common where the same chunk behind the same text has the same rows."""
        sizes = memory.geometry.sizes
        return self.parts.weights_version(), memory.format, repr(memory.codec.fields), sizes.new_tokens, sizes.tokens_per_row

    def shared_rows(self, memory: Memory) -> SharedRows:
        """Where rows of known chunks lie that memories of this form have."""
        key = self._form(memory)
        if key not in self._shared:
            self._shared[key] = SharedRows()
        return self._shared[key]

    def layout(self, memory_format: MemoryFormat, geometry: Geometry) -> RowLayout:
        """Fields of one memory token.

        Raises:
            GeometryError: `geometry` changes what belongs to the model, or asks for a search the model cannot do.
            InputError: the format is not known.
        """
        self._check_belongs(memory_format, geometry)
        decoder, retriever = self.parts.decoder, self.parts.retriever
        heads = (decoder.kv_heads, decoder.head_width)
        fields: dict[str, tuple[int, ...]] = (
            {"hidden": (decoder.width,)} if memory_format == "hidden" else {"keys": heads, "values": heads}
        )
        groups = 0
        if geometry.sizes.reads_ltm and retriever is not None:
            rows = geometry.sizes.tokens_per_row
            fields["search"] = (retriever.search_width,) if rows == 1 else (rows, retriever.search_width)
            groups = len(retriever.layers) if retriever.in_each_layer else 1
        return RowLayout(
            format=memory_format,
            layers=decoder.depth,
            fields=fields,
            search_groups=groups,
            dtype=decoder.dtype,
            device=decoder.device,
        )

    def _check_belongs(self, memory_format: MemoryFormat, geometry: Geometry) -> None:
        if memory_format not in get_args(MemoryFormat):
            raise InputError(f"memory_format {memory_format!r} is not known; choose {' or '.join(get_args(MemoryFormat))}")
        for name in RULES_OF_A_READ:
            own, asked = self.checkpoint.geometry.flat()[name], geometry.flat()[name]
            if own != asked:
                raise GeometryError(
                    f"{name} belongs to the model ({own!r}), a memory cannot have {asked!r}; open the model with it"
                )
        if geometry.sizes.tokens_per_row > 1 and memory_format == "hidden":
            raise GeometryError(
                f"tokens_per_row is {geometry.sizes.tokens_per_row}, which takes means of keys and values, and memory_format is 'hidden'; "
                "choose memory_format='kv'"
            )
        if geometry.sizes.reads_ltm and self.parts.retriever is None:
            raise GeometryError(
                "this model was opened without long-term memory (ltm), so nothing can be found; open it with ltm=True"
            )

    def initial_rows(self, memory: Memory) -> tuple[Rows, Tensor | None] | None:
        """Rows of the pool a published model starts with, and the tail's hidden states."""
        initial = self.checkpoint.initial
        if initial is None:
            return None
        key = (memory.format, "search" in memory.layout.fields)
        if key not in self._initial:
            with self.turn.held():
                self._initial[key] = rows_of_hidden(self.parts, initial.stm.to(self.device), memory)
        rows, tail = self._initial[key]
        held = memory.geometry.sizes.stm_tokens  # a pool smaller than the published one keeps the newest
        return {name: value[:, -held:].clone() for name, value in rows.items()}, tail

    def initial_longterm(self, memory: Memory) -> list[tuple[Rows, Tensor, Tensor | None]] | None:
        """Rows, ages and recall frequencies per layer of the long-term memory a published model starts with."""
        initial = self.checkpoint.initial
        if initial is None or not initial.ltm or not memory.geometry.sizes.ltm or not memory.initialised:
            return None
        with self.turn.held():
            return [
                (longterm_rows(self.parts, layer, rows, keys, memory), initial.ltm_ages[layer], initial.ltm_frequencies[layer])
                for layer, (rows, keys) in enumerate(zip(initial.ltm, initial.ltm_keys, strict=True))
            ]

    def _tail(self, memory: Memory, source: str | None = None) -> Tail:
        if memory.geometry.write.context == "source":
            return self._tail_of(newest_of(memory, source))
        if memory.tail is not None and memory.initialised:
            return Tail(hidden=memory.tail[None])
        if not memory.initialised or not len(memory.short_term) or not keeps_write_kv(memory.geometry):
            return Tail()
        newest = memory.short_term.newest(memory.geometry.sizes.new_tokens)
        return Tail(keys=newest["keys"][None], values=newest["values"][None])

    def _tail_of(self, written: EncodedChunk) -> Tail:
        if written.hidden is not None:
            return Tail(hidden=written.hidden[None].to(self.device)) if written.hidden.shape[1] else Tail()
        if not written.tokens or "keys" not in written.rows:
            return Tail()
        return Tail(keys=written.rows["keys"][None], values=written.rows["values"][None])


def _smaller_format(checkpoint: LoadedModel) -> MemoryFormat:
    """K and V, unless a hidden state is smaller than both together (models without grouped heads)."""
    decoder = checkpoint.parts.decoder
    return "kv" if 2 * decoder.kv_heads * decoder.head_width <= decoder.width else "hidden"


def _passes(requests: Sequence[tuple[ChunkToEncode, Memory]], tails: list[Tail], batch: int) -> Iterator[list[int]]:
    """Numbers of requests that can share a pass: the same kind of memory and as many newest tokens to see."""
    groups: dict[object, list[int]] = {}
    for number, ((ids, _), memory) in enumerate(requests):
        tail = tails[number]
        padded = memory.geometry.write.tap == "input" or len(ids) >= memory.geometry.sizes.new_tokens
        kind = (memory.geometry, memory.format, memory.initialised, tail.tokens, tail.hidden is None, padded or len(ids))
        groups.setdefault(kind, []).append(number)
    for numbers in groups.values():
        by_length = sorted(numbers, key=lambda number: len(requests[number][0].ids))
        for start in range(0, len(by_length), batch):
            yield by_length[start : start + batch]
