"""From which score on is the vote certain? Its best window for questions, for other text, for text that goes on.

``python experiments/certainty.py --model DIR``: choose ``Geometry.certain_score`` between the last lines and the first (decision 0017).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

from mplus import Memory, MPlusModel
from mplus.attach.query_pass import prompt_features
from mplus.corpus.python_docs import python_text
from mplus.corpus.stream import build_stream
from mplus.retrieval.block_scores import of_all
from mplus.retrieval.blocks import BlockTable
from mplus.retrieval.late_interaction import LateInteractionRetriever
from mplus.text.prompts import Prompts
from mplus.training.bank.question_states import chat_ids

SHARES = (0.0, 0.05, 0.25, 0.5, 0.75, 1.0)


def best(model: MPlusModel, memory: Memory, ids: list[int]) -> float:
    """The score of the best window."""
    assert isinstance(model.parts.retriever, LateInteractionRetriever)
    prompts = Prompts.from_rows([ids], 2, model.device)
    features = prompt_features(model.parts, prompts.ids, prompts.mask)
    places = BlockTable.of(memory, with_short_term=True)
    return float(of_all(model.parts.retriever, memory, places, features, prompts.mask).amax())


def main() -> None:
    """Print quantiles of the best score, one line for each kind of prompt."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--tokens", type=int, default=8200)
    options = parser.parse_args()
    model = MPlusModel.from_pretrained(options.model)
    coded = lambda text: model.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]  # noqa: E731
    stream = build_stream(
        python_text(), lambda text: len(coded(text)), tokens=options.tokens, distances=[1000, 4000], questions=20, seed=21
    )
    memory = model.new_memory(seed=0)
    for piece in stream.pieces:
        memory.write(piece)
    text = coded((options.data / "wikitext-2/valid.txt").read_text(encoding="utf-8"))
    lines = (options.data / "natural_questions/nq-open-oracle-part.jsonl").read_text(encoding="utf-8").splitlines()[:40]
    found = {
        "questions about it": [best(model, memory, chat_ids(model.tokenizer, one.fact.question)) for one in stream.planted],
        "questions about nothing in it": [
            best(model, memory, chat_ids(model.tokenizer, json.loads(one)["question"])) for one in lines
        ],
    }
    for length in (32, 256):
        found[f"{length} tokens of other text"] = [
            best(model, memory, text[at : at + length]) for at in range(1000, 60_000, 3000)
        ]
    for length in (32, 256):
        found[f"{length} tokens that go on"] = []
        for at in range(0, 36_000, 6000):
            going = model.new_memory(seed=0)
            going.write(torch.tensor(text[at : at + 2048]))
            found[f"{length} tokens that go on"].append(best(model, going, text[at + 2048 : at + 2048 + length]))
    for name, scores in found.items():
        quantiles = torch.tensor(scores).quantile(torch.tensor(SHARES)).tolist()
        print(f"{name:>30}: " + "  ".join(f"{share:.0%} {value:.1f}" for share, value in zip(SHARES, quantiles, strict=True)))


if __name__ == "__main__":
    main()
