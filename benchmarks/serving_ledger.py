"""What a server acknowledged under load, and whether its replies and its memories agree with that. Knows no HTTP.

Each text holds a secret that no other text has. Of each text it is known which values it may have: one where the last change was
acknowledged, two while a change is under way and where its answer never came (there whole, or not at all). A reply may hold the secrets of
the values that its own memory may have had between the request and the end of the reply, and no other.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

Scope = tuple[str, str]
"""Tenant and id of a memory."""
SECRET = re.compile(r"SECRET-([0-9a-f]{6,12})")
"""A passage may end in the middle of a secret: half of it tells whose it is."""
SHOWN = 12


def secret_of(tenant: str, memory: str, number: int) -> str:
    """The secret of one text."""
    return "SECRET-" + hashlib.blake2b(f"{tenant}/{memory}/{number}".encode(), digest_size=6).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Text:
    """One text that was written, or was to be.

    Attributes:
        values: what it may be now; None: it is not there.
        source: name of its source where the client chose it; mem0: its id there.
    """

    values: frozenset[str | None]
    source: str | None = None
    mem0: str | None = None

    @property
    def certain(self) -> str | None:
        """The value where only one is possible."""
        return next(iter(self.values)) if len(self.values) == 1 else None


@dataclass(eq=False)
class Watch:
    """All values that the texts of a memory may have had for some time."""

    scope: Scope
    values: dict[int, set[str | None]] = field(default_factory=dict)

    def note(self, number: int, text: Text) -> None:
        """Take in what a text may be from now on; before its first note it was not there."""
        self.values.setdefault(number, {None}).update(text.values)


class Ledger:
    """See the module; ``faults`` says in sentences what did not agree."""

    def __init__(self) -> None:
        self.texts: dict[Scope, dict[int, Text]] = {}
        self.faults: list[str] = []
        self.counts: Counter[str] = Counter()
        self._watches: dict[Scope, set[Watch]] = {}
        self._written_by: dict[str, Scope] = {}
        self._prefixes: set[str] = set()
        self._busy: set[tuple[Scope, int]] = set()
        self._number = 0

    # -- changes -----------------------------------------------------------------------------------------------------

    def new_value(self, scope: Scope) -> str:
        """A text that holds a secret of its own."""
        self._number += 1
        secret = secret_of(*scope, self._number)
        self._written_by[secret] = scope
        self._prefixes.update(secret[: len("SECRET-") + length] for length in range(6, 13))
        return f"Note {self._number}: the locker has the code {secret} since May."

    def begin(self, scope: Scope, number: int | None, value: str | None, *, source: str | None = None) -> tuple[int, Text]:
        """A change is about to be sent; gives the text's number, and what is known of it without the change."""
        if number is None:
            number = self._number
        before = self.texts.setdefault(scope, {}).get(number, Text(values=frozenset([None]), source=source))
        self._busy.add((scope, number))
        self._set(scope, number, replace(before, values=before.values | {value}))
        return number, before

    def acknowledge(self, scope: Scope, number: int, value: str | None, *, mem0: str | None = None) -> None:
        """The server said that it is done."""
        self.counts["acknowledged forgets" if value is None else "acknowledged writes"] += 1
        text = self.texts[scope][number]
        self._end(scope, number, replace(text, values=frozenset([value]), mem0=mem0 or text.mem0))

    def refuse(self, scope: Scope, number: int, before: Text) -> None:
        """The server said that it changed nothing."""
        self._end(scope, number, before)

    def lose(self, scope: Scope, number: int) -> None:
        """No answer came: either is possible."""
        self.counts["changes without an answer"] += 1
        self._busy.discard((scope, number))

    def forked(self, watch: Watch, new: Scope, *, acknowledged: bool) -> None:
        """What a fork may hold: what its parent may have held between request and reply."""
        absent: set[str | None] = set() if acknowledged else {None}
        parent = self.texts.get(watch.scope, {})
        copies = {
            number: Text(values=frozenset(values | absent), source=parent[number].source)
            for number, values in watch.values.items()
            if values != {None}
        }
        for number, text in copies.items():
            self.texts.setdefault(new, {})
            self._set(new, number, text)

    def free(self, scope: Scope, *, mem0: bool = False) -> list[int]:
        """Texts that are there for certain and that nobody is changing."""
        return [
            number
            for number, text in self.texts.get(scope, {}).items()
            if text.certain is not None and (text.mem0 if mem0 else text.source) is not None and (scope, number) not in self._busy
        ]

    def _end(self, scope: Scope, number: int, text: Text) -> None:
        self._busy.discard((scope, number))
        self._set(scope, number, text)

    def _set(self, scope: Scope, number: int, text: Text) -> None:
        self.texts[scope][number] = text
        for watch in self._watches.get(scope, ()):
            watch.note(number, text)

    # -- replies -----------------------------------------------------------------------------------------------------

    @contextmanager
    def watching(self, scope: Scope) -> Iterator[Watch]:
        """See which values the texts of a memory may have during a request."""
        watch = Watch(scope, {number: set(text.values) for number, text in self.texts.get(scope, {}).items()})
        self._watches.setdefault(scope, set()).add(watch)
        try:
            yield watch
        finally:
            self._watches[scope].discard(watch)

    def check_reply(self, watch: Watch, body: str, request: str) -> None:
        """Search a reply for secrets that its memory cannot have held meanwhile."""
        self.counts["replies searched"] += 1
        found = {hit[0] for hit in SECRET.finditer(body)} & self._prefixes
        if not found:
            return
        self.counts["secrets seen"] += len(found)
        allowed = " ".join(value for values in watch.values.values() for value in values if value is not None)
        for secret in sorted(one for one in found if one not in allowed):
            owners = {owner for whole, owner in self._written_by.items() if whole.startswith(secret)}
            kind = "a text that was gone came back" if watch.scope in owners else f"a text of {sorted(owners)} was told"
            self.faults.append(f"{kind}: {secret} in the reply of {request} for {watch.scope}")

    # -- memories ----------------------------------------------------------------------------------------------------

    def check_memory(self, scope: Scope, held: Mapping[str, str], *, still: bool = False) -> None:
        """Compare a memory's sources with what was acknowledged.

        Args:
            held: source's name to text.
            still: nobody changes it any more: from now on what is there is all that may be there.
        """
        values = set(held.values())
        known: set[str] = set()
        for number, text in list(self.texts.get(scope, {}).items()):
            known.update(value for value in text.values if value is not None)
            present = held.get(text.source) if text.source is not None else next(iter(text.values & values), None)
            if present not in text.values:
                self.faults.append(_disagreement(scope, number, text, present))
            elif still and len(text.values) > 1:
                self.texts[scope][number] = replace(text, values=frozenset([present]))
            self.counts["texts compared"] += 1
        for name, value in held.items():
            if value not in known:
                self.faults.append(f"memory {scope} holds {value[:80]!r} as {name!r}, which was forgotten or never written")

    def summary(self) -> list[str]:
        """The first faults, and how many more."""
        more = len(self.faults) - SHOWN
        return self.faults[:SHOWN] + ([f"and {more:,} more"] if more > 0 else [])


def _disagreement(scope: Scope, number: int, text: Text, present: str | None) -> str:
    if text.certain is None and len(text.values) == 1:
        return f"text {number} of memory {scope} was forgotten and is there: {str(present)[:80]!r}"
    if present is None:
        return f"text {number} of memory {scope} was acknowledged and is lost: {str(text.certain)[:80]!r}"
    expected = sorted(str(value)[:80] for value in text.values)
    return f"text {number} of memory {scope} is {present[:80]!r}, expected one of {expected}"
