"""What a training step keeps for its backward pass: linear in chunk length, independent of document length."""

from __future__ import annotations

import pytest

from benchmarks.step_memory import step_bytes

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("checkpointing", [False, True])
def test_kept_bytes_do_not_depend_on_document_length(checkpointing: bool) -> None:
    few, many = (step_bytes("multi_chunk", 32, count, checkpointing=checkpointing) for count in (16, 64))
    assert many < 1.1 * few


def test_kept_bytes_are_linear_in_chunk_length() -> None:
    """From one length to the next the slope stays: no term of higher order (fused attention keeps no table)."""
    sizes = [step_bytes("two_chunk", size, 1, stm=192) for size in (32, 64, 128)]
    slopes = [(sizes[1] - sizes[0]) / 32, (sizes[2] - sizes[1]) / 64]
    assert slopes[1] < 1.3 * slopes[0]
    assert sizes[2] < 4.4 * sizes[0]
