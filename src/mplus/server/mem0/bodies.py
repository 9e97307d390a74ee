"""Bodies that mem0's clients send and read. Fields that only concern their cloud are taken and have no effect. Knows no engine."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from mplus.server.errors import BadRequestError
from mplus.server.mem0.catalogue import Entity, Kept, Said
from mplus.server.mem0.owners import FIELDS, Owner

Id = Annotated[str | None, Field(max_length=256)]
LATEST = 253_402_300_799
"""Seconds since 1970 of the last moment of the year 9999."""
Timestamp = Annotated[int, Field(ge=0, le=LATEST, description="seconds since 1970, when it was said")]
NOT_KEPT = ("expiration_date", "immutable")
"""What would change how long a memory stays: it is refused, not forgotten in silence."""


class Ids(BaseModel):
    """Whose memories."""

    user_id: Id = None
    agent_id: Id = None
    app_id: Id = None
    run_id: Id = None

    def owner(self) -> Owner:
        """The combination that is meant."""
        return Owner(**{name: getattr(self, name) for name in FIELDS})


class Part(BaseModel):
    """A part of a message; only text can be kept."""

    type: str
    text: str | None = None


class Message(BaseModel):
    role: str = Field("user", max_length=64)
    content: str | list[Part]


class Add(Ids):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"messages": [{"role": "user", "content": "Alice lives in Oslo since May."}], "user_id": "alice"}]
        }
    )

    messages: str | Message | list[Message] | None = Field(None, description="each message but those of a system is one memory")
    text: str | None = Field(None, description="one memory, instead of messages")
    metadata: dict[str, Any] | None = None
    filters: dict[str, Any] | None = Field(
        None, description="user_id, agent_id, app_id, run_id, as their newer clients send them"
    )
    timestamp: Timestamp | None = None
    infer: bool | None = Field(None, description="has no effect: texts are kept as they are, at once")
    expiration_date: str | None = Field(None, description="refused: memories do not expire here")
    immutable: bool | None = Field(None, description="refused where true")

    def owner(self) -> Owner:
        """Whose memory it becomes; ids may stand in the body or in its filters."""
        named = {name: value for name, value in (self.filters or {}).items() if name in FIELDS and isinstance(value, str)}
        return Owner(**{**named, **super().owner().ids})

    def said(self) -> list[Said]:
        """The texts to keep.

        Raises:
            BadRequestError: there is none, or one that is no text.
        """
        refuse_what_is_not_kept(self)
        if self.messages is None or isinstance(self.messages, str):
            text = self.text if self.messages is None else self.messages
            messages = [] if text is None else [Message(content=text)]
        else:
            messages = self.messages if isinstance(self.messages, list) else [self.messages]
        said = [Said(text=_text_of(one), role=one.role) for one in messages if one.role != "system"]
        if not said:
            raise BadRequestError(
                "there is nothing to keep; give messages of a user or an assistant, or a text", param="messages"
            )
        return said


class Update(BaseModel):
    model_config = ConfigDict(json_schema_extra={"examples": [{"text": "Alice lives in Bergen.", "metadata": {"checked": True}}]})

    text: str | None = None
    data: str | None = Field(None, description="the same as text, as older clients name it")
    metadata: dict[str, Any] | None = None
    timestamp: Timestamp | None = None
    expiration_date: str | None = Field(None, description="refused: memories do not expire here")

    def new_text(self) -> str | None:
        """The text that takes the place of the one before; None: it stays.

        Raises:
            BadRequestError: nothing would change.
        """
        refuse_what_is_not_kept(self)
        text = self.data if self.text is None else self.text
        if text is None and self.metadata is None:
            raise BadRequestError("nothing would change; give text, metadata or both", param="text")
        if text is not None and not text.strip():
            raise BadRequestError("the text is empty; delete the memory, or give some text", param="text")
        return text


class Filtered(Ids):
    """Whose memories, and a filter beside."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"filters": {"AND": [{"user_id": "alice"}, {"topic": "home"}]}}]})

    filters: dict[str, Any] | None = None

    def all_filters(self) -> dict[str, Any]:
        """The filter, with the ids that stand beside it."""
        return {**(self.filters or {}), **self.owner().ids}


