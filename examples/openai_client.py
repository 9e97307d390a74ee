"""OpenAI's own client with a memory: run ``mplus serve --model smollm2-135m --home memories``, then ``python examples/openai_client.py``.

A conversation is told something, is asked, and is deleted: its text is gone. Needs the package openai. Another server: give its address,
e.g. ``http://127.0.0.1:8000/v1``; its key is taken from the environment (OPENAI_API_KEY).
"""

from __future__ import annotations

import os
import sys

from openai import NotFoundError, OpenAI

FACT = "Ilse Varga was born in Tromso."
QUESTION = "Where was Ilse Varga born?"


def main() -> None:
    address = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000/v1"
    client = OpenAI(base_url=address, api_key=os.environ.get("OPENAI_API_KEY", "none"))
    model = client.models.list().data[0].id
    print(f"model {model}")

    conversation = client.conversations.create(items=[{"role": "user", "content": FACT}])  # one pass, nothing is generated
    response = client.responses.create(model=model, input=QUESTION, conversation=conversation.id, max_output_tokens=16)
    print(f"response: {response.output_text}")
    if response.usage is not None:
        print(f"memory tokens read: {response.usage.input_tokens_details.cached_tokens}")

    stream = client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": QUESTION}],
        max_tokens=16,
        stream=True,
        extra_body={"memory": {"id": conversation.id, "trace": True}},  # the conversation's memory; nothing is written
    )
    print("chat: ", end="")
    for chunk in stream:
        print(chunk.choices[0].delta.content or "", end="", flush=True)
        for passage in (chunk.model_extra or {}).get("memory", {}).get("passages", [])[:2]:
            print(f"\nread: {passage['text'].strip()!r}", end="")
    print()

    client.conversations.delete(conversation.id)
    try:
        client.responses.retrieve(response.id)
    except NotFoundError:
        print("deleted: the conversation and its response are gone")


if __name__ == "__main__":
    main()
