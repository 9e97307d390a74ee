"""Laws of text completions and of the list of models, with OpenAI's own client."""

from __future__ import annotations

import uuid
from typing import Any

import openai
import pytest
from openai import OpenAI

from tests.unit.server.openai.conftest import LIMITS, Server


def test_the_one_model_is_listed(server: Server, client: OpenAI) -> None:
    (model,) = client.models.list().data
    assert model.id == server.engine.model.name
    assert client.models.retrieve(model.id) == model
    with pytest.raises(openai.NotFoundError, match="is not served here"):
        client.models.retrieve("gpt-4o")


@pytest.mark.parametrize("prompt", ["Once upon a ", ["Once upon a "]])
def test_a_text_is_continued(server: Server, client: OpenAI, prompt: Any) -> None:
    done = client.completions.create(model=server.engine.model.name, prompt=prompt, **LIMITS)
    assert server.asked[0].prompt == "Once upon a "
    assert done.object == "text_completion"
    assert done.choices[0].finish_reason in ("stop", "length")
    assert done.usage is not None and done.usage.completion_tokens > 0
    chunks = list(
        client.completions.create(
            model=server.engine.model.name, prompt=prompt, stream=True, stream_options={"include_usage": True}, **LIMITS
        )
    )
    assert "".join(chunk.choices[0].text for chunk in chunks[:-1]).strip() == done.choices[0].text.strip()
    assert chunks[-2].choices[0].finish_reason == done.choices[0].finish_reason
    assert (chunks[-1].choices, chunks[-1].usage) == ([], done.usage)


def test_prompt_and_text_are_written_where_asked(server: Server, client: OpenAI) -> None:
    memory = f"text-{uuid.uuid4()}"
    own = {"memory": {"id": memory, "write": "both", "trace": True}}
    done = client.completions.create(model=server.engine.model.name, prompt="Once upon a time", extra_body=own, **LIMITS)
    assert done.model_dump()["memory"]["id"] == memory
    assert list(server.sources(memory).values()) == [
        "User: Once upon a time\n\n",
        f"Assistant: {done.choices[0].text.strip()}\n\n",
    ]


@pytest.mark.parametrize(
    ("changed", "param"),
    [
        ({"prompt": ["a", "b"]}, "prompt"),
        ({"prompt": [1, 2]}, "prompt"),
        ({"prompt": " "}, "prompt"),
        ({"echo": True}, "echo"),
        ({"suffix": "end"}, "suffix"),
        ({"best_of": 2}, "best_of"),
        ({"n": 2}, "n"),
        ({"logprobs": 0}, "logprobs"),
    ],
)
def test_what_cannot_be_done_is_refused(server: Server, client: OpenAI, changed: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(**{"model": server.engine.model.name, "prompt": "Once", **changed})
    assert caught.value.param == param
    assert server.asked == []
