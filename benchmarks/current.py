"""What is current, and what needs two steps: ``python -m benchmarks.current --work DIR --json FILE``.

A memory reads running text with generated facts in it (names, values and wordings of the held-out split). Some facts change 2, 4 or 8
times, as many never do (controls). Each question is asked under each order of what is retrieved; right is an answer that holds the newest
value. The same questions with `At first, before that changed:` before them ask for the first value. Chains need two statements; counted is
for how many both were read, with one round of retrieval and with two.

Memories are stored in DIR, and every part of the result when it is done; what is there is not measured again.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from benchmarks.changing_facts import ASKS_FOR_THE_PAST, Asked, chains, changing_facts, documents
from mplus import Memory, MPlusModel
from mplus.evaluation.scoring.right_span import rank_of_span
from mplus.evaluation.scoring.text_match import contains_value, wilson_interval
from mplus.evaluation.systems.protocol import GREEDY, as_chat
from mplus.inference.prefill import passages_of
from mplus.runtime.atomic import replace_files
from mplus.runtime.environment import environment_of

ORDERS: Final[dict[str, dict[str, Any]]] = {
    "score": {},
    "text": {"read_order": "text"},
    "newest": {"same_slot": "newest"},
    "newest_alone": {"same_slot": "newest_alone"},
    "newest_0.10": {"same_slot": "newest", "slot_tolerance": 0.10},
    "newest_alone_0.10": {"same_slot": "newest_alone", "slot_tolerance": 0.10},
}
"""Orders of what is retrieved, as changes of the memory's geometry: today's, oldest first, and newest first within a slot."""
BATCH: Final = 12
NEW_TOKENS: Final = 8


def filled(model: MPlusModel, asked: Sequence[Asked], tokens: int, seed: int, place: Path, *, in_time: bool) -> Memory:
    """The memory that read everything, from a directory where it was stored, else read now; sources are `0`, `1` ..."""
    if place.exists():
        return Memory.load(place, model)
    memory = model.new_memory(seed=seed)
    for number, document in enumerate(documents(asked, _encoder(model), tokens, seed, in_time=in_time)):
        memory.write(document.ids, source=str(number), at=float(number))
    memory.save(place)
    return memory


def _encoder(model: MPlusModel) -> Callable[[str], list[int]]:
    tokenizer: Any = model.tokenizer
    return lambda text: list(tokenizer(text, add_special_tokens=False)["input_ids"])


# -- orders ------------------------------------------------------------------------------------------------------------


def measure_orders(model: MPlusModel, changes: int, count: int, tokens: int, seed: int, work: Path, order: str) -> dict[str, Any]:
    """Shares of right answers under one order."""
    asked = changing_facts(seed, count, changes)
    memory = filled(model, asked, tokens, seed, work / f"changed-{changes}-{count}-{tokens}-{seed}", in_time=True)
    memory.geometry = memory.geometry.changed(**ORDERS[order])
    changed = [one for one in asked if not one.control]
    began = time.process_time()
    newest = answers(model, memory, [one.question for one in asked])
    first = answers(model, memory, [ASKS_FOR_THE_PAST + one.question for one in changed])
    latest = [_holds(answer, one.values[-1]) for answer, one in zip(newest, asked, strict=True)]
    return {
        "changes": changes,
        "order": order,
        "tokens": memory.tokens_read,
        "seed": seed,
        "latest": _share([right for right, one in zip(latest, asked, strict=True) if not one.control]),
        "controls": _share([right for right, one in zip(latest, asked, strict=True) if one.control]),
        "first_asked_for": _share([_holds(answer, one.values[0]) for answer, one in zip(first, changed, strict=True)]),
        "cpu_s": round(time.process_time() - began, 1),
    }


def answers(model: MPlusModel, memory: Memory, questions: Sequence[str], *, rounds: int = 1) -> list[str]:
    """Greedy answers, asked as chats."""
    out = list[str]()
    for at in range(0, len(questions), BATCH):
        batch = [as_chat(question) for question in questions[at : at + BATCH]]
        given: Any = model.chat(batch, memory=memory, max_new_tokens=NEW_TOKENS, rounds=rounds, **GREEDY)
        out += given
    return out


def _holds(answer: str, value: str) -> bool:
    return contains_value(answer, value)


def _share(right: Sequence[bool]) -> dict[str, Any]:
    low, high = wilson_interval(sum(right), len(right))
    return {"right": sum(right), "of": len(right), "share": round(sum(right) / len(right), 4), "low": low, "high": high}


# -- rounds ------------------------------------------------------------------------------------------------------------


def measure_rounds(model: MPlusModel, count: int, tokens: int, seed: int, work: Path, rounds: int) -> dict[str, Any]:
    """How often both statements of a chain were read, and the answer was right."""
    asked = chains(seed, count)
    memory = filled(model, asked, tokens, seed, work / f"chains-{count}-{tokens}-{seed}", in_time=False)
    both, each = list[bool](), [list[bool](), list[bool]()]
    laid_out = documents(asked, _encoder(model), tokens, seed, in_time=False)
    places = {(asks, which): (str(source), span) for source, one in enumerate(laid_out) for asks, which, span in one.placed}
    for number, one in enumerate(asked):
        row, query = model.reader.chat_row(as_chat(one.question), behind_memory=True)
        trace = passages_of(model.reader, row, memory, query=query, rounds=rounds)
        read = [rank_of_span(trace, *places[number, which]) is not None for which in range(len(one.statements))]
        both.append(all(read))
        for kept, found in zip(each, read, strict=True):
            kept.append(found)
    given = answers(model, memory, [one.question for one in asked], rounds=rounds)
    right = [_holds(answer, one.values[-1]) for answer, one in zip(given, asked, strict=True)]
    return {
        "rounds": rounds,
        "tokens": memory.tokens_read,
        "seed": seed,
        "both_read": _share(both),
        "first_read": _share(each[0]),
        "second_read": _share(each[1]),
        "answered": _share(right),
    }


# -- the command -------------------------------------------------------------------------------------------------------


def main() -> int:
    """Measure what the result file lacks, and show it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.current", description=__doc__)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--work", type=Path, required=True, help="directory for memories")
    parser.add_argument("--json", type=Path, required=True, help="result, gone on with")
    parser.add_argument("--part", choices=("orders", "rounds", "all"), default="all")
    parser.add_argument("--changes", type=int, nargs="+", default=[2, 4, 8])
    parser.add_argument("--orders", nargs="+", choices=ORDERS, default=list(ORDERS))
    parser.add_argument(
        "--count", type=int, default=24, help="facts that change, and controls, per cell; chains are twice as many"
    )
    parser.add_argument("--tokens", type=int, default=8000)
    parser.add_argument("--seed", type=int, default=5)
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    held = json.loads(given.json.read_text()) if given.json.exists() else {"orders": [], "rounds": []}
    model = MPlusModel.from_pretrained(given.model)
    _measure(model, given, held)
    show(held)
    return 0


