"""mem0's open-source core, llama.cpp's server and this server, same notes, same questions: ``python -m benchmarks.serving_peers``.

100 notes are added one by one, 20 are deleted, the program is killed and started again, all are asked for. Then a history of about 7,500
tokens is added, and the first token of an answer timed. All three answer with the same base model; mem0's and llama.cpp's read it with
the notes in the prompt, this server from memory.

mem0 runs in a process of its own for each step, with its local vector store (Qdrant) and an embedder that hashes words: models for
embeddings cannot be had offline, so what mem0 finds here says nothing of its quality. With ``infer=True`` its language model is this
server. llama.cpp keeps the notes as the processed prompt of a slot, which it saves and restores (``--llama-server``, ``--gguf``; see
docs/results/serving.md for how it was built). This server spells no text in files, it keeps token ids; that these go too is what
``tests/unit/server/mem0/test_open_source.py`` looks for.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import socket
import statistics
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
from types import SimpleNamespace
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
ANSWER_TOKENS: Final = 16
FIRST_TOKENS: Final = 7
HISTORY: Final = Path(__file__).parents[1] / "docs" / "reference" / "server-api.md"
HISTORY_CHARACTERS: Final = 20_500
SYSTEM: Final = "Answer from these notes.\n"


def notes_of(count: int) -> list[tuple[str, str, str]]:
    """Text, question and number of each note."""
    out = []
    for at in range(count):
        who, what, number = NAMES[at % 10], THINGS[at // 10 % 10], str(13_577 + 859 * at)
        out.append((f"The {what} of {who} has the number {number}.", f"Which number has the {what} of {who}?", number))
    return out


def holding(home: Path, texts: Sequence[str]) -> int:
    """How many texts are still spelled in a file."""
    data = [path.read_bytes() for path in home.rglob("*") if path.is_file()]
    return sum(any(text.encode() in one for one in data) for text in texts)


def size_of(home: Path) -> int:
    """Bytes of all files."""
    return sum(path.stat().st_size for path in home.rglob("*") if path.is_file())


def history_of(notes: Sequence[tuple[str, str, str]]) -> list[str]:
    """The notes and the paragraphs of a document, about 7,500 tokens."""
    paragraphs = [part for part in HISTORY.read_text(encoding="utf-8").split("\n") if part.strip()]
    texts = [text for text, _, _ in notes]
    while sum(map(len, texts)) < HISTORY_CHARACTERS:
        texts.append(paragraphs[len(texts) - len(notes)])
    return texts


def wait_for(address: str, process: subprocess.Popen[bytes], path: str) -> None:
    """Wait until a server is ready."""
    while True:
        assert process.poll() is None, "the server did not start"
        try:
            if httpx.get(f"{address}{path}").status_code == 200:
                return
        except httpx.TransportError:  # it does not listen yet, or opens the model
            pass
        time.sleep(0.2)


@contextmanager
def process_of(command: Sequence[str], address: str, path: str) -> Iterator[subprocess.Popen[bytes]]:
    """A server in a process of its own, killed at the end."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(address, process, path)
        yield process
    finally:
        process.kill()
        process.wait()


def free_port() -> int:
    """A port of this machine that nobody uses."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def chat_of(question: str, notes: str | None = None, **more: Any) -> dict[str, Any]:
    """A request for a chat's answer."""
    system = [] if notes is None else [{"role": "system", "content": SYSTEM + notes}]
    messages = [*system, {"role": "user", "content": question}]
    return {"messages": messages, "max_tokens": ANSWER_TOKENS, "temperature": 0, **more}


def answer_of(client: httpx.Client, request: dict[str, Any]) -> str:
    """The text of an answer."""
    told = client.post("/v1/chat/completions", json=request).raise_for_status().json()
    return str(told["choices"][0]["message"]["content"])


def first_token_s(client: httpx.Client, request: dict[str, Any]) -> float:
    """Seconds to the first text of a stream."""
    began = time.perf_counter()
    with client.stream("POST", "/v1/chat/completions", json={**request, "stream": True}) as told:
        for line in told.iter_lines():
            if line.startswith("data: {") and json.loads(line[6:])["choices"][0]["delta"].get("content"):
                return time.perf_counter() - began
    raise AssertionError("the stream ended without text")


