"""What the two-level search loses against the exact one, and what it costs, on real search keys:
``python -m benchmarks.search_recall --keys DIR``.

DIR is made by ``experiments/stream_keys.py``: search keys of a long streamed text (six voting layers of 64 numbers), and questions
about facts in it. Both searches are those of a read (``Retriever.search``), over a long-term memory that holds these keys.
Sizes beyond the text are filled with synthetic keys, each voting layer's numbers taken from another random token. For the score of
one layer, every voting layer's 64 numbers stand for a layer of their own.

Legend: M long-term tokens, F search key width, R width of one layer, T prompt tokens, K0 tokens read.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks.stored_keys import StoredKeys
from mplus.index.int8_keys import Int8Keys
from mplus.memory.log import RowLog
from mplus.memory.long_term import LongTerm
from mplus.memory.placement import LongGroup, Placement
from mplus.memory.row_codec import RowCodec
from mplus.memory.rows import RowLayout
from mplus.memory.short_term import ShortTerm
from mplus.retrieval.late_interaction import LateInteractionRetriever
from mplus.retrieval.per_layer import PerLayerRetriever
from mplus.settings import Geometry

LAYERS, WIDTH = 6, 64
BLOCK = 16
PIECE = 65_536


class StoredQueries(LateInteractionRetriever):
    """Late interaction whose query vectors and weights are given instead of computed."""

    given: tuple[Tensor, Tensor]

    def queries(self, features: list[Tensor], text_BT: Tensor) -> tuple[Tensor, Tensor]:
        return self.given


class StoredLayer(PerLayerRetriever):
    """One layer's search whose query vectors are given."""

    def queries(self, layer: int, normed_BTD: Tensor) -> Tensor:
        return normed_BTD


def pieces(real_MF: Tensor, total: int, seed: int = 0) -> Iterator[Tensor]:
    """`total` keys [n, F]: real ones of a text, then synthetic ones made of them."""
    generator = torch.Generator().manual_seed(seed)
    for start in range(0, total, PIECE):
        end = min(start + PIECE, total)
        own = real_MF[start:end]
        if own.shape[0] < end - start:
            count = end - start - own.shape[0]
            rows = torch.randint(0, real_MF.shape[0], (LAYERS, count), generator=generator)
            parts = [real_MF[rows[layer], layer * WIDTH : (layer + 1) * WIDTH] for layer in range(LAYERS)]
            own = torch.cat([own, torch.cat(parts, 1)])
        yield own


def held(keys: Any, geometry: Geometry, width: int, search_groups: int) -> Any:
    """A memory of which only the search keys matter: what a search asks of one."""
    layout = RowLayout(
        format="kv",
        layers=1,
        fields={"keys": (1, 1), "values": (1, 1), "search": (width,)},
        search_groups=search_groups,
        dtype=torch.float32,
        device=torch.device("cpu"),
    )
    codec = RowCodec(layout, geometry)
    log, empty = RowLog(codec.fields), Placement.new(geometry, layout.layers, 0)
    for piece in keys:
        content = torch.zeros(piece.shape[0], 1, 1, 1)
        search = piece.float() if geometry.read.is_shared else piece.float()[:, None]
        log, _ = log.appended(codec.encode({"keys": content, "values": content, "search": search}))
    rows, now = torch.arange(log.end), log.end
    placement = replace(empty, long=(LongGroup().with_more(rows, rows, None),), now=now)
    return SimpleNamespace(
        long_term=LongTerm(layout, geometry, codec, log, placement.long),
        placement=placement,
        geometry=geometry,
        short_term=ShortTerm(layout, 64, 1),
        now=now,
        seed=0,
        ages=lambda births: now - 1 - births,
    )


