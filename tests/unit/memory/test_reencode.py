"""Laws of writing a memory again: same texts, order and times with another model; stopped anywhere it goes on, the old one whole till then."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

from mplus import Memory, MPlusModel
from mplus.errors import InputError, SnapshotError
from mplus.memory import reencode as reencode_module
from mplus.memory.home import Home, reencoding_place
from mplus.memory.manifest import read_manifest
from mplus.memory.reencode import needs_text, reencode
from tests import tiny

ANA = "Ana Lopes lives in Seville and looks after the old lighthouse there. The café is at “El Faro”."
OLIVER = "Oliver Quade is the harbour master of Brightmoor, and keeps a parrot."
FORMATS = Path(__file__).parents[2] / "formats"


def other_model(tokenizer: PreTrainedTokenizerFast | None = None, **changed: Any) -> MPlusModel:
    """A model with other weights than the text model."""
    geometry = tiny.text_model(**changed).geometry
    decoder = tiny.tiny_decoder("qwen2", vocabulary=300)
    return MPlusModel.from_base(decoder, geometry=geometry, tokenizer=tokenizer or tiny.byte_tokenizer())


def pair_tokenizer() -> PreTrainedTokenizerFast:
    """Bytes, and some pairs of them: another tokenizer, with other counts."""
    vocabulary = {letter: number for number, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    pairs = [("a", "n"), ("e", "r"), ("o", "r")]
    vocabulary |= {"".join(pair): 256 + number for number, pair in enumerate(pairs)}
    tokenizer = Tokenizer(BPE(vocab=vocabulary, merges=pairs))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


@pytest.fixture
def stored(tmp_path: Path, text_model: MPlusModel) -> Path:
    """Two sources written in turns, and a text without a name."""
    memory = text_model.new_memory(seed=5)
    memory.write(ANA, source="ana.txt", at=100.0)
    memory.write(OLIVER, source="oliver.txt", at=200.0)
    memory.write("A text without a name.", at=300.0)
    memory.write(" She came back to Seville in spring.", source="ana.txt", at=400.0)
    memory.save(tmp_path / "notes")
    return tmp_path / "notes"


def files(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def written_with(model: MPlusModel) -> Memory:
    """What the other model makes of the same texts."""
    memory = model.new_memory(seed=5)
    memory.write(ANA, source="ana.txt", at=100.0)
    memory.write(OLIVER, source="oliver.txt", at=200.0)
    memory.write("A text without a name.", at=300.0)
    memory.write(" She came back to Seville in spring.", source="ana.txt", at=400.0)
    return memory


def test_with_the_same_tokenizer_it_is_the_memory_that_the_new_model_writes(stored: Path) -> None:
    model = other_model()
    seen: list[tuple[int, int]] = []
    report = reencode(stored, model, progress=lambda done, total: seen.append((done, total)))
    expected, memory = written_with(model), Memory.load(stored, model)
    assert memory.sources() == expected.sources()
    assert [chunk[1:5] for chunk in memory.ledger.chunks] == [chunk[1:5] for chunk in expected.ledger.chunks]
    assert memory.stats() == expected.stats()
    assert report.from_ids and report.sources == 3 and report.resumed_at == 0
    assert report.tokens_before == report.tokens == memory.tokens_read
    assert seen == sorted(seen) and seen[-1] == (report.tokens, report.tokens)
    assert [path.name for path in stored.parent.iterdir()] == ["notes"]


def test_with_another_tokenizer_the_text_is_written_again(stored: Path, text_model: MPlusModel) -> None:
    model = other_model(pair_tokenizer())
    with pytest.raises(InputError, match="another tokenizer"):
        reencode(stored, model)
    report = reencode(stored, model, decode=text_model.tokenizer.decode)
    expected, memory = written_with(model), Memory.load(stored, model)
    assert memory.sources() == expected.sources()
    assert memory.text("ana.txt") == ANA + " She came back to Seville in spring."
    assert not report.from_ids
    assert report.tokens == memory.tokens_read < report.tokens_before


def test_smaller_chunks_keep_every_token(stored: Path) -> None:
    before = {one["name"]: (one["tokens"], one["digest"]) for one in read_manifest(stored)["sources"]}
    model = other_model(new_tokens=8, chunk_tokens=8)
    reencode(stored, model)
    assert {one.name: (one.tokens, one.digest) for one in Memory.load(stored, model).sources()} == before


def test_beside_the_old_memory(stored: Path, text_model: MPlusModel, tmp_path: Path) -> None:
    before, model = files(stored), other_model()
    reencode(stored, model, to=tmp_path / "new")
    assert files(stored) == before
    assert [one.tokens for one in Memory.load(tmp_path / "new", model).sources()] == [
        one.tokens for one in Memory.load(stored, text_model).sources()
    ]
    with pytest.raises(SnapshotError, match="already"):
        reencode(stored, model, to=tmp_path / "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "notes"]


class Stopped(Exception):
    """Ends a call somewhere."""


@pytest.mark.parametrize("in_place", [True, False])
@pytest.mark.parametrize("after", [1, 3, 6])
def test_stopped_anywhere_it_goes_on_and_ends_as_if_it_had_not_been(
    stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int, in_place: bool
) -> None:
    monkeypatch.setattr(reencode_module, "SAVE_EVERY_S", 0.0)
    before, model, to = files(stored), other_model(), None if in_place else tmp_path / "new"
    calls = 0

    def stop(done: int, total: int) -> None:
        nonlocal calls
        calls += 1
        if calls == after:
            raise Stopped

    with pytest.raises(Stopped):
        reencode(stored, model, to=to, progress=stop)
    assert files(stored) == before
    seen: list[int] = []
    report = reencode(stored, model, to=to, progress=lambda done, total: seen.append(done))
    assert report.resumed_at > 0 and min(seen, default=report.tokens) > report.resumed_at
    memory, expected = Memory.load(to or stored, model), written_with(model)
    assert (memory.stats(), memory.sources()) == (expected.stats(), expected.sources())
    assert not reencoding_place(to or stored).exists()


def test_a_stop_between_note_and_save_goes_on_from_the_state_before(stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reencode_module, "SAVE_EVERY_S", 0.0)
    model, save, saves = other_model(), Memory.save, 0

    def stop(self: Memory, *given: Any, **options: Any) -> None:
        nonlocal saves
        saves += 1
        if saves == 3:
            raise Stopped
        save(self, *given, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Memory, "save", stop)
        with pytest.raises(Stopped):
            reencode(stored, model)
    report = reencode(stored, model)
    assert 0 < report.resumed_at < report.tokens_before
    assert Memory.load(stored, model).stats() == written_with(model).stats()


def test_a_run_for_another_state_or_model_begins_again(
    stored: Path, monkeypatch: pytest.MonkeyPatch, text_model: MPlusModel
) -> None:
    monkeypatch.setattr(reencode_module, "SAVE_EVERY_S", 0.0)

    def stop(done: int, total: int) -> None:
        raise Stopped

    with pytest.raises(Stopped):
        reencode(stored, other_model(), progress=stop)
    memory = Memory.load(stored, text_model)
    memory.write("One more text of the old model.", source="more.txt", at=500.0)
    memory.save(stored)
    assert reencode(stored, other_model()).resumed_at == 0
    assert "more.txt" in {one["name"] for one in read_manifest(stored)["sources"]}


def test_a_failure_at_the_last_step_leaves_the_old_memory(stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, model = files(stored), other_model()

    def fail(*given: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(reencode_module, "put_in_place", fail)
        with pytest.raises(OSError, match="No space"):
            reencode(stored, model)
    assert files(stored) == before
    assert reencode(stored, model).resumed_at > 0


def test_a_memory_that_did_not_keep_what_it_read_is_refused(model: MPlusModel) -> None:
    assert needs_text(read_manifest(FORMATS / "1-plain"), model)
    with pytest.raises(InputError, match="did not keep what it read"):
        reencode(FORMATS / "1-plain", model, to=FORMATS / "new", decode=str)
    assert not (FORMATS / "new").exists()


def test_a_deleted_memory_takes_its_unfinished_rewriting_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text_model: MPlusModel
) -> None:
    monkeypatch.setattr(reencode_module, "SAVE_EVERY_S", 0.0)
    home = Home(tmp_path)
    memory = text_model.new_memory()
    memory.write(ANA, source="ana.txt")
    home.create("notes", memory)

    def stop(done: int, total: int) -> None:
        raise Stopped

    with pytest.raises(Stopped):
        reencode(home.path("notes"), other_model(), progress=stop)
    assert home.names() == ["notes"]
    assert os.listdir(home.memories) != ["notes"]
    home.delete("notes")
    assert os.listdir(home.memories) == []