# -- this server ---------------------------------------------------------------------------------------------------------


@contextmanager
def served(home: Path, model: str) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """The server in a process of its own."""
    port = free_port()
    command = [sys.executable, "-m", "mplus.cli", "serve", "--model", model, "--home", str(home), "--port", str(port)]
    with process_of(command, f"http://127.0.0.1:{port}", "/ready") as process:
        yield f"http://127.0.0.1:{port}", process


def measure_server(home: Path, model: str, notes: Sequence[tuple[str, str, str]]) -> dict[str, Any]:
    """Add, delete, kill, restart, ask."""
    with served(home, model) as (address, process), httpx.Client(base_url=address, timeout=300) as client:

        def add(text: str, who: str) -> str:
            told = client.post("/memories", json={"text": text, "user_id": who}).raise_for_status().json()
            return str(told["results"][0]["id"])

        began = time.perf_counter()
        ids = [add(text, "anna") for text, _, _ in notes]
        added_s, began = time.perf_counter() - began, time.perf_counter()
        for at in DELETED:
            client.delete(f"/memories/{ids[at]}").raise_for_status()
        deleted_s = time.perf_counter() - began
        process.kill()  # nothing is saved on the way out
        process.wait()
    began = time.perf_counter()
    with served(home, model) as (address, _), httpx.Client(base_url=address, timeout=300) as client:
        restarted_s, found, answers = time.perf_counter() - began, [], []
        for _, question, _ in notes:
            asked = {"query": question, "user_id": "anna", "top_k": TOP}
            found.append([one["memory"] for one in client.post("/search", json=asked).raise_for_status().json()["results"]])
            answers.append(answer_of(client, chat_of(question, memory={"id": "anna"})))
        histories = [client.get(f"/memories/{ids[at]}/history").text for at in DELETED]
        told = _told("mplus serve", home, notes, added_s, deleted_s, answers)
        client.post("/v1/memories", json={"id": "long"}).raise_for_status()
        text = {"text": "\n\n".join(history_of(notes)), "source": "history"}
        client.post("/v1/memories/long/sources?wait=true", json=text).raise_for_status()
        asking = [chat_of(question, memory={"id": "long"}) for _, question, _ in notes[: 1 + FIRST_TOKENS]]
        firsts = [first_token_s(client, one) for one in asking][1:]
    return {**told, **_found(notes, found, histories), **_firsts(firsts), "restarted_s": round(restarted_s, 2)}


# -- mem0 ----------------------------------------------------------------------------------------------------------------


class HashedWords:
    """Embeds a text as counts of its words, hashed."""

    config: Final = SimpleNamespace(embedding_dims=WIDTH)  # mem0 tells it to its telemetry, even where that is off

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
    model = httpx.get(f"{llm}/models").raise_for_status().json()["data"][0]["id"]
    store = {"path": str(home / "qdrant"), "on_disk": True, "embedding_model_dims": WIDTH}
    memory = import_module("mem0").Memory.from_config(
        {
            "vector_store": {"provider": "qdrant", "config": store},
            "llm": {
                "provider": "openai",
                "config": {"api_key": "none", "openai_base_url": llm, "model": model, "max_tokens": 200},
            },
            "embedder": {"provider": "openai", "config": {"api_key": "none", "openai_base_url": llm}},
            "history_db_path": str(home / "history.db"),
        }
    )
    memory.embedding_model = HashedWords()
    answer = memory.llm.generate_response
    memory.llm.generate_response = lambda messages, **others: answer(messages)  # the server refuses to promise JSON
    return memory


