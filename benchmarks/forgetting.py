"""Forgetting and merging on a real model: ``python -m benchmarks.forgetting --tokens 160000 --json FILE --plot FILE``.

Facts (names held out from training) stand in running text, in sources of equal length. All are asked; some sources are forgotten; all are
asked again, of the memory that forgot and of one that never read them, written anew (``--anew``) or from the rows that are there. Two
memories with half of the sources each are merged and asked. Every answer is stored.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from rich.console import Console
from rich.table import Table

from mplus import Memory, MPlusModel
from mplus.corpus.facts import Fact
from mplus.corpus.held_out import HeldOutFacts
from mplus.corpus.python_docs import python_text
from mplus.evaluation.scoring.text_match import contains_value, wilson_interval
from mplus.runtime.environment import environment_of

BATCH: Final = 8
QUESTION: Final = "{} Answer with the value only."
Source = tuple[str, str, list[Fact]]
"""Name, text and facts of a source."""


def sources_of(model: MPlusModel, tokens: int, count: int, facts: int, seed: int) -> list[Source]:
    """Texts of ``tokens / count`` tokens with the facts at even distances in each."""
    made, paragraphs = HeldOutFacts(seed), [part for part in python_text().split("\n\n") if part.strip()]
    per_source, out, at = tokens // count, list[Source](), 0
    for number in range(count):
        own, parts, held = made.make(facts), list[str](), 0
        waiting = list(own)
        while held < per_source:
            paragraph = paragraphs[at % len(paragraphs)]
            at += 1
            if waiting and held >= per_source * (facts - len(waiting) + 0.5) / facts:
                paragraph = f"{waiting.pop(0).statement} {paragraph}"
            parts.append(paragraph)
            held += len(model.tokenize(paragraph))
        parts += [fact.statement for fact in waiting]
        out.append((f"source {number:02d}", "\n\n".join(parts), own))
    return out


def written(model: MPlusModel, sources: Sequence[Source], seed: int, *, share: bool, tell: Callable[[str], None]) -> Memory:
    """A memory that read the sources, one after the other, at times 0, 1, 2 ..."""
    memory = model.new_memory(seed=seed, write_context="source")
    for number, (name, text, _) in enumerate(sources):
        memory.write(text, source=name, at=float(name.split()[-1]), share=share)
        if number % 10 == 9:
            tell(f"{number + 1} of {len(sources)} sources, {memory.tokens_read:,} tokens")
    return memory


def answers(model: MPlusModel, memory: Memory, sources: Sequence[Source]) -> list[str]:
    """The answers to all questions, in order."""
    facts = [fact for _, _, own in sources for fact in own]
    out: list[str] = []
    for start in range(0, len(facts), BATCH):
        chats = [[{"role": "user", "content": QUESTION.format(fact.question)}] for fact in facts[start : start + BATCH]]
        out += model.chat(chats, memory=memory, max_new_tokens=10, do_sample=False)
    return out


def right(sources: Sequence[Source], said: Sequence[str], names: set[str]) -> tuple[int, int]:
    """(right answers, questions) about some sources."""
    facts = [(name, fact) for name, _, own in sources for fact in own]
    scores = [contains_value(answer, fact.value) for (name, fact), answer in zip(facts, said, strict=True) if name in names]
    return sum(scores), len(scores)


def same_memory(first: Memory, second: Memory) -> bool:
    """Whether two memories hold the same rows at the same places, bit for bit."""
    one, other = first.placement, second.placement
    if not torch.equal(one.rows, other.rows) or not torch.equal(one.generator, other.generator):
        return False
    if any(not torch.equal(a.rows, b.rows) for a, b in zip(one.long, other.long, strict=True)):
        return False
    return all(
        torch.equal(first.long_term.gather(0, part, (name,))[name], second.long_term.gather(0, part, (name,))[name])
        for part in torch.arange(len(first.long_term)).split(4096)
        for name in first.layout.fields
    )


def timed(act: Callable[[], Any]) -> tuple[Any, float]:
    """What an act gives, and its seconds."""
    started = time.perf_counter()
    out = act()
    return out, time.perf_counter() - started


def main() -> None:
    """Print the table, store everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--tokens", type=int, default=160_000)
    parser.add_argument("--sources", type=int, default=40)
    parser.add_argument("--facts", type=int, default=5, help="in each source")
    parser.add_argument("--forget", type=int, default=10, help="sources")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--anew", action="store_true", help="encode the memories that are compared with anew")
    parser.add_argument("--json", type=Path, help="store everything there")
    parser.add_argument("--plot", type=Path, help="draw recall there")
    options = parser.parse_args()
    result = run(MPlusModel.from_pretrained(options.model, dtype=options.dtype), options)
    show(result)
    if options.json:
        options.json.write_text(json.dumps(result, indent=1, default=str) + "\n", encoding="utf-8")
    if options.plot:
        draw(result, options.plot)


