"""Chat templates: the messages they take and the text they make of a conversation. Knows no token ids and no memory."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from mplus.errors import EmptyTextError, InputError
from mplus.runtime.unicode import well_formed

log = logging.getLogger(__name__)

TEXT_PARTS = ("text", "input_text", "output_text")
OURS = {
    "add_generation_prompt": "an answer is asked for wherever the last message is not an assistant's",
    "continue_final_message": "an assistant's message at the end is continued without it",
    "conversation": "the messages are the first argument",
    "tokenize": "the text of the template is tokenised here",
    "return_dict": "the text of the template is tokenised here",
    "return_tensors": "the text of the template is tokenised here",
    "return_assistant_tokens_mask": "the text of the template is tokenised here",
    "tokenizer_kwargs": "the text of the template is tokenised here",
    "padding": "prompts are padded here",
    "truncation": "prompts are never cut",
    "max_length": "prompts are never cut",
}
"""Arguments of transformers' ``apply_chat_template`` that a caller cannot set, and why."""


def conversations_of(messages: Any) -> tuple[list[list[dict[str, Any]]], bool]:
    """Checked conversations, and whether several were given.

    Raises:
        InputError, EmptyTextError: the first message that cannot be used is shown.
    """
    if isinstance(messages, (list, tuple)) and not messages:
        raise EmptyTextError("nothing to answer: the list of messages is empty; give at least one")
    several = isinstance(messages, (list, tuple)) and not isinstance(messages[0], Mapping)
    return [check_messages(one) for one in messages] if several else [check_messages(messages)], several


def check_messages(conversation: Any) -> list[dict[str, Any]]:
    """The messages of one conversation, each content as text; what else a message holds goes to the template as it is.

    Raises:
        InputError, EmptyTextError.
    """
    if not isinstance(conversation, (list, tuple)) or not conversation:
        raise InputError("a conversation must be a non-empty list of messages like {'role': 'user', 'content': '...'}")
    checked = [_message(message) for message in conversation]
    if not checked[-1]["content"].strip():
        raise EmptyTextError("nothing to answer: the last message is empty; ask something")
    return checked


def _message(message: Any) -> dict[str, Any]:
    if not isinstance(message, Mapping) or not isinstance(message.get("role"), str) or not message["role"]:
        raise InputError(f"a message must look like {{'role': 'user', 'content': '...'}}, got {_shown(message)}")
    return {**message, "content": well_formed(_content(message))}


def _content(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, str):
        return content
    if content is None and message["role"] == "assistant" and ("tool_calls" in message or "function_call" in message):
        return ""
    if isinstance(content, (list, tuple)) and content:
        return "\n".join(_part(part) for part in content)
    raise InputError(
        f"a message must look like {{'role': 'user', 'content': '...'}}, got {_shown(message)}; content is text or text parts"
    )


def _part(part: Any) -> str:
    """One part of a content that is a list."""
    kind = part.get("type") if isinstance(part, Mapping) else None
    text = part if isinstance(part, str) else part.get("text") if kind in TEXT_PARTS else None
    if isinstance(text, str):
        return text
    raise InputError(
        f"a message of role and content holds a part of type {kind!r}: this model reads text only; "
        "give parts like {'type': 'text', 'text': '...'}"
    )


def _shown(value: Any) -> str:
    return well_formed(f"{value!r:.120}")


def templated(tokenizer: Any, conversation: Sequence[Mapping[str, Any]], template: Mapping[str, Any] | None = None) -> str:
    """The text of a conversation in the tokenizer's chat template.

    An assistant's message at the end is an answer begun: the text ends inside it.

    Args:
        template: what the template is told besides, e.g. ``{"enable_thinking": False}``, ``{"tools": [...]}``.

    Raises:
        InputError: the template refuses the conversation, or holds a mistake.
    """
    extra = _checked_template(template)
    begun = conversation[-1]["role"] == "assistant"
    try:
        text = tokenizer.apply_chat_template(
            list(conversation), tokenize=False, add_generation_prompt=not begun, continue_final_message=begun, **extra
        )
    except Exception as error:  # a template is a program of its own: anything may come out of it
        said = well_formed(" ".join(str(error).split())) or type(error).__name__
        raise InputError(f"the chat template refused this conversation: {said:.300}") from error
    return well_formed(str(text))


def rendered(tokenizer: Any, messages: list[dict[str, Any]], *, prompt: bool = True) -> str | None:
    """A conversation in the tokenizer's chat template; None: the template refuses it.

    Args:
        prompt: ask for an answer at the end.
    """
    try:
        return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt))
    except Exception as error:  # a template is a program of its own: anything may come out of it
        log.debug("the chat template refuses %d messages: %s", len(messages), error)
        return None


def _checked_template(template: Any) -> dict[str, Any]:
    if template is None:
        return {}
    if not isinstance(template, Mapping) or not all(isinstance(name, str) for name in template):
        raise InputError(f"template must be a dictionary like {{'enable_thinking': False}}, got {_shown(template)}")
    for name, why in OURS.items():
        if name in template:
            raise InputError(f"template cannot set {name!r}: {why}; leave it out")
    return dict(template)
