"""Texts for named sources, beside what a memory holds of them: what is to be done with each, and doing it. Knows no file.

A text that a memory holds already is not written twice unaware, a text that a stop cut off is taken up where it was, and another text
under a name that is taken changes nothing unless that was asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import groupby

from mplus.errors import InputError
from mplus.memory.arguments import checked_source
from mplus.memory.ledger import SourceInfo, digest_of
from mplus.memory.memory import Memory
from mplus.memory.selection import Time
from mplus.memory.write_many import write_many
from mplus.runtime.unicode import well_formed
from mplus.text.prompts import SEPARATOR

TEXTS_TOGETHER = 256
"""New texts whose token ids are held at once."""


class Held(StrEnum):
    """How much of a text a memory holds under its name."""

    nothing = "nothing"
    beginning = "beginning"
    all = "all"
    other = "other"


class Action(StrEnum):
    """What is done with a text."""

    write = "write"
    go_on = "go on"
    anew = "replace"
    skip = "skip"


@dataclass(frozen=True)
class SourceText:
    """A text on its way into a memory.

    Attributes:
        begin: what sets it apart from the text before it in the memory.
        digest: of its token ids, as ``SourceInfo.digest``.
        held: how much of it the memory has; held_tokens: of the source.
        tokens: of the text that are to be written.
        reason: why it is skipped, one sentence; "" for other actions.
        is_mistake: it was to be written and cannot be as things are.
        same_as: another source of the memory with the very same text; "": none.
    """

    name: str
    text: str
    begin: str
    digest: str
    held: Held
    held_tokens: int
    action: Action
    tokens: int
    reason: str = ""
    is_mistake: bool = False
    same_as: str = ""


@dataclass(frozen=True)
class TakenNames:
    """What to do with texts whose name is taken.

    Attributes:
        again: write all of the text once more, behind what is there.
        replace: put it in the place of another text.
        resume: go on where a text was cut off.
    """

    again: bool = False
    replace: bool = False
    resume: bool = False

    def __post_init__(self) -> None:
        if self.again and (self.replace or self.resume):
            raise InputError("again writes a text behind what is there, replace and resume do not; choose one")


def plan_texts(
    memory: Memory, texts: Iterable[tuple[str, str]], taken: TakenNames | None = None, *, special_tokens: bool = False
) -> list[SourceText]:
    """Compare texts with the sources of a memory, which is not changed.

    Args:
        texts: (name, text) of each; every name once.
        taken: what to do where a name is taken; default: skip, and say why.
        special_tokens: see ``Memory.write``.

    Raises:
        InputError: a name comes twice or is empty.
        EmptyTextError: a text is empty.
    """
    infos, planned = {info.name: info for info in memory.sources()}, dict[str, SourceText]()
    by_digest = {info.digest: info.name for info in infos.values() if info.digest}
    for name, text in texts:
        source = checked_source(name)
        if source is None or source in planned:
            raise InputError(
                f"{name!r:.100} is {'no name' if source is None else 'the name of two texts'}; give each text its own"
            )
        one = _compared(memory, source, well_formed(text), infos.get(source), special_tokens)
        one = _decided(one, taken or TakenNames())
        same = by_digest.get(one.digest, "")
        planned[source] = one if one.held is Held.all or same == source else replace(one, same_as=same)
    return list(planned.values())


def write_texts(
    memory: Memory,
    planned: Sequence[SourceText],
    *,
    at: Time | None = None,
    special_tokens: bool = False,
    batch: int = 8,
    progress: Callable[[int], None] | None = None,
) -> int:
    """Do what was planned, in order. After an error or Ctrl-C the memory holds whole chunks, and ``TakenNames(resume=True)`` goes on.

    Args:
        at: see ``Memory.write``.
        batch: chunks of different texts that one pass encodes at most, where sources are encoded apart.
        progress: called with the text tokens done so far, over all texts.

    Returns:
        text tokens written.
    """
    done, together = 0, batch > 1 and not special_tokens and memory.geometry.write.context == "source"
    for action, group in groupby((one for one in planned if one.action is not Action.skip), key=lambda one: one.action):
        texts = list(group)
        if action is Action.write and together:
            for start in range(0, len(texts), TEXTS_TOGETHER):
                part = texts[start : start + TEXTS_TOGETHER]
                pair = [one.text for one in part], [one.name for one in part]
                show = _counted_from(done, progress)
                done += sum(write_many(memory.encoder, memory, *pair, batch=batch, at=at, progress=show))
            continue
        for one in texts:
            done += _write_one(memory, one, at, special_tokens, _counted_from(done, progress))
            if progress is not None:
                progress(done)
    return done


def _write_one(
    memory: Memory, one: SourceText, at: Time | None, special_tokens: bool, progress: Callable[[int], None] | None
) -> int:
    """Write one text; returns its tokens."""
    if one.action is Action.anew:
        memory.replace(one.name, one.text, at=at, special_tokens=special_tokens)
        return one.tokens
    if one.action is Action.go_on:
        return _go_on(memory, one, at, special_tokens, progress)
    return memory.write(one.text, one.name, at=at, special_tokens=special_tokens, progress=progress)


def _compared(memory: Memory, name: str, text: str, info: SourceInfo | None, special_tokens: bool) -> SourceText:
    """A text with how much of it the memory holds."""
    begins = ["", SEPARATOR] if memory.geometry.write.context == "memory" or text[:1].isspace() else [SEPARATOR, ""]
    made = []  # as the memory would begin it now; and as it may have begun it behind another source, or in an earlier version
    for begin in begins if info is not None else begins[:1]:
        ids = [token for piece in memory.encoder.cut(begin + text, special_tokens=special_tokens) for token in piece]
        held_tokens = info.tokens if info is not None else 0
        made.append(SourceText(name, text, begin, digest_of([ids]), _held(info, ids), held_tokens, Action.write, len(ids)))
    return next((one for one in made if one.held in (Held.all, Held.beginning)), made[0])


def _held(info: SourceInfo | None, ids: list[int]) -> Held:
    if info is None:
        return Held.nothing
    if info.digest == digest_of([ids]):
        return Held.all
    begins = bool(info.digest) and info.tokens < len(ids) and info.digest == digest_of([ids[: info.tokens]])
    return Held.beginning if begins else Held.other


def _decided(one: SourceText, taken: TakenNames) -> SourceText:
    """What is done with a text."""
    if one.held is Held.nothing or taken.again:
        return one
    if one.held is Held.beginning and taken.resume:
        return replace(one, action=Action.go_on, tokens=one.tokens - one.held_tokens)
    if one.held is not Held.all and taken.replace:
        return replace(one, action=Action.anew)
    reason = {
        Held.all: f"'{one.name}' is in the memory with the same text already",
        Held.beginning: f"'{one.name}' is in the memory up to token {one.held_tokens:,} of {one.tokens:,}",
        Held.other: f"'{one.name}' is in the memory with another text",
    }[one.held]
    return replace(one, action=Action.skip, tokens=0, reason=reason, is_mistake=one.held is not Held.all)


def _go_on(memory: Memory, one: SourceText, at: Time | None, special_tokens: bool, progress: Callable[[int], None] | None) -> int:
    """Write the chunks that are missing, cut as if there had been no stop; returns their tokens."""
    end = done = 0
    for piece in memory.encoder.cut(one.begin + one.text, special_tokens=special_tokens):
        end += len(piece)
        rest = piece[-(end - one.held_tokens) :] if end > one.held_tokens else []
        if rest:
            done += memory.write(rest, one.name, at=at)
            if progress is not None:
                progress(done)
    return done


def _counted_from(start: int, progress: Callable[[int], None] | None) -> Callable[[int], None] | None:
    return None if progress is None else lambda tokens: progress(start + tokens)
