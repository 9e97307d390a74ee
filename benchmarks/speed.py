"""The timed parts: first token, decoding, writing, full context. Knows no ratios: it gives the seconds of every turn.

Legend: M long-term tokens, C text tokens in context, B memories.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from benchmarks.fixture import Fixture
from benchmarks.models import open_size
from benchmarks.plan import LARGE_LTM, PAPER_LTM, SMALL_LTM
from benchmarks.systems import FullContext, WithMemory, ours
from benchmarks.timing import interleaved, timed

BATCH = 8
LONG_TEXT_TOKENS = 160_000


def first_token(fixture: Fixture) -> dict[str, Any]:
    """Seconds to the first token of a new prompt at every M, the memory unchanged between prompts.

    The literal procedure goes as far as the paper's capacity. The largest size is measured once more in turns with the small one.
    """
    mine, paper = fixture.ours(), fixture.literal()
    points: list[dict[str, Any]] = []
    small: WithMemory | None = None
    growth: dict[str, Any] | None = None
    for tokens in fixture.plan.ltm:
        if tokens > PAPER_LTM:
            paper.memory.clear()
        if not fixture.grow(mine, tokens, "ours"):
            continue
        sides = {"ours": lambda: mine.first_token(fixture.query())}
        if tokens <= PAPER_LTM and fixture.grow(paper, tokens, "literal"):
            sides["literal"] = lambda: paper.first_token(fixture.query())
        fixture.tell(f"first token at {tokens:,} long-term tokens: {', '.join(sides)}")
        points.append({"ltm_tokens": tokens, "seconds": interleaved(sides, fixture.plan.rounds)})
        if tokens == SMALL_LTM:
            small = mine.with_memory(mine.memory.fork())
        if tokens == LARGE_LTM and small is not None:
            turns = {"small": partial(fixture.warm_first_token, small), "large": partial(fixture.warm_first_token, mine)}
            growth = {"small": SMALL_LTM, "large": LARGE_LTM, "seconds": interleaved(turns, fixture.plan.rounds)}
    paper.memory.clear()
    mine.memory.clear()
    return {"query_tokens": fixture.plan.query_tokens, "points": points, **({"growth": growth} if growth else {})}


def after_write(fixture: Fixture) -> dict[str, Any]:
    """Seconds to the first token when the memory has changed since the last prompt, so that nothing kept can be used."""
    tokens, chunk = fixture.plan.working_ltm, fixture.model.geometry.sizes.chunk_tokens
    both = fixture.pair(tokens)
    fixture.tell(f"first token right after a write, at {tokens:,} long-term tokens")

    def measure(system: WithMemory) -> float:
        system.write(fixture.text(chunk))
        return system.first_token(fixture.query())

    sides = {name: partial(measure, system) for name, system in both.items()}
    return {"ltm_tokens": tokens, "seconds": interleaved(sides, fixture.plan.rounds)}


def decode(fixture: Fixture) -> dict[str, Any]:
    """Seconds to decode, beside plain transformers with a static and with a growing cache of the same length."""
    tokens, count = fixture.plan.working_ltm, fixture.plan.new_tokens
    both, geometry = fixture.pair(tokens), fixture.model.geometry
    prefix = 1 + geometry.sizes.stm_tokens + min(tokens, geometry.sizes.ltm_read_tokens)
    prefix = min(prefix, fixture.model.parts.decoder.positions - fixture.plan.query_tokens - count - 1)
    context = FullContext(fixture.plain, fixture.text(prefix))
    fixture.tell(f"decoding {count} tokens behind {prefix:,}")
    sides = {
        "ours": lambda: both["ours"].decode(fixture.query(), count),
        "literal": lambda: both["literal"].decode(fixture.query(), count),
        "static": lambda: context.decode_static(fixture.query(), count),
        "growing": lambda: context.decode_cached(fixture.query(), count),
    }
    seconds = interleaved(sides, fixture.plan.rounds)
    return {"ltm_tokens": tokens, "prefix_tokens": prefix, "new_tokens": count, "seconds": seconds}


def ingest(fixture: Fixture) -> dict[str, Any]:
    """Seconds to read text into a full memory; ours also on bfloat16 weights."""
    tokens = fixture.plan.chunks * fixture.model.geometry.sizes.chunk_tokens
    fixture.tell(f"writing {tokens:,} tokens: ours, literal, ours in bfloat16")
    half = open_size(fixture.plan.model, dtype="bfloat16", layers=fixture.plan.layers)
    systems = {"ours": fixture.ours(), "literal": fixture.literal(), "ours_bf16": ours(half, fixture.capacity)}
    sides = {name: lambda system=system: system.write(fixture.text(tokens)) for name, system in systems.items()}
    return {"tokens": tokens, "chunks": fixture.plan.chunks, "seconds": interleaved(sides, fixture.plan.rounds)}


def ingest_batch(fixture: Fixture) -> dict[str, Any]:
    """Seconds for one chunk into each of eight memories: in one pass, and one after the other."""
    chunk, system = fixture.model.geometry.sizes.chunk_tokens, fixture.ours()
    memories = [system.memory.fork() for _ in range(BATCH)]
    fixture.tell(f"writing one chunk into each of {BATCH} memories")

    def one_by_one() -> float:
        texts = fixture.text(BATCH * chunk).view(BATCH, chunk)
        return sum(system.with_memory(memory).write(text) for memory, text in zip(memories, texts, strict=True))

    sides = {
        "together": lambda: system.write_batch(memories, fixture.text(BATCH * chunk).view(BATCH, chunk)),
        "one_by_one": one_by_one,
    }
    return {"batch": BATCH, "tokens": BATCH * chunk, "seconds": interleaved(sides, fixture.plan.rounds)}


def contexts(fixture: Fixture) -> dict[str, Any]:
    """Plain transformers behind C tokens of text: everything read again, and only the query with the text's K and V kept."""
    plan, points = fixture.plan, []
    for tokens in plan.contexts:
        expected_s = fixture.shape.context_flops(tokens, plan.query_tokens) / fixture.limits.flops_per_s[fixture.dtype]
        if why := _no_context(fixture, tokens, expected_s):
            fixture.note(f"full context at {tokens:,} tokens is left out: {why}")
            continue
        fixture.tell(f"full context, {tokens:,} tokens")
        context = FullContext(fixture.plain, fixture.text(tokens))
        sides = {
            "full": lambda context=context: context.first_token(fixture.query()),
            "cached": lambda context=context: context.first_token_cached(fixture.query()),
        }
        rounds, warm_up = (plan.rounds, 1) if expected_s < 2 else (min(3, plan.rounds), 0)
        seconds = interleaved(sides, rounds, warm_up=warm_up)
        points.append({"text_tokens": tokens, "cache_bytes": fixture.shape.prefix_bytes(tokens), "seconds": seconds})
    return {"points": points}


def _no_context(fixture: Fixture, tokens: int, expected_s: float) -> str | None:
    """Why a text is not measured in full context; None where it is."""
    positions, budget_s = fixture.model.parts.decoder.positions, fixture.plan.context_budget_s
    if tokens + fixture.plan.query_tokens + 1 > positions:
        return f"the model has {positions:,} positions"
    if expected_s > budget_s:
        return f"about {expected_s:.0f} s a turn at the machine's measured rate, the budget is {budget_s:.0f} s"
    return None


def end_to_end(fixture: Fixture) -> dict[str, Any]:
    """Seconds to read 160,000 tokens, and then to answer."""
    system = fixture.ours()
    fixture.tell(f"reading {LONG_TEXT_TOKENS:,} tokens, then answering")
    read_s = system.write(fixture.text(LONG_TEXT_TOKENS))
    query, count = fixture.query(), fixture.plan.new_tokens
    answer_s = timed(lambda: system.model.generate(query[None], system.memory, max_new_tokens=count, do_sample=False))
    figures = {"text_tokens": LONG_TEXT_TOKENS, "read_s": read_s, "answer_s": answer_s, "new_tokens": count}
    return {**figures, "ltm_tokens": len(system.memory.long_term)}
