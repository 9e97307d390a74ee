"""Which of a prompt's tokens search memory: those of the last user turn. Knows tokenizers and chat templates, nothing of memory.

A search compares every prompt token with memory, so a system prompt or earlier turns drown the question (decision 0025). A prompt that
a chat template made is searched with as if its last user turn were asked alone; any other prompt searches as a whole.

Legend: B prompts, T prompt tokens.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.nn import functional

from mplus.errors import InputError
from mplus.text.prompts import Prompts, texts_of

log = logging.getLogger(__name__)

MARK = "Zq7"
"""Stands for what is said in a conversation that only shows the template's own text."""
EDGES = ("", "a", "7", "\n", "\n\n", " ", ".", "“", "中")
"""What a message may begin or end with: a tokenizer joins some of them with the template's text beside it."""


@dataclass(frozen=True)
class Turns:
    """Token ids by which a chat template shows a user's turn.

    Attributes:
        opening: before each user message, at least one.
        answer: between a user message and the answer to it; none where that cannot be told.
    """

    opening: tuple[int, ...]
    answer: tuple[int, ...]

    def last(self, ids: Sequence[int]) -> slice | None:
        """Where the last user turn stands in a prompt: from its opening to where the answer begins; None: there is none."""
        start = _last_place(ids, self.opening)
        if start is None:
            return None
        end = _first_place(ids, self.answer, start + len(self.opening)) if self.answer else None
        return slice(start, len(ids) if end is None else end + len(self.answer))


@dataclass(frozen=True)
class Query:
    """What a batch of prompts searches with.

    Attributes:
        prompts: the searching tokens alone, for a search that has a pass of its own.
        columns: [B, T] True at the prompts' own tokens that search, for a search within the reading pass; None where the query
            does not stand in the prompts.
        earlier: [B, T] True at the prompts' tokens before their last user turn.
    """

    prompts: Prompts
    columns: Tensor | None
    earlier: Tensor

    @classmethod
    def whole(cls, prompts: Prompts) -> Query:
        """Every token of the prompts."""
        return cls(prompts, prompts.mask, torch.zeros_like(prompts.mask))

    @classmethod
    def of(cls, tokenizer: Any, prompts: Prompts, asked: Any = None) -> Query:
        """The last user turn of each prompt, or what a caller asks for instead.

        Args:
            tokenizer: whose chat template shows turns; None: whole prompts search.
            asked: a text, texts or token ids to search with, one for all prompts or one each; taken as they are, without a template.

        Raises:
            InputError: `asked` is empty, or not one for each prompt.
        """
        turns = turns_of(tokenizer)
        columns, earlier = prompts.mask.clone(), torch.zeros_like(prompts.mask)
        for row, known in enumerate(prompts.mask):
            first = _first_column(known)
            place = turns.last(prompts.ids[row, first:].tolist()) if turns is not None else None
            if place is not None:
                columns[row] = False
                columns[row, first + place.start : first + place.stop] = True
                earlier[row, first : first + place.start] = True
        if asked is not None:
            return cls(*_asked(tokenizer, prompts, asked), earlier)
        return cls(prompts if torch.equal(columns, prompts.mask) else _only(prompts, columns), columns, earlier)

    def behind(self, tokens: int) -> Query:
        """The same query of prompts that are `tokens` columns wide: what stands before them does not search."""
        wide = tokens - self.earlier.shape[1]
        columns, earlier = (
            None if part is None else functional.pad(part, (wide, 0), value=False) for part in (self.columns, self.earlier)
        )
        assert earlier is not None
        return Query(self.prompts, columns, earlier)


def last_user_turn(tokenizer: Any, ids: Sequence[int]) -> list[int]:
    """The tokens of a prompt that search: its last user turn, or all of them where there is none."""
    return list(ids[last_place(tokenizer, ids)])


def last_place(tokenizer: Any, ids: Sequence[int]) -> slice:
    """Where they stand in it."""
    turns = turns_of(tokenizer)
    return (None if turns is None else turns.last(ids)) or slice(0, len(ids))


def asked_alone(tokenizer: Any, conversations: Sequence[Sequence[dict[str, Any]]]) -> list[list[int]] | None:
    """The tokens that search for each conversation: those of its last user message asked alone; None: some cannot be.

    Unlike ``last_user_turn`` it can tell a system prompt from a user message that a template writes into one turn.
    """
    found = []
    for messages in conversations:
        last = next((message for message in reversed(messages) if message.get("role") == "user"), None)
        text = None if last is None else _rendered(tokenizer, [last])
        if text is None:
            return None
        found.append(last_user_turn(tokenizer, _encode(tokenizer, text)))
    return found


# -- what a template writes around a turn ------------------------------------------------------------------------------

_known: WeakKeyDictionary[Any, dict[str, Turns | None]] = WeakKeyDictionary()


def turns_of(tokenizer: Any) -> Turns | None:
    """How a tokenizer's chat template shows a user's turn; None: it has none, or one that cannot be seen through."""
    template = getattr(tokenizer, "chat_template", None)
    if tokenizer is None or template is None:
        return None
    try:
        held = _known.setdefault(tokenizer, {})
    except TypeError:  # neither hashable nor to be referred to weakly
        return _seen_through(tokenizer)
    key = repr(template)
    if key not in held:
        held[key] = _seen_through(tokenizer)
        log.debug("a user's turn in the chat template of %s: %s", getattr(tokenizer, "name_or_path", "a tokenizer"), held[key])
    return held[key]


