"""The response object and the events of its stream. Knows no memory."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from mplus.runtime.unicode import well_formed
from mplus.server.answers import AnswerResult
from mplus.server.errors import ApiError
from mplus.server.openai.items import message_json, output_part
from mplus.server.openai.schemas import ResponseRequest, metadata_of
from mplus.server.openai.stream import Event

FIXED: Mapping[str, Any] = {
    "background": False,
    "error": None,
    "parallel_tool_calls": False,
    "service_tier": "default",
    "text": {"format": {"type": "text"}},
    "tool_choice": "none",
    "tools": [],
    "top_logprobs": 0,
    "truncation": "disabled",
}
"""What is the same in all responses."""


@dataclass(frozen=True, kw_only=True)
class ResponseForm:
    """One response as it is made.

    Attributes:
        item: id of the message that is its output.
        request: what is told of the request.
    """

    id: str
    item: str
    request: Mapping[str, Any]
    _numbers: count[int] = field(default_factory=count)

    def begun(self) -> dict[str, Any]:
        """The object before there is an answer."""
        return response_json(self.id, {**self.request, "status": "in_progress", "completed_at": None, "usage": None}, [])

    def answer(self, result: AnswerResult) -> dict[str, Any]:
        """What is told of the answer besides its text; the memory keeps it."""
        is_whole = result.finish == "stop"
        return {
            **self.request,
            "status": "completed" if is_whole else "incomplete",
            "completed_at": int(time.time()) if is_whole else None,
            "incomplete_details": None if is_whole else {"reason": "max_output_tokens"},
            "usage": usage_json(result),
        }

    def output(self, text: str, status: str) -> dict[str, Any]:
        """The message."""
        return message_json(self.item, "assistant", text, status)

    def event(self, name: str, **others: Any) -> Event:
        """The next event."""
        return Event(name=name, data={"type": name, "sequence_number": next(self._numbers), **others})

    def of_item(self, name: str, **others: Any) -> Event:
        """The next event of the message's text."""
        return self.event(name, item_id=self.item, output_index=0, content_index=0, **others)

    def opening(self) -> list[Event]:
        """The events before the first piece of text."""
        empty = {**self.output("", "in_progress"), "content": []}
        return [
            self.event("response.created", response=self.begun()),
            self.event("response.in_progress", response=self.begun()),
            self.event("response.output_item.added", output_index=0, item=empty),
            self.of_item("response.content_part.added", part=output_part("")),
        ]

    def piece(self, text: str) -> Event:
        """A piece of text."""
        return self.of_item("response.output_text.delta", delta=text, logprobs=[])

    def closing(self, result: AnswerResult, whole: Mapping[str, Any]) -> list[Event]:
        """The events behind the last piece.

        Args:
            whole: the response object.
        """
        return [
            self.of_item("response.output_text.done", text=result.text, logprobs=[]),
            self.of_item("response.content_part.done", part=output_part(result.text)),
            self.event("response.output_item.done", output_index=0, item=whole["output"][0]),
            self.event(f"response.{whole['status']}", response=whole),
        ]

    def failure(self, error: ApiError) -> Event:
        """The last event where something went wrong."""
        return self.event("error", code=error.code, message=error.message, param=error.param)


def request_json(body: ResponseRequest, model: str, conversation: str | None, *, is_stored: bool) -> dict[str, Any]:
    """What a response tells of its request."""
    return {
        "created_at": int(time.time()),
        "conversation": None if conversation is None else {"id": conversation},
        "incomplete_details": None,
        "instructions": None if body.instructions is None else well_formed(body.instructions),
        "max_output_tokens": body.max_output_tokens,
        "metadata": metadata_of(body.metadata),
        "model": model,
        "previous_response_id": body.previous_response_id,
        "store": is_stored,
        "temperature": body.temperature or 0.0,
        "top_p": 1.0 if body.top_p is None else body.top_p,
        "user": None if body.user is None else well_formed(body.user),
    }


def response_json(id_: str, answer: Mapping[str, Any], output: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The object of a response."""
    return {"id": id_, "object": "response", **FIXED, **answer, "output": list(output)}


def usage_json(result: AnswerResult) -> dict[str, Any]:
    """Usage; memory tokens that were read are cached tokens of the input."""
    read = result.prompt_tokens + result.memory_tokens
    return {
        "input_tokens": read,
        "input_tokens_details": {"cached_tokens": result.memory_tokens, "cache_write_tokens": 0},
        "output_tokens": result.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": read + result.completion_tokens,
    }
