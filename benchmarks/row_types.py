"""What the number types of long-term rows cost: ``python -m benchmarks.row_types --model smollm2-135m``.

Three tables. Rows: relative error of K and V of real text, and bytes. Reads: how far next-token logits move when the same memory
keeps its long-term rows in another type. Search: of the blocks that the keys as they are choose, the share that rounded keys
choose, and how often a planted fact is still among them.

``--keys DIR`` takes long stored keys (``experiments/stream_keys.py``, bfloat16 as stored) for the third table; without it the keys
of the text just written are used, in the model's own number type, with pieces of that text as prompts. ``--json FILE`` stores
everything.

Legend: L layers, H kv heads, E head width, M tokens, F search key width, T prompt tokens, m blocks.
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks.stored_keys import StoredKeys
from mplus import Memory, MPlusModel
from mplus.attach.query_pass import prompt_features
from mplus.corpus.python_docs import python_text
from mplus.memory.log import RowLog
from mplus.memory.long_term import LongTerm
from mplus.memory.rewriting import short_term_of
from mplus.memory.row_codec import RowCodec, dequantise, quantise
from mplus.memory.stores.fields import bytes_per_row
from mplus.retrieval.late_interaction import LateInteractionRetriever
from mplus.retrieval.read_plan import choose_blocks
from mplus.settings import RowType

PIECE_BLOCKS = 1024  # of a long table of keys, scored at once
PROMPT_TOKENS = 48
Rounding = Callable[[Tensor], Tensor]


def cast(dtype: torch.dtype) -> Rounding:
    """Rounding to a number type and back."""
    return lambda value: value.to(dtype).float()


def levels(own_dims: int) -> Rounding:
    """Rounding to int8 with a scale over the last `own_dims` dimensions, and back."""
    return lambda value: dequantise(*quantise(value, own_dims), own_dims, torch.float32)


# -- rows --------------------------------------------------------------------------------------------------------------


def filled(model: MPlusModel, tokens: int) -> Memory:
    """A memory that has read about `tokens` tokens of prose and keeps all rows in the model's number type."""
    memory = model.new_memory(memory_format="kv", ltm_dtype="model", ltm_search_dtype="model")
    for ids in model.cut(python_text()[: 8 * tokens]):
        if memory.tokens_read + len(ids) > tokens:
            break
        memory.write(ids)
    return memory


def row_errors(memory: Memory) -> list[dict[str, Any]]:
    """|rounded - row| / |row| of K and V, rows of one token and layer: mean, and mean of the worst layer."""
    roundings = {
        "bfloat16": cast(torch.bfloat16),
        "float16": cast(torch.float16),
        "int8, scale per token": levels(2),
        "int8, scale per head": levels(1),
    }
    out: list[dict[str, Any]] = []
    for name, rounding in roundings.items():
        row: dict[str, Any] = {"type": name}
        for field in ("keys", "values"):
            real = memory.long_term.column(0, field).float()
            error = ((rounding(real) - real).flatten(2).norm(dim=-1) / real.flatten(2).norm(dim=-1)).mean(0)
            row[field] = {"mean": float(error.mean()), "worst_layer": float(error.max())}
        out.append(row)
    return out


def retyped(memory: Memory, ltm_dtype: RowType) -> Memory:
    """The same memory with its rows kept in another number type, short-term ones rounded as they are written."""
    twin = memory.fork()
    twin.geometry = memory.geometry.changed(ltm_dtype=ltm_dtype)
    twin.codec = RowCodec(twin.layout, twin.geometry)
    before, names = memory.state, tuple(memory.layout.fields)
    log = RowLog(twin.codec.fields).with_gap_to(before.log.start)
    for extent in before.log.extents:
        rows = memory.codec.of_log({name: extent.part(before.log.fields, name) for name in before.log.fields}, names)
        log, _ = log.with_gap_to(extent.row).appended(twin.codec.stored(rows))
    twin.become(
        replace(
            twin.state,
            log=log,
            short_term=short_term_of(twin, log, before.placement),
            long_term=LongTerm(twin.layout, twin.geometry, twin.codec, log, before.placement.long),
        )
    )
    return twin


def passages(memory: Memory, count: int) -> list[list[int]]:
    """Pieces of the text that lie in long-term memory, spread over it: each prompt finds where it comes from."""
    text = [token for ids in memory.encoder.cut(python_text()[: 8 * memory.tokens_read]) for token in ids]
    last = max(1, memory.tokens_read - memory.geometry.sizes.stm_tokens - PROMPT_TOKENS)
    return [text[place : place + PROMPT_TOKENS] for place in torch.linspace(0, last, count).long().tolist()]


