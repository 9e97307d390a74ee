"""Messages and items as clients send them, to roles and text. This model reads text only: anything else is refused by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from mplus.runtime.unicode import well_formed
from mplus.server.errors import BadRequestError
from mplus.text.chat_template import TEXT_PARTS

ROLES: Final = ("system", "developer", "user", "assistant")


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One message.

    Attributes:
        id: of an item that the client got from a server before; None where it is new.
    """

    role: str
    text: str
    id: str | None = None


def turns_of(messages: Sequence[Any], param: str) -> list[Turn]:
    """The turns of a list of messages or items; only the last must hold a word.

    Raises:
        BadRequestError: the first message that cannot be used is named.
    """
    if not messages:
        raise BadRequestError(f"{param} is empty; give at least one message", param=param)
    turns = [_turn(message, f"{param}[{number}]") for number, message in enumerate(messages)]
    checked_text(turns[-1].text, f"{param}[{len(turns) - 1}].content")
    return turns


def input_turns(value: Any) -> list[Turn]:
    """The turns of the ``input`` of a response.

    Raises:
        BadRequestError.
    """
    if isinstance(value, str):
        return [Turn(role="user", text=checked_text(value, "input"))]
    if not isinstance(value, list):
        raise BadRequestError(f"input must be a string or a list of messages, got {_kind(value)}", param="input")
    return turns_of(value, "input")


def prompt_text(value: Any) -> str:
    """The prompt of a text completion.

    Raises:
        BadRequestError: it is not one string.
    """
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or len(texts) != 1 or not isinstance(texts[0], str):
        raise BadRequestError(
            f"prompt must be a string or a list of one string, got {_kind(value)}; send each prompt as a request of its own",
            param="prompt",
        )
    checked_text(texts[0], "prompt")
    return well_formed(texts[0])


def chat_messages(turns: Sequence[Turn]) -> list[dict[str, str]]:
    """The turns as the chat template takes them, what the system says in one message before all others."""
    system = "\n\n".join(turn.text for turn in turns if turn.role in ("system", "developer"))
    others = [{"role": turn.role, "content": turn.text} for turn in turns if turn.role in ("user", "assistant")]
    return [*([{"role": "system", "content": system}] if system else []), *others]


def checked_text(text: str, param: str) -> str:
    """A text with a word in it, white space around it removed.

    Raises:
        BadRequestError: it is empty.
    """
    clean = well_formed(text).strip()
    if not clean:
        raise BadRequestError(f"{param} is empty; say something", param=param)
    return clean


def _turn(message: Any, param: str) -> Turn:
    if not isinstance(message, dict):
        raise BadRequestError(
            f"{param} must be a message like {{'role': 'user', 'content': '...'}}, got {_kind(message)}", param=param
        )
    kind = message.get("type", "message")
    if kind != "message":
        raise BadRequestError(f"{param} is of type {kind!r:.40}; only messages are read here", param=f"{param}.type")
    role = message.get("role")
    if role in ("tool", "function") or message.get("tool_calls") or message.get("function_call"):
        raise BadRequestError(f"{param} is of a tool call; this model calls no tools, leave such messages out", param=param)
    if role not in ROLES:
        raise BadRequestError(f"{param}.role must be one of {', '.join(ROLES)}, got {role!r:.40}", param=f"{param}.role")
    content, own = message.get("content"), message.get("id")
    text = "" if content is None and role == "assistant" else _content(content, f"{param}.content")
    return Turn(role=role, text=text, id=own if isinstance(own, str) else None)


def _content(content: Any, param: str) -> str:
    if isinstance(content, str):
        return well_formed(content).strip()
    if not isinstance(content, list):
        raise BadRequestError(f"{param} must be text or a list of text parts, got {_kind(content)}", param=param)
    return well_formed("\n".join(_part(part, f"{param}[{number}]") for number, part in enumerate(content))).strip()


def _part(part: Any, param: str) -> str:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind not in TEXT_PARTS:
        what = f"of type {kind!r:.40}" if isinstance(kind, str) else _kind(part)
        raise BadRequestError(
            f"{param} is {what}; this model reads text only, give parts like {{'type': 'text', 'text': '...'}}", param=param
        )
    text = part.get("text")
    if not isinstance(text, str):
        raise BadRequestError(f"{param}.text must be a string, got {_kind(text)}", param=f"{param}.text")
    return text


def _kind(value: Any) -> str:
    return "null" if value is None else f"{value!r:.40}" if isinstance(value, (str, int, float)) else f"a {type(value).__name__}"
