"""Well-kept vector libraries beside our own first level of the two-level search, on the same real keys in one run:
``PYTHONPATH=DIR python experiments/vector_libraries.py --keys KEYS``, where DIR has faiss-cpu and hnswlib
(``pip install --target DIR faiss-cpu hnswlib``; they are no dependency of the package).

KEYS is made by ``experiments/stream_keys.py``. Every first level names candidate rows; the same exact scores decide among them,
as in a read. Vote: a window of two neighbouring blocks of 16 rows, each prompt token's best match in it. A library knows only nearest rows
of single vectors: it is asked for the rows nearest to each of the 8 prompt tokens of most weight, and their windows are scored.

Legend: M tokens, F key width, T prompt tokens, m blocks.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from safetensors.torch import load_file
from torch import Tensor

from mplus.index.int8_keys import SAMPLE_ROWS, Int8Keys, linear_surrogate
from mplus.index.pca_sketch import PcaSketch
from mplus.retrieval.read_plan import choose_blocks

BLOCK, BUDGET, WINDOW, LOUDEST, LAYERS, WIDTH = 16, 16, 2, 8, 6, 64
Rows = Callable[[Tensor], Tensor]


def windows(match_Tm: Tensor) -> Tensor:
    """Best match in the window that begins at each block."""
    best = match_Tm.clone()
    best[:, :-1] = torch.maximum(best[:, :-1], match_Tm[:, 1:])
    return best


def chosen(scores_m: Tensor) -> set[int]:
    """Blocks that a read would take."""
    return set(choose_blocks(scores_m, torch.arange(scores_m.shape[0]), BUDGET, 1, WINDOW).tolist())


def exact_vote(keys: Tensor, query: Tensor, weight: Tensor) -> Tensor:
    match = torch.cat([(query @ part.T).view(query.shape[0], -1, BLOCK).amax(-1) for part in keys.split(16_384)], 1)
    return weight @ windows(match)


def reranked(keys: Tensor, query: Tensor, weight: Tensor, starts: Tensor) -> set[int]:
    """Blocks chosen when only the windows at `starts` are scored."""
    blocks = keys.shape[0] // BLOCK
    starts = starts.unique()
    rows = torch.cat([starts, (starts + 1).clamp(max=blocks - 1)]).unique()
    match = (query @ keys.view(blocks, BLOCK, -1)[rows].flatten(0, 1).T).view(query.shape[0], -1, BLOCK).amax(-1)
    place = torch.full((blocks + 1,), -1)
    place[rows] = torch.arange(rows.shape[0])
    second = place[starts + 1]
    both = torch.where(
        second >= 0, torch.maximum(match[:, place[starts]], match[:, second.clamp(min=0)]), match[:, place[starts]]
    )
    scores = torch.full((blocks,), float("-inf"))
    scores[starts] = weight @ both
    return chosen(scores)


def window_starts(rows: Tensor) -> Tensor:
    """Windows that hold any of these rows."""
    blocks = rows[rows >= 0] // BLOCK
    return torch.cat([blocks, (blocks - 1).clamp(min=0)]).unique()


def measure(
    name: str,
    built_s: float,
    size_bytes: float,
    rows: int,
    search: Callable[[int], tuple[set[int], float]],
    wanted: list[set[int]],
) -> dict[str, Any]:
    kept, seconds = [], []
    for number, right in enumerate(wanted):
        got, took = search(number)
        kept.append(len(got & right) / len(right))
        seconds.append(took)
    return {
        "what": name, "kept": sum(kept) / len(kept), "worst": min(kept), "ms": 1e3 * median(seconds),
        "build_rows_per_s": rows / max(built_s, 1e-9), "bytes_per_token": size_bytes / rows,
    }  # fmt: skip


def timed(act: Callable[[], Any]) -> tuple[Any, float]:
    start = time.perf_counter()
    found = act()
    return found, time.perf_counter() - start


def votes(keys: Tensor, queries: list[tuple[Tensor, Tensor]], faiss: Any, hnswlib: Any) -> list[dict[str, Any]]:
    count = keys.shape[0]
    exact = [timed(lambda q=q, w=w: chosen(exact_vote(keys, q, w))) for q, w in queries]
    wanted = [found for found, _ in exact]
    out = [
        {
            "what": "exact",
            "kept": 1.0,
            "worst": 1.0,
            "ms": 1e3 * median(took for _, took in exact),
            "build_rows_per_s": 0.0,
            "bytes_per_token": 0.0,
        }
    ]

    def by_rows(nearest: Callable[[Tensor], Tensor]) -> Callable[[int], tuple[set[int], float]]:
        def search(number: int) -> tuple[set[int], float]:
            query, weight = queries[number]
            loud = query[weight.topk(min(LOUDEST, weight.shape[0])).indices]
            return timed(lambda: reranked(keys, query, weight, window_starts(nearest(loud).flatten())))

        return search

    sketch, start = PcaSketch(BLOCK), time.perf_counter()
    for group in keys.split(sketch.group_rows):
        sketch.add(group)
    built = time.perf_counter() - start

    def by_sketch(number: int) -> tuple[set[int], float]:
        query, weight = queries[number]
        loud = weight.topk(min(LOUDEST, weight.shape[0])).indices

        def act() -> set[int]:
            about = weight[loud] @ windows(sketch.maxsim(query[loud]))
            return reranked(keys, query, weight, about.topk(BUDGET * 32 // WINDOW).indices)

        return timed(act)

    out.append(measure("PcaSketch (ours)", built, sketch.size_bytes, count, by_sketch, wanted))
    table = keys.numpy()
    lists = 1024
    flat = faiss.IndexFlatIP(keys.shape[1])
    inverted = faiss.IndexIVFFlat(flat, keys.shape[1], lists, faiss.METRIC_INNER_PRODUCT)
    _, built = timed(lambda: (inverted.train(table[:: max(1, count // 50_000)]), inverted.add(table)))
    for probes, rows in ((8, 256), (32, 256), (32, 1024)):
        inverted.nprobe = probes
        near = by_rows(lambda loud, k=rows: torch.from_numpy(inverted.search(loud.numpy(), k)[1]))
        out.append(
            measure(f"FAISS IVF{lists}, {probes} lists, {rows} rows a token", built, 4.0 * keys.numel(), count, near, wanted)
        )
    graph = hnswlib.Index(space="ip", dim=keys.shape[1])
    graph.init_index(max_elements=count, ef_construction=100, M=16)
    graph.set_num_threads(torch.get_num_threads())
    _, built = timed(lambda: graph.add_items(table))
    for reach in (256, 1024):
        graph.set_ef(reach)
        near = by_rows(lambda loud, k=256: torch.from_numpy(graph.knn_query(loud.numpy(), k=k)[0].astype("int64")))
        out.append(
            measure(
                f"HNSW (hnswlib) M 16, ef {reach}, 256 rows a token",
                built,
                4.0 * keys.numel() + 4.0 * 2 * 16 * count,
                count,
                near,
                wanted,
            )
        )
    return out


def layers(keys: Tensor, queries: list[tuple[Tensor, Tensor]], read: int, faiss: Any) -> list[dict[str, Any]]:
    """One voting layer's numbers as a layer of its own: mean over the prompt of sigmoid(q . k)."""
    count = keys.shape[0]
    own = keys[:, 2 * WIDTH : 3 * WIDTH].contiguous()
    asked = [query[:, 2 * WIDTH : 3 * WIDTH].contiguous() for query, _ in queries]
    score = lambda query, part: torch.sigmoid(query @ part.T).mean(0)  # noqa: E731
    exact = [timed(lambda q=q: torch.cat([score(q, part) for part in own.split(16_384)]).topk(read).indices) for q in asked]
    wanted = [set(found.tolist()) for found, _ in exact]
    out = [
        {
            "what": f"exact, K0 {read}",
            "kept": 1.0,
            "worst": 1.0,
            "ms": 1e3 * median(took for _, took in exact),
            "build_rows_per_s": 0.0,
            "bytes_per_token": 0.0,
        }
    ]

    def best_of(query: Tensor, rows: Tensor) -> set[int]:
        rows = rows[rows >= 0]
        return set(rows[score(query, own[rows]).topk(min(read, rows.shape[0])).indices].tolist())

    levels, start = Int8Keys(), time.perf_counter()
    for group in own[: count // levels.group_rows * levels.group_rows].split(levels.group_rows):
        levels.add(group)
    built = time.perf_counter() - start
    fresh = torch.arange(len(levels), count)
    ours = lambda number: timed(  # noqa: E731
        lambda: best_of(asked[number], torch.cat([levels.candidates(lambda part: score(asked[number], part), 12 * read), fresh]))
    )
    out.append(measure("Int8Keys (ours)", built, levels.size_bytes, count, ours, wanted))
    table = own.numpy()
    lists = 1024
    inverted = faiss.IndexIVFFlat(faiss.IndexFlatIP(WIDTH), WIDTH, lists, faiss.METRIC_INNER_PRODUCT)
    _, built = timed(lambda: (inverted.train(table[:: max(1, count // 50_000)]), inverted.add(table)))
    eight = faiss.IndexScalarQuantizer(WIDTH, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT)
    _, built_eight = timed(lambda: (eight.train(table[:50_000]), eight.add(table)))
    for name, index, seconds, size, probes in (
        (f"FAISS IVF{lists}, 64 lists, mean query", inverted, built, 4.0, 64),
        (f"FAISS IVF{lists}, 256 lists, mean query", inverted, built, 4.0, 256),
        ("FAISS int8 scan, mean query", eight, built_eight, 1.0, 0),
    ):
        if probes:
            index.nprobe = probes
        near = lambda number, i=index: timed(  # noqa: E731
            lambda: best_of(
                asked[number], torch.from_numpy(i.search(asked[number].mean(0, keepdim=True).numpy(), 12 * read)[1][0])
            )
        )
        out.append(measure(name, seconds, size * WIDTH * count, count, near, wanted))
    sampled = own[torch.linspace(0, count - 1, SAMPLE_ROWS).round().long()]

    def fitted(number: int) -> tuple[set[int], float]:
        query = asked[number]

        def act() -> set[int]:
            weights, _ = linear_surrogate(sampled, score(query, sampled))
            return best_of(query, torch.from_numpy(eight.search(weights[None].numpy(), 12 * read)[1][0]))

        return timed(act)

    out.append(measure("FAISS int8 scan, our stand-in", built_eight, WIDTH * count, count, fitted, wanted))
    return out


def main() -> None:
    """Measure, print, store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=Path, required=True)
    parser.add_argument("--tokens", type=int, default=150_000)
    parser.add_argument("--questions", type=int, default=36)
    parser.add_argument("--json", type=Path, default=None)
    options = parser.parse_args()
    try:
        import faiss
        import hnswlib
    except ImportError as error:
        sys.exit(f"{error.name} is not installed; pip install --target DIR faiss-cpu hnswlib, then run with PYTHONPATH=DIR")
    faiss.omp_set_num_threads(torch.get_num_threads())
    parts, held = [], 0
    for path in sorted(options.keys.glob("keys-*.safetensors")):
        if held < options.tokens:
            parts.append(load_file(path)["search"])
            held += parts[-1].shape[0]
    keys = torch.cat(parts)[: options.tokens // 4096 * 4096].float().contiguous()
    stored = load_file(options.keys / "queries.safetensors")
    total = sum(name.startswith("query.") for name in stored)
    numbers = range(0, total, max(1, total // options.questions))
    queries = [(stored[f"query.{number}"].float().contiguous(), stored[f"weight.{number}"].float()) for number in numbers]
    found = {"vote": votes(keys, queries, faiss, hnswlib), "layer": layers(keys, queries, 640, faiss)}
    console = Console()
    for kind, rows in found.items():
        table = Table(
            f"{kind}, {keys.shape[0]:,} tokens, {len(queries)} questions",
            "kept",
            "worst",
            "query ms",
            "build rows/s",
            "bytes a token",
        )
        for one in rows:
            table.add_row(
                one["what"], f"{one['kept']:.3f}", f"{one['worst']:.2f}", f"{one['ms']:.1f}", f"{one['build_rows_per_s']:,.0f}",
                f"{one['bytes_per_token']:.0f}",
            )  # fmt: skip
        console.print(table)
    if options.json is not None:
        options.json.write_text(json.dumps({"schema": 1, "tokens": keys.shape[0], **found}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