def read_changes(model: MPlusModel, memory: Memory, prompts: list[list[int]]) -> list[dict[str, Any]]:
    """Against the same memory in the model's type, over all next-token distributions of all prompts."""
    with torch.no_grad():
        wanted = [model(torch.tensor([prompt]), memory=memory).logits.float().view(PROMPT_TOKENS, -1) for prompt in prompts]
        out: list[dict[str, Any]] = []
        for ltm_dtype in ("bfloat16", "float16", "int8"):
            twin = retyped(memory, ltm_dtype)
            change, divergence, same = [0.0], [], []
            for prompt, before in zip(prompts, wanted, strict=True):
                after = model(torch.tensor([prompt]), memory=twin).logits.float().view(PROMPT_TOKENS, -1)
                change.append(float((after - before).abs().max()))
                kl = (before.softmax(-1) * (before.log_softmax(-1) - after.log_softmax(-1))).sum(-1)
                divergence.append(kl)
                same.append(after.argmax(-1) == before.argmax(-1))
            out.append(
                {
                    "type": ltm_dtype,
                    "bytes_per_token": bytes_per_row(twin.codec.fields),
                    "largest_logit_change": max(change),
                    "kl_mean_nats": float(torch.cat(divergence).mean()),
                    "kl_max_nats": float(torch.cat(divergence).max()),
                    "same_argmax": float(torch.cat(same).float().mean()),
                    "distributions": len(prompts) * PROMPT_TOKENS,
                }
            )
    return out


# -- search ------------------------------------------------------------------------------------------------------------


class Searched:
    """Keys of a text in its order, queries, and the tokens each query asks for (None where that is not known)."""

    def __init__(self, keys: list[Tensor], queries: list[tuple[Tensor, Tensor]], spans: list[tuple[int, int] | None]) -> None:
        self.keys_MF, self.queries, self.spans = torch.cat(keys), queries, spans

    @classmethod
    def stored(cls, directory: Path, questions: int) -> Searched:
        """Keys and queries of ``experiments/stream_keys.py``."""
        stored = StoredKeys.read(directory, questions)
        return cls([stored.keys_MF], [(query[None], weight[None]) for query, weight in stored.queries], list(stored.spans))

    @classmethod
    def written(cls, model: MPlusModel, memory: Memory, prompts: list[list[int]]) -> Searched:
        """Long-term keys of a memory, and pieces of its text as prompts."""
        retriever = model.parts.retriever
        assert isinstance(retriever, LateInteractionRetriever)
        queries = []
        with torch.no_grad():
            for prompt in prompts:
                ids = torch.tensor([prompt])
                text = torch.ones_like(ids, dtype=torch.bool)
                queries.append(retriever.queries(prompt_features(model.parts, ids, text), text))
        order = memory.long_term.births(0).argsort()
        return cls([memory.long_term.column(0, "search")[order]], queries, [None] * len(queries))

    def pieces(self, block: int) -> Iterator[Tensor]:
        """Keys in whole blocks, float32."""
        size = PIECE_BLOCKS * block
        for start in range(0, len(self.keys_MF), size):
            yield self.keys_MF[start : start + size].float()


def chosen_blocks(model: MPlusModel, searched: Searched, rounding: Rounding) -> list[set[int]]:
    """Blocks that each query reads, as a read chooses them."""
    retriever, geometry = model.parts.retriever, model.geometry
    assert isinstance(retriever, LateInteractionRetriever)
    block, matches = geometry.read.block_tokens, [list[Tensor]() for _ in searched.queries]
    with torch.no_grad():
        for piece in searched.pieces(block):
            keys = rounding(piece)
            for own, (query, _) in zip(matches, searched.queries, strict=True):
                own.append(retriever.maxsim(query.float(), keys, block))
        out = []
        for own, (_, weight) in zip(matches, searched.queries, strict=True):
            scores = retriever.window_scores(torch.cat(own, -1), weight)[0]
            budget = geometry.sizes.ltm_read_tokens // block
            ids = torch.arange(len(scores))
            out.append(set(choose_blocks(scores, ids, budget, geometry.read.neighbour_blocks, retriever.window).tolist()))
    return out


