"""Is it still a language model? Perplexity of a text's end, its beginning in memory, beside the bare base with all of it in context.

python experiments/perplexity.py --model smollm2-135m --text ../shared/data/wikitext-2/valid.txt
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import torch
from torch.nn import functional

from mplus import MPlusModel
from mplus.evaluation.ablations import parse_sizes


def main() -> None:
    """Print mean loss and perplexity of the same tokens in four settings, and their ratios to full context."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--before", type=int, default=512, help="tokens in memory, or in context")
    parser.add_argument("--after", type=int, default=256, help="tokens that are scored")
    parser.add_argument("--windows", type=int, default=40)
    parser.add_argument(
        "--set-geometry", action="append", default=[], metavar="KEY=VALUE", help="a field of the geometry, like certain_score=24"
    )
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    model = MPlusModel.from_pretrained(options.model, **parse_sizes(options.set_geometry))
    ids = torch.tensor(
        model.tokenizer(options.text.read_text(encoding="utf-8"), add_special_tokens=False, verbose=False)["input_ids"]
    )
    width = options.before + options.after
    starts = torch.linspace(0, len(ids) - width - 1, options.windows).long().tolist()
    losses: dict[str, list[float]] = {"full context": [], "memory": [], "memory, no read adapter": [], "nothing before": []}
    for start in starts:
        before, after = ids[start : start + options.before], ids[start + options.before : start + width]
        memory = model.new_memory()
        memory.write(before)
        with model.untouched() as base, torch.no_grad():
            full = base(input_ids=torch.cat([before, after])[None], use_cache=False).logits[0, options.before :]
            alone = base(input_ids=after[None], use_cache=False).logits[0]
        read = model(after[None], memory=memory).logits[0]
        adapter, model.parts.adapters.read = model.parts.adapters.read, None
        bare = model(after[None], memory=memory).logits[0]
        model.parts.adapters.read = adapter
        for name, logits in zip(losses, (full, read, bare, alone), strict=True):
            losses[name].append(functional.cross_entropy(logits[:-1].float(), after[1:]).item())
    means = {name: sum(rows) / len(rows) for name, rows in losses.items()}
    scored = options.windows * (options.after - 1)
    print(f"{options.text.name}: {options.windows} windows, {options.before} tokens before, {scored} tokens scored")
    for name, mean in means.items():
        print(
            f"{name:>24}: {mean:.4f} nats, perplexity {math.exp(mean):7.2f}, {math.exp(mean - means['full context']):.3f} of full context"
        )
    if options.out:
        options.out.write_text(
            json.dumps({"settings": vars(options) | {"text": options.text.name, "out": None}, "nats": means}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
