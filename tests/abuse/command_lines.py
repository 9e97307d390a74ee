"""Bad command lines and recipes: exit code 0, 2 or 130, and where it is 2, one line on stderr; never a traceback or a hang.

Commands run in this process. No command gets as far as a model: none of the places named here holds one.
"""

from __future__ import annotations

import contextlib
import io
import os
import random as random_module
from collections.abc import Callable
from pathlib import Path
from random import Random
from unittest import mock

from mplus.cli import main
from tests.abuse.children import Round, run_rounds
from tests.abuse.counts import REFUSED, RIGHT, Counts

ROUND_S = 30.0
FINE = (0, 2, 130)

WORDS = (
    "", " ", "-", "--", "-h", "--help", "nowhere", "nowhere/at/all", "~", "~nobody/x", ".", "..", "/", "/dev/null", "/dev/zero",
    "empty", "plain.txt", "binary.bin", "fifo", "a" * 300, "a/" * 3000, "x\0y", "half\ud83d", "byte\udcff", "\x1b[31mred\x1b[0m",
    "\u202eleft", "line\nbreak", "[/red]", "[bold]", "{}", "%s", "$HOME", "*", "京都", "0", "-1", "1e999", "nan", "inf", "-inf",
    "99999999999999999999", "9" * 5000, "0x10", "1_000", "١٢", "true", "null", "adapt/memory", "adapt/memroy", "org/model",
    "hf://x", "smollm2-135M", "needle", "needle,needle", ",", "retention,", "moon", "=", "a=b", "a.b.c=1", "k0:K0=128",
)  # fmt: skip
"""What may stand anywhere."""

COMMANDS: dict[str, tuple[str, ...]] = {
    "fetch": ("--from", "--force", "-v"),
    "write": ("--model", "--dtype", "--device", "--verbose"),
    "ask": ("--model", "--max-new-tokens", "--show-retrieved", "--trace", "--attention", "--plot", "--json"),
    "list": ("--json", "--home"),
    "info": ("--json", "--model", "--plot", "--home"),
    "sources": ("--json", "--pattern", "--home"),
    "forget": ("--pattern", "--before", "--since", "--now", "--dry-run", "--model", "--json"),
    "replace": ("--model", "--json", "--home"),
    "merge": ("--prefix", "--model", "--json"),
    "fork": ("--json", "--home"),
    "delete": ("--yes", "--json", "--home"),
    "reencode": ("--model", "--from", "--to", "--json"),
    "verify": ("--json", "--home"),
    "compact": ("--json", "--home"),
    "import": ("--json", "--home"),
    "demo": ("--out", "--haystack", "--tokens", "--questions", "--seed", "--model"),
    "bench": ("--rounds", "--layers", "--ltm", "--contexts", "--dtype", "--check", "--out", "--model"),
    "train": ("--set", "--dry-run", "--list", "--out", "--resume"),
    "export": ("--out", "--force", "--dtype", "--json"),
    "eval": ("--out", "--data", "--limit", "--seed", "--set", "--tokens", "--distances", "--systems", "--model", "--stm"),
    "eval list": ("--json",),
    "eval report": ("--out",),
    "eval judge": ("--url", "--judge-model", "--key-env"),
    "": ("--version", "--verbose", "--help"),
    "nonsense": ("--x",),
}

_DEEP = 5000
YAMLS: dict[str, Callable[[Random], bytes]] = {
    "empty": lambda random: b"",
    "open braces": lambda random: b"{" * _DEEP,
    "open brackets": lambda random: b"[" * _DEEP,
    "deep mapping": lambda random: b"".join(b" " * depth + b"a:\n" for depth in range(200)),
    "aliases": lambda random: b"\n".join(
        [b"a0: &a0 [x, x]"] + [f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}, *a{n - 1}]".encode() for n in range(1, 30)]
    ),
    "itself": lambda random: b"a: &a [*a]",
    "merge": lambda random: b"a: &a {b: 1}\n<<: *a\nname: x",
    "tag": lambda random: random.choice(
        [
            b"!!python/object/apply:os.system ['true']",
            b"a: !!binary '$$$'",
            b"!!set {a, b}",
            b"a: !!int x",
            b"a: !!timestamp x",
            b"!x {}",
        ]
    ),
    "number": lambda random: (
        b"steps: "
        + random.choice([b"9" * 5000, b"0x" + b"f" * 5000, b"1e999", b".nan", b"-.inf", b"0b", b"0o", b"1:99:99", b"2001-99-99"])
    ),
    "key": lambda random: random.choice([b"? [a]\n: b", b"? {a: b}\n: c", b"a: 1\na: 2", b"1: 2", b"null: 1", b"[a, b]: c"]),
    "bytes": lambda random: random.randbytes(random.randrange(1, 400)),
    "utf-16": lambda random: "name: x\n".encode("utf-16"),
    "null": lambda random: b"name: a\0b",
    "scalar": lambda random: random.choice([b"x", b"1", b"null", b"---\na: 1\n---\nb: 2", b"%YAML 9.9\n---\na: 1", b"\t- x"]),
    "extends": lambda random: (
        b"extends: " + random.choice([b"recipe.yaml", b"''", b"[]", b"nowhere", b"/", b"fifo", b"1", b"~", b"'a\\0b'"])
    ),
    "wrong types": lambda random: (
        b"name: x\nmodel: {base: x}\ntask: {kind: language}\nsteps: 1\n"
        + random.choice(
            [
                b"model: []",
                b"task: x",
                b"optimiser: 1",
                b"steps: []",
                b"out: {}",
                b"task: {kind: []}",
                b"model: {base: 1, geometry: [1]}",
            ]
        )
    ),
    "geometry": lambda random: (
        b"name: x\nmodel: {base: x, geometry: {"
        + random.choice([b"N: -1", b"N: .nan", b"K: 1e300", b"stm_tokns: 3", b"N: 1, stm_tokens: 2", b"M: [1]", b"1: 2"])
        + b"}}\ntask: {kind: language}\nsteps: 1"
    ),
    "cut": lambda random: _cut(random),
}


