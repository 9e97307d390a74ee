"""Bodies that ``/v1/memories`` and ``/v1/jobs`` take and give. Knows no engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any, Generic, Literal, Self, TypeVar

from fastapi import Path
from pydantic import BaseModel, ConfigDict, Field, Json, model_validator

from mplus.server.engine import Hit, MemoryRecord, SourceRecord
from mplus.server.errors import BadRequestError

Item = TypeVar("Item", bound=BaseModel)
Record = TypeVar("Record")
Metadata = dict[str, Any]
When = Annotated[
    Annotated[float, Field(allow_inf_nan=False, ge=-1e11, le=1e12)] | datetime,
    Field(description="seconds since 1970, or an ISO 8601 time (UTC where it names no zone)"),
]
Identifier = Annotated[str, Field(min_length=1, max_length=256, examples=["alice"])]
MemoryId = Annotated[str, Path(description="the memory's id; a slash in it is sent as %2F", examples=["alice"])]
SourceName = Annotated[str, Path(description="the source's name; it may hold slashes", examples=["notes/2026-05"])]
LARGEST_PAGE = 1000


class Body(BaseModel):
    """What a client sends; a field that is not known is a mistake."""

    model_config = ConfigDict(extra="forbid")


def example(**fields: Any) -> ConfigDict:
    """Settings of a body with one example."""
    return ConfigDict(extra="forbid", json_schema_extra={"examples": [fields]})


def seconds_of(at: float | datetime | None) -> float | None:
    """Seconds since 1970 of a time that a client gave."""
    if isinstance(at, datetime):
        return (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp()
    return at


# -- taken ---------------------------------------------------------------------------------------------------------------


class CreateMemory(Body):
    model_config = example(id="alice", metadata={"plan": "free"})

    id: Identifier | None = Field(None, description="the memory's id; one is made up where it is left out")
    metadata: Metadata = {}


class ChangeMemory(Body):
    model_config = example(metadata={"plan": "paid"})

    metadata: Metadata


class WriteText(Body):
    model_config = example(text="Alice lives in Oslo since May.", source="notes/2026-05", at="2026-05-03T09:00:00Z")

    text: str = Field(min_length=1)
    source: Identifier | None = Field(None, description="name of the source; its text goes on where there is one of that name")
    at: When | None = Field(None, description="when it was said; now where it is left out")
    note: Metadata | None = Field(None, description="JSON kept beside the source")


class ReplaceText(Body):
    model_config = example(text="Alice lives in Bergen.")

    text: str = Field(min_length=1)
    at: When | None = None
    note: Metadata | None = None


class UploadFields(Body):
    """Fields of a form beside its file."""

    source: Identifier | None = None
    at: When | None = None
    note: Json[Metadata] | None = None


class ChangeSource(Body):
    model_config = example(note={"checked": True})

    note: Metadata


class Forget(Body):
    model_config = example(pattern="notes/*", before="2026-06-01T00:00:00Z", dry_run=True)

    sources: list[str] | None = Field(None, min_length=1, max_length=10_000, description="names; or else the fields below")
    pattern: str | None = Field(None, description="of names, as file names are matched: notes/*")
    before: When | None = Field(None, description="the last write of the source lies before this")
    since: When | None = Field(None, description="the first write of the source lies at or after this")
    dry_run: bool = Field(False, description="only say what would be forgotten")


class Search(Body):
    model_config = example(query="Where does Alice live?", top_k=5)

    query: str = Field(min_length=1)
    top_k: int = Field(10, ge=1, le=100)


class AskTrace(Body):
    model_config = example(question="Where does Alice live?", answer=True)

    question: str = Field(min_length=1)
    answer: bool = Field(False, description="answer it too, instead of only saying what would be read")
    max_tokens: int | None = Field(None, ge=1, description="of the answer")
    sources: list[str] | None = Field(None, min_length=1, description="names or patterns: only these sources are read")
    before: When | None = Field(None, description="only what was written before this is read")
    after: When | None = Field(None, description="only what was written at or after this is read")
    rounds: int = Field(1, ge=1, le=2, description="2: search again with what was found, for what needs two steps")
    confidence: bool = Field(False, description="also tell how likely it is, 0 to 1, that the memory holds the answer")
    min_confidence: float | None = Field(None, ge=0, le=1, description='below it the answer is "I don\'t have that in memory."')

    @model_validator(mode="after")
    def _judges_an_answer(self) -> Self:
        if not self.answer and (self.confidence or self.min_confidence is not None):
            raise ValueError("a confidence is of an answer; give answer: true too")
        return self


class Merge(Body):
    model_config = example(memory="alice-phone", prefix="phone/")

    memory: Identifier = Field(description="id of the memory whose sources are taken in; it stays as it is")
    prefix: str = Field("", max_length=128, description="put before the names of its sources")


class Fork(Body):
    model_config = example(id="alice-draft")

    id: Identifier


# -- given ---------------------------------------------------------------------------------------------------------------


class Memory(BaseModel):
    id: str
    object: Literal["memory"] = "memory"
    created_at: float
    last_used_at: float
    metadata: Metadata
    tokens: int
    sources: int
    bytes: int

    @classmethod
    def of(cls, record: MemoryRecord) -> Memory:
        """Tell a record of the engine."""
        return cls(**{**asdict(record), "metadata": dict(record.metadata)})


class Source(BaseModel):
    name: str
    object: Literal["memory.source"] = "memory.source"
    tokens: int
    first_at: float | None
    last_at: float | None
    note: Metadata

    @classmethod
    def of(cls, record: SourceRecord) -> Source:
        """Tell a record of the engine."""
        return cls(
            name=record.name, tokens=record.tokens, first_at=record.first_at, last_at=record.last_at, note=dict(record.note)
        )


class Found(BaseModel):
    source: str
    object: Literal["memory.passage"] = "memory.passage"
    text: str
    score: float
    at: float | None
    note: Metadata

    @classmethod
    def of(cls, hit: Hit) -> Found:
        """Tell a hit of a search."""
        return cls(source=hit.source, text=hit.text, score=hit.score, at=hit.at, note=dict(hit.note))


class Page(BaseModel, Generic[Item]):
    """Some of a list, in its order."""

    object: Literal["list"] = "list"
    data: list[Item]
    first_id: str | None
    last_id: str | None
    has_more: bool


class Written(BaseModel):
    source: str
    object: Literal["memory.write"] = "memory.write"
    tokens: int = Field(description="tokens of this text")
    total_tokens: int = Field(description="tokens of the memory")


class Forgotten(BaseModel):
    object: Literal["memory.forget"] = "memory.forget"
    dry_run: bool
    sources: list[str]
    tokens: int
    report: Metadata | None = Field(None, description="what went where; none of a dry run")


class Merged(BaseModel):
    object: Literal["memory.merge"] = "memory.merge"
    sources: list[str]
    tokens: int
    duplicates: int
    rows_reencoded: int


class Deleted(BaseModel):
    id: str
    object: Literal["memory.deleted", "memory.source.deleted"]
    deleted: Literal[True] = True


class Traced(BaseModel):
    object: Literal["memory.trace"] = "memory.trace"
    answer: str | None = Field(description="none where only the trace was asked for")
    confidence: float | None = Field(None, description="where it was asked for")
    refused: bool = False
    trace: Metadata = Field(description="as Trace.to_json gives it")


class Job(BaseModel):
    id: str
    object: Literal["job"] = "job"
    kind: Literal["write", "replace"]
    memory: str
    source: str
    status: Literal["queued", "running", "succeeded", "failed", "cancelled", "interrupted"]
    created_at: float
    ended_at: float | None = None
    tokens_done: int = 0
    tokens_total: int | None = None
    tokens_per_s: float | None = None
    time_left_s: float | None = None
    result: Written | None = None
    error: Metadata | None = None


def page_of(
    records: Sequence[Record], name: Callable[[Record], str], tell: Callable[[Record], Item], *, after: str | None, limit: int
) -> Page[Item]:
    """The records that follow the one named `after`.

    Raises:
        BadRequestError: there is none of that name.
    """
    names = [name(one) for one in records]
    if after is not None and after not in names:
        raise BadRequestError(
            f"after is {after[:100]!r}, which is not in the list (any more); leave it out to begin again", param="after"
        )
    start = 0 if after is None else names.index(after) + 1
    chosen = records[start : start + limit]
    return Page(
        data=[tell(one) for one in chosen],
        first_id=name(chosen[0]) if chosen else None,
        last_id=name(chosen[-1]) if chosen else None,
        has_more=start + limit < len(records),
    )