def _measure(model: MPlusModel, given: argparse.Namespace, held: dict[str, Any]) -> None:
    if given.part != "rounds":
        for changes in given.changes:
            for order in given.orders:
                if not any((one["changes"], one["order"], one["seed"]) == (changes, order, given.seed) for one in held["orders"]):
                    held["orders"].append(
                        measure_orders(model, changes, given.count, given.tokens, given.seed, given.work, order)
                    )
                    _store(model, held, given.json)
    if given.part != "orders":
        for rounds in (1, 2):
            if not any((one["rounds"], one["seed"]) == (rounds, given.seed) for one in held["rounds"]):
                held["rounds"].append(measure_rounds(model, 2 * given.count, given.tokens, given.seed, given.work, rounds))
                _store(model, held, given.json)


def _store(model: MPlusModel, held: dict[str, Any], place: Path) -> None:
    versions, machine = environment_of(model.parts.decoder.dtype)
    text = json.dumps({**held, "versions": versions, "machine": machine}, indent=1)
    replace_files({place: lambda aside: aside.write_text(text + "\n", encoding="utf-8")})


def show(held: dict[str, Any]) -> None:
    """Print the result as tables."""
    orders = Table("changes", "order", "latest", "controls", "first, asked for")
    for one in held["orders"]:
        orders.add_row(
            str(one["changes"]), one["order"], *(_cell(one[name]) for name in ("latest", "controls", "first_asked_for"))
        )
    rounds = Table("rounds", "both read", "first read", "second read", "answered")
    for one in held["rounds"]:
        rounds.add_row(str(one["rounds"]), *(_cell(one[name]) for name in ("both_read", "first_read", "second_read", "answered")))
    console = Console()
    console.print(orders, rounds)


def _cell(share: dict[str, Any]) -> str:
    return f"{share['share']:.2f} ({share['right']}/{share['of']})"


if __name__ == "__main__":
    sys.exit(main())
