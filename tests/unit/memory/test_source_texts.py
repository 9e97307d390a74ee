"""Laws of texts for named sources: nothing doubles unaware, a cut-off text ends as if it had not been, nothing taken changes unasked."""

from __future__ import annotations

from typing import Any

import pytest

from mplus import Memory, MPlusModel
from mplus.errors import InputError
from mplus.memory.source_texts import Action, Held, SourceText, TakenNames, plan_texts, write_texts
from tests.tiny import contents, same_contents, text_model

TEXT = "Ilse Varga was born in Tromso. She lives in Porto now.\n\nShe keeps two grey cats, and a red boat called Nora. " * 2
OTHER = "A wholly different text, which is about the harbour of Bergen and its boats."


@pytest.fixture(scope="module")
def model() -> MPlusModel:
    return text_model()


def written(model: MPlusModel, *texts: tuple[str, str]) -> Memory:
    memory = model.new_memory()
    for name, text in texts:
        memory.write(text, name, at=1.0)
    return memory


def planned(memory: Memory, *texts: tuple[str, str], **taken: bool) -> list[SourceText]:
    return plan_texts(memory, texts, TakenNames(**taken))


@pytest.mark.parametrize(
    ("text", "taken", "held", "action"),
    [
        (TEXT, {}, Held.all, Action.skip),
        (TEXT, {"replace": True}, Held.all, Action.skip),
        (TEXT, {"resume": True}, Held.all, Action.skip),
        (TEXT, {"again": True}, Held.all, Action.write),
        (OTHER, {}, Held.other, Action.skip),
        (OTHER, {"resume": True}, Held.other, Action.skip),
        (OTHER, {"replace": True}, Held.other, Action.anew),
        (OTHER, {"again": True}, Held.other, Action.write),
        (TEXT + OTHER, {}, Held.beginning, Action.skip),
        (TEXT + OTHER, {"resume": True}, Held.beginning, Action.go_on),
        (TEXT + OTHER, {"replace": True}, Held.beginning, Action.anew),
        (TEXT + OTHER, {"replace": True, "resume": True}, Held.beginning, Action.go_on),
    ],
)
def test_what_is_done_where_a_name_is_taken(
    model: MPlusModel, text: str, taken: dict[str, bool], held: Held, action: Action
) -> None:
    memory = written(model, ("a", TEXT))
    before = contents(memory)
    (one,) = planned(memory, ("a", text), **taken)
    assert (one.held, one.action) == (held, action)
    assert one.is_mistake == (action is Action.skip and held is not Held.all)
    assert bool(one.reason) == (action is Action.skip)
    assert same_contents(before, contents(memory))
    tokens = write_texts(memory, [one], at=2.0)
    assert tokens == one.tokens - (len(one.begin) if taken.get("again") else 0)
    expected = {Action.skip: TEXT, Action.write: TEXT + text, Action.go_on: text, Action.anew: text}[action]
    assert memory.text("a") == expected


def test_a_new_name_is_written_and_the_same_text_elsewhere_is_named(model: MPlusModel) -> None:
    memory = written(model, ("a", TEXT))
    one, two = planned(memory, ("b", TEXT), ("c", OTHER))
    assert (one.action, one.same_as, two.action, two.same_as) == (Action.write, "a", Action.write, "")


class Stop(Exception):
    """In place of Ctrl-C."""


def stopping_after(tokens: int) -> Any:
    def progress(done: int) -> None:
        if done >= tokens:
            raise Stop

    return progress


@pytest.mark.parametrize("context", ["source", "memory"])
@pytest.mark.parametrize("stop", [1, 40, 120, 250])
def test_a_stop_and_a_resume_give_the_memory_that_was_never_stopped(context: str, stop: int) -> None:
    model = text_model(write_context=context)
    texts = [("a", OTHER), ("b", TEXT), ("c", OTHER + TEXT)]
    whole, stopped = model.new_memory(), model.new_memory()
    write_texts(whole, planned(whole, *texts), at=1.0)
    with pytest.raises(Stop):
        write_texts(stopped, planned(stopped, *texts), at=1.0, progress=stopping_after(stop))
    assert stopped.tokens_read + stopped.pending_tokens < whole.tokens_read + whole.pending_tokens
    seen: list[int] = []
    again = planned(stopped, *texts, resume=True)
    tokens = write_texts(stopped, again, at=1.0, progress=seen.append)
    assert seen[-1] == tokens
    assert context == "memory" or tokens == sum(one.tokens for one in again)  # there a blank line comes between two sources
    assert seen == sorted(seen)
    assert [stopped.text(name).strip() for name, _ in texts] == [text.strip() for _, text in texts]
    assert context == "memory" or same_contents(contents(whole), contents(stopped))


def test_a_text_that_was_cut_elsewhere_is_gone_on_with_too(model: MPlusModel) -> None:
    memory = written(model, ("a", TEXT[:13]))
    (one,) = planned(memory, ("a", TEXT), resume=True)
    assert one.tokens == len(TEXT) - 13
    write_texts(memory, [one])
    assert memory.text("a") == TEXT


def test_wrong_names_and_flags_are_refused(model: MPlusModel) -> None:
    memory = model.new_memory()
    for texts in ([("a", TEXT), ("a", OTHER)], [("", TEXT)]):
        with pytest.raises(InputError, match="give each text its own"):
            planned(memory, *texts)
    for other in ("replace", "resume"):
        with pytest.raises(InputError, match="again writes a text behind what is there"):
            TakenNames(again=True, **{other: True})