def mem0_step(step: str, home: Path, llm: str) -> dict[str, Any]:
    """One step in this process."""
    memory, notes = mem0_memory(home, llm), notes_of(100)
    began = time.perf_counter()
    if step == "add":
        ids = [memory.add(text, user_id="anna", infer=False)["results"][0]["id"] for text, _, _ in notes]
        added_s, began = time.perf_counter() - began, time.perf_counter()
        for at in DELETED:
            memory.delete(ids[at])
        return {"ids": ids, "added_s": added_s, "deleted_s": time.perf_counter() - began}
    if step == "history":
        texts = history_of(notes)
        for text in texts:
            memory.add(text, user_id="carl", infer=False)
        return {"first_s": mem0_firsts(memory, llm, notes)}
    if step == "infer":
        kept = [len(memory.add(text, user_id="ben", infer=True).get("results", [])) for text, _, _ in notes[:3]]
        return {"notes": 3, "seconds": time.perf_counter() - began, "memories": sum(kept)}
    ids = json.loads((home / "ids.json").read_text())
    found = [[one["memory"] for one in memory.search(question, user_id="anna", limit=TOP)["results"]] for _, question, _ in notes]
    with httpx.Client(base_url=llm.removesuffix("/v1"), timeout=300) as client:
        asked = zip(notes, found, strict=True)
        answers = [answer_of(client, chat_of(question, "\n".join(texts))) for (_, question, _), texts in asked]
    histories = [json.dumps(memory.history(ids[at]), default=str) for at in DELETED]
    return {"found": found, "answers": answers, "histories": histories}


def mem0_firsts(memory: Any, llm: str, notes: Sequence[tuple[str, str, str]]) -> list[float]:
    """Seconds to the first token behind a search of mem0's."""
    firsts = []
    with httpx.Client(base_url=llm.removesuffix("/v1"), timeout=300) as client:
        for _, question, _ in notes[: 1 + FIRST_TOKENS]:
            began = time.perf_counter()
            texts = [one["memory"] for one in memory.search(question, user_id="carl", limit=TOP)["results"]]
            firsts.append(time.perf_counter() - began + first_token_s(client, chat_of(question, "\n".join(texts))))
    return firsts[1:]


def measure_mem0(home: Path, llm: str, notes: Sequence[tuple[str, str, str]]) -> dict[str, Any]:
    """Each step in a new process, so that nothing is answered from RAM."""

    def step(name: str) -> dict[str, Any]:
        command = [sys.executable, "-m", "benchmarks.serving_peers", "--step", name, "--home", str(home), "--llm", llm]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            errors = [line for line in done.stderr.splitlines() if re.match(r"[\w.]+(Error|Exception): ", line)]
            return {"failed": (errors or ["no error told"])[0][:300]}
        told: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
        return told

    added = step("add")
    if "failed" in added:
        return {"system": "mem0", **added}
    (home / "ids.json").write_text(json.dumps(added["ids"]))
    asked = step("ask")
    if "failed" in asked:
        return {"system": "mem0", **asked}
    told = _told("mem0, verbatim", home, notes, added["added_s"], added["deleted_s"], asked["answers"])
    told |= _found(notes, asked["found"], asked["histories"])
    told["with its language model"] = step("infer")
    return {**told, **_firsts(step("history")["first_s"])}


# -- llama.cpp -----------------------------------------------------------------------------------------------------------


def measure_llamacpp(home: Path, binary: Path, gguf: Path, notes: Sequence[tuple[str, str, str]]) -> dict[str, Any]:
    """The notes as a prompt that a slot keeps; deleting is to process the prompt again from the first deleted note on."""
    port, slots = free_port(), home / "slots"
    slots.mkdir(parents=True)
    address = f"http://127.0.0.1:{port}"
    command = [str(binary), "-m", str(gguf), "-c", "8192", "-np", "1", "-t", str(os.cpu_count()), "--port", str(port)]
    command += ["--slot-save-path", str(slots)]

    def prompt_of(texts: Sequence[str]) -> str:
        return "<|im_start|>system\n" + SYSTEM + "\n".join(texts)

    def keep(client: httpx.Client, texts: Sequence[str]) -> None:
        asked = {"prompt": prompt_of(texts), "n_predict": 0, "cache_prompt": True}
        client.post("/completion", json=asked).raise_for_status()

    def slot(client: httpx.Client, action: str) -> None:
        client.post(f"/slots/0?action={action}", json={"filename": "anna.bin"}).raise_for_status()

    texts = [text for text, _, _ in notes]
    left = [text for at, text in enumerate(texts) if at not in DELETED]
    with process_of(command, address, "/health") as process, httpx.Client(base_url=address, timeout=300) as client:
        began = time.perf_counter()
        for at in range(len(texts)):
            keep(client, texts[: at + 1])
        added_s, began = time.perf_counter() - began, time.perf_counter()
        keep(client, left)
        slot(client, "save")
        deleted_s = time.perf_counter() - began
        process.kill()
        process.wait()
    began = time.perf_counter()
    with process_of(command, address, "/health"), httpx.Client(base_url=address, timeout=300) as client:
        slot(client, "restore")
        restarted_s = time.perf_counter() - began
        answers = [answer_of(client, chat_of(question, "\n".join(left))) for _, question, _ in notes]
        told = _told("llama.cpp, notes in the prompt", home, notes, added_s, deleted_s, answers)
        asking = [chat_of(question, "\n".join(history_of(notes))) for _, question, _ in notes[: 1 + FIRST_TOKENS]]
        began = time.perf_counter()
        firsts = [first_token_s(client, one) for one in asking]
    return {**told, **_firsts(firsts[1:]), "first_token_not_kept_s": round(firsts[0], 2), "restarted_s": round(restarted_s, 2)}


