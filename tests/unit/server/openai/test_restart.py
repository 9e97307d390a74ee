"""Laws of a restart: conversations and responses are read, gone on from and deleted as before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import openai
import pytest
from openai import OpenAI

from mplus import MPlusModel
from mplus.server.app import create_app
from mplus.server.settings import ServerSettings
from tests.unit.server.conftest import serving
from tests.unit.server.openai.conftest import said


def test_what_was_said_outlives_the_server(text_model: MPlusModel, tmp_path: Path) -> None:
    settings, short = ServerSettings(home=tmp_path), {"max_output_tokens": 4}

    def client(address: str) -> OpenAI:
        return OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0, timeout=60)

    with serving(create_app(settings, model=text_model)) as address:
        before = client(address)
        talk = before.conversations.create(items=[{"role": "user", "content": "I live in Porto."}], metadata={"a": "b"})
        told = before.responses.create(input="Where?", conversation=talk.id, **short)  # type: ignore[call-overload]
        gone = before.responses.create(input="The word is heron.", **short)  # type: ignore[call-overload]
        before.responses.delete(gone.id)
    with serving(create_app(settings, model=text_model)) as address:
        after = client(address)
        assert after.conversations.retrieve(talk.id) == talk
        items: list[Any] = after.conversations.items.list(talk.id, order="asc").data
        assert [said(item) for item in items] == ["I live in Porto.", "Where?", told.output_text]
        assert after.responses.retrieve(told.id).model_dump() == told.model_dump()
        with pytest.raises(openai.NotFoundError):
            after.responses.retrieve(gone.id)
        later = after.responses.create(input="And?", previous_response_id=told.id, **short)  # type: ignore[call-overload]
        assert len(after.conversations.items.list(talk.id).data) == 5
        assert later.previous_response_id == told.id
        after.conversations.delete(talk.id)
        with pytest.raises(openai.NotFoundError):
            after.responses.retrieve(told.id)
