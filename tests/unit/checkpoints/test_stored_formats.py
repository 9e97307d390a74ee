"""What commit c48067e stored opens and answers as it did then: deltas, whole models, a published model, and memories of each.

The files were made by that commit from ``tests.tiny`` and ``tests.published``: memories have read ``ids(121, 1)`` and ``ids(30, 2)``
(published: ``ids(40, 1)``), short text and segments of 16 rows; ``expected.safetensors`` has the logits and the answer to ``PROMPT``.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mplus import Memory, MPlusModel
from tests.tiny import ids

FORMATS = Path(__file__).parents[2] / "formats"
PROMPT = (ids(9, 4) % 58 + 3)[None]


@pytest.mark.parametrize(
    ("kind", "form"),
    [("shared", "whole"), ("shared", "delta"), ("per-layer", "whole"), ("per-layer", "delta"), ("published", "model")],
)
def test_models_and_memories_of_before_answer_as_before(kind: str, form: str, tmp_path: Path) -> None:
    place = tmp_path / "stored"
    shutil.copytree(FORMATS / f"c48067e-{kind}", place)
    if kind == "published":
        model = MPlusModel.from_pretrained(place / "model", dtype="float32")
    elif form == "delta":
        model = MPlusModel.from_pretrained(place / "delta", base=place / "whole", dtype="float32")
    else:
        model = MPlusModel.from_pretrained(place / "whole", dtype="float32")
    expected = load_file(place / "expected.safetensors")
    for stored in sorted({name.partition(".")[0] for name in expected}):
        for store in (None, "ram", tmp_path / f"rows-{stored}"):
            memory = Memory.load(place / f"memory-{stored}", model, store=store, check_rows=True)
            logits = model(PROMPT, memory=memory).logits.float()
            torch.testing.assert_close(logits, expected[f"{stored}.logits"], rtol=1e-4, atol=1e-4)
            answer = model.generate(PROMPT, memory=memory, max_new_tokens=4, do_sample=False)
            assert torch.equal(answer, expected[f"{stored}.answer"])
            if kind != "published":
                assert memory.stats().sources == {"first": 121, "second": 30}
