"""mem0's open-source core and this server, same notes, same questions: ``python -m benchmarks.serving_peers --json FILE``.

mem0 runs in a process of its own for each step, with its local vector store (Qdrant) and an embedder that hashes words: models for
embeddings cannot be had offline, so what mem0 finds here says nothing of its quality. With ``infer=True`` its language model is this
server. Measured: seconds to add notes, what a search finds after some were deleted and the program was restarted, and whether deleted text
is still in a history or spelled in a file. This server spells no text in files, it keeps token ids; that these go too is what
``tests/unit/server/mem0/test_open_source.py`` looks for.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import httpx

from mplus.runtime.environment import environment_of

NAMES: Final = (
    "Ilse Varga",
    "Tom Okafor",
    "Mira Solheim",
    "Juno Takeda",
    "Rafael Quint",
    "Ada Brandt",
    "Piet Mulder",
    "Sina Haddad",
    "Lou Marchetti",
    "Eino Koski",
)
THINGS: Final = ("locker", "desk", "parking place", "telephone", "badge", "seat", "cabin", "garden", "boat", "bicycle")
DELETED: Final = range(0, 100, 5)
TOP: Final = 5
WIDTH: Final = 512


def notes_of(count: int) -> list[tuple[str, str, str]]:
    """Text, question and number of each note."""
    out = []
    for at in range(count):
        who, what, number = NAMES[at % 10], THINGS[at // 10 % 10], str(13_577 + 859 * at)
        out.append((f"The {what} of {who} has the number {number}.", f"Which number has the {what} of {who}?", number))
    return out


def holding(home: Path, numbers: Sequence[str]) -> int:
    """How many numbers are still spelled in a file."""
    data = [path.read_bytes() for path in home.rglob("*") if path.is_file()]
    return sum(any(number.encode() in one for one in data) for number in numbers)


def size_of(home: Path) -> int:
    """Bytes of all files."""
    return sum(path.stat().st_size for path in home.rglob("*") if path.is_file())


# -- this server ---------------------------------------------------------------------------------------------------------


@contextmanager
def served(home: Path, model: str) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """The server in a process of its own."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mplus.cli", "serve", "--model", model, "--home", str(home), "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        while True:
            assert process.poll() is None, "the server did not start"
            try:
                if httpx.get(f"{address}/ready").status_code == 200:
                    break
            except httpx.TransportError:  # it does not listen yet, or opens the model
                pass
            time.sleep(0.2)
        yield address, process
    finally:
        process.kill()
        process.wait()


def measure_server(home: Path, model: str, notes: Sequence[tuple[str, str, str]]) -> dict[str, Any]:
    """Add, delete, kill, restart, ask."""
    with served(home, model) as (address, process), httpx.Client(base_url=address, timeout=300) as client:
        began, ids = time.perf_counter(), []
        for text, _, _ in notes:
            told = client.post("/memories", json={"text": text, "user_id": "anna"}).raise_for_status().json()
            ids.append(told["results"][0]["id"])
        added_s = time.perf_counter() - began
        for at in DELETED:
            client.delete(f"/memories/{ids[at]}").raise_for_status()
        process.kill()  # nothing is saved on the way out
        process.wait()
    with served(home, model) as (address, _), httpx.Client(base_url=address, timeout=300) as client:
        found = []
        for _, question, _ in notes:
            asked = {"query": question, "user_id": "anna", "top_k": TOP}
            found.append([one["memory"] for one in client.post("/search", json=asked).raise_for_status().json()["results"]])
        histories = [client.get(f"/memories/{ids[at]}/history").text for at in DELETED]
    return _told("mplus serve", home, notes, added_s, found, histories)


# -- mem0 ----------------------------------------------------------------------------------------------------------------


class HashedWords:
    """Embeds a text as counts of its words, hashed."""

    def embed(self, text: str, memory_action: str | None = None) -> list[float]:
        """A vector of length one."""
        counts = [0.0] * WIDTH
        for word in re.findall(r"\w+", text.lower()):
            counts[zlib.crc32(word.encode()) % WIDTH] += 1.0
        length = sum(count * count for count in counts) ** 0.5 or 1.0
        return [count / length for count in counts]


