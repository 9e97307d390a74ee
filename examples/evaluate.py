"""Measure a memory beside baselines from Python: ``python examples/evaluate.py [TOKENS]``.

Runs the task `facts` in small: running text with generated facts in it is read once, and questions are asked on the way at two distances. A real
run is larger (`mplus eval facts --distances 1k,16k,160k --questions 128 --out DIR`). Prints the table and one question with every answer.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from mplus import MPlusModel
from mplus.evaluation import Options, evaluate


def main(tokens: str = "1200") -> None:
    model = MPlusModel.from_pretrained("smollm2-135m")
    with tempfile.TemporaryDirectory() as directory:
        out = Path(directory) / "facts"
        options = Options(
            out=out,
            limit=2,
            settings={"tokens": int(tokens), "distances": [300, int(tokens)]},
            systems=("mplus", "memoryllm"),
        )
        summary = evaluate("facts", model, options)
        print((out / "table.md").read_text(encoding="utf-8"))
        samples = [json.loads(line) for line in (out / "samples.jsonl").read_text(encoding="utf-8").splitlines()]
        last = [sample for sample in samples if sample["question"] == samples[-1]["question"]]
        print(last[0]["question"], "(right:", " or ".join(last[0]["answers"]) + ")")
        for sample in last:
            print(f"  {sample['system']}: {sample['given']!r}")
        print(f"{len(summary.samples)} answers in all")


if __name__ == "__main__":
    main(*sys.argv[1:2])
