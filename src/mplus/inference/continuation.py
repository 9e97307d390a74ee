"""One answer as it grows, token by token: how the next is chosen, its text, and why it ended. Knows no batch and no memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from torch import Tensor

from mplus.inference.answer_text import AnswerText
from mplus.inference.sampling import Sampler

Ending = Literal["stop", "length"]


class Continuation:
    """Tokens and text behind one prompt.

    Args:
        ends: tokens that end it.
        most: tokens at most.
        text: None where there is no tokenizer.
        on_text: called with each piece of text.

    Attributes:
        tokens: chosen so far, an end token included.
        ending: None while it goes on.
    """

    def __init__(
        self,
        sampler: Sampler,
        ends: frozenset[int],
        most: int,
        text: AnswerText | None = None,
        on_text: Callable[[str], None] = lambda piece: None,
    ) -> None:
        self.sampler, self.ends, self.most, self._text, self._on_text = sampler, ends, most, text, on_text
        self.tokens: list[int] = []
        self.ending: Ending | None = None

    @property
    def text(self) -> str:
        """The text so far."""
        return "" if self._text is None else self._text.text

    def take(self, logits_V: Tensor) -> None:
        """Choose the next token by the logits behind the last one."""
        token = self.sampler.choose(logits_V)
        self.tokens.append(token)
        if token in self.ends:
            self._end("stop")
            return
        if self._text is not None:
            self._give(self._text.put(token))
            if self._text.is_stopped:
                self._end("stop")
                return
        if len(self.tokens) >= self.most:
            self._end("length")

    def cut(self) -> None:
        """No more is wanted: give what is there of the text."""
        if self.ending is None and self._text is not None:
            self._give(self._text.end())

    def _end(self, ending: Ending) -> None:
        if self._text is not None:
            self._give(self._text.end())
            if self._text.is_stopped:
                ending = "stop"
        self.ending = ending

    def _give(self, piece: str) -> None:
        if piece:
            self._on_text(piece)