def mem0_memory(home: Path, llm: str) -> Any:
    """mem0's core over a directory."""
    os.environ.update(MEM0_TELEMETRY="False", MEM0_DIR=str(home / "mem0"))
    store = {"path": str(home / "qdrant"), "on_disk": True, "embedding_model_dims": WIDTH}
    memory = import_module("mem0").Memory.from_config(
        {
            "vector_store": {"provider": "qdrant", "config": store},
            "llm": {
                "provider": "openai",
                "config": {"api_key": "none", "openai_base_url": llm, "model": "mplus", "max_tokens": 200},
            },
            "embedder": {"provider": "openai", "config": {"api_key": "none", "openai_base_url": llm}},
            "history_db_path": str(home / "history.db"),
        }
    )
    memory.embedding_model = HashedWords()
    return memory


def mem0_step(step: str, home: Path, llm: str) -> dict[str, Any]:
    """One step in this process."""
    memory, notes = mem0_memory(home, llm), notes_of(100)
    began = time.perf_counter()
    if step == "add":
        ids = [memory.add(text, user_id="anna", infer=False)["results"][0]["id"] for text, _, _ in notes]
        added_s = time.perf_counter() - began
        for at in DELETED:
            memory.delete(ids[at])
        return {"ids": ids, "added_s": added_s}
    if step == "infer":
        kept = [len(memory.add(text, user_id="ben", infer=True).get("results", [])) for text, _, _ in notes[:3]]
        return {"notes": 3, "seconds": time.perf_counter() - began, "memories": sum(kept)}
    ids = json.loads((home / "ids.json").read_text())
    found = [[one["memory"] for one in memory.search(question, user_id="anna", limit=TOP)["results"]] for _, question, _ in notes]
    return {"found": found, "histories": [json.dumps(memory.history(ids[at]), default=str) for at in DELETED]}


def measure_mem0(home: Path, llm: str, notes: Sequence[tuple[str, str, str]]) -> dict[str, Any]:
    """Each step in a new process, so that nothing is answered from RAM."""

    def step(name: str) -> dict[str, Any]:
        command = [sys.executable, "-m", "benchmarks.serving_peers", "--step", name, "--home", str(home), "--llm", llm]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            return {"failed": done.stderr.strip().splitlines()[-1][:300]}
        told: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
        return told

    added = step("add")
    if "failed" in added:
        return {"system": "mem0", **added}
    (home / "ids.json").write_text(json.dumps(added["ids"]))
    asked = step("ask")
    told = _told("mem0, verbatim", home, notes, added["added_s"], asked["found"], asked["histories"])
    return {**told, "with its language model": step("infer")}


# -- both ----------------------------------------------------------------------------------------------------------------


def _told(
    system: str, home: Path, notes: Sequence[tuple[str, str, str]], added_s: float, found: list[list[str]], histories: list[str]
) -> dict[str, Any]:
    gone = [notes[at][2] for at in DELETED]
    kept = [at for at in range(len(notes)) if at not in DELETED]
    return {
        "system": system,
        "seconds_to_add": round(added_s, 2),
        "kept": len(kept),
        "kept_found": sum(any(notes[at][2] in text for text in found[at]) for at in kept),
        "deleted": len(gone),
        "deleted_found": sum(any(number in text for text in texts) for number in gone for texts in found),
        "deleted_in_history": sum(number in told for number, told in zip(gone, histories, strict=True)),
        "deleted_spelled_in_files": holding(home, gone),
        "bytes": size_of(home),
    }


def main() -> None:
    """Measure both, or do one step of mem0's."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--step", choices=("add", "ask", "infer"), help=argparse.SUPPRESS)
    parser.add_argument("--home", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--llm", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.step:
        print(json.dumps(mem0_step(arguments.step, arguments.home, arguments.llm)))
        return
    notes = notes_of(100)
    with tempfile.TemporaryDirectory() as place:
        homes = [Path(place) / name for name in ("ours", "mem0", "llm")]
        homes[1].mkdir()
        results = [measure_server(homes[0], arguments.model, notes)]
        print(json.dumps(results[-1]), flush=True)
        with served(homes[2], arguments.model) as (address, _):
            results.append(measure_mem0(homes[1], f"{address}/v1", notes))
        print(json.dumps(results[-1]), flush=True)
    if arguments.json is not None:
        versions, hardware = environment_of("float32")
        versions["mem0ai"] = version("mem0ai")
        whole = {"command": "python -m benchmarks.serving_peers", "results": results, "versions": versions, "hardware": hardware}
        arguments.json.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
