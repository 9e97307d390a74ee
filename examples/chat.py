"""A chat that remembers: ``python examples/chat.py``; with ``--talk`` you type, an empty line ends it.

Every message of the user is written into a memory before it is answered, and the prompt holds the newest message only: what the model knows of
earlier ones comes from memory. Prints the conversation.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from mplus import MPlusModel

SCRIPT = (
    "My sister is called Imogen Ferris, and she works as a glass blower in Ludlow.",
    "We bought a boat last week. It is painted yellow.",
    "What is the profession of Imogen Ferris?",
    "What colour is the boat?",
)


def typed() -> Iterator[str]:
    """What somebody types, until an empty line."""
    while text := input("you: ").strip():
        yield text


def main(talk: bool = False) -> None:
    model = MPlusModel.from_pretrained("smollm2-135m")
    memory = model.new_memory()
    for message in typed() if talk else SCRIPT:
        if not talk:
            print(f"you: {message}")
        if message.endswith("?"):
            print("model:", model.chat([{"role": "user", "content": message}], memory=memory, max_new_tokens=10))
        else:
            memory.write(message, source="the user")
            stats = memory.stats()
            print(f"       (remembered; {stats.tokens_read + stats.pending_tokens} tokens so far)")


if __name__ == "__main__":
    main("--talk" in sys.argv[1:])
