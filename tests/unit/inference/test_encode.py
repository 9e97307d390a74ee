"""Laws of ``model.encode`` beside ``memory.update``: together they are ``memory.write``, and what saw another text is nobody's."""

from __future__ import annotations

import pytest

from mplus import MPlusModel
from mplus.settings import MemoryFormat
from tests.conftest import TinyModel
from tests.tiny import SETUPS, contents, ids, same_contents


@pytest.fixture(params=sorted(SETUPS))
def model(request: pytest.FixtureRequest, tiny_model: TinyModel) -> MPlusModel:
    return tiny_model("llama", str(request.param))


@pytest.mark.parametrize("memory_format", ["kv", "hidden"])
def test_encode_then_update_equals_write(model: MPlusModel, memory_format: MemoryFormat) -> None:
    """Also of a source that others were written behind."""
    first, second = (model.new_memory(seed=2, memory_format=memory_format) for _ in range(2))
    for source, seed in (("a", 1), (None, 2), ("a", 3), (None, 4), ("b", 5), ("a", 6)):
        chunk = ids(8, seed)
        first.write(chunk, source, at=0.0)
        second.update(model.encode(chunk, second, source=source), source=source, at=0.0)
    assert same_contents(contents(first), contents(second))


def test_a_chunk_that_saw_another_text_is_not_taken_for_its_own(tiny_model: TinyModel) -> None:
    """Neither it nor what follows it lends its rows to a memory that reads the same text alone, and forgetting is not called exact."""
    model = tiny_model("llama", "shared")
    memory = model.new_memory()
    memory.write(ids(8, 71), "a")
    memory.update(model.encode(ids(8, 72), memory, source="a"), source="b")
    memory.write(ids(8, 73), "b")
    assert not memory.fork().forget("a").exact
    alone, encoded = model.new_memory(), model.new_memory()
    for seed in (72, 73):
        alone.write(ids(8, seed), "b")
        encoded.write(ids(8, seed), "b", share=False)
    assert same_contents(contents(alone), contents(encoded))
    behind = model.new_memory()
    behind.write(ids(8, 73), "b")
    first = model.new_memory()
    first.write(ids(8, 73), "b", share=False)
    assert same_contents(contents(behind), contents(first))