def vote_memory(keys: StoredKeys, total: int, search_dtype: str) -> Any:
    geometry = Geometry(
        stm_tokens=512,
        ltm_read_tokens=256,
        ltm_capacity=total,
        block_tokens=BLOCK,
        ltm_dtype="bfloat16",
        ltm_search_dtype=search_dtype,
    )
    return held(pieces(keys.keys_MF, total), geometry, LAYERS * WIDTH, 1)


def layer_memory(keys: StoredKeys, total: int, layer: int, read: int, search_dtype: str) -> Any:
    geometry = Geometry(
        drop="per_layer", retrieval="per_layer", stm_tokens=2560, ltm_read_tokens=read, ltm_capacity=total, block_tokens=1,
        neighbour_blocks=0, ltm_dtype="bfloat16", ltm_search_dtype=search_dtype,
    )  # fmt: skip
    own = (piece[:, layer * WIDTH : (layer + 1) * WIDTH] for piece in pieces(keys.keys_MF, total))
    return held(own, geometry, WIDTH, 1)


def both(search: Any, rounds: int = 3) -> tuple[list[Any], list[float], list[float]]:
    """What the exact and the fast search found, and their seconds, in turns."""
    out: list[Any] = []
    seconds: dict[bool, list[float]] = {True: [], False: []}
    for exact in (True, False):
        out.append(search(exact))
    for _ in range(rounds):
        for exact in (True, False):
            start = time.perf_counter()
            search(exact)
            seconds[exact].append(time.perf_counter() - start)
    return out, seconds[True], seconds[False]


def measure_vote(keys: StoredKeys, total: int, search_dtype: str) -> dict[str, Any]:
    """Shared retrieval at one size."""
    memory = vote_memory(keys, total, search_dtype)
    retriever = StoredQueries(tuple(range(LAYERS)), WIDTH, window=keys.window)
    start = time.perf_counter()
    memory.long_term.index_of(0)
    built = time.perf_counter() - start
    kept: list[float] = []
    best: list[bool] = []
    facts: dict[bool, list[bool]] = {True: [], False: []}
    times: dict[bool, list[float]] = {True: [], False: []}
    for (query, weight), (first, end) in zip(keys.queries, keys.spans, strict=True):
        text = torch.ones(1, query.shape[0], dtype=torch.bool)
        retriever.given = query[None], weight[None]
        states = dict.fromkeys(retriever.layers, query[None])
        search = lambda exact, s=states, t=text: retriever.search(memory, s, t, exact=exact)[0]  # noqa: E731
        (exact, fast), slow_s, fast_s = both(search, 1)
        for name, value in ((True, slow_s), (False, fast_s)):
            times[name] += value
        wanted, got = set(exact.indices.tolist()), set(fast.indices.tolist())
        kept.append(len(wanted & got) / len(wanted))
        best.append(float(fast.scores.max()) >= float(exact.scores.max()) - 1e-4)
        span = set(range(first, end))
        if end <= total:
            for name, found in ((True, wanted), (False, got)):
                facts[name].append(len(span & found) >= 0.9 * len(span))
    return {
        "tokens": total,
        "kept": sum(kept) / len(kept),
        "best": sum(best) / len(best),
        "facts_exact": sum(facts[True]) / max(1, len(facts[True])),
        "facts_fast": sum(facts[False]) / max(1, len(facts[False])),
        "questions": len(facts[True]),
        "exact_s": median(times[True]),
        "fast_s": median(times[False]),
        "ratio": median([slow / fast for slow, fast in zip(times[True], times[False], strict=True)]),
        "index_bytes_per_token": memory.long_term.indexes[0].size_bytes / total,
        "build_rows_per_s": total / max(built, 1e-9),
    }


