"""What a decode step of the server costs: ``python -m benchmarks.serving_step --model smollm2-135m``.

One thread decodes 1 and 16 rows behind a memory, as the server's worker does; then another thread computes in parallel once and stays,
and the same steps run again (decision 0037). After that prompts pass alone and several in one pass.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import torch

from mplus import Memory, MPlusModel
from mplus.inference.decode_batch import DecodeBatch
from mplus.inference.prefill import Prefill

ROWS = (1, 16)
PROMPTS = (1, 2, 4, 8)
STEPS, PASSES = 15, 4
QUESTION = "What is a memory token, and how is it written?"
TEXT = Path(__file__).parents[1] / "docs" / "glossary.md"


def median_ms(act: Callable[[], object], times: int) -> float:
    """The median of several runs, after one that is not counted."""
    act()
    taken = []
    for _ in range(times):
        begun = time.perf_counter()
        act()
        taken.append(1e3 * (time.perf_counter() - begun))
    return statistics.median(taken)


def step_ms(model: MPlusModel, memory: Memory, rows: int) -> float:
    """One decode step of so many rows."""
    row, query = model.reader.chat_row([{"role": "user", "content": QUESTION}], behind_memory=True)
    batch: DecodeBatch | None = None
    for _ in range(rows):
        prompt = Prefill(model.reader, [row], [memory], queries=query, new_tokens=2 * STEPS)
        prompt.advance(prompt.left)
        batch = batch or DecodeBatch(model.reader, prompt.adapter)
        batch.join(prompt)
        prompt.release()
    assert batch is not None
    return median_ms(lambda: batch.step([5] * rows), STEPS)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving_step", description=__doc__)
    parser.add_argument("--model", default="smollm2-135m")
    name = parser.parse_args(arguments).model
    with ThreadPoolExecutor(1) as worker, ThreadPoolExecutor(1) as other:

        def opened() -> tuple[MPlusModel, list[Memory]]:
            model = MPlusModel.from_pretrained(name)
            memories = [model.new_memory() for _ in range(max(PROMPTS))]
            for memory in memories:
                memory.write(TEXT.read_text(encoding="utf-8")[:6000], source="text")
            return model, memories

        model, memories = worker.submit(opened).result()

        def steps(when: str) -> None:
            for rows in ROWS:
                took = worker.submit(step_ms, model, memories[0], rows).result()
                print(f"{when}, {rows:2} rows: {took:.0f} ms a step, {1e3 * rows / took:.0f} tokens a second", flush=True)

        def prefill(count: int) -> None:
            row, query = model.reader.chat_row([{"role": "user", "content": QUESTION}], behind_memory=True)
            prompts = Prefill(model.reader, [row] * count, memories[:count], queries=query and query * count, new_tokens=1)
            prompts.advance(prompts.left)
            prompts.release()

        steps("one thread has computed in parallel")
        for count in PROMPTS:
            took = worker.submit(median_ms, partial(prefill, count), PASSES).result()
            print(f"{count} prompts in one pass: {took / count:.0f} ms a prompt", flush=True)
        other.submit(lambda: torch.randn(2000, 2000).add(1)).result()
        steps("two threads have")
    return 0


if __name__ == "__main__":
    sys.exit(main())
