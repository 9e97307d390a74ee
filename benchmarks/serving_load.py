"""Load, kills and isolation of a real server: ``python -m benchmarks.serving_load --clients 64 --requests 10000 --model tiny --json FILE``.

Clients of several tenants, whose memories have the same ids, do a seeded mix of operations at once. Every reply is searched for what
another memory holds, and at the end every memory is compared with what was acknowledged (``serving_ledger``). ``--kills N`` ends the server
with SIGKILL at random moments instead, and compares after each start. ``--levels`` measures streams at so many clients, with batching and
one by one. Exits with 1 where a fault was found.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.serving_clients import MIX, NO_ANSWER, Clients, NoAnswerError, content_of
from benchmarks.serving_ledger import Ledger, Scope
from benchmarks.serving_process import MIB, ServerProcess, keys_of, tiny_model_at
from mplus.runtime.environment import environment_of

SHORTEST_LIFE_S, LONGEST_LIFE_S = 0.05, 5.0
"""Between these a server is killed, counted from the first request."""
RSS_ABOVE_BUDGET_BYTES = 512 * MIB
"""What a server may take above its RAM when ready and the budget of its memories: batches, bodies, SQLite, fragments."""


def scopes_of(keys: Sequence[str], memories: int) -> list[Scope]:
    """Memories of all tenants by turns; each id is used by each tenant."""
    return [(keys[number % len(keys)], f"m-{number // len(keys)}") for number in range(memories)]


async def load(clients: Clients, scopes: list[Scope], *, at_once: int, requests: int) -> float:
    """Do so many operations, so many at once; gives seconds."""
    operations = clients.random.choices(list(MIX), list(MIX.values()), k=requests)
    begun = time.monotonic()
    waiting = iter(operations)

    async def client() -> None:
        for name in waiting:
            known = list(clients.ledger.texts)
            await clients.one(name, clients.random.choice(known or scopes))

    await asyncio.gather(*(client() for _ in range(at_once)))
    return time.monotonic() - begun


async def fill(clients: Clients, scopes: list[Scope]) -> None:
    """Write two texts into each memory, so that each has a secret."""
    room = asyncio.Semaphore(16)

    async def one(scope: Scope) -> None:
        async with room:
            await clients.write(scope)
            await clients.write(scope)

    await asyncio.gather(*(one(scope) for scope in scopes))


# -- the three runs ------------------------------------------------------------------------------------------------------


async def run_load(server: ServerProcess, clients: Clients, options: argparse.Namespace) -> dict[str, Any]:
    """Load until the last request, then compare, then restart and compare again."""
    scopes = scopes_of(list(clients.keys), options.memories)
    ready_bytes = server.rss_bytes[-1] if server.rss_bytes else 0
    async with clients.connected():
        await fill(clients, scopes)
        filled_bytes = server.rss_bytes[-1]
        seconds = await load(clients, scopes, at_once=options.clients, requests=options.requests)
        await clients.check_all(still=False)
    broken = {
        name: count for name, count in clients.operations.items() if name.endswith(NO_ANSWER) and not name.startswith("leave")
    }
    if broken:
        clients.ledger.faults.append(f"connections broke that nobody left: {broken}")
    most_bytes = max(server.rss_bytes)
    allowed = ready_bytes + options.memory_budget_mib * MIB + RSS_ABOVE_BUDGET_BYTES
    if most_bytes > allowed:
        clients.ledger.faults.append(f"the server took {most_bytes:,} bytes of RAM, at most {allowed:,} are allowed")
    if (code := server.stop()) != 0:
        clients.ledger.faults.append(f"SIGTERM ended the server with exit code {code}")
    restart_s = server.start()
    clients.address = server.address
    async with clients.connected():
        await clients.check_all(still=True)
    return {
        "seconds": seconds,
        "requests_per_s": options.requests / seconds,
        "memories_at_the_end": len(clients.ledger.texts),
        "rss_mib": {"ready": ready_bytes / MIB, "filled": filled_bytes / MIB, "most": most_bytes / MIB},
        "restart_s": restart_s,
    }


async def run_kills(server: ServerProcess, clients: Clients, options: argparse.Namespace) -> dict[str, Any]:
    """Kill the server so many times under load; compare after each start. SIGTERM ends it when the kill at hand is compared."""
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    scopes = scopes_of(list(clients.keys), options.memories)
    async with clients.connected():
        await fill(clients, scopes)
    restarts_s: list[float] = []
    for number in range(options.kills):
        async with clients.connected():
            running = asyncio.create_task(load(clients, scopes, at_once=options.clients, requests=options.requests))
            await asyncio.sleep(clients.random.uniform(SHORTEST_LIFE_S, LONGEST_LIFE_S))
            await asyncio.to_thread(server.kill)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        restarts_s.append(await asyncio.to_thread(server.start))
        clients.address = server.address
        async with clients.connected():
            await clients.check_all(still=True)
        faults = len(clients.ledger.faults)
        print(f"kill {number + 1}: ready after {restarts_s[-1]:.1f} s, {faults} faults", file=sys.stderr, flush=True)
        if ended.is_set():
            break
    return {"kills": len(restarts_s), "restart_s": {"median": statistics.median(restarts_s), "most": max(restarts_s)}}


async def level(clients: Clients, scopes: list[Scope], kind: str, at_once: int, answers: int) -> dict[str, Any]:
    """Stream so many answers, so many at once: tokens a second, first token.

    All clients begin in the same moment, so the first answer of each is told apart: it waits for the prompts of all others.
    """
    firsts_s: list[float] = []
    begins_s: list[float] = []
    tokens = 0
    waiting = iter(range(answers))

    async def client() -> None:
        nonlocal tokens
        told_in = begins_s
        for number in waiting:
            first_s, given = await timed_stream(clients, scopes[number % len(scopes)], kind)
            told_in.append(first_s)
            tokens, told_in = tokens + given, firsts_s

    begun = time.monotonic()
    await asyncio.gather(*(client() for _ in range(at_once)))
    seconds = time.monotonic() - begun
    row = {
        "kind": kind,
        "clients": at_once,
        "answers": answers,
        "tokens_an_answer": tokens / answers,
        "answers_per_s": answers / seconds,
        "tokens_per_s": tokens / seconds,
        "first_p50_s": quantile(firsts_s, 0.5),
        "first_p99_s": quantile(firsts_s, 0.99),
        "begin_p50_s": quantile(begins_s, 0.5),
        "begin_most_s": max(begins_s),
    }
    print(row_of(row), file=sys.stderr, flush=True)  # a long run that is ended has told what it measured
    return row


PROMPTS = {
    "chat": "Which code has the locker?",
    "text": "The code of the locker is a long story. It begins on a rainy day, when the old man",
}
"""Chats are answered in a few words; a text goes on until `--new-tokens`."""


async def timed_stream(clients: Clients, scope: Scope, kind: str) -> tuple[float, int]:
    """Seconds to the first piece of text, and tokens of the answer."""
    prompt = {"messages": [{"role": "user", "content": PROMPTS[kind]}]} if kind == "chat" else {"prompt": PROMPTS[kind]}
    body = {
        **prompt,
        "max_tokens": clients.new_tokens,
        "memory": {"id": scope[1]},
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    begun, first_s, given = time.monotonic(), None, 0
    path = "/v1/chat/completions" if kind == "chat" else "/v1/completions"
    async with clients.http(scope).stream("POST", path, json=body) as response:
        async for line in response.aiter_lines():
            if first_s is None and content_of(line):
                first_s = time.monotonic() - begun
            if line.startswith("data: {") and (usage := json.loads(line[6:]).get("usage")):
                given = usage["completion_tokens"]
    if response.status_code != 200:
        raise NoAnswerError(f"a stream gave {response.status_code}")
    return time.monotonic() - begun if first_s is None else first_s, given


def quantile(values: list[float], share: float) -> float:
    """The value below which a share of them lies (nearest rank)."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


