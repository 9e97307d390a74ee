"""Laws of shared rows: the same text behind the same text is encoded once; what nobody holds is not found; nothing leaks into files."""

from __future__ import annotations

import gc
from pathlib import Path

from mplus import Memory, MPlusModel
from tests.conftest import TinyModel
from tests.tiny import contents, ids, same_contents, tiny_model


class Passes:
    """Counts the chunks that a model encodes."""

    def __init__(self, model: MPlusModel) -> None:
        self.count, self._encode = 0, model.writer.encode
        model.writer.encode = self._counted  # type: ignore[method-assign, assignment]

    def _counted(self, *args: object, **kwargs: object) -> object:
        self.count += 1
        return self._encode(*args, **kwargs)  # type: ignore[arg-type]


def test_the_same_text_in_another_memory_takes_no_pass_and_gives_the_same_rows() -> None:
    model = tiny_model()
    first, second, anew = (model.new_memory(seed=4) for _ in range(3))
    first.write(ids(50, 1), source="a", at=1)
    passes = Passes(model)
    second.write(ids(50, 1), source="under another name", at=1)
    assert passes.count == 0
    anew.write(ids(50, 1), source="under another name", at=1, share=False)
    assert passes.count == 7
    assert same_contents(contents(second), contents(anew))


def test_text_behind_other_text_is_encoded_again() -> None:
    model = tiny_model()
    first, second = model.new_memory(), model.new_memory()
    first.write(ids(16, 1), source="a")
    passes = Passes(model)
    second.write(ids(8, 2), source="b")
    second.write(ids(16, 1), source="b")
    assert passes.count == 3


def test_rows_that_no_memory_holds_are_not_found() -> None:
    model = tiny_model()
    first = model.new_memory()
    first.write(ids(50, 1), source="a")
    shared = model.writer.shared_rows(first)
    assert len(shared) == 7
    del first
    gc.collect()
    assert len(shared) == 0


def test_forgotten_rows_are_not_given_out_unless_another_memory_has_them() -> None:
    model = tiny_model()
    first = model.new_memory()
    first.write(ids(50, 1), source="a")
    fork = first.fork()
    assert fork.forget("a").shared_with
    first.forget("a")
    passes = Passes(model)
    model.new_memory().write(ids(50, 1), source="a")
    assert passes.count == 7


def test_an_opened_memory_shares_its_rows(tmp_path: Path) -> None:
    model = tiny_model()
    first = model.new_memory()
    first.write(ids(50, 1), source="a")
    first.save(tmp_path / "first")
    del first
    gc.collect()
    opened = Memory.load(tmp_path / "first", model)
    passes = Passes(model)
    second = model.new_memory()
    second.write(ids(50, 1), source="b")
    assert passes.count == 0 and opened.tokens_read == 50


def test_a_save_holds_no_rows_of_the_memory_that_they_were_taken_from(tmp_path: Path, tiny_model: TinyModel) -> None:
    model = tiny_model("llama", "shared")
    first = model.new_memory()
    first.write(ids(50, 1), source="a")
    first.write(ids(40, 2), source="private")
    first.save(tmp_path / "first")
    second = model.new_memory()
    second.write(ids(50, 1), source="a")
    second.save(tmp_path / "second")
    segments = {path.name for path in (tmp_path / "second").glob("segment-*")}
    assert segments and not segments & {path.name for path in (tmp_path / "first").glob("segment-*")}
    assert sum(chunk.rows for chunk in second.ledger.chunks) == 50
    reopened = Memory.load(tmp_path / "second", model)
    assert same_contents(contents(second), contents(reopened))
