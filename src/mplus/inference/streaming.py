"""Answers as they are made, piece by piece. Knows no memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from transformers import TextStreamer


class PieceStream(TextStreamer):
    """A streamer that gives the pieces of an answer to a function, never half a character.

    Args:
        on_text: called with each piece.
    """

    def __init__(self, tokenizer: Any, on_text: Callable[[str], None]) -> None:
        super().__init__(tokenizer, skip_prompt=True, skip_special_tokens=True)
        self._on_text, self._begun = on_text, False

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        """Hand a piece on, without white space at the beginning of the answer."""
        piece = text if self._begun else text.lstrip()
        if piece:
            self._begun = True
            self._on_text(piece)
