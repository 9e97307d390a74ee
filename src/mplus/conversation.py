"""A conversation that a memory keeps: what is said becomes a source of it, the newest turns also stand in the prompt. Knows no file.

Each turn is written with the name of who said it, under one source for a day. So a later conversation remembers it, it is traced and
forgotten as a document is, and a new turn is encoded behind the turns before it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from mplus.errors import EmptyTextError
from mplus.runtime.unicode import well_formed
from mplus.settings.calibration import REFUSAL

if TYPE_CHECKING:
    from mplus.memory.memory import Memory
    from mplus.model import MPlusModel
    from mplus.trace.trace import Answer, Trace

TURNS_IN_PROMPT: Final = 6
"""Newest messages of a conversation that a prompt repeats, so that "and there?" has something to refer to."""
SPEAKERS: Final = {"user": "User", "assistant": "Assistant", "system": "System", "developer": "System"}


def turn_text(role: str, content: str) -> str:
    """The text of one turn as a memory reads it."""
    return f"{SPEAKERS[role]}: {content}\n\n"


def turn_content(role: str, text: str) -> str:
    """The words of a turn, from its text in a memory."""
    return text.removeprefix(f"{SPEAKERS[role]}:").strip()


class Remember(StrEnum):
    """The speakers whose turns are written into the memory."""

    both = "both"
    user = "user"
    none = "none"


@dataclass
class Conversation:
    """Questions and answers with one memory, which is written after each.

    Args:
        source: the name that turns are remembered under; default: ``chat/`` and the date of the turn.
        options: for ``MPlusModel.chat``, e.g. ``max_new_tokens``.
    """

    model: MPlusModel
    memory: Memory
    remember: Remember = Remember.both
    source: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    messages: list[dict[str, str]] = field(default_factory=list)
    trace: Trace | None = None
    """The trace of the newest answer."""
    confidence: float | None = None
    """The confidence of the newest answer."""

    @property
    def remembers(self) -> bool:
        """Tell whether turns are written into the memory."""
        return self.remember is not Remember.none

    def ask(self, message: str, on_text: Callable[[str], None] | None = None) -> str:
        """Answer a message from the memory and the newest turns; the memory does not change.

        Args:
            on_text: called with each piece of the answer as it is made.

        Raises:
            EmptyTextError: there is no word in it.
            PromptTooLongError: memory and message do not fit the model.
        """
        text = well_formed(message).strip()
        if not text:
            raise EmptyTextError("the message is empty; say something")
        prompt = [*self.messages[-TURNS_IN_PROMPT:], {"role": "user", "content": text}]
        options = dict(self.options)
        if on_text is not None and not options.get("min_confidence"):  # else it is judged when it is whole
            from mplus.inference.streaming import PieceStream

            options["streamer"] = PieceStream(self.model.tokenizer, on_text)
        answer: Answer = self.model.chat(prompt, memory=self.memory, trace=True, **options)
        self.messages = [*prompt, {"role": "assistant", "content": answer.text}]
        self.trace, self.confidence = answer.trace, answer.confidence
        if on_text is not None and options.get("min_confidence"):
            on_text(answer.text)
        return answer.text

    def keep(self) -> str | None:
        """Write the newest turn, question and answer, into the memory; returns the source it went to, None where nothing is remembered."""
        if not self.remembers or len(self.messages) < 2:
            return None
        turn = [one for one in self.messages[-2:] if self.remember is Remember.both or one["role"] == "user"]
        source = self.source or f"chat/{date.today().isoformat()}"
        text = "".join(turn_text(one["role"], one["content"]) for one in turn if one["content"].strip() not in ("", REFUSAL))
        self.memory.write(text, source=source, at=time.time())
        return source
