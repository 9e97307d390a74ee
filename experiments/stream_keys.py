"""Search keys of a long streamed text with facts in it, and the queries about them, for measuring searches without a memory of that size.

``python experiments/stream_keys.py --tokens 1000000 --out DIR``. Only the layers up to the last voting one run. Resumable: a part is
stored every 50,000 tokens. Nothing is dropped or short-term: the keys stand in the order of the text.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from mplus import MPlusModel
from mplus.attach.query_pass import prompt_features
from mplus.corpus.python_docs import python_text
from mplus.corpus.stream import build_stream
from mplus.memory.rows import EncodedChunk
from mplus.retrieval.late_interaction import LateInteractionRetriever
from mplus.text.prompts import Prompts
from mplus.training.bank.question_states import chat_ids

PART_TOKENS = 50_000


def main() -> None:
    """Stream, store parts, then the queries."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--tokens", type=int, default=1_000_000)
    parser.add_argument("--questions", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    model = MPlusModel.from_pretrained(options.model)
    retriever = model.parts.retriever
    assert isinstance(retriever, LateInteractionRetriever)
    count = lambda part: len(model.tokenizer(part, add_special_tokens=False, verbose=False)["input_ids"])  # noqa: E731
    shares = [0.002, 0.01, 0.03, 0.1, 0.2, 0.4, 0.6, 0.8, 0.95]
    distances = [int(share * options.tokens) for share in shares]
    stream = build_stream(
        python_text(), count, tokens=options.tokens, distances=distances, questions=options.questions, seed=options.seed
    )
    chunks = [ids for piece in stream.pieces for ids in model.cut(piece)]
    total = sum(map(len, chunks))
    queries: dict[str, Tensor] = {}
    facts = []
    for number, planted in enumerate(stream.planted):
        prompts = Prompts.from_rows([chat_ids(model.tokenizer, planted.fact.question)], 2, model.device)
        with torch.no_grad():
            query, weight = retriever.queries(prompt_features(model.parts, prompts.ids, prompts.mask), prompts.mask)
        queries[f"query.{number}"], queries[f"weight.{number}"] = query[0].clone(), weight[0].clone()
        end = total - planted.tokens_back
        facts.append({"distance": planted.distance, "first": end - count(" " + planted.fact.statement), "end": end})
    save_file(queries, options.out / "queries.safetensors")
    (options.out / "facts.json").write_text(json.dumps({"tokens": total, "window": retriever.window, "facts": facts}, indent=1))
    memory = model.new_memory(ltm_capacity=model.geometry.sizes.ltm_read_tokens)
    held: list[Tensor] = []
    tail: EncodedChunk | None = None
    done, part, start = 0, 0, time.time()
    for ids in chunks:
        path = options.out / f"keys-{part:03d}.safetensors"
        if path.exists():  # an earlier run stored this part
            held.append(torch.empty(len(ids), 0))
        else:
            written = model.encode(ids, memory, tail=tail)
            held.append(written.rows["search"][0].bfloat16())
            tail = written
        done += len(ids)
        if done >= (part + 1) * PART_TOKENS or ids is chunks[-1]:
            if not path.exists():
                save_file({"search": torch.cat(held)}, path)
            assert load_file(path)["search"].shape[0] == sum(map(len, held))
            held, part = [], part + 1
            print(f"{done} of {total} tokens, {time.time() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
