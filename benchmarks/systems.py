"""What is compared, each with the same acts: a first token, decoding, and where there is a memory, writing. Keeps no times.

``ours``     K and V per memory token, the product as it is
``literal``  the published procedure: hidden states, and every part of ``PublishedProcedure``
``full``     plain transformers with the whole text in context
``cached``   the same with the text's K and V kept: only the query runs
``static``   plain transformers decoding into a static cache
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final, get_args

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel, StaticCache

from benchmarks.reference import DIFFERENCES, PublishedProcedure
from benchmarks.synthetic_memory import fill_short
from benchmarks.timing import timed
from mplus.attach.cache import passed
from mplus.evaluation.systems.clock import TokenClock
from mplus.memory.memory import Memory
from mplus.model import MPlusModel
from mplus.settings import MemoryFormat, RowType, SearchType

OURS_ROW_TYPE: Final = "bfloat16"
"""Half the bytes of numbers that attention sees; every other type is counted beside it."""
SEARCH_TYPES: Final = {"bfloat16": "int8"}
"""Search keys beside rows of a type, where they are of another: int8 keys find what longer ones do (benchmarks/row_types.py)."""
LITERAL_FIELDS: Final[dict[str, Any]] = {"ltm_dtype": "model", "ltm_search_dtype": "model", "search": "exact"}
"""Geometry fields of the published procedure: rows as the model computes them, every key scored."""


def row_types() -> list[str]:
    """Number types in which long-term rows can be kept, as ``Geometry`` knows them."""
    return list(get_args(RowType))


def storage_fields(row_type: str) -> dict[str, Any]:
    """Geometry fields that keep rows and, where that can be chosen, search keys in `row_type`; whatever a model keeps by itself."""
    search_type = SEARCH_TYPES.get(row_type, row_type)
    possible = get_args(SearchType)
    return {"ltm_dtype": row_type, "ltm_search_dtype": search_type if search_type in possible else "model"}


class WithMemory:
    """A model that reads one memory.

    Attributes:
        memory: read and written; a read leaves it as it is.
        differences: parts of the published procedure; none for the product.
    """

    def __init__(self, model: MPlusModel, memory: Memory, differences: Collection[str] = ()) -> None:
        self.model, self.memory, self.differences = model, memory, differences

    def first_token(self, query: Tensor) -> float:
        """Seconds until the first new token behind `query` [T]."""
        return self._timed(lambda: self.model.generate(query[None], self.memory, max_new_tokens=1, do_sample=False))

    def decode(self, query: Tensor, new_tokens: int) -> float:
        """Seconds for `new_tokens` tokens after the first."""
        options = greedy(self.model.parts.decoder.config, new_tokens)
        with PublishedProcedure(self.model, self.differences):
            return decoding_s(lambda clock: self.model.generate(query[None], self.memory, streamer=clock, **options))

    def write(self, ids: Tensor) -> float:
        """Seconds to read `ids` [T] into the memory."""
        return self._timed(lambda: self.memory.write(ids))

    def write_batch(self, memories: Sequence[Memory], ids: Tensor) -> float:
        """Seconds to read one chunk into each memory; `ids` [B, T]."""
        return self._timed(lambda: self.model.write_many(list(memories), [row.tolist() for row in ids]))

    def with_memory(self, memory: Memory) -> WithMemory:
        """The same with another memory."""
        return WithMemory(self.model, memory, self.differences)

    def _timed(self, act: Callable[[], Any]) -> float:
        with PublishedProcedure(self.model, self.differences):
            return timed(act)


def ours(
    model: MPlusModel, capacity_tokens: int, *, row_type: str = OURS_ROW_TYPE, memory_format: MemoryFormat = "kv"
) -> WithMemory:
    """Our way, with a full short-term memory; any single choice can be taken back."""
    memory = model.new_memory(memory_format=memory_format, ltm_capacity=capacity_tokens, **storage_fields(row_type))
    fill_short(memory)
    return WithMemory(model, memory)


def literal(model: MPlusModel, capacity_tokens: int) -> WithMemory:
    """The published procedure, with a full short-term memory."""
    memory = model.new_memory(memory_format="hidden", ltm_capacity=capacity_tokens, **LITERAL_FIELDS)
    with PublishedProcedure(model):
        fill_short(memory)
    return WithMemory(model, memory, tuple(DIFFERENCES))


class FullContext:
    """Plain transformers with a text [C] in its context."""

    def __init__(self, model: PreTrainedModel, text: Tensor) -> None:
        self.model: Any = model
        self.text = text.to(model.device)
        self._kept: Any = None

    def first_token(self, query: Tensor) -> float:
        """Seconds until the first new token, the whole text read again."""
        ids = self._ids(query)
        return timed(lambda: self._generate(ids, max_new_tokens=1, do_sample=False))

    def first_token_cached(self, query: Tensor) -> float:
        """Seconds until the first new token when the text's keys and values are at hand."""
        ids, cache = self._ids(query), copy.deepcopy(self._dynamic())
        return timed(lambda: self._generate(ids, max_new_tokens=1, do_sample=False, **passed(cache)))

    def decode_cached(self, query: Tensor, new_tokens: int) -> float:
        """Seconds for `new_tokens` tokens after the first, transformers' growing cache."""
        return self._decode(query, new_tokens, copy.deepcopy(self._dynamic()))

    def decode_static(self, query: Tensor, new_tokens: int) -> float:
        """Seconds for `new_tokens` tokens after the first, into a static cache that is just long enough."""
        cache: Any = StaticCache(config=self.model.config, max_cache_len=self.text.shape[0] + query.shape[0] + new_tokens + 1)
        for number, layer in enumerate(self._dynamic().layers):
            cache.update(layer.keys, layer.values, number)
        return self._decode(query, new_tokens, cache)

    def _decode(self, query: Tensor, new_tokens: int, cache: Any) -> float:
        options = {**passed(cache), **greedy(self.model.config, new_tokens)}
        return decoding_s(lambda clock: self._generate(self._ids(query), streamer=clock, **options))

    def _ids(self, query: Tensor) -> Tensor:
        return torch.cat([self.text, query.to(self.text)])[None]

    def _generate(self, ids: Tensor, **kwargs: Any) -> None:
        self.model.generate(ids, attention_mask=torch.ones_like(ids), pad_token_id=0, **kwargs)

    def _dynamic(self) -> Any:
        if self._kept is None:
            self._kept = DynamicCache(config=self.model.config)
            with torch.no_grad():
                self.model(self.text[None], use_cache=True, logits_to_keep=1, **passed(self._kept))
        return self._kept


def decoding_s(generate: Callable[[TokenClock], Any]) -> float:
    """Seconds from the first new token to the last."""
    clock = TokenClock()
    generate(clock)
    return clock.seconds[-1] - clock.first_token_s


def greedy(config: Any, new_tokens: int) -> dict[str, Any]:
    """Arguments of ``generate`` for exactly `new_tokens` + 1 tokens, the first of which comes out of the prompt's own pass."""
    count = new_tokens + 1
    fixed = {} if config.eos_token_id is None else {"min_new_tokens": count}
    return {"max_new_tokens": count, "do_sample": False, **fixed}