def measure_layer(
    keys: StoredKeys, total: int, read: int, layers: tuple[int, ...], search_dtype: str, candidates: int | None
) -> dict[str, Any]:
    """Retrieval of single layers at one size."""
    Int8Keys.candidates_per_token = candidates or Int8Keys.candidates_per_token
    kept: list[float] = []
    times: dict[bool, list[float]] = {True: [], False: []}
    size = 0.0
    for layer in layers:
        memory = layer_memory(keys, total, layer, read, search_dtype)
        retriever = StoredLayer(1, WIDTH, WIDTH)
        memory.long_term.index_of(0)
        for query, _ in keys.queries[:: max(1, len(keys.queries) // 12)]:
            normed = query[None, :, layer * WIDTH : (layer + 1) * WIDTH].float()
            text = torch.ones(1, query.shape[0], dtype=torch.bool)
            search = lambda exact, n=normed, t=text, r=retriever, m=memory: r.search(m, {0: n}, t, exact=exact)[0]  # noqa: E731
            (exact, fast), slow_s, fast_s = both(search, 1)
            wanted, got = set(exact.indices.tolist()), set(fast.indices.tolist())
            kept.append(len(wanted & got) / len(wanted))
            times[True] += slow_s
            times[False] += fast_s
        size = memory.long_term.indexes[0].size_bytes / total
    return {
        "tokens": total,
        "read": read,
        "candidates": Int8Keys.candidates_per_token,
        "kept": sum(kept) / len(kept),
        "worst": min(kept),
        "exact_s": median(times[True]),
        "fast_s": median(times[False]),
        "ratio": median([slow / fast for slow, fast in zip(times[True], times[False], strict=True)]),
        "index_bytes_per_token": size,
    }


def main() -> None:
    """Measure, print, store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=Path, required=True)
    parser.add_argument("--sizes", default="150000,1000000,5000000", help="long-term tokens")
    parser.add_argument("--layer-sizes", default="150000,1000000")
    parser.add_argument("--questions", type=int, default=72)
    parser.add_argument("--search-dtype", default="bfloat16")
    parser.add_argument("--candidates", type=int, default=None, help="of the search of one layer, if not the default")
    parser.add_argument("--json", type=Path, default=None)
    options = parser.parse_args()
    keys, console = StoredKeys.read(options.keys, options.questions), Console()
    votes = []
    for size in filter(None, options.sizes.split(",")):
        votes.append(measure_vote(keys, int(size) // BLOCK * BLOCK, options.search_dtype))
        console.print(votes[-1])
    table = Table(
        "tokens", "chosen kept", "best kept", "facts read, exact", "fast", "exact / fast", "exact ms", "fast ms", "index B/token"
    )
    for one in votes:
        table.add_row(
            f"{one['tokens']:,}", f"{one['kept']:.4f}", f"{one['best']:.3f}", f"{one['facts_exact']:.3f} of {one['questions']}",
            f"{one['facts_fast']:.3f}", f"{one['ratio']:.1f}", f"{one['exact_s'] * 1e3:.0f}", f"{one['fast_s'] * 1e3:.0f}",
            f"{one['index_bytes_per_token']:.0f}",
        )  # fmt: skip
    console.print(table)
    layers = []
    for size in filter(None, options.layer_sizes.split(",")):
        for read in (256, 640):
            layers.append(measure_layer(keys, int(size), read, (0, 2, 5), options.search_dtype, options.candidates))
            console.print(layers[-1])
    table = Table("tokens of a layer", "K0", "top K0 kept", "worst", "exact / fast", "exact ms", "fast ms", "index B/token")
    for one in layers:
        table.add_row(
            f"{one['tokens']:,}", str(one["read"]), f"{one['kept']:.4f}", f"{one['worst']:.3f}", f"{one['ratio']:.1f}",
            f"{one['exact_s'] * 1e3:.1f}", f"{one['fast_s'] * 1e3:.1f}", f"{one['index_bytes_per_token']:.0f}",
        )  # fmt: skip
    console.print(table)
    if options.json is not None:
        found = {"schema": 1, "what": "search recall", "machine": platform.processor(), "threads": torch.get_num_threads()}
        options.json.write_text(json.dumps({**found, "vote": votes, "layer": layers}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
