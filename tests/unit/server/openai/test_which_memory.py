"""Laws of which memory a request means, and of what is written: the body counts more than headers, ``user`` only where that is on."""

from __future__ import annotations

from typing import Any

import pytest

from mplus.conversation import Remember, turn_content, turn_text
from mplus.server.errors import BadRequestError
from mplus.server.openai.messages import Turn
from mplus.server.openai.response_plan import is_stored, newest_of
from mplus.server.openai.schemas import MemoryOptions
from mplus.server.openai.which_memory import AnswerDetails, Named, named_memory
from mplus.server.scope import Scope


@pytest.mark.parametrize(
    ("headers", "options", "user", "on", "named"),
    [
        ({}, None, "u", False, Named()),
        ({}, None, "u", True, Named(id="u")),
        ({"X-Memory-Id": "h"}, None, "u", True, Named(id="h")),
        ({"X-Memory-Id": "h"}, {"id": "b"}, "u", True, Named(id="b", in_body=True)),
        ({"X-Memory-Id": "h", "X-Memory-Write": "both"}, None, None, False, Named(id="h", write=Remember.both)),
        ({"X-Memory-Id": "Zo\u00c3\u00ab"}, None, None, False, Named(id="Zo\u00eb")),
        ({"X-Memory-Id": "Zo\u00eb"}, None, None, False, Named(id="Zo\u00eb")),
        (
            {"X-Memory-Write": "both"},
            {"id": "b", "write": "none", "trace": True},
            None,
            False,
            Named(id="b", in_body=True, write=Remember.none, details=AnswerDetails(trace=True)),
        ),
    ],
)
def test_the_memory_is_named_by_body_then_header_then_user(
    headers: dict[str, str], options: dict[str, Any] | None, user: str | None, on: bool, named: Named
) -> None:
    memory = None if options is None else MemoryOptions(**options)
    assert named_memory(headers, memory, user, user_is_memory=on) == named


def test_a_name_is_the_tenants_own() -> None:
    assert Named(id="x").scope("ana") == Scope("ana", "x")
    assert Named().scope("ana") is None


@pytest.mark.parametrize("name", ["", " ", "a\x00b", "x" * 257])
def test_a_name_that_cannot_be_used_is_refused(name: str) -> None:
    with pytest.raises(BadRequestError):
        named_memory({"X-Memory-Id": name}, None, None, user_is_memory=False)


@pytest.mark.parametrize(
    ("store", "write", "stored"),
    [
        (None, None, True),
        (True, None, True),
        (False, None, False),
        (None, Remember.both, True),
        (None, Remember.none, False),
        (True, Remember.both, True),
        (False, Remember.none, False),
    ],
)
def test_a_response_is_stored_unless_that_is_turned_off(store: bool | None, write: Remember | None, stored: bool) -> None:
    assert is_stored(store, write) is stored


def test_what_is_new_stands_behind_the_last_answer() -> None:
    turns = [
        Turn(role=role, text=role + str(number)) for number, role in enumerate(("system", "user", "assistant", "user", "user"))
    ]
    assert [turn.text for turn in newest_of(turns)] == ["user3", "user4"]
    assert [turn.text for turn in newest_of(turns[:2])] == ["user1"]


@pytest.mark.parametrize("role", ["user", "assistant", "system", "developer"])
@pytest.mark.parametrize("text", ["Hello.", "User: I said so.", "", "two\n\nlines"])
def test_a_turn_is_read_back_as_it_was_said(role: str, text: str) -> None:
    assert turn_content(role, turn_text(role, text)) == text