def _seen_through(tokenizer: Any) -> Turns | None:
    said = [(f"{edge}{MARK}", f"{MARK}{edge}") for edge in EDGES]
    alone = [text for first, _ in said if (text := _rendered(tokenizer, [_user(first)])) is not None]
    later = [
        text for first, _ in said if (text := _rendered(tokenizer, [_user("One"), _answer("Two"), _user(first)])) is not None
    ]
    done = [text for _, last in said if (text := _rendered(tokenizer, [_user(last)])) is not None]
    if any(text.count(MARK) != 1 for text in (*alone, *later, *done)) or not alone:
        return None
    opening = first = _shared(_encode(tokenizer, text) for text in alone)
    if later:
        second = _shared(_encode(tokenizer, text) for text in later)
        opening = first[len(first) - _shared_end(first, second) :]
        ended = _rendered(tokenizer, [_user("One"), _answer("Two")], prompt=False)
        before = [] if ended is None else _encode(tokenizer, ended)
        if before and second[: len(before)] == before:  # the end of the answer before it is no part of a turn
            opening = opening[-(len(second) - len(before)) :] if len(second) > len(before) else []
    elif first[:1] == [getattr(tokenizer, "bos_token_id", None)]:  # memory's own stands there
        opening = first[1:]
    if not opening or not tokenizer.decode(opening).strip():
        return None
    answer = _shared(_encode(tokenizer, text)[::-1] for text in done)[::-1]
    return Turns(tuple(opening), tuple(answer) if answer and tokenizer.decode(answer).strip() else ())


def _user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def _answer(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def _rendered(tokenizer: Any, messages: list[dict[str, Any]], *, prompt: bool = True) -> str | None:
    try:
        return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt))
    except Exception as error:  # a template may raise whatever it likes
        log.debug("the chat template refuses %d messages: %s", len(messages), error)
        return None


def _encode(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def _rows(tokenizer: Any, asked: Any) -> list[list[int]]:
    """Token ids of queries, at least one each."""
    texts = texts_of(asked)
    if texts is not None:
        if tokenizer is None:
            raise InputError("this model was opened without a tokenizer; give a query as token ids instead of text")
        rows = [_encode(tokenizer, text) for text in texts]
    elif isinstance(asked, Tensor):
        rows = [row.tolist() for row in (asked[None] if asked.dim() == 1 else asked)]
    else:
        listed = list(asked)
        rows = [list(row) for row in listed] if listed and not isinstance(listed[0], int) else [listed]
    if not rows or not all(rows):
        raise InputError(
            f"a query is a text, texts or token ids, at least one token each, got {asked!r:.80}; leave it out or give one"
        )
    return rows


def _asked(tokenizer: Any, prompts: Prompts, asked: Any) -> tuple[Prompts, Tensor | None]:
    """A caller's queries, and where they stand in the prompts."""
    rows = _rows(tokenizer, asked)
    if len(rows) not in (1, len(prompts)):
        raise InputError(f"{len(rows)} queries for {len(prompts)} prompts; give one query, or one for each prompt")
    rows = rows * (len(prompts) // len(rows))
    queries, columns = Prompts.from_rows(rows, int(prompts.ids[0, 0]), prompts.ids.device), torch.zeros_like(prompts.mask)
    for row, (query, known) in enumerate(zip(rows, prompts.mask, strict=True)):
        first = _first_column(known)
        place = _last_place(prompts.ids[row, first:].tolist(), query)
        if place is None:
            return queries, None
        columns[row, first + place : first + place + len(query)] = True
    return queries, columns


def _first_column(known_T: Tensor) -> int:
    """Where padding ends."""
    return int(known_T.long().argmax())


def _only(prompts: Prompts, columns: Tensor) -> Prompts:
    """The chosen columns of each prompt, padded on the left again."""
    rows = [ids[chosen].tolist() for ids, chosen in zip(prompts.ids, columns, strict=True)]
    return Prompts.from_rows(rows, int(prompts.ids[0, 0]), prompts.ids.device)


def _shared(rows: Iterator[list[int]]) -> list[int]:
    """What all rows begin with."""
    every = list(rows)
    for at, tokens in enumerate(zip(*every, strict=False)):
        if len(set(tokens)) > 1:
            return every[0][:at]
    return min(every, key=len)


def _shared_end(first: list[int], second: list[int]) -> int:
    """How many tokens two rows share at their ends."""
    return len(_shared(iter([first[::-1], second[::-1]])))


def _places(ids: Sequence[int], part: Sequence[int], start: int = 0) -> Iterator[int]:
    part = list(part)
    for at in range(start, len(ids) - len(part) + 1):
        if ids[at] == part[0] and list(ids[at : at + len(part)]) == part:
            yield at


def _first_place(ids: Sequence[int], part: Sequence[int], start: int = 0) -> int | None:
    return next(_places(ids, part, start), None)


def _last_place(ids: Sequence[int], part: Sequence[int]) -> int | None:
    return max(_places(ids, part), default=None)
