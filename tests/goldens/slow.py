"""Outputs of the command line with the real base model: the demo, three evaluation tasks, ten steps of each recipe kind.

Takes several minutes a section. Every command runs in a process of its own with one thread, so that sums are added in one order.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT.parent / "shared" / "data"

SMALL_BANK = ("chunks=12", "banks=2", "bank_steps=60", "step_chunks=12", "questions=12")
SMALL_READ = ("chunks=12", "fresh_chunks=4", "fresh_every=2", "questions=4", "text_rows=2")
SMALL_LANGUAGE = ("batch=2", "read_tokens=64", "bank_chunks=8", "sources=[{path: TEXT}]", "subtasks.multi_chunk=0.15")
SMALL_MODEL = ("geometry.stm_tokens=512", "geometry.ltm_read_tokens=256")

RECIPES: dict[str, tuple[str, tuple[str, ...]]] = {
    "vote": ("smollm2-135m/1-vote", tuple(f"task.{one}" for one in SMALL_BANK)),
    "per-layer": (
        "smollm2-135m/ablations/per-layer",
        ("task.step_layers=4", *(f"task.{one}" for one in SMALL_BANK)),
    ),
    "read": (
        "smollm2-135m/2-read",
        ("model.start=null", "model.base=smollm2-135m", "model.retriever={key_width: 16, voting: [2, 5]}",
         "model.geometry={stm_tokens: 512, ltm_read_tokens: 256, read_order: score}", "precision=no",
         *(f"task.{one}" for one in SMALL_READ)),
    ),
    "language": (
        "adapt/memory",
        ("precision=no", *(f"task.{one}" for one in SMALL_LANGUAGE), *(f"model.{one}" for one in SMALL_MODEL)),
    ),
    "paper": (
        "adapt/paper",
        ("precision=no", *(f"task.{one}" for one in SMALL_LANGUAGE), *(f"model.{one}" for one in SMALL_MODEL)),
    ),
    "questions": (
        "adapt/questions",
        ("precision=no", "task.batch=2", "task.read_tokens=64", "task.bank_chunks=8",
         f"task.sources=[{{path: TEXT}}, {{path: {DATA}/squad/train-v1.1-slice.json, questions: true}}]",
         *(f"model.{one}" for one in SMALL_MODEL)),
    ),
}  # fmt: skip
"""Recipe kind to (recipe, settings that make it small)."""

EVALUATIONS: dict[str, tuple[str, ...]] = {
    "facts": ("--distances", "1k,4k,8k", "--questions", "6", "--systems", "mplus,memoryllm"),
    "retention-squad": (
        "--data", str(DATA / "squad" / "dev-v2.0-part.json"), "--distances", "0,4k", "--limit", "6",
        "--systems", "mplus,memoryllm,passage",
    ),
    "needle": ("--lengths", "4k", "--limit", "6", "--systems", "mplus,bm25"),
}  # fmt: skip
"""Task to its options."""

STEPS = 10
MOVING = (
    "second",
    "version",
    "hardware",
    "date",
    "time",
    "commit",
    "environment",
    "circumstances",
    "machine",
    "path",
    "tokens_per",
)
"""Parts of the names of fields that say when, where and how fast a run was."""


def demo() -> dict[str, Any]:
    """What ``mplus demo`` stores for 16,000 tokens and two seeds."""
    found = {}
    for seed in (0, 1):
        with tempfile.TemporaryDirectory() as place:
            _run("demo", "--tokens", "16000", "--seed", str(seed), "--out", place)
            found[f"seed {seed}"] = _steady(json.loads((Path(place) / "retention.json").read_text(encoding="utf-8")))
    return found


def evaluation() -> dict[str, Any]:
    """Stored samples of three tasks."""
    found = {}
    for task, options in EVALUATIONS.items():
        with tempfile.TemporaryDirectory() as place:
            _run("eval", task, *options, "--dtype", "float32", "--out", f"{place}/run")
            lines = (Path(place) / "run" / "samples.jsonl").read_text(encoding="utf-8").splitlines()
            found[task] = sorted((_steady(json.loads(line)) for line in lines), key=lambda one: json.dumps(one, sort_keys=True))
    return found


def training() -> dict[str, Any]:
    """Losses of ten steps of each recipe kind."""
    found = {}
    for kind, (recipe, settings) in RECIPES.items():
        with tempfile.TemporaryDirectory() as place:
            text = Path(place) / "text.txt"
            text.write_text("\n\n".join(_paragraphs()), encoding="utf-8")
            data = [f"task.data={DATA}"] if "smollm2" in recipe else []
            chosen = [*data, *(one.replace("TEXT", str(text)) for one in settings)]
            chosen += [f"steps={STEPS}", "minutes=null", "log_every=1", "save_every=null"]
            _run("train", recipe, *(part for one in chosen for part in ("--set", one)), "--out", f"{place}/run")
            lines = (Path(place) / "run" / "log.jsonl").read_text(encoding="utf-8").splitlines()
            found[kind] = [one["loss"] for one in map(json.loads, lines) if "loss" in one]
    return found


def _paragraphs() -> Iterator[str]:
    """Repeatable plain text: the project's own licence and design notes change, numbers in words do not."""
    words = "river stone lamp winter garden letter engine harbour silver market bridge candle forest window copper island".split()
    for number in range(400):
        yield " ".join(words[(number * 7 + place * (number % 5 + 1)) % len(words)] for place in range(60)) + "."


def _run(*arguments: str) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src"), "PYTHONHASHSEED": "0"}
    done = subprocess.run(
        [sys.executable, "-m", "mplus", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"mplus {' '.join(arguments)} ended with {done.returncode}:\n{done.stderr[-2000:]}")


def _steady(value: Any) -> Any:
    """Plain data without what differs between two runs of the same code."""
    if isinstance(value, dict):
        return {name: _steady(one) for name, one in value.items() if not any(part in name for part in MOVING)}
    return [_steady(one) for one in value] if isinstance(value, list) else value
