"""Laws of conversations: what a message may be, what the template is told, and that each refusal is one sentence."""

from __future__ import annotations

from typing import Any

import pytest

from mplus import MPlusModel
from mplus.errors import EmptyTextError, InputError
from mplus.text.chat_template import OURS, check_messages, templated
from tests.tiny import byte_tokenizer, text_model

USER = {"role": "user", "content": "Who?"}


@pytest.fixture(scope="module")
def asked() -> MPlusModel:
    return text_model()


@pytest.fixture
def template(asked: MPlusModel) -> Any:
    """The model's tokenizer; its template is put back."""
    tokenizer: Any = asked.tokenizer
    before = tokenizer.chat_template
    yield tokenizer
    tokenizer.chat_template = before


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (
            "{{ raise_exception('Conversation roles must alternate') }}",
            "refused this conversation: Conversation roles must alternate",
        ),
        ("{% if x is %}", "refused this conversation: expected token"),
        ("{{ messages[7]['content'] + 'x' }}", "refused this conversation: "),
        ("{{ 1 / 0 }}", "refused this conversation: division by zero"),
    ],
)
def test_an_error_of_the_template_is_one_sentence(asked: MPlusModel, template: Any, source: str, said: str) -> None:
    template.chat_template = source
    with pytest.raises(InputError, match=said) as caught:
        asked.chat([USER], max_new_tokens=2)
    assert "\n" not in str(caught.value)


def test_the_template_is_told_what_the_caller_says(asked: MPlusModel, template: Any) -> None:
    template.chat_template = "{{ messages[0]['content'] }}{% if enable_thinking is defined and not enable_thinking %}!{% endif %}"
    options: dict[str, Any] = {"max_new_tokens": 4, "do_sample": False}
    assert asked.chat([USER], template={"enable_thinking": False}, **options) == asked.generate("Who?!", **options).strip()
    assert asked.chat([USER], **options) == asked.generate("Who?", **options).strip()
    with pytest.raises(InputError, match=r"enable_thinking.*template="):
        asked.chat([USER], enable_thinking=False, **options)


@pytest.mark.parametrize("name", OURS)
def test_what_is_decided_here_cannot_be_told_to_the_template(asked: MPlusModel, name: str) -> None:
    with pytest.raises(InputError, match=name):
        asked.chat([USER], template={name: True})


@pytest.mark.parametrize("wrong", ["x", [1], {1: 2}])
def test_a_template_of_another_form_is_refused(asked: MPlusModel, wrong: Any) -> None:
    with pytest.raises(InputError, match="enable_thinking"):
        asked.chat([USER], template=wrong)


def test_an_assistants_message_at_the_end_is_continued(asked: MPlusModel) -> None:
    begun = [USER, {"role": "assistant", "content": "Anna"}]
    options: dict[str, Any] = {"max_new_tokens": 4, "do_sample": False}
    assert asked.chat(begun, **options) == asked.generate("user: Who?\nassistant: Anna", **options).strip()
    assert asked.chat([begun, [USER]], **options) == [asked.chat(begun, **options), asked.chat([USER], **options)]


@pytest.mark.parametrize(
    ("message", "content"),
    [
        ({"role": "user", "content": [{"type": "text", "text": "Who"}, {"type": "text", "text": "is it?"}]}, "Who\nis it?"),
        ({"role": "user", "content": ["Who?"]}, "Who?"),
        ({"role": "user", "content": [{"type": "input_text", "text": "Who?"}], "name": "Ana"}, "Who?"),
        ({"role": "user", "content": "half \ud83d"}, "half \ufffd"),
    ],
)
def test_content_becomes_text_and_other_keys_stay(message: dict[str, Any], content: str) -> None:
    (checked,) = check_messages([message])
    assert checked == {**message, "content": content}
    assert message is not checked


def test_a_tool_call_needs_no_content() -> None:
    call = {"role": "assistant", "content": None, "tool_calls": [{"name": "look"}]}
    without = {"role": "assistant", "tool_calls": [{"name": "look"}]}
    assert [turn["content"] for turn in check_messages([USER, call, without, USER])] == ["Who?", "", "", "Who?"]
    with pytest.raises(EmptyTextError, match="nothing to answer"):
        check_messages([USER, call])


@pytest.mark.parametrize(
    "message",
    [
        {"role": "user", "content": None},
        {"role": "assistant", "content": None},
        {"role": "user", "content": []},
        {"role": "user", "content": b"Who?"},
        {"role": 3, "content": "Who?"},
        {"role": "", "content": "Who?"},
        {"role": None, "content": "Who?"},
        {"role": "user", "content": [{"type": "image_url", "image_url": "x.png"}]},
        {"role": "user", "content": [{"type": "text", "text": None}]},
        {"role": "user", "content": [3]},
        ["user", "Who?"],
        "Who?",
    ],
    ids=repr,
)
def test_a_message_of_another_form_is_refused_wherever_it_stands(asked: MPlusModel, message: Any) -> None:
    for messages in ([USER, message, USER], [[USER], [message]]):
        with pytest.raises(InputError, match="role") as caught:
            asked.chat(messages)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("messages", [USER, "Who?", None, 7, b"Who?", (part for part in [USER]), {}])
def test_messages_of_another_form_are_refused(asked: MPlusModel, messages: Any) -> None:
    with pytest.raises(InputError, match="role"):
        asked.chat(messages)


def test_half_a_character_in_a_prompt_is_read_as_a_replacement_sign(asked: MPlusModel) -> None:
    options: dict[str, Any] = {"max_new_tokens": 3, "do_sample": False}
    assert asked.generate("x\ud83d", **options) == asked.generate("x\ufffd", **options)
    assert asked.chat([{"role": "user", "content": "x\ud83d"}], **options) == asked.chat(
        [{"role": "user", "content": "x\ufffd"}], **options
    )
    assert isinstance(asked.generate("a\x00b", **options), str)
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = "{{ messages[0]['content'] }}{{ said }}"
    assert templated(tokenizer, [USER], {"said": "\udc00"}) == "Who?\ufffd"
