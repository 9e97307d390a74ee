"""The search query of a prompt: its last user turn. Knows tokenizers and chat templates, nothing of memory.

A search compares every prompt token with memory, so a system prompt or earlier turns drown the question (decision 0025). A prompt that
a chat template made is searched with as if its last user turn were asked alone; any other prompt searches as a whole.

Legend: B prompts, T prompt tokens.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.nn import functional

from mplus.errors import InputError
from mplus.text.chat_template import rendered
from mplus.text.past import asks_for_the_past
from mplus.text.prompts import Prompts, plain_ids, texts_of

log = logging.getLogger(__name__)

MARK = "Zq7"
"""Stands for a message's text in a conversation that only shows the template's own text."""
EDGES = ("", "a", "7", "\n", "\n\n", " ", ".", "“", "中")
"""Beginnings and ends of a message: a tokenizer joins some of them with the template's text beside it."""


@dataclass(frozen=True)
class TurnMarkers:
    """Token ids by which a chat template shows a user's turn.

    Attributes:
        opening: before each user message, at least one.
        answer: between a user message and the answer to it; none where that cannot be told.
    """

    opening: tuple[int, ...]
    answer: tuple[int, ...]

    def last_turn(self, ids: Sequence[int]) -> slice | None:
        """The span of the last user turn in a prompt: from its opening to where the answer begins; None: there is none."""
        start = max(_places(ids, self.opening), default=None)
        if start is None:
            return None
        end = next(_places(ids, self.answer, start + len(self.opening)), None) if self.answer else None
        return slice(start, len(ids) if end is None else end + len(self.answer))


@dataclass(frozen=True)
class Query:
    """The searching tokens of a batch of prompts.

    Attributes:
        prompts: the searching tokens alone, for a search that has a pass of its own.
        columns: [B, T] True at the prompts' own tokens that search, for a search within the reading pass; None where the query
            does not stand in the prompts.
        earlier: [B, T] True at the prompts' tokens before their last user turn.
        rounds: 2: search again with what the first round found.
        tokenizer: None where the model was opened without one.
    """

    prompts: Prompts
    columns: Tensor | None
    earlier: Tensor
    rounds: int = 1
    tokenizer: Any = None

    @classmethod
    def whole(cls, prompts: Prompts) -> Query:
        """Every token of the prompts."""
        return cls(prompts, prompts.mask, torch.zeros_like(prompts.mask))

    @classmethod
    def of(cls, tokenizer: Any, prompts: Prompts, query: Any = None, *, rounds: int = 1) -> Query:
        """The last user turn of each prompt, or another query of the caller's.

        Args:
            tokenizer: whose chat template shows turns; None: whole prompts search.
            query: a text, texts or token ids to search with, one for all prompts or one each; taken as they are, without a template.
            rounds: 1 or 2.

        Raises:
            InputError: `query` is empty, or not one for each prompt; `rounds` is another number.
        """
        if isinstance(rounds, bool) or rounds not in (1, 2):
            raise InputError(f"rounds is {rounds!r:.40}, expected 1 (search once) or 2 (search again with what was found)")
        markers = turn_markers(tokenizer)
        columns, earlier = prompts.mask.clone(), torch.zeros_like(prompts.mask)
        for row, first in enumerate(_first_columns(prompts)):
            turn = None if markers is None else markers.last_turn(prompts.ids[row, first:].tolist())
            if turn is not None:
                columns[row] = False
                columns[row, first + turn.start : first + turn.stop] = True
                earlier[row, first : first + turn.start] = True
        if query is not None:
            return cls(*_own_query(tokenizer, prompts, query), earlier, rounds, tokenizer)
        alone = prompts
        if not torch.equal(columns, prompts.mask):
            rows = [ids[chosen].tolist() for ids, chosen in zip(prompts.ids, columns, strict=True)]
            alone = Prompts.from_rows(rows, int(prompts.ids[0, 0]), prompts.ids.device)
        return cls(alone, columns, earlier, rounds, tokenizer)

    def asks_for_the_past(self) -> list[bool]:
        """Whether each query asks for what was (``mplus.text.past``); never where nothing tells its words."""
        if self.tokenizer is None:
            return [False] * len(self.prompts)
        return [asks_for_the_past(self.tokenizer.decode(row)) for row in self.prompts.rows()]

    def behind(self, tokens: int) -> Query:
        """The same query of prompts that are `tokens` columns wide: text before them does not search."""
        pad = (tokens - self.earlier.shape[1], 0)
        columns = None if self.columns is None else functional.pad(self.columns, pad, value=False)
        return replace(self, columns=columns, earlier=functional.pad(self.earlier, pad, value=False))


def last_user_turn(tokenizer: Any, ids: Sequence[int]) -> list[int]:
    """The tokens of a prompt that search: its last user turn, or all of them where there is none."""
    return list(ids[last_user_span(tokenizer, ids)])


def last_user_span(tokenizer: Any, ids: Sequence[int]) -> slice:
    """The place of the searching tokens in a prompt."""
    markers = turn_markers(tokenizer)
    return (None if markers is None else markers.last_turn(ids)) or slice(0, len(ids))


def own_span(tokenizer: Any, ids: Sequence[int]) -> slice:
    """The place of what the user wrote in the tokens that search: without the text of a chat template around it."""
    markers, turn = turn_markers(tokenizer), list(ids)
    if markers is None or tuple(turn[: len(markers.opening)]) != markers.opening:
        return slice(0, len(turn))
    ended = len(turn) - len(markers.answer)
    return slice(len(markers.opening), ended if tuple(turn[ended:]) == markers.answer else len(turn))


