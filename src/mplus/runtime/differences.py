"""Words for where two sets of settings differ. Knows no setting."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MOST_NAMED = 4


def first_difference(earlier: Any, now: Any, name: str = "") -> tuple[str, Any, Any] | None:
    """The first key in which two nested settings differ, dotted, and both values; None where they are the same."""
    if any(isinstance(one, Mapping) and one for one in (earlier, now)):  # what is absent on one side differs in its parts
        earlier, now = ({} if one is None else one for one in (earlier, now))
    if isinstance(earlier, Mapping) and isinstance(now, Mapping):
        for key in dict.fromkeys([*earlier, *now]):
            found = first_difference(earlier.get(key), now.get(key), f"{name}.{key}" if name else str(key))
            if found is not None:
                return found
        return None
    return None if earlier == now else (name, earlier, now)


def differing(stored: Mapping[str, Any], here: Mapping[str, Any]) -> str | None:
    """The settings that differ, as words ("rms_norm_eps was 1e-05, is 1e-06"), or None. A setting that one side lacks counts."""
    names = sorted(name for name in {*stored, *here} if stored.get(name) != here.get(name))
    words = [f"{name} was {stored.get(name)!r:.60}, is {here.get(name)!r:.60}" for name in names]
    more = f" and {len(words) - MOST_NAMED} more" if len(words) > MOST_NAMED else ""
    return "; ".join(words[:MOST_NAMED]) + more if words else None
