"""A choice of sources, by name or by time. Knows no memory."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from mplus.errors import InputError
from mplus.memory.ledger import SourceInfo
from mplus.runtime.suggest import nearest

Time = float | int | datetime


@dataclass(frozen=True, kw_only=True)
class Where:
    """Sources for which all that is given holds.

    Attributes:
        pattern: of the name, as file names are matched (``notes/*``).
        before: the last write lies before this time.
        since: the first write lies at or after this time.
    """

    pattern: str | None = None
    before: Time | None = None
    since: Time | None = None

    def __post_init__(self) -> None:
        if self.pattern is None and self.before is None and self.since is None:
            raise InputError("a choice of sources needs a pattern or a time, got none; give Where(pattern=...), before or since")
        if self.pattern is not None and not isinstance(self.pattern, str):
            raise InputError(f"pattern is {self.pattern!r:.40}, expected a str such as 'notes/*'")
        for name in ("before", "since"):
            if getattr(self, name) is not None:
                seconds_of(getattr(self, name), name)

    def matches(self, source: SourceInfo) -> bool:
        """Tell whether a source is chosen; one whose time is not known is not chosen by time."""
        if self.pattern is not None and not fnmatch.fnmatchcase(source.name, self.pattern):
            return False
        if self.before is not None and (source.last_at is None or source.last_at >= seconds_of(self.before, "before")):
            return False
        return self.since is None or (source.first_at is not None and source.first_at >= seconds_of(self.since, "since"))


@dataclass(frozen=True)
class ReadScope:
    """Writes that a read may see: those for which all that is given holds.

    Attributes:
        sources: names, or patterns as file names are matched; None: of all sources.
        before: the write lies before this time; after: it lies at or after this one (seconds since 1970).
    """

    sources: tuple[str, ...] | None = None
    before: float | None = None
    after: float | None = None

    @classmethod
    def of(cls, sources: Any = None, before: Any = None, after: Any = None) -> ReadScope:
        """Check what a caller gives: a name or pattern or several, and times.

        Raises:
            InputError: a name is no text, a time is none, or no time lies between both.
        """
        names = (sources,) if isinstance(sources, str) else sources
        if names is not None and (not isinstance(names, Sequence) or not all(isinstance(one, str) for one in names) or not names):
            raise InputError(f"sources is {sources!r:.60}, expected a name or pattern such as 'notes/*', or a list of them")
        end, begin = (None if at is None else seconds_of(at, name) for at, name in ((before, "before"), (after, "after")))
        if end is not None and begin is not None and end <= begin:
            raise InputError(f"nothing lies before {end:.0f} and after {begin:.0f} (seconds since 1970); give an earlier `after`")
        return cls(None if names is None else tuple(names), end, begin)

    def shows_source(self, name: str) -> bool:
        """Tell whether a source is among those named."""
        return self.sources is None or any(_is_named(name, one) for one in self.sources)

    def shows(self, name: str | None, at: float | None) -> bool:
        """Tell whether a write of a source at a time is within; one whose time is not known is not chosen by time."""
        if not self.shows_source(name or ""):
            return False
        if self.before is not None and (at is None or at >= self.before):
            return False
        return self.after is None or (at is not None and at >= self.after)

    def check(self, sources: Sequence[SourceInfo]) -> None:
        """Refuse a scope in which nothing of a memory with these sources can lie.

        Raises:
            InputError: a name or pattern fits no source (near ones are named), or no source was written in the span of time.
        """
        known = [one.name for one in sources]
        for given in self.sources or ():
            if not any(_is_named(name, given) for name in known):
                raise InputError(f"no source {given!r:.100} in this memory; {_hint(given, known)}")
        named = [one for one in sources if self.shows_source(one.name)]
        if (self.before, self.after) != (None, None) and not any(self._may_show(one) for one in named):
            raise InputError(f"no source of {len(named)} was written in that span of time; memory.sources() tells their times")

    def _may_show(self, source: SourceInfo) -> bool:
        first, last = source.first_at, source.last_at
        if first is None or last is None:
            return False
        return (self.before is None or first < self.before) and (self.after is None or last >= self.after)

    def __str__(self) -> str:
        parts = [] if self.sources is None else [f"sources {', '.join(map(repr, self.sources))}"]
        times = (("before", self.before), ("after", self.after))
        return " ".join([*parts, *(f"{name} {at:.0f}" for name, at in times if at is not None)]) or "all"


def _is_named(name: str, pattern: str) -> bool:
    return name == pattern or fnmatch.fnmatchcase(name, pattern)


def seconds_of(at: Any, name: str = "at") -> float:
    """Seconds since 1970 of a time.

    Raises:
        InputError: it is neither a number nor a datetime.
    """
    if isinstance(at, datetime):
        return at.timestamp()
    if isinstance(at, bool) or not isinstance(at, (int, float)) or at != at or abs(at) == float("inf"):
        raise InputError(f"{name} is {at!r:.40}, expected seconds since 1970 or a datetime")
    return float(at)


def chosen(sources: Sequence[SourceInfo], source: Any, where: Where | None) -> list[str]:
    """Names of the sources that one name, several, or a choice mean.

    Raises:
        InputError: none or both are given, a name is not there (near ones are named), or nothing is chosen.
    """
    if (source is None) == (where is None):
        raise InputError("name a source, or give where=Where(...), one of both; text without a name is the source ''")
    known = [one.name for one in sources]
    if where is not None:
        if not isinstance(where, Where):
            raise InputError(f"where is a {type(where).__name__}, expected Where(pattern=..., before=..., since=...)")
        names = [one.name for one in sources if where.matches(one)]
        if not names:
            raise InputError(f"no source of {len(known)} is chosen by {where}; memory.sources() lists them")
        return names
    names = [str(source)] if isinstance(source, str) or not isinstance(source, Sequence) else [str(one) for one in source]
    for name in names:
        if name not in known:
            raise InputError(f"no source {name!r:.100} in this memory; {_hint(name, known)}")
    return list(dict.fromkeys(names))


def _hint(name: str, known: list[str]) -> str:
    near = nearest(name, known)
    if near:
        return f"did you mean {near!r:.100}?"
    return (
        f"it has {', '.join(repr(one) for one in known[:5])}{' and more' if len(known) > 5 else ''}" if known else "it has none"
    )