def _cut(random: Random) -> bytes:
    """A good recipe with a few bytes gone, doubled or changed."""
    from mplus.training.run.recipe_file import SHIPPED

    text = bytearray(random.choice(sorted(SHIPPED.rglob("*.yaml"))).read_bytes())
    for _ in range(random.randrange(1, 5)):
        at = random.randrange(len(text))
        text[at : at + random.randrange(0, 4)] = random.choice(
            [b"", b"\n", b"{", b"- ", b"&a ", b"*a", b"\xff", b": ", b"'", b"  "]
        )
    return bytes(text)


def run(seed: int, rounds: int, first: int = 0) -> Counts:
    """One command line a round."""
    return run_rounds(one_round, seed, rounds, first, round_s=ROUND_S)


def one_round(this: Round) -> None:
    """Make up a command line or a recipe, run it, look at how it ended."""
    _furnish(this.place)
    os.chdir(this.place)
    os.environ.update(MPLUS_CACHE=str(this.place / "cache"), HF_HUB_OFFLINE="1", HOME=str(this.place), MPLUS_HOME="")
    random = this.random
    if random.random() < 0.4:
        kind = random.choice(sorted(YAMLS))
        (this.place / "recipe.yaml").write_bytes(YAMLS[kind](random))
        arguments, row = ["train", "recipe.yaml", "--dry-run", *_changes(random)], f"recipe, {kind}"
    else:
        command = random.choice(sorted(COMMANDS))
        arguments, row = [*command.split(), *_arguments(random, COMMANDS[command])], f"mplus {command}".strip()
    _try(this, arguments, row)


def _try(this: Round, arguments: list[str], row: str) -> None:
    """Run it and report the verdict."""
    stdin = io.TextIOWrapper(io.BytesIO(random_module.Random(this.number).randbytes(20)))
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), mock.patch("sys.stdin", stdin):
        code = main(arguments)
    this.report(row, verdict(code, out.getvalue(), err.getvalue()), f"{arguments!r:.150} -> {code} {err.getvalue()[:120]!r}")


def verdict(code: int, out: str, err: str) -> str:
    """What an exit code and what was printed count as."""
    told = [line for line in err.splitlines() if line.startswith("mplus: ")]
    if code not in FINE:
        return f"exit code {code}"
    if "Traceback" in out + err:
        return "traceback"
    if "\x1b" in out + err:
        return "escape sequence"
    if code and len(told) != 1:
        return f"{len(told)} lines on stderr"
    return REFUSED if code else RIGHT


def _arguments(random: Random, options: tuple[str, ...]) -> list[str]:
    words: list[str] = [random.choice(WORDS) for _ in range(random.choice([0, 1, 1, 2, 2, 3]))]
    for _ in range(random.choice([0, 1, 1, 2, 3])):
        option, value = random.choice(options), random.choice(WORDS)
        words[random.randrange(len(words) + 1) :] = random.choice(
            [[option, value], [option], [f"{option}={value}"], [option[:-1], value]]
        )
    return words


def _changes(random: Random) -> list[str]:
    changes: list[str] = []
    if random.random() < 0.3:
        key = random.choice(["steps", "model.geometry.N", "task.kind", "a.b.c.d", "", ".", "name", "out", "optimiser"])
        value = random.choice([*WORDS, "{" * 2000, "&a [*a]", "!!python/none x", "[1, 2", "2001-99-99"])
        changes = ["--set", f"{key}={value}"]
    return changes


def _furnish(place: Path) -> None:
    """Things to stumble over."""
    (place / "empty").mkdir()
    (place / "plain.txt").write_text("Ana Lopes lives in Seville.\n", encoding="utf-8")
    (place / "binary.bin").write_bytes(bytes(range(256)))
    os.mkfifo(place / "fifo")