async def run_levels(clients: Clients, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure at each number of clients, after one answer of each memory to warm up."""
    scopes = scopes_of(list(clients.keys), options.memories)
    async with clients.connected():
        await fill(clients, scopes)
        await level(clients, scopes, "text", 4, len(scopes))
        return [
            await level(clients, scopes, kind, at_once, max(options.answers, 2 * at_once))
            for kind in PROMPTS
            for at_once in options.levels
        ]


# -- the command ---------------------------------------------------------------------------------------------------------


def measured(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """All that was asked for, each on a server and a home of its own."""
    model = str(tiny_model_at(folder / "model")) if options.model == "tiny" else options.model
    keys = keys_of(folder / "keys.json", options.tenants)
    ledger = Ledger()
    result: dict[str, Any] = {}

    def server_of(name: str, batch: int) -> tuple[ServerProcess, Clients]:
        given = ("--batch", str(batch), "--memory-budget", f"{options.memory_budget_mib}M")
        home, log = folder / name, options.log or folder / "log"
        server = ServerProcess(model=model, home=home, keys=folder / "keys.json", log=log, options=given)
        server.start()
        time.sleep(0.3)  # for a first sample of its RAM
        return server, Clients(address=server.address, keys=keys, ledger=ledger, seed=options.seed, new_tokens=options.new_tokens)

    for batch in (options.batch, 1) if options.levels else ():
        server, clients = server_of(f"levels-{batch}", batch)
        try:
            result[f"streams, batch {batch}"] = asyncio.run(run_levels(clients, options))
        finally:
            server.kill()
        ledger.texts.clear()  # that home is not used again
    if options.requests or options.kills:
        server, clients = server_of("load", options.batch)
        try:
            run = run_kills if options.kills else run_load
            result.update(asyncio.run(run(server, clients, options)))
        finally:
            server.kill()
        result["operations"], result["statuses"] = dict(sorted(clients.operations.items())), dict(clients.statuses)
    if "SECRET-" in (options.log or folder / "log").read_text(encoding="utf-8"):
        ledger.faults.append("the server's log holds text of users")
    return {**result, **ledger.counts, "faults": ledger.faults}


def table(result: dict[str, Any]) -> str:
    """What is printed."""
    lines = []
    for name, rows in result.items():
        if name.startswith("streams"):
            lines += [
                "",
                f"{name}: kind | clients | answers | tokens each | tokens/s | first token p50 s | p99 s | of all at once: p50 s | most s",
            ]
            lines += [row_of(row) for row in rows]
        elif name != "faults":
            lines.append(f"{name}: {rows}")
    return "\n".join([*lines, f"faults: {len(result['faults'])}"])


def row_of(row: dict[str, Any]) -> str:
    """One level."""
    return (
        f"  {row['kind']} | {row['clients']:5} | {row['answers']:5} | {row['tokens_an_answer']:.1f} | {row['tokens_per_s']:8.1f} "
        f"| {row['first_p50_s']:.3f} | {row['first_p99_s']:.3f} | {row['begin_p50_s']:.3f} | {row['begin_most_s']:.3f}"
    )


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving_load", description=__doc__)
    parser.add_argument("--model", default="tiny", help="tiny, or a model as `mplus serve` takes it")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--requests", type=int, default=10_000, help="of the load; with --kills those between two kills at most")
    parser.add_argument("--memories", type=int, default=200)
    parser.add_argument("--tenants", type=int, default=8)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--levels", type=lambda text: [int(part) for part in text.split(",")], default=[], metavar="1,8,64")
    parser.add_argument("--answers", type=int, default=64, help="streams of each level, at least two a client")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--memory-budget-mib", type=int, default=64)
    parser.add_argument("--new-tokens", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--log", type=Path, help="keep the server's log here")
    parser.add_argument("--json", type=Path, metavar="FILE")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print, and store with ``--json``."""
    options = parsed(arguments)
    random.seed(options.seed)
    loads = [os.getloadavg()[0]]
    with tempfile.TemporaryDirectory(prefix="serving-load-") as folder:
        result = measured(options, Path(folder))
    loads.append(os.getloadavg()[0])
    print(table(result))
    for fault in result["faults"][:12]:
        print("FAULT", fault)
    if options.json:
        versions, hardware = environment_of("torch.float32" if options.model == "tiny" else "auto")
        settings = {name: value for name, value in vars(options).items() if not isinstance(value, Path)}
        told = {"settings": settings, **result, "load_average": loads, "versions": versions, "hardware": hardware}
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    return 1 if result["faults"] else 0


if __name__ == "__main__":
    sys.exit(main())
