"""Laws of a conversation: what was said is in the memory under its day, and the newest turns stand in the prompt."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from mplus import MPlusModel
from mplus.conversation import TURNS_IN_PROMPT, Conversation, Remember
from mplus.errors import EmptyTextError
from mplus.trace.trace import Answer, Trace
from tests.tiny import contents, same_contents, text_model

TODAY = f"chat/{date.today().isoformat()}"


@pytest.fixture(scope="module")
def model() -> MPlusModel:
    return text_model(positions=4096)


def talk(model: MPlusModel, **options: Any) -> Conversation:
    return Conversation(model, model.new_memory(), options={"max_new_tokens": 4, "do_sample": False}, **options)


@pytest.mark.parametrize(
    ("remember", "text"),
    [
        (Remember.both, "User: I live in Porto.\n\nAssistant: {0}\n\nUser: Where?\n\nAssistant: {1}\n\n"),
        (Remember.user, "User: I live in Porto.\n\nUser: Where?\n\n"),
    ],
)
def test_what_was_said_is_a_source_of_the_memory(model: MPlusModel, remember: Remember, text: str) -> None:
    one = talk(model, remember=remember)
    answers = []
    for message in (" I live in Porto. \n", "Where?"):
        answers.append(one.ask(message))
        assert one.keep() == TODAY
    assert [info.name for info in one.memory.sources()] == [TODAY]
    assert one.memory.text(TODAY) == text.format(*answers)


def test_nothing_is_remembered_where_that_is_asked_for(model: MPlusModel) -> None:
    one = talk(model, remember=Remember.none)
    one.ask("I live in Porto.")
    assert one.keep() is None
    assert one.memory.sources() == []


def test_asking_changes_no_memory_and_keeping_does(model: MPlusModel) -> None:
    one = talk(model, source="mine")
    assert one.keep() is None
    before = contents(one.memory)
    one.ask("I live in Porto.")
    assert same_contents(before, contents(one.memory))
    assert one.keep() == "mine"
    assert one.memory.sources()[0].last_at is not None


def test_the_newest_turns_stand_in_the_prompt(model: MPlusModel, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def chat(messages: Any, **options: Any) -> Answer:
        asked.append(messages)
        return Answer(f"answer {len(asked)}", Trace())

    one = talk(model)
    monkeypatch.setattr(model, "chat", chat, raising=False)
    for number in range(1, 6):
        one.ask(f"question {number}")
    assert asked[0] == [{"role": "user", "content": "question 1"}]
    assert asked[1][:2] == [*asked[0], {"role": "assistant", "content": "answer 1"}]
    assert len(asked[-1]) == TURNS_IN_PROMPT + 1
    assert asked[-1][-1] == {"role": "user", "content": "question 5"}


def test_pieces_of_an_answer_join_to_the_answer(model: MPlusModel) -> None:
    one, pieces = talk(model), list[str]()
    one.options["max_new_tokens"] = 24
    answer = one.ask("Hello?", pieces.append)
    assert "".join(pieces).strip() == answer
    assert answer == Conversation(model, model.new_memory(), options=one.options).ask("Hello?")


def test_what_an_answer_drew_on_is_known(model: MPlusModel) -> None:
    one = talk(model)
    assert one.trace is None
    one.memory.write("Ilse Varga lives in Porto, where she keeps two grey cats.", "ilse", at=1.0)
    one.ask("Where does Ilse live?")
    assert one.trace is not None
    assert [use.name for use in one.trace.sources] == ["ilse"]


def test_an_empty_message_is_refused(model: MPlusModel) -> None:
    with pytest.raises(EmptyTextError, match="the message is empty"):
        talk(model).ask(" \n")


def test_control_tokens_that_a_user_quotes_are_written_as_characters(model: MPlusModel) -> None:
    from mplus.text.literal import control_ids

    own = text_model(positions=4096)
    own.tokenizer.add_special_tokens({"additional_special_tokens": ["<|end|>"]})
    one = talk(own, remember=Remember.user)
    one.messages = [{"role": "user", "content": "What does <|end|> mean?"}, {"role": "assistant", "content": "."}]
    one.keep()
    assert control_ids(own.tokenizer).isdisjoint(one.memory.ids(TODAY))
    assert one.memory.text(TODAY) == "User: What does <|end|> mean?\n\n"
