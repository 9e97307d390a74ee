"""Whatever is handed to a memory is text or token ids, or is refused in one sentence before anything changes."""

from __future__ import annotations

import io
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mplus import Memory, MPlusModel
from mplus.errors import InputError, MPlusError
from mplus.memory.arguments import checked_source, checked_text
from tests.tiny import byte_tokenizer, contents, filled, ids, same_contents, tiny_decoder, tiny_geometry

REFUSED: dict[str, Any] = {
    "a list of texts": ["one", "two"],
    "a tuple of texts": ("one", "two"),
    "a path": Path("LICENSE"),
    "bytes": b"text",
    "nothing": None,
    "a dict": {"text": "text"},
    "floats": np.arange(30.0),
    "float tensor": torch.arange(30.0),
    "two rows": torch.arange(30).view(2, 15),
    "lists of lists": [[1, 2], [3]],
    "bools": [True] * 20,
    "bool tensor": torch.ones(20, dtype=torch.bool),
    "a generator": (text for text in ("text",)),
    "an open file": io.StringIO("text"),
    "a number": 7,
    "floats in a list": [1, 2.0],
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_text_is_refused_in_one_line_and_nothing_changes(text_model: MPlusModel, name: str) -> None:
    memory = filled(text_model)
    before = contents(memory)
    with pytest.raises(InputError, match="text|token ids") as refusal:
        memory.write(REFUSED[name])
    assert "\n" not in str(refusal.value) and len(str(refusal.value)) < 300
    with pytest.raises(MPlusError):
        text_model.write_many([memory], [REFUSED[name]])
    assert same_contents(before, contents(memory))


@pytest.mark.parametrize("given", [np.arange(3, 33), list(np.arange(3, 33)), torch.arange(3, 33)[None], tuple(range(3, 33))])
def test_whole_numbers_of_any_kind_are_token_ids(given: Any) -> None:
    assert checked_text(given) == list(range(3, 33))


@pytest.mark.parametrize("source", [7, ("book", 3), b"a", uuid.UUID(int=5), True, 1.5])
def test_a_source_that_is_no_name_is_refused_and_nothing_changes(text_model: MPlusModel, source: Any) -> None:
    memory = text_model.new_memory()
    with pytest.raises(InputError, match="give the name as text"):
        memory.write("a text of some length", source=source)
    assert same_contents(contents(memory), contents(text_model.new_memory()))


def test_paths_and_subclasses_of_str_are_names_and_can_be_stored(text_model: MPlusModel, tmp_path: Path) -> None:
    assert [checked_source(name) for name in (Path("a.txt"), np.str_("b"), "", None)] == ["a.txt", "b", None, None]
    memory = text_model.new_memory()
    memory.write("a text of some length", source=Path("a.txt"))
    memory.save(tmp_path / "memory")
    assert memory.stats().sources == {"a.txt": 23}, "it begins a paragraph"
    assert memory.text("a.txt") == "a text of some length"


def test_half_a_character_is_replaced_in_text_and_name(text_model: MPlusModel, tmp_path: Path) -> None:
    memory, twin = text_model.new_memory(), text_model.new_memory()
    memory.write("a boat \ud83d of some length", source="b\udcff.txt")
    twin.write("a boat \ufffd of some length", source="b\ufffd.txt")
    assert same_contents(contents(memory), contents(twin))
    memory.save(tmp_path / "memory")


def test_a_token_that_the_tables_lack_is_refused_wherever_text_comes_in(text_model: MPlusModel) -> None:
    tokenizer = byte_tokenizer()
    tokenizer.add_tokens(["<|tool|>"], special_tokens=True)
    geometry = tiny_geometry(new_tokens=32, chunk_tokens=32, stm_tokens=64, min_write_tokens=8)
    model = MPlusModel.from_base(tiny_decoder(vocabulary=256), geometry=geometry, tokenizer=tokenizer)
    memory = model.new_memory()
    memory.write("a text of some length")
    before, text = contents(memory), "an ordinary text of some length. " * 3 + "<|tool|>"
    for refused in (
        lambda: memory.write(text, special_tokens=True),
        lambda: memory.write([1, 256]),
        lambda: model.write_many([memory], [[1, 256]]),
        lambda: memory.replace("", text, special_tokens=True),
        lambda: model.encode(torch.tensor([1, 256]), memory),
    ):
        with pytest.raises(InputError, match="256"):
            refused()
    assert same_contents(before, contents(memory))
    memory.write(text, source="plain")  # where nothing says otherwise these are characters
    assert memory.text("plain") == text


@pytest.mark.parametrize("seed", ["a", 1.5, None, True, 2**70])
def test_a_seed_that_is_no_number_is_refused(model: MPlusModel, seed: Any) -> None:
    with pytest.raises(InputError, match="seed"):
        model.new_memory(seed=seed)


def test_one_text_is_no_list_of_texts(text_model: MPlusModel) -> None:
    with pytest.raises(InputError, match="texts is a str, expected a list"):
        text_model.write_many([text_model.new_memory()], "a")
    with pytest.raises(InputError, match="memories is a str, expected a list"):
        text_model.write_many("notes", ["a text"])  # type: ignore[arg-type]
    with pytest.raises(InputError, match="batch"):
        text_model.write_many([text_model.new_memory()], ["a text"], batch=0)


# -- sources stand apart ---------------------------------------------------------------------------------------------


def text_of(model: MPlusModel, *writes: tuple[str, str | None]) -> Any:
    """What a memory whose chunks see all that came before holds after writes of (text, source)."""
    memory = model.new_memory(write_context="memory")
    for text, source in writes:
        memory.write(text, source=source)
    out = contents(memory)
    out.pop("chunks")
    return out


def test_texts_of_two_sources_are_not_glued(text_model: MPlusModel) -> None:
    for first, second in (("a", "b"), (None, None), ("a", None)):
        apart = text_of(text_model, ("the number is 12", first), ("34 people came", second))
        assert same_contents(apart, text_of(text_model, ("the number is 12", "x"), ("\n\n34 people came", "x")))


def test_parts_of_one_source_and_texts_with_white_space_between_are_written_as_they_are(text_model: MPlusModel) -> None:
    one = text_of(text_model, ("the number is 12", "a"), ("34 people came", "a"))
    assert one["counters"][1] == len("the number is 1234 people came")
    spaced = text_of(text_model, ("the number is 12 ", "a"), ("34 people came", "b"))
    assert spaced["counters"][1] == len("the number is 12 34 people came")


@pytest.mark.parametrize("stored", [False, True])
def test_a_source_begins_a_paragraph_and_goes_on_as_it_is_written(text_model: MPlusModel, tmp_path: Path, stored: bool) -> None:
    """Whatever was written before it: a source's rows do not depend on others. Texts without a name are sources of their own each."""
    memory = text_model.new_memory()
    for text, source, taken in (
        ("the number is 12", "a", 18),
        ("34 people came ", "b", 17),
        (" and more", "a", 9),
        ("so it is", "a", 8),
        ("  spaced", "c", 8),
        ("no name ", None, 10),
        ("none here", None, 11),
    ):
        if stored:
            memory.save(tmp_path / "memory")
            memory = Memory.load(tmp_path / "memory", text_model)
        assert memory.write(text, source=source) == taken
    assert memory.text("a") == "the number is 12 and moreso it is"
    assert (memory.text("b"), memory.text("c")) == ("34 people came ", "  spaced")
    assert memory.text("") == "no name \n\nnone here"


def test_a_stored_memory_goes_on_with_a_new_paragraph(text_model: MPlusModel, tmp_path: Path) -> None:
    memory = text_model.new_memory(write_context="memory")
    memory.write("the number is 12", source="a")
    memory.save(tmp_path / "memory")
    again = Memory.load(tmp_path / "memory", text_model)
    again.write("34 people came", source="b")
    assert again.ledger.tokens_by_source() == {"a": 16, "b": 16}


def test_token_ids_are_never_set_apart(model: MPlusModel) -> None:
    memory = model.new_memory()
    memory.write(ids(8), source="a")
    memory.write(ids(8, 2), source="b")
    assert memory.tokens_read == 16