class Search(Filtered):
    model_config = ConfigDict(
        json_schema_extra={"examples": [{"query": "Where does Alice live?", "filters": {"user_id": "alice"}}]}
    )

    query: str = Field(min_length=1)
    top_k: int | None = Field(None, ge=1, le=100)
    limit: int | None = Field(None, ge=1, le=100, description="the same as top_k, as older clients name it")
    threshold: float | None = Field(
        None, description="the least score; it is one of retrieval, not a cosine", allow_inf_nan=False
    )

    def most(self) -> int:
        """How many are wanted."""
        return self.top_k or self.limit or 10


class BatchItem(BaseModel):
    memory_id: str
    text: str | None = None
    metadata: dict[str, Any] | None = None

    def update(self) -> Update:
        """The change of its memory."""
        return Update(text=self.text, metadata=self.metadata)


class Batch(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={"examples": [{"memories": [{"memory_id": "…", "text": "Alice lives in Bergen."}]}]}
    )

    memories: list[BatchItem] = Field(min_length=1, max_length=1000)


# -- given ---------------------------------------------------------------------------------------------------------------


class MemoryInfo(Ids):
    """A memory as a client is told of it."""

    id: str
    memory: str
    hash: str
    role: str
    metadata: dict[str, Any]
    created_at: str
    updated_at: str | None
    score: float | None = None

    @classmethod
    def of(cls, kept: Kept) -> MemoryInfo:
        """Tell one of the catalogue."""
        plain = kept.note.plain()
        return cls(
            id=kept.id,
            memory=kept.text or "",
            score=kept.score,
            **{name: plain[name] for name in ("hash", "role", "metadata", "created_at", "updated_at")},
            **kept.owner.ids,
        )


class Updated(MemoryInfo):
    message: str = "Memory updated successfully!"


class Ping(BaseModel):
    """A key that is known. The client will not start without an organisation and a project; here they mean nothing."""

    status: Literal["ok"] = "ok"
    org_id: Literal["mplus"] = "mplus"
    project_id: Literal["mplus"] = "mplus"
    user_email: None = None


class Added(BaseModel):
    id: str
    memory: str
    role: str
    event: Literal["ADD"] = "ADD"
    data: dict[str, str]

    @classmethod
    def of(cls, kept: Kept) -> Added:
        """Tell one that was added."""
        return cls(id=kept.id, memory=kept.text or "", role=kept.note.role, data={"memory": kept.text or ""})


class AllAdded(BaseModel):
    results: list[Added]


class Results(BaseModel):
    results: list[MemoryInfo]


class Counted(Results):
    """A page of a list."""

    count: int
    next: str | None = None
    previous: str | None = None


class Done(BaseModel):
    message: str


class EntityInfo(BaseModel):
    id: str
    name: str
    type: Literal["user", "agent", "app", "run"]
    total_memories: int
    created_at: str
    updated_at: str

    @classmethod
    def of(cls, entity: Entity) -> EntityInfo:
        """Tell one of the catalogue."""
        times = {name: datetime.fromtimestamp(getattr(entity, name), UTC).isoformat() for name in ("created_at", "updated_at")}
        return cls.model_validate(
            {**times, "id": entity.id, "name": entity.id, "type": entity.type, "total_memories": entity.total_memories}
        )


class Entities(BaseModel):
    results: list[EntityInfo]
    count: int


def refuse_what_is_not_kept(body: BaseModel) -> None:
    """Refuse what would be forgotten in silence.

    Raises:
        BadRequestError: memories do not expire here, and all can be changed.
    """
    for name in NOT_KEPT:
        if getattr(body, name, None):
            raise BadRequestError(
                f"{name} is not kept here: a memory stays until it is changed or deleted; leave it out", param=name
            )


def _text_of(message: Message) -> str:
    parts = message.content if isinstance(message.content, list) else [Part(type="text", text=message.content)]
    other = next((part.type for part in parts if part.type not in ("text", "input_text") or part.text is None), None)
    if other is not None:
        raise BadRequestError(f"a message has a part of type {other[:40]!r}; only text can be kept", param="messages")
    text = "\n".join(part.text or "" for part in parts)
    if not text.strip():
        raise BadRequestError("a message is empty; give some text, or leave it out", param="messages")
    return text
