"""The timed parts: first token, decoding, writing, full context. Knows no ratios: it gives the seconds of every turn.

Legend: M long-term tokens, C text tokens in context, B memories.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from benchmarks.ablation import warm_first_token
from benchmarks.fixture import Stage
from benchmarks.models import open_size
from benchmarks.plan import LARGE_LTM, PAPER_LTM, SMALL_LTM
from benchmarks.systems import FullContext, WithMemory, ours
from benchmarks.timing import interleaved, timed

BATCH = 8
LONG_TEXT_TOKENS = 160_000


def first_token(stage: Stage) -> dict[str, Any]:
    """Seconds to the first token of a new prompt at every M, the memory unchanged between prompts.

    The literal procedure goes as far as the paper's capacity. The largest size is measured once more in turns with the small one.
    """
    mine, paper = stage.ours(), stage.literal()
    points: list[dict[str, Any]] = []
    small: WithMemory | None = None
    growth: dict[str, Any] | None = None
    for tokens in stage.plan.ltm:
        if tokens > PAPER_LTM:
            paper.memory.clear()
        if not stage.grow(mine, tokens, "ours"):
            continue
        sides = {"ours": lambda: mine.first_token(stage.query())}
        if tokens <= PAPER_LTM and stage.grow(paper, tokens, "literal"):
            sides["literal"] = lambda: paper.first_token(stage.query())
        stage.tell(f"first token at {tokens:,} long-term tokens: {', '.join(sides)}")
        points.append({"ltm_tokens": tokens, "seconds": interleaved(sides, stage.plan.rounds)})
        if tokens == SMALL_LTM:
            small = mine.with_memory(mine.memory.fork())
        if tokens == LARGE_LTM and small is not None:
            turns = {"small": partial(warm_first_token, stage, small), "large": partial(warm_first_token, stage, mine)}
            growth = {"small": SMALL_LTM, "large": LARGE_LTM, "seconds": interleaved(turns, stage.plan.rounds)}
    paper.memory.clear()
    mine.memory.clear()
    return {"query_tokens": stage.plan.query_tokens, "points": points, **({"growth": growth} if growth else {})}


def after_write(stage: Stage) -> dict[str, Any] | None:
    """Seconds to the first token when the memory has changed since the last prompt, so that nothing kept can be used."""
    tokens = stage.plan.working_ltm
    if (both := stage.pair(tokens)) is None:
        return None
    stage.tell(f"first token right after a write, at {tokens:,} long-term tokens")
    chunk = stage.model.geometry.chunk_tokens

    def measure(system: WithMemory) -> float:
        system.write(stage.text(chunk))
        return system.first_token(stage.query())

    sides = {"ours": lambda: measure(both[0]), "literal": lambda: measure(both[1])}
    return {"ltm_tokens": tokens, "seconds": interleaved(sides, stage.plan.rounds)}


def decode(stage: Stage) -> dict[str, Any] | None:
    """Seconds to decode, beside plain transformers with a static and with a growing cache of the same length."""
    tokens, count = stage.plan.working_ltm, stage.plan.new_tokens
    if (both := stage.pair(tokens)) is None:
        return None
    geometry = stage.model.geometry
    prefix = 1 + geometry.stm_tokens + min(tokens, geometry.ltm_read_tokens)
    prefix = min(prefix, stage.model.attached.decoder.positions - stage.plan.query_tokens - count - 1)
    context = FullContext(stage.plain, stage.text(prefix))
    stage.tell(f"decoding {count} tokens behind {prefix:,}")
    sides = {
        "ours": lambda: both[0].decode(stage.query(), count),
        "literal": lambda: both[1].decode(stage.query(), count),
        "static": lambda: context.decode_static(stage.query(), count),
        "growing": lambda: context.decode_cached(stage.query(), count),
    }
    return {
        "ltm_tokens": tokens,
        "prefix_tokens": prefix,
        "new_tokens": count,
        "seconds": interleaved(sides, stage.plan.rounds),
    }


def ingest(stage: Stage) -> dict[str, Any]:
    """Seconds to read text into a full memory; ours also on bfloat16 weights."""
    tokens = stage.plan.chunks * stage.model.geometry.chunk_tokens
    stage.tell(f"writing {tokens:,} tokens: ours, literal, ours in bfloat16")
    half = open_size(stage.plan.model, dtype="bfloat16", layers=stage.plan.layers)
    systems = {"ours": stage.ours(), "literal": stage.literal(), "ours_bf16": ours(half, stage.capacity)}
    sides = {name: lambda system=system: system.write(stage.text(tokens)) for name, system in systems.items()}
    return {"tokens": tokens, "chunks": stage.plan.chunks, "seconds": interleaved(sides, stage.plan.rounds)}


def ingest_batch(stage: Stage) -> dict[str, Any]:
    """Seconds for one chunk into each of eight memories: in one pass, and one after the other."""
    chunk, system = stage.model.geometry.chunk_tokens, stage.ours()
    memories = [system.memory.fork() for _ in range(BATCH)]
    stage.tell(f"writing one chunk into each of {BATCH} memories")

    def one_by_one() -> float:
        texts = stage.text(BATCH * chunk).view(BATCH, chunk)
        return sum(system.with_memory(memory).write(text) for memory, text in zip(memories, texts, strict=True))

    sides = {
        "together": lambda: system.write_batch(memories, stage.text(BATCH * chunk).view(BATCH, chunk)),
        "one_by_one": one_by_one,
    }
    return {"batch": BATCH, "tokens": BATCH * chunk, "seconds": interleaved(sides, stage.plan.rounds)}


def contexts(stage: Stage) -> dict[str, Any]:
    """Plain transformers behind C tokens of text: everything read again, and only the query with the text's K and V kept."""
    points = []
    positions = stage.model.attached.decoder.positions
    for tokens in stage.plan.contexts:
        if tokens + stage.plan.query_tokens + 1 > positions:
            stage.note(f"full context at {tokens:,} tokens is left out: the model has {positions:,} positions")
            continue
        flops = stage.shape.context_flops(tokens, stage.plan.query_tokens)
        dtype = str(stage.model.dtype).removeprefix("torch.")
        expected_s = flops / stage.limits.flops_per_s[dtype]
        if expected_s > stage.plan.context_budget_s:
            stage.note(
                f"full context at {tokens:,} tokens is left out: about {expected_s:.0f} s a turn at the machine's measured rate, "
                f"the budget is {stage.plan.context_budget_s:.0f} s"
            )
            continue
        stage.tell(f"full context, {tokens:,} tokens")
        context = FullContext(stage.plain, stage.text(tokens))
        sides = {
            "full": lambda context=context: context.first_token(stage.query()),
            "cached": lambda context=context: context.first_token_cached(stage.query()),
        }
        rounds = stage.plan.rounds if expected_s < 2 else min(3, stage.plan.rounds)
        points.append(
            {
                "text_tokens": tokens,
                "cache_bytes": stage.shape.prefix_bytes(tokens),
                "seconds": interleaved(sides, rounds, warm_up=1 if expected_s < 2 else 0),
            }
        )
    return {"points": points}


def end_to_end(stage: Stage) -> dict[str, Any]:
    """Seconds to read 160,000 tokens, and then to answer."""
    system = stage.ours()
    stage.tell(f"reading {LONG_TEXT_TOKENS:,} tokens, then answering")
    read_s = system.write(stage.text(LONG_TEXT_TOKENS))
    query = stage.query()
    with torch.no_grad():
        answer_s = timed(
            lambda: system.model.generate(query[None], system.memory, max_new_tokens=stage.plan.new_tokens, do_sample=False)
        )
    return {
        "text_tokens": LONG_TEXT_TOKENS,
        "read_s": read_s,
        "answer_s": answer_s,
        "new_tokens": stage.plan.new_tokens,
        "ltm_tokens": len(system.memory.longterm),
    }
