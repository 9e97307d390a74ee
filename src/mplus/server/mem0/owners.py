"""Whose memories: mem0's user, agent, app and run, and the memory that belongs to them. Knows no engine.

Each combination has a memory of its own. A user alone has the memory of the user's id, so that what is added here is read by whoever asks
with ``X-Memory-Id: alice``; any other combination is spelled out: ``user_id=alice&run_id=7``.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass

from mplus.server.errors import BadRequestError
from mplus.server.scope import LONGEST_ID, checked_id

FIELDS = ("user_id", "agent_id", "app_id", "run_id")
TYPES = {"user": "user_id", "agent": "agent_id", "app": "app_id", "run": "run_id"}
_PLAIN = re.compile(r"(?!(?:mem|conv|resp|job|file|slot)_)[\w.@+-][\w.@+: -]*")
"""Ids of users that are ids of memories as they stand; those that the server makes up itself are not among them."""
_ESCAPES = {"%": "%25", "&": "%26", "=": "%3D"}


@dataclass(frozen=True, kw_only=True)
class Owner:
    """A combination of ids; None and "" are none."""

    user_id: str | None = None
    agent_id: str | None = None
    app_id: str | None = None
    run_id: str | None = None

    @property
    def ids(self) -> dict[str, str]:
        """Those that are given."""
        return {name: value for name, value in asdict(self).items() if value}

    @property
    def memory(self) -> str:
        """The id of their memory; two combinations never share one.

        Raises:
            BadRequestError: none is given, or one cannot be used.
        """
        given = self.ids
        if not given:
            raise BadRequestError(f"at least one of {', '.join(FIELDS)} is needed; say whose memory it is", param="user_id")
        for name, value in given.items():
            checked_id(value, name)
        if list(given) == ["user_id"] and _PLAIN.fullmatch(given["user_id"]):
            return given["user_id"]
        spelled = "&".join(f"{name}={_escaped(value)}" for name, value in given.items())
        if len(spelled) > LONGEST_ID:
            raise BadRequestError(
                f"{', '.join(given)} take {len(spelled)} characters together, at most {LONGEST_ID} are allowed; give shorter ones",
                param=next(iter(given)),
            )
        return spelled

    @classmethod
    def of_memory(cls, memory: str) -> Owner | None:
        """Whose memory it is; None where it is nobody's that mem0 knows."""
        if _PLAIN.fullmatch(memory):
            return cls(user_id=memory)
        parts = [part.partition("=") for part in memory.split("&")]
        if not all(name in FIELDS and equals and value for name, equals, value in parts):
            return None
        owner = cls(**{name: _plain(value) for name, _, value in parts})
        return owner if owner.memory == memory else None


def _escaped(value: str) -> str:
    return "".join(_ESCAPES.get(sign, sign) for sign in value)


def _plain(value: str) -> str:
    for sign, escape in reversed(_ESCAPES.items()):
        value = value.replace(escape, sign)
    return value
