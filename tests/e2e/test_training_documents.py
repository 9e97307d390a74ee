"""What the delta is trained on: right places are where the answers are, nothing of the held-out split appears."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from mplus import Geometry, MPlusModel
from mplus.training.bank.chunk_encoder import ChunkEncoder
from mplus.training.data.document_generator import DocumentGenerator

pytestmark = [pytest.mark.e2e, pytest.mark.long]

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


@pytest.fixture(scope="module")
def data() -> Path:
    if not DATA.is_dir():
        if os.environ.get("MPLUS_REQUIRE_SHARED") == "1":
            pytest.fail(f"{DATA} is missing, and this run must not skip")
        pytest.skip(f"needs the public data in {DATA}")
    return DATA


@pytest.fixture(scope="module")
def model(base_name: str) -> MPlusModel:
    return MPlusModel.from_base(base_name, geometry=Geometry(), key_width=16, voting=(2, 5))


@pytest.fixture(scope="module")
def makers(model: MPlusModel, data: Path) -> DocumentGenerator:
    return DocumentGenerator(model.tokenizer, data, 256, seed=1)


def test_every_answer_stands_in_its_span_of_its_chunk(model: MPlusModel, makers: DocumentGenerator) -> None:
    for document in makers.make(60):
        assert len(document.chunks[0]) == 256
        for question in document.questions:
            first, last = question.span
            assert 0 <= first < last <= 256
            assert question.answer in model.tokenizer.decode(document.chunks[0][first:last])


def test_writing_a_bank_gives_the_rows_that_a_memory_would_get(model: MPlusModel, makers: DocumentGenerator) -> None:
    documents = makers.make(2)
    encoder = ChunkEncoder(model, (2, 5), "kv")
    first, second = (next(encoder.stream([document.chunks[0]])) for document in documents)
    memory = model.new_memory(write_context="memory")  # a bank begins with nothing before it
    for document, mine in zip(documents, (first, second), strict=True):
        written = model.encode(document.chunks[0], memory)
        memory.update(written)
        for name in ("keys", "values"):
            torch.testing.assert_close(mine[name][0], written.rows[name])
