"""How well the vote finds facts in a streamed text, by distance; no answer is generated. ``python experiments/finding.py --model DIR``."""

from __future__ import annotations

import argparse
import time

import torch

from mplus import MPlusModel
from mplus.attach.find import find_by_vote, prompt_features
from mplus.corpus.stream import build_stream
from mplus.corpus.text import python_text, read_text
from mplus.evaluation.retention import DEFAULT_DISTANCES
from mplus.prompts import Prompts
from mplus.training.bank import chat_ids


def main() -> None:
    """Stream, then report the share of questions whose fact is read, per distance and per number of hits."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--tokens", type=int, default=164_000)
    parser.add_argument("--questions", type=int, default=16)
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--haystack", default=None)
    options = parser.parse_args()
    model = MPlusModel.from_pretrained(options.model)
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
    store, block = memory.longterm.stores[0], model.geometry.block_tokens
    births = store.column("birth")
    in_stm = set(memory.pool.births[0].tolist())
    by_distance: dict[int, list[tuple[bool, bool, bool, int]]] = {}
    start = time.time()
    for planted in stream.planted:
        prompts = Prompts.from_rows([chat_ids(model.tokenizer, planted.fact.question)], 2, model.device)
        features = prompt_features(model.attached, prompts.ids, prompts.mask)
        found = find_by_vote(model.attached, memory, features, prompts.mask)[0]
        length = count(" " + planted.fact.statement)
        end = memory.now - planted.tokens_back
        wanted = set(range(end - length, end))
        read = set(births[found.indices].tolist())
        rank = -1
        if found.scores is not None:
            order = found.scores.argsort(descending=True)
            first = births[::block][order]
            right = torch.tensor([bool(wanted & set(range(begin, begin + block))) for begin in first[:200].tolist()])
            rank = int(right.nonzero()[0, 0]) if bool(right.any()) else 999
        by_distance.setdefault(planted.distance, []).append(
            (len(wanted & (read | in_stm)) >= 0.9 * len(wanted), len(wanted & in_stm) >= 0.9 * len(wanted), rank == 0, rank)
        )
    print(f"asked {len(stream.planted)} in {time.time() - start:.0f} s")
    for distance, rows in sorted(by_distance.items()):
        ranks = sorted(row[3] for row in rows)
        print(
            f"{distance:>7}: read {sum(row[0] for row in rows) / len(rows):.2f}  still short-term {sum(row[1] for row in rows) / len(rows):.2f}  "
            f"best block right {sum(row[2] for row in rows) / len(rows):.2f}  ranks {ranks}"
        )


if __name__ == "__main__":
    main()