# -- all -----------------------------------------------------------------------------------------------------------------


def _told(
    system: str, home: Path, notes: Sequence[tuple[str, str, str]], added_s: float, deleted_s: float, answers: list[str]
) -> dict[str, Any]:
    kept = [at for at in range(len(notes)) if at not in DELETED]
    return {
        "system": system,
        "seconds_to_add": round(added_s, 2),
        "seconds_to_delete": round(deleted_s, 2),
        "kept": len(kept),
        "kept_answered": sum(notes[at][2] in answers[at] for at in kept),
        "deleted": len(DELETED),
        "deleted_answered": sum(notes[at][2] in answers[at] for at in DELETED),
        "deleted_spelled_in_files": holding(home, [notes[at][0] for at in DELETED]),
        "bytes": size_of(home),
    }


def _found(notes: Sequence[tuple[str, str, str]], found: list[list[str]], histories: list[str]) -> dict[str, int]:
    gone = [notes[at][2] for at in DELETED]
    return {
        "kept_found": sum(any(notes[at][2] in text for text in found[at]) for at in range(len(notes)) if at not in DELETED),
        "deleted_found": sum(any(number in text for text in texts) for number in gone for texts in found),
        "deleted_in_history": sum(number in told for number, told in zip(gone, histories, strict=True)),
    }


def _firsts(seconds: Sequence[float]) -> dict[str, float]:
    return {"first_token_s": round(statistics.median(seconds), 3), "first_token_most_s": round(max(seconds), 3)}


def main() -> None:
    """Measure all, or do one step of mem0's."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving_peers", description=__doc__)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--llama-server", type=Path, default=shutil.which("llama-server"), help="llama.cpp's server")
    parser.add_argument("--gguf", type=Path, help="the base model's file, for llama.cpp")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--step", choices=("add", "ask", "infer", "history"), help=argparse.SUPPRESS)
    parser.add_argument("--home", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--llm", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.step:
        print(json.dumps(mem0_step(arguments.step, arguments.home, arguments.llm)))
        return
    notes = notes_of(100)
    with tempfile.TemporaryDirectory() as place:
        homes = [Path(place) / name for name in ("ours", "mem0", "llm", "llamacpp")]
        homes[1].mkdir()
        results = [measure_server(homes[0], arguments.model, notes)]
        print(json.dumps(results[-1]), flush=True)
        with served(homes[2], arguments.model) as (address, _):
            results.append(measure_mem0(homes[1], f"{address}/v1", notes))
        print(json.dumps(results[-1]), flush=True)
        if arguments.llama_server is not None and arguments.gguf is not None:
            results.append(measure_llamacpp(homes[3], arguments.llama_server, arguments.gguf, notes))
            print(json.dumps(results[-1]), flush=True)
    if arguments.json is not None:
        versions, hardware = environment_of("float32")
        versions["mem0ai"] = version("mem0ai")
        whole = {"command": "python -m benchmarks.serving_peers", "results": results, "versions": versions, "hardware": hardware}
        arguments.json.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
