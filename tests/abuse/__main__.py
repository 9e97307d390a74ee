"""``python -m tests.abuse``: attack for a while and print what was counted; exit code 1 if anything was wrong."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import pkgutil
import sys
import time
from pathlib import Path

import tests.abuse
from tests.abuse.counts import Counts

BATCH = {
    "command_lines": 100,
    "threads": 10,
    "damaged": 100,
    "kills": 20,
    "failing_calls": 20,
    "processes": 5,
    "interrupts": 20,
    "sequences": 10,
    "server_kills": 5,
}
"""Rounds done between two looks at the clock."""


def kinds() -> list[str]:
    """Modules here that attack."""
    here = Path(tests.abuse.__file__).parent
    names = sorted(module.name for module in pkgutil.iter_modules([str(here)]))
    return [name for name in names if "def run(seed: int" in (here / f"{name}.py").read_text(encoding="utf-8")]


def attack(kind: str, seed: int, rounds: int | None, first: int, minutes: float) -> tuple[Counts, float]:
    """Rounds of one kind, so many or for so long; the counts and the seconds."""
    run = importlib.import_module(f"tests.abuse.{kind}").run
    begun, counts = time.monotonic(), Counts()
    if rounds is not None:
        counts = run(seed, rounds, first) if first else run(seed, rounds)
    else:
        while time.monotonic() - begun < 60 * minutes:
            counts = counts + run(seed, BATCH.get(kind, 20))
            seed += 1
    return counts, time.monotonic() - begun


def lines(kind: str, counts: Counts) -> list[str]:
    """One for the kind, one for each of its rows that had something wrong or refused, and the examples."""
    out = [line(kind, counts)]
    out += [line(f"  {name}", row) for name, row in sorted(counts.rows.items())]
    for category, number in sorted(counts.wrong.items(), key=lambda pair: -pair[1]):
        out += [f"    {number} x {category}", *(f"        {example}" for example in counts.examples[category][:2])]
    return out


def line(name: str, counts: Counts) -> str:
    """Name and numbers."""
    return f"{name:64.64s} {counts.tried:7,} {counts.right:7,} {counts.refused:8,} {counts.wrongs:7,}"


def main() -> int:
    """Read the options, attack, print."""
    parser = argparse.ArgumentParser(prog="python -m tests.abuse", description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=5.0, help="in all, shared by the kinds (default 5)")
    parser.add_argument("--rounds", type=int, help="of each kind, instead of a time")
    parser.add_argument("--first", type=int, default=0, help="number of the first round, to see one again")
    parser.add_argument(
        "--kind", action="append", metavar="KIND[=ROUNDS]", help=f"only this one of {', '.join(kinds())}; may be repeated"
    )
    parser.add_argument("--real", metavar="NAME", nargs="?", const="smollm2-135m", help="threads on a real model")
    parser.add_argument("--json", type=Path, metavar="OUT", help="also write the counts there")
    options = parser.parse_args()
    if options.real:
        os.environ["MPLUS_ABUSE_REAL"] = options.real
    chosen = dict(_kind_and_rounds(parser, asked) for asked in options.kind or kinds())
    print(f"{'kind':64s} {'tried':>7s} {'right':>7s} {'refused':>8s} {'wrong':>7s}")
    found: dict[str, Counts] = {}
    took: dict[str, float] = {}
    for kind, rounds in chosen.items():
        rounds = options.rounds if rounds is None else rounds
        found[kind], took[kind] = attack(kind, options.seed, rounds, options.first, options.minutes / len(chosen))
        print("\n".join(lines(kind, found[kind])), f"    {took[kind]:.0f} s", sep="\n", flush=True)
        if options.json:  # after each kind, so that a run that is ended leaves what it found
            result = {"seed": options.seed, "kinds": {k: {"seconds": round(took[k]), **c.to_json()} for k, c in found.items()}}
            options.json.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    total = sum((one.without_rows() for one in found.values()), Counts())
    print(line("all", total), f"first example: {total.first_example() or 'none'}", sep="\n")
    return 1 if total.wrong else 0


def _kind_and_rounds(parser: argparse.ArgumentParser, asked: str) -> tuple[str, int | None]:
    name, _, rounds = asked.partition("=")
    if name not in kinds() or not (rounds.isdigit() or not rounds):
        parser.error(f"--kind {asked!r}: give one of {', '.join(kinds())}, or KIND=ROUNDS")
    return name, int(rounds) if rounds else None


if __name__ == "__main__":
    sys.exit(main())