def run(model: MPlusModel, options: argparse.Namespace) -> dict[str, Any]:
    """Everything that is measured, as plain data."""
    tell = Console(stderr=True).print
    sources = sources_of(model, options.tokens, options.sources, options.facts, options.seed)
    step = options.sources / options.forget
    gone = {sources[int(number * step)][0] for number in range(options.forget)}
    kept = {name for name, _, _ in sources} - gone
    memory, write_s = timed(lambda: written(model, sources, options.seed, share=False, tell=tell))
    before, ask_s = timed(lambda: answers(model, memory, sources))
    forgetful, fork_s = timed(memory.fork)
    report, forget_s = timed(lambda: forgetful.forget(sorted(gone)))
    after = answers(model, forgetful, sources)
    rest = [one for one in sources if one[0] in kept]
    never, again_s = timed(lambda: written(model, rest, options.seed, share=not options.anew, tell=tell))
    without = answers(model, never, sources)
    halves = [written(model, sources[start::2], options.seed, share=not options.anew, tell=tell) for start in (0, 1)]
    merge_report, merge_s = timed(lambda: halves[0].merge(halves[1]))
    merged = answers(model, halves[0], sources)
    columns = {"before": before, "after forget": after, "never read": without, "merged": merged}
    recall = {
        name: {"forgotten": right(sources, said, gone), "others": right(sources, said, kept)} for name, said in columns.items()
    }
    versions, hardware = environment_of(model.dtype)
    return {
        "settings": {key: value for key, value in vars(options).items() if not isinstance(value, Path)},
        "versions": versions,
        "hardware": hardware,
        "tokens": memory.tokens_read,
        "recall": recall,
        "same answers as never read": after == without,
        "bit for bit as never read": same_memory(forgetful, never),
        "other answers unchanged by forgetting": sum(
            a == b
            for (name, _), a, b in zip(
                ((name, fact) for name, _, own in sources for fact in own), before, after, strict=True
            )
            if name in kept
        ),
        "merged equals the memory that read both": same_memory(halves[0], memory) and merged == before,
        "seconds": {
            "write": write_s, "ask all": ask_s, "fork": fork_s, "forget": forget_s, "write again, rows shared or anew": again_s,
            "merge": merge_s,
        },
        "report": report.to_json(),
        "merge report": merge_report.to_json(),
        "lines": [
            {"source": name, "question": fact.question, "value": fact.value, **{key: said[number] for key, said in columns.items()}}
            for number, (name, fact) in enumerate((name, fact) for name, _, own in sources for fact in own)
        ],
    }  # fmt: skip


def show(result: dict[str, Any]) -> None:
    """Print recall as a table, and the rest."""
    table = Table("memory", "facts of forgotten sources", "95 %", "other facts", "95 %")
    for name, cells in result["recall"].items():
        parts = [
            part
            for count, total in cells.values()
            for part in (f"{count} of {total}", "{:.2f}-{:.2f}".format(*wilson_interval(count, total)))
        ]
        table.add_row(name, *parts)
    Console().print(table)
    for name, value in result.items():
        if isinstance(value, (bool, int)) or name in ("seconds", "report", "merge report"):
            Console().print(f"{name}: {value}")


def draw(result: dict[str, Any], path: Path) -> None:
    """Draw the recall of each memory."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 3.6), layout="constrained")
    names = list(result["recall"])
    for offset, (kind, colour) in enumerate((("forgotten", "#c44"), ("others", "#357"))):
        pairs = [result["recall"][name][kind] for name in names]
        shares = [count / total for count, total in pairs]
        limits = [wilson_interval(count, total) for count, total in pairs]
        errors = [[max(0.0, share - low) for share, (low, _) in zip(shares, limits, strict=True)],
                  [max(0.0, high - share) for share, (_, high) in zip(shares, limits, strict=True)]]  # fmt: skip
        places = [place + 0.38 * (offset - 0.5) for place in range(len(names))]
        label = "facts of the sources that are forgotten" if kind == "forgotten" else "facts of the others"
        axes.bar(places, shares, 0.36, yerr=errors, capsize=3, color=colour, label=label)
    axes.set_xticks(range(len(names)), names)
    axes.set_ylim(0, 1.05)
    axes.set_ylabel("right answers")
    axes.set_title(f"{result['report']['tokens']:,} of {result['tokens']:,} tokens forgotten")
    axes.legend(loc="lower left", fontsize=8)
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    main()