def last_user_messages(tokenizer: Any, conversations: Sequence[Sequence[dict[str, Any]]]) -> list[list[int]] | None:
    """The tokens that search for each conversation: those of its last user message asked alone; None: some cannot be.

    Unlike ``last_user_turn`` it can tell a system prompt from a user message that a template writes into one turn.
    """
    queries = []
    for messages in conversations:
        last = next((message for message in reversed(messages) if message.get("role") == "user"), None)
        text = None if last is None else rendered(tokenizer, [last])
        if text is None:
            return None
        queries.append(last_user_turn(tokenizer, plain_ids(tokenizer, text)))
    return queries


# -- the text a template writes around a turn --------------------------------------------------------------------------

_cache: WeakKeyDictionary[Any, dict[str, TurnMarkers | None]] = WeakKeyDictionary()


def turn_markers(tokenizer: Any) -> TurnMarkers | None:
    """The signs of a user's turn in a tokenizer's chat template; None: it has no template, or one that shows none."""
    template = getattr(tokenizer, "chat_template", None)
    if tokenizer is None or template is None:
        return None
    try:
        known = _cache.setdefault(tokenizer, {})
    except TypeError:  # neither hashable nor to be referred to weakly
        return _find_markers(tokenizer)
    key = repr(template)
    if key not in known:
        known[key] = _find_markers(tokenizer)
        log.debug("a user's turn in the chat template of %s: %s", getattr(tokenizer, "name_or_path", "a tokenizer"), known[key])
    return known[key]


def _find_markers(tokenizer: Any) -> TurnMarkers | None:
    first, last = [f"{edge}{MARK}" for edge in EDGES], [f"{MARK}{edge}" for edge in EDGES]
    alone, done = _shown(tokenizer, [], first), _shown(tokenizer, [], last)
    turn = [{"role": "user", "content": "One"}, {"role": "assistant", "content": "Two"}]
    later = _shown(tokenizer, turn, first)
    if any(text.count(MARK) != 1 for text in (*alone, *later, *done)) or not alone:
        return None
    beginning = _shared(plain_ids(tokenizer, text) for text in alone)
    opening = beginning
    if later:
        second = _shared(plain_ids(tokenizer, text) for text in later)
        opening = beginning[len(beginning) - len(_shared([beginning[::-1], second[::-1]])) :]
        ended = rendered(tokenizer, turn, prompt=False)
        before = [] if ended is None else plain_ids(tokenizer, ended)
        if before and second[: len(before)] == before:  # the end of the answer before it is no part of a turn
            opening = opening[-(len(second) - len(before)) :] if len(second) > len(before) else []
    elif beginning[:1] == [getattr(tokenizer, "bos_token_id", None)]:  # memory's own stands there
        opening = beginning[1:]
    if not opening or not tokenizer.decode(opening).strip():
        return None
    answer = _shared(plain_ids(tokenizer, text)[::-1] for text in done)[::-1]
    return TurnMarkers(tuple(opening), tuple(answer) if answer and tokenizer.decode(answer).strip() else ())


def _shown(tokenizer: Any, before: list[dict[str, str]], messages: list[str]) -> list[str]:
    """Conversations that end with each of these user messages, as far as the template takes them."""
    texts = (rendered(tokenizer, [*before, {"role": "user", "content": message}]) for message in messages)
    return [text for text in texts if text is not None]


def _shared(rows: Iterable[list[int]]) -> list[int]:
    """The beginning that all rows have in common."""
    every = list(rows)
    for at, tokens in enumerate(zip(*every, strict=False)):
        if len(set(tokens)) > 1:
            return every[0][:at]
    return min(every, key=len)


# -- a caller's own query ----------------------------------------------------------------------------------------------


def _own_query(tokenizer: Any, prompts: Prompts, query: Any) -> tuple[Prompts, Tensor | None]:
    """A caller's queries, and where they stand in the prompts."""
    rows = _rows(tokenizer, query)
    if len(rows) not in (1, len(prompts)):
        raise InputError(f"{len(rows)} queries for {len(prompts)} prompts; give one query, or one for each prompt")
    rows = rows * (len(prompts) // len(rows))
    queries, columns = Prompts.from_rows(rows, int(prompts.ids[0, 0]), prompts.ids.device), torch.zeros_like(prompts.mask)
    for row, (own, first) in enumerate(zip(rows, _first_columns(prompts), strict=True)):
        place = max(_places(prompts.ids[row, first:].tolist(), own), default=None)
        if place is None:
            return queries, None
        columns[row, first + place : first + place + len(own)] = True
    return queries, columns


def _rows(tokenizer: Any, query: Any) -> list[list[int]]:
    """Token ids of queries, at least one each."""
    texts = texts_of(query)
    if texts is not None:
        if tokenizer is None:
            raise InputError("this model was opened without a tokenizer; give a query as token ids instead of text")
        rows = [plain_ids(tokenizer, text) for text in texts]
    elif isinstance(query, Tensor):
        rows = [row.tolist() for row in (query[None] if query.dim() == 1 else query)]
    else:
        listed = list(query)
        rows = [list(row) for row in listed] if listed and not isinstance(listed[0], int) else [listed]
    if not rows or not all(rows):
        raise InputError(
            f"a query is a text, texts or token ids, at least one token each, got {query!r:.80}; leave it out or give one"
        )
    return rows


def _first_columns(prompts: Prompts) -> list[int]:
    """The columns where padding ends."""
    return [int(known.long().argmax()) for known in prompts.mask]


def _places(ids: Sequence[int], part: Sequence[int], start: int = 0) -> Iterator[int]:
    """The positions at which a row holds a part."""
    part = list(part)
    for at in range(start, len(ids) - len(part) + 1):
        if ids[at] == part[0] and list(ids[at : at + len(part)]) == part:
            yield at
