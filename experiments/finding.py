"""How well the vote finds facts in a streamed text, by distance; no answer is generated. ``python experiments/finding.py --model DIR``."""

from __future__ import annotations

import argparse
import time

from mplus import MPlusModel
from mplus.attach.query_pass import prompt_features
from mplus.corpus.python_docs import python_text
from mplus.corpus.stream import build_stream
from mplus.evaluation.tasks.facts.builder import DEFAULT_DISTANCES
from mplus.retrieval.block_scores import of_all
from mplus.retrieval.blocks import BlockTable
from mplus.retrieval.late_interaction import LateInteractionRetriever
from mplus.text.files import read_text
from mplus.text.prompts import Prompts
from mplus.training.bank.question_states import chat_ids


def main() -> None:
    """Stream, then report the share of questions whose fact is read, per distance and per number of hits."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--tokens", type=int, default=164_000)
    parser.add_argument("--questions", type=int, default=16)
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--haystack", default=None)
    parser.add_argument("--window", type=int, default=None, help="blocks judged together, if not those of the model")
    options = parser.parse_args()
    model = MPlusModel.from_pretrained(options.model)
    retriever = model.parts.retriever
    assert isinstance(retriever, LateInteractionRetriever)
    retriever.window = options.window or retriever.window
    text = python_text() if options.haystack is None else read_text(options.haystack)
    count = lambda part: len(model.tokenizer(part, add_special_tokens=False, verbose=False)["input_ids"])  # noqa: E731
    distances = [distance for distance in DEFAULT_DISTANCES if distance * 1.02 < options.tokens]
    stream = build_stream(text, count, tokens=options.tokens, distances=distances, questions=options.questions, seed=options.seed)
    memory = model.new_memory(seed=options.seed)
    start = time.time()
    for piece in stream.pieces:
        for ids in model.cut(piece):
            memory.update(model.encode(ids, memory))
    print(f"read {stream.tokens} tokens in {time.time() - start:.0f} s ({stream.tokens / (time.time() - start):.0f} tokens/s)")
    block = model.geometry.read.block_tokens
    in_stm = set(memory.placement.births[0].tolist())
    places = BlockTable.of(memory, with_short_term=True)
    by_distance: dict[int, list[tuple[bool, bool, int]]] = {}
    start = time.time()
    for planted in stream.planted:
        prompts = Prompts.from_rows([chat_ids(model.tokenizer, planted.fact.question)], 2, model.device)
        features = prompt_features(model.parts, prompts.ids, prompts.mask)
        found = retriever.search(memory, dict(zip(retriever.layers, features, strict=True)), prompts.mask)[0]
        length = count(" " + planted.fact.statement)
        end = memory.now - planted.tokens_back
        wanted = set(range(end - length, end))
        read = set(places.births[found.indices].tolist()) | in_stm
        scores = of_all(retriever, memory, places, features, prompts.mask)[0]
        best = places.positions[scores.argsort(descending=True)[:200]]
        windows = [set(range(first, first + retriever.window * block)) for first in (best * block).tolist()]
        rank = next((place for place, window in enumerate(windows) if len(wanted & window) >= 0.5 * length), 999)
        by_distance.setdefault(planted.distance, []).append(
            (len(wanted & read) >= 0.9 * len(wanted), len(wanted & in_stm) >= 0.9 * len(wanted), rank)
        )
    print(f"asked {len(stream.planted)} in {time.time() - start:.0f} s")
    for distance, rows in sorted(by_distance.items()):
        ranks = sorted(row[2] for row in rows)
        print(
            f"{distance:>7}: read {sum(row[0] for row in rows) / len(rows):.2f}  still short-term {sum(row[1] for row in rows) / len(rows):.2f}  "
            f"best window right {sum(rank == 0 for rank in ranks) / len(rows):.2f}  ranks {ranks}"
        )
    every = [row[2] for rows in by_distance.values() for row in rows]
    shares = "  ".join(f"first {top} {sum(rank < top for rank in every) / len(every):.3f}" for top in (1, 2, 4, 8))
    print(f"all {len(every)}: a right window among the {shares}")


if __name__ == "__main__":
    main()