def search_changes(model: MPlusModel, searched: Searched) -> list[dict[str, Any]]:
    """Share of the blocks chosen by the keys as they are that rounded keys choose too, and of the facts read whole."""
    retriever, block = model.parts.retriever, model.geometry.read.block_tokens
    assert isinstance(retriever, LateInteractionRetriever)
    votes = len(retriever.layers)

    def per_layer(keys_MF: Tensor) -> Tensor:
        return levels(1)(keys_MF.view(len(keys_MF), votes, -1)).flatten(1)

    roundings: dict[str, Rounding] = {
        "as they are": lambda keys: keys,
        "bfloat16": cast(torch.bfloat16),
        "int8, scale per key": levels(1),
        "int8, scale per voting layer": per_layer,
    }
    wanted: list[set[int]] = []
    out: list[dict[str, Any]] = []
    for name, rounding in roundings.items():
        chosen = chosen_blocks(model, searched, rounding)
        wanted = wanted or chosen
        shares = [len(one & other) / len(other) for one, other in zip(chosen, wanted, strict=True)]
        facts = [
            set(range(span[0] // block, (span[1] - 1) // block + 1)) <= one
            for one, span in zip(chosen, searched.spans, strict=True)
            if span is not None
        ]
        out.append(
            {
                "type": name,
                "blocks_kept": sum(shares) / len(shares),
                "fewest_kept": min(shares),
                "facts_read": sum(facts) / len(facts) if facts else None,
                "queries": len(shares),
                "tokens": len(searched.keys_MF),
            }
        )
    return out


# -- the command -------------------------------------------------------------------------------------------------------


def show(console: Console, found: dict[str, Any]) -> None:
    """Three tables."""
    table = Table("rows of long-term memory", "K, relative error", "worst layer", "V, relative error", "worst layer")
    for row in found["rows"]:
        numbers = [row[field][which] for field in ("keys", "values") for which in ("mean", "worst_layer")]
        table.add_row(row["type"], *(f"{number:.2e}" for number in numbers))
    console.print(table)
    table = Table("reads", "bytes a token", "largest logit change", "KL mean, nats", "KL max", "same argmax")
    for row in found["reads"]:
        numbers = [row["largest_logit_change"], row["kl_mean_nats"], row["kl_max_nats"]]
        table.add_row(row["type"], f"{row['bytes_per_token']:,}", *(f"{one:.2e}" for one in numbers), f"{row['same_argmax']:.4f}")
    console.print(table)
    table = Table("search keys", "tokens", "queries", "chosen blocks kept", "fewest of a query", "facts read whole")
    for row in found["search"]:
        facts = "-" if row["facts_read"] is None else f"{row['facts_read']:.3f}"
        kept = (f"{row['blocks_kept']:.4f}", f"{row['fewest_kept']:.4f}")
        table.add_row(row["type"], f"{row['tokens']:,}", str(row["queries"]), *kept, facts)
    console.print(table)


def main() -> None:
    """Measure, print, store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m", help="a model whose layers vote (shared retrieval)")
    parser.add_argument("--tokens", type=int, default=4096, help="text tokens written")
    parser.add_argument("--prompts", type=int, default=16, help="prompts that read the memory")
    parser.add_argument("--keys", type=Path, help="directory of experiments/stream_keys.py")
    parser.add_argument("--questions", type=int, default=72, help="with --keys: questions asked")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    model = MPlusModel.from_pretrained(options.model)
    if not isinstance(model.parts.retriever, LateInteractionRetriever):
        parser.error(f"--model {options.model}: its layers do not vote; this command measures shared retrieval")
    memory = filled(model, options.tokens)
    if len(memory.long_term) <= model.geometry.sizes.ltm_read_tokens:
        parser.error(
            f"--tokens {options.tokens} leaves {len(memory.long_term)} long-term tokens, fewer than a read takes; ask for more"
        )
    prompts = passages(memory, options.prompts)
    searched = (
        Searched.written(model, memory, prompts) if options.keys is None else Searched.stored(options.keys, options.questions)
    )
    found = {
        "schema": 1,
        "model": options.model,
        "dtype": str(model.parts.decoder.dtype).removeprefix("torch."),
        "geometry": model.geometry.flat(),
        "machine": platform.processor() or platform.machine(),
        "torch": torch.__version__,
        "long_term_tokens": len(memory.long_term),
        "rows": row_errors(memory),
        "reads": read_changes(model, memory, prompts),
        "search_keys": "written" if options.keys is None else options.keys.name,
        "search": search_changes(model, searched),
    }
    show(Console(), found)
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
