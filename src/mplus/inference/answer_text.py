"""The text of an answer while it grows: whole characters, up to a stop string. Knows tokenizers, no model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

UNFINISHED = "\ufffd"
"""The sign that tokenizers put in the place of a character whose bytes have not all come."""
LONGEST_UNFINISHED = 3
"""Of these at the end of a text, those that may still become a character."""


class AnswerText:
    """Pieces of an answer's text; together they are the text.

    Args:
        stop: strings at the first of which the text ends; it is no part of it.
        strip: leave out white space around the answer.

    Attributes:
        text: given so far.
        is_stopped: a stop string has come.
    """

    def __init__(self, tokenizer: Any, stop: Sequence[str] = (), *, strip: bool = False) -> None:
        self._words, self._stop, self._strip = _Words(tokenizer), tuple(stop), strip
        self._held = self._space = ""
        self.text, self.is_stopped = "", False

    def put(self, token: int) -> str:
        """Take the next token; gives what is certain of the text by now and was not given before."""
        return self._give(self._words.put(token), ended=False)

    def end(self) -> str:
        """No token follows; gives the rest."""
        return self._give(self._words.end(), ended=True)

    def _give(self, piece: str, *, ended: bool) -> str:
        piece = self._before_stop(piece, ended)
        if self._strip:  # white space at the end of what is known goes, unless something follows
            whole = self._space + piece
            whole = whole if self.text else whole.lstrip()
            piece = whole.rstrip()
            self._space = whole[len(piece) :]
        self.text += piece
        return piece

    def _before_stop(self, piece: str, ended: bool) -> str:
        if self.is_stopped:
            return ""
        whole = self._held + piece
        places = [place for one in self._stop if (place := whole.find(one)) >= 0]
        if places:
            self.is_stopped, self._held = True, ""
            return whole[: min(places)]
        certain = len(whole) if ended else len(whole) - self._begun_stop(whole)
        self._held = whole[certain:]
        return whole[:certain]

    def _begun_stop(self, whole: str) -> int:
        """Characters at the end that may be the beginning of a stop string."""
        longest = max((len(one) for one in self._stop), default=1) - 1
        for count in range(min(longest, len(whole)), 0, -1):
            if any(one.startswith(whole[-count:]) for one in self._stop if len(one) > count):
                return count
        return 0


class _Words:
    """Text of tokens as they come, without characters whose bytes are not all there."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._ids: list[int] = []
        self._known = 0
        """Tokens of ``_ids`` whose text was given before; they stay until the next come, whose spaces depend on them."""
        self._given = 0

    def put(self, token: int) -> str:
        self._ids.append(token)
        before, whole = self._decoded(self._ids[: self._known]), self._decoded(self._ids)
        unfinished = min(len(whole) - len(whole.rstrip(UNFINISHED)), LONGEST_UNFINISHED)
        ready = whole[len(before) : len(whole) - unfinished]
        piece = ready[self._given :]
        if unfinished:
            self._given += len(piece)
        else:
            del self._ids[: self._known]
            self._known, self._given = len(self._ids), 0
        return piece

    def end(self) -> str:
        before, whole = self._decoded(self._ids[: self._known]), self._decoded(self._ids)
        return whole[len(before) + self._given :]

    def _decoded(self, ids: list[int]) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=True)) if ids else ""
