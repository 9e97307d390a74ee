"""The read: memory stands before the prompt as keys and values of every layer. Changes no memory.

Legend: B prompts, T prompt tokens, P prefix slots, L layers, H kv heads, E head width, n short-term tokens, k long-term tokens.

Row b of layer l is [unused | BOS_l | k long-term, oldest first | n short-term, oldest first | prompt]; positions count from BOS.
With ``read_order="score"`` it is [unused | BOS_l | n short-term, oldest first | k retrieved, best span last | prompt]; short-term tokens
that were retrieved stand among these only. Where the best block is among the newest ``recent_tokens``, these stay whole and
behind the others: [unused | BOS_l | older short-term | k retrieved, best span last | newest short-term | prompt].

A conversation's earlier turns stand, where all layers share what is retrieved, between BOS and memory (decision 0025): they keep their slots
in the prompt, but have the positions right behind BOS, and do not see memory. See ``mplus.attach.earlier_turns``.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from mplus.attach.earlier_turns import EarlierTurns, can_hide
from mplus.attach.hooks import Hooks
from mplus.attach.parts import ModelParts
from mplus.attach.prefix_buffers import PrefixBuffers, PrefixKey, with_room
from mplus.attach.prefix_pass import Pair, PrefixPass
from mplus.attach.query_pass import query_states
from mplus.attach.second_round import second_prompts
from mplus.errors import InputError
from mplus.memory.memory import Memory
from mplus.memory.rows import EncodedChunk, Rows
from mplus.memory.short_term import ShortTerm
from mplus.retrieval.protocol import Retriever, WindowRetriever, planned_tokens
from mplus.retrieval.result import RetrievalResult, Retrieved, fields_read, rows_of_all_layers
from mplus.settings import Geometry
from mplus.text.prompts import Prompts
from mplus.text.search_query import Query


class Reading:
    """Everything a forward pass needs to read memory: prefix length, mask, cache, hooks.

    Args:
        memories: one per prompt (the same object may stand for several), or what a write pass produced, read alone.
        ids_BT, text_BT: the prompts, left-padded, and False at padding.
        room: tokens that will stand behind the prefix.
        storing: False keeps nothing of what passes; see ``PrefixLayer``.
        exact: score every long-term token, however many there are.
        query: what searches; None: the prompts, all of them.

    Raises:
        InputError: each layer searches in the reading pass, but the query does not stand in the prompt.
    """

    def __init__(
        self,
        model_parts: ModelParts,
        geometry: Geometry,
        memories: list[Memory | EncodedChunk],
        ids_BT: Tensor,
        text_BT: Tensor,
        *,
        room: int,
        storing: bool = True,
        exact: bool = False,
        query: Query | None = None,
    ) -> None:
        self.parts, self.geometry, self.memories = model_parts, geometry, memories
        self.room, self.storing, self.exact = room, storing, exact
        self.device = ids_BT.device
        self.alone = any(isinstance(memory, EncodedChunk) for memory in memories)
        self.sources = list({id(memory): memory for memory in memories}.values())
        self.rows_of = [[row for row, memory in enumerate(memories) if memory is source] for source in self.sources]
        self.results: list[list[RetrievalResult]] = [[] for _ in memories]
        self.gathered: dict[int, Rows] = {}
        self.shared = geometry.read.is_shared
        query = query or Query.whole(Prompts(ids_BT, text_BT))
        self.query = query = query.behind(ids_BT.shape[1])
        self.searching = query.columns
        self.whole = self.searching is not None and torch.equal(self.searching, text_BT)
        if self.shared:
            self._search_before(query)
        elif query.rounds > 1:
            raise InputError(
                f"rounds is {query.rounds}, but every layer of this model searches for itself, once; leave rounds out"
            )
        elif self.searching is None and any(isinstance(source, Memory) and planned_tokens(source) for source in self.sources):
            raise InputError(
                "every layer of this model searches with tokens of the prompt, but the query does not stand in it; "
                "give a part of the prompt, or leave the query out"
            )
        self.retrieved_tokens = [self._retrieved_tokens(row) for row in range(len(memories))]
        self.left_short = [self._left_short(row) for row in range(len(memories))]
        self.behind = [self._behind(row) for row in range(len(memories))]
        self.lengths = [1 + count + self._short_tokens(row) for row, count in enumerate(self.retrieved_tokens)]
        self.prefix_pass = PrefixPass(model_parts.decoder, self.lengths, text_BT, room=room, storing=storing)
        self.prefix = self.prefix_pass.prefix
        self.turns = EarlierTurns(model_parts.decoder, query.earlier, text_BT, self.lengths) if self._moves(query) else None
        self.rotations: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}
        self.slots: PrefixBuffers | None = None
        self.placed_from: ShortTerm | None = None
        """The short-term memory that a later read may find the slots by; the memory may have another one by then."""

    @property
    def adapter(self) -> str | None:
        """The adapter of this pass: `read`; a written chunk alone is read as a write would see it (published)."""
        return self.parts.adapters.write if self.alone else self.parts.adapters.read

    @property
    def memory_adapter(self) -> str | None:
        """The adapter that projects BOS, and memory that is kept as hidden states."""
        return self.parts.adapters.named("write" if self.alone else self.geometry.read.memory_projection)

    def install(self, hooks: Hooks) -> None:
        """Place what is known before the pass, if it is not there yet, and hook every layer."""
        if self.slots is None:
            self.place()
        self.prefix_pass.install(hooks, self._fill)
        if self.turns is not None:
            self.turns.install(hooks, self.prefix_pass.cache)

    def place(self) -> None:
        """Put BOS, short-term memory and what was retrieved for all layers into their slots; after it, where all layers share what
        is retrieved, the memories may change."""
        with torch.no_grad():
            if self._may_keep:
                self.placed_from = self._short_term
            self.slots = self._placed()

    def release(self) -> None:
        """Leave the buffers to the next read of this memory; the cache of this read must not be used any more."""
        if self.slots is not None and self.placed_from is not None:
            self.parts.prefix_pool.put(self.placed_from, self.parts.weights_version(), self.slots)
        self.slots = None

    def retrieved(self) -> list[Retrieved]:
        """What each prompt drew, after the pass has run."""
        return [Retrieved(result) for result in self.results]

    def _moves(self, query: Query) -> bool:
        """Tell whether earlier turns take positions before memory."""
        return self.shared and not self.alone and bool(query.earlier.any()) and can_hide(self.parts.decoder)

    # -- long-term -------------------------------------------------------------------------------------------------

    def _retriever(self, memory: Memory) -> Retriever | None:
        """The retriever of a memory, or that of the model where it has none."""
        own: Retriever | None = memory.retriever
        return own or self.parts.retriever

    def _search_before(self, query: Query) -> None:
        """Search for all layers, before the pass."""
        states: dict[int, Tensor] | None = None
        ids_BT, text_BT = query.prompts.ids, query.prompts.mask
        for source, rows in zip(self.sources, self.rows_of, strict=True):
            retriever = self._retriever(source) if isinstance(source, Memory) else None
            if not isinstance(source, Memory) or retriever is None or not retriever.can_search(source):
                continue
            if states is None:
                states = query_states(self.parts, retriever.layers, ids_BT, text_BT)
            here = torch.tensor(rows, device=ids_BT.device)
            own = {layer: part[here] for layer, part in states.items()}
            more: dict[str, Any] = {}
            if source.geometry.read.same_slot != "score" and isinstance(retriever, WindowRetriever):
                past = query.asks_for_the_past()
                more["past"] = [past[row] for row in rows]
            results = retriever.search(source, own, text_BT[here], exact=self.exact, **more)
            if query.rounds > 1:
                results = self._search_again(source, retriever, Prompts(ids_BT[here], text_BT[here]), results)
            for row, result in zip(rows, results, strict=True):
                self.results[row] = [result]
                self.gathered[row] = rows_of_all_layers(source, result, self.device)

    def _search_again(
        self, memory: Memory, retriever: Retriever, prompts: Prompts, results: list[RetrievalResult]
    ) -> list[RetrievalResult]:
        """The second round, with what the first one found; results of a retriever that knows no rounds stay as they are."""
        if not isinstance(retriever, WindowRetriever) or any(result.windows is None for result in results):
            return results
        again = second_prompts(retriever, memory, prompts, results, int(prompts.ids[0, 0]))
        states = query_states(self.parts, retriever.layers, again.ids, again.mask)
        return retriever.search(memory, states, again.mask, exact=self.exact, before=results)

    def _retrieved_tokens(self, row: int) -> int:
        memory = self.memories[row]
        if not isinstance(memory, Memory):
            return 0
        if self.shared:
            return sum(result.indices.shape[0] + result.short.shape[0] for result in self.results[row])
        return planned_tokens(memory)

    def _left_short(self, row: int) -> Tensor | None:
        """Ranks of the short-term tokens that stay at their place in time; None: all of them."""
        if not self.shared or not self.results[row] or not self.results[row][0].short.numel():
            return None
        memory = self.memories[row]
        assert isinstance(memory, Memory)
        stays = torch.ones(len(memory.short_term), dtype=torch.bool, device="cpu")
        stays[self.results[row][0].short] = False
        return stays.nonzero()[:, 0]

    def _behind(self, row: int) -> int:
        """Short-term tokens that stand behind what was retrieved."""
        behind = self.results[row][0].behind if self.shared and self.results[row] else None
        return self._short_tokens(row) if behind is None else behind

    def _short_tokens(self, row: int) -> int:
        left = self.left_short[row]
        return _stm_tokens(self.memories[row]) if left is None else left.shape[0]

    def _longterm(self, layer: int, normed: Tensor, repeat: int) -> dict[int, Rows]:
        """Rows [k, ...] that one layer retrieved per prompt."""
        out: dict[int, Rows] = {}
        for source, rows in zip(self.sources, self.rows_of, strict=True):
            if not isinstance(source, Memory) or planned_tokens(source) == 0:
                continue
            here = torch.tensor(rows, device=normed.device)
            assert self.searching is not None
            grown = normed.shape[1] - self.searching.shape[1]  # without a cache each step brings the whole text again
            text = functional.pad(
                self.searching[here], (0, grown), value=self.whole
            )  # new tokens search too in the published code
            retriever = self._retriever(source)
            assert retriever is not None
            results = retriever.search(source, {layer: normed[here * repeat]}, text, exact=self.exact)
            for row, result in zip(rows, results, strict=True):
                self.results[row] = [*self.results[row][:layer], result]
                out[row] = source.long_term.gather(layer, result.indices, fields_read(source.layout.format), self.device)
        return out

    # -- slots -----------------------------------------------------------------------------------------------------

    def _rotation(self, row: int, target: slice) -> tuple[Tensor, Tensor]:
        """cos, sin [n, E] of memory slots of a row; positions count from its BOS."""
        bos = self.prefix - self.lengths[row] - self._before(row)
        reach = (target.start - bos, target.stop - bos)
        if reach not in self.rotations:
            positions = torch.arange(*reach, device=self.device)[None]
            cos, sin = self.parts.decoder.rotation(positions, self.parts.bos)
            self.rotations[reach] = cos[0], sin[0]
        return self.rotations[reach]

    def _before(self, row: int) -> int:
        """Tokens of earlier turns that stand between BOS and memory."""
        return 0 if self.turns is None else self.turns.counts[row]

    @property
    def _short_term(self) -> ShortTerm:
        memory = self.memories[0]
        assert isinstance(memory, Memory)
        return memory.short_term

    @property
    def _may_keep(self) -> bool:
        """One prompt on one memory: whose buffers a later read can use."""
        return len(self.memories) == 1 and isinstance(self.memories[0], Memory)

    def _placed(self) -> PrefixBuffers:
        """Buffers with BOS, short-term memory and what was retrieved for all layers at once in their slots."""
        decoder = self.parts.decoder
        slots = self._from_pool() if self._may_keep else None
        if slots is None:
            slots = PrefixBuffers(decoder, len(self.memories), with_room(self.prefix + self.room))
        if not slots.has_bos:
            for layer, (keys, values) in enumerate(self.parts.bos_kv(self.memory_adapter, decoder.depth)):
                for row, length in enumerate(self.lengths):
                    at = self.prefix - length
                    slots.keys[layer, row, :, at], slots.values[layer, row, :, at] = keys[0], values[0]
        for row, length in enumerate(self.lengths):
            slots.blank(row, self.prefix - length)
        for source, rows in zip(self.sources, self.rows_of, strict=True):
            self._place_source(slots, source, rows)
        if self._may_keep:
            slots.has_bos = True
        return slots

    def _from_pool(self) -> PrefixBuffers | None:
        version = self.parts.weights_version()
        held = self.parts.prefix_pool.take(self._short_term, version, self.prefix + self.room)
        return held if held is not None and held.keys.dtype == self.parts.decoder.dtype else None

    def _place_source(self, slots: PrefixBuffers, source: Memory | EncodedChunk, rows: list[int]) -> None:
        """Short-term tokens of one memory in all rows that read it, and what was retrieved for all layers."""
        placed: dict[str, int] = {}  # rows whose short-term tokens are all left stand alike where their slots are the same
        for row in rows:
            alike = repr((self._runs(row), self._before(row))) if self.left_short[row] is None else f"row {row}"
            if alike in placed:
                for _, target in self._runs(row):
                    slots.copy_row(placed[alike], row, target)
            else:
                placed[alike] = row
                self._place_short(slots, source, row)
        for row in rows:
            if row in self.gathered:
                self._place(slots, slice(None), row, self._retrieved_slots(row), self.gathered[row])

    def _place_short(self, slots: PrefixBuffers, source: Memory | EncodedChunk, row: int) -> None:
        key = self._key(row)
        if key is not None and slots.key == key:
            return  # they are there since the last read
        slots.key = key
        left = self.left_short[row]
        short = _stm_rows(source, left)
        for taken, target in self._runs(row):
            part = {name: value[:, taken] for name, value in short.items()}
            self._place(slots, slice(None), row, target, part)

    def _key(self, row: int) -> PrefixKey | None:
        """Cache key of a row whose short-term tokens are all there, in one run; None: a later read cannot use them."""
        memory, runs = self.memories[row], self._runs(row)
        if not self._may_keep or self.left_short[row] is not None or len(runs) != 1 or not isinstance(memory, Memory):
            return None
        first = runs[0][1].start
        return PrefixKey(memory.short_term.version, first, first + self._before(row), memory.format)

    def _runs(self, row: int) -> list[tuple[slice, slice]]:
        """Short-term tokens of a row, in runs: which of those that are left, and the slots where they stand."""
        total, behind = self._short_tokens(row), min(self.behind[row], self._short_tokens(row))
        older = total - behind
        first = self.prefix - self.lengths[row] + 1
        runs = [(slice(0, older), slice(first, first + older)), (slice(older, total), slice(self.prefix - behind, self.prefix))]
        return [run for run in runs if run[0].stop > run[0].start]

    def _retrieved_slots(self, row: int) -> slice:
        last = self.prefix - self.behind[row]
        return slice(last - self.retrieved_tokens[row], last)

    def _place(self, slots: PrefixBuffers, layers: slice, row: int, target: slice, rows: Rows) -> None:
        """Put rows [l, n, ...] of some layers into the slots of a row."""
        if target.stop == target.start:
            return
        rotation = self._rotation(row, target)
        if "keys" in rows:
            slots.place(layers, row, target, rows["keys"], rows["values"], rotation)
            return
        numbers = range(*layers.indices(self.parts.decoder.depth))
        with self.parts.adapters.on(self.memory_adapter):
            for layer, hidden in zip(numbers, rows["hidden"], strict=True):
                keys, values = self.parts.decoder.project(layer, hidden)
                slots.place(slice(layer, layer + 1), row, target, keys[None], values[None], rotation)

    def _fill(self, layer: int, normed: Tensor) -> Pair:
        slots = self.slots
        assert slots is not None
        repeat = normed.shape[0] // len(self.memories)  # beams and several samples of one prompt
        if not self.shared:
            with torch.no_grad():
                for row, rows in self._longterm(layer, normed, repeat).items():
                    one = {name: value[None] for name, value in rows.items()}
                    self._place(slots, slice(layer, layer + 1), row, self._retrieved_slots(row), one)
        keys, values = slots.keys[layer], slots.values[layer]
        if repeat > 1:
            keys, values = keys.repeat_interleave(repeat, 0), values.repeat_interleave(repeat, 0)
        return keys, values


def _stm_tokens(memory: Memory | EncodedChunk) -> int:
    return memory.tokens if isinstance(memory, EncodedChunk) else len(memory.short_term)


def _stm_rows(memory: Memory | EncodedChunk, left: Tensor | None) -> Rows:
    """Short-term rows [L, n, ...], oldest first; a chunk read alone gives its hidden states where it has them.

    Args:
        left: ranks, if not all of them.
    """
    if isinstance(memory, EncodedChunk):
        if memory.hidden is not None:
            return {"hidden": memory.hidden}
        return {name: memory.rows[name] for name in ("keys", "values")}
    order = memory.short_term.order if left is None else memory.short_term.order[:, left]
    return memory.short_term.at_slots(order, fields_read(memory.layout.format))
