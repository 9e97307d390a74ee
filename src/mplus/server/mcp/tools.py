"""The tools that a model gets for one memory, and how a mistake is told: as a tool error of one sentence. Knows no transport."""

from __future__ import annotations

import inspect
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Any, Final

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ToolAnnotations
from pydantic import BaseModel, Field, ValidationError

from mplus.errors import EmptyTextError, MPlusError
from mplus.server.mcp.backend import Backend, Match

INSTRUCTIONS: Final = (
    "A long-term memory. Keep what should outlast this conversation with add_memory, in whole sentences that name who and what they are "
    "about. Look for it with search_memories before you say that you do not know. What is wrong or no longer wanted is taken out with "
    "delete_memory."
)
LONGEST_TEXT: Final = 1_000_000

MemoryText = Annotated[
    str,
    Field(
        min_length=1, max_length=LONGEST_TEXT, description="What to remember, word for word: a fact, a note or a whole document."
    ),
]
MemoryId = Annotated[str, Field(min_length=1, max_length=256, description="As add_memory or search_memories gave it.")]
Query = Annotated[
    str, Field(min_length=1, max_length=LONGEST_TEXT, description="What to look for, best as a question in whole words.")
]
Limit = Annotated[int, Field(ge=1, le=100, description="How many passages to give at most.")]
Question = Annotated[str, Field(min_length=1, max_length=LONGEST_TEXT, description="A question about what the memory holds.")]


class Added(BaseModel):
    """A text that was remembered."""

    id: str
    tokens: int


class Passage(BaseModel):
    """A passage of a remembered text."""

    id: str | None = Field(description="of the memory that it stands in")
    text: str | None
    score: float | None

    @classmethod
    def of(cls, match: Match) -> Passage:
        """Tell a match of a backend."""
        return cls(id=match.id, text=match.text, score=match.score)


class Found(BaseModel):
    """What a search found, best first."""

    passages: list[Passage]


class Remembered(BaseModel):
    """A text as it was given, and when."""

    id: str
    text: str
    tokens: int
    added_at: datetime | None


class Deleted(BaseModel):
    """How many memories were forgotten."""

    deleted: int


class Answered(BaseModel):
    """An answer, and the passages that it drew on, best first."""

    answer: str
    passages: list[Passage]


class MemoryTools:
    """The six tools of one memory; their docstrings are what a model reads."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def add_memory(self, text: MemoryText) -> Added:
        """Remember a text word for word, for later conversations. Returns its id. Nothing is summarised and no other model is asked."""
        id = str(uuid.uuid4())
        return Added(id=id, tokens=await self._backend.add(id, _worded(text, "text"), {"by": "mcp"}))

    async def search_memories(self, query: Query, limit: Limit = 10) -> Found:
        """Find passages in what was remembered that fit a query, best first, with their scores and the ids of their memories."""
        return Found(passages=[Passage.of(one) for one in await self._backend.search(_worded(query, "query"), limit)])

    async def get_memory(self, memory_id: MemoryId) -> Remembered:
        """Read one memory in full, as it was given, by its id."""
        kept = await self._backend.get(memory_id)
        at = None if kept.at is None else datetime.fromtimestamp(kept.at, UTC)
        return Remembered(id=kept.id, text=kept.text, tokens=kept.tokens, added_at=at)

    async def delete_memory(self, memory_id: MemoryId) -> Deleted:
        """Forget one memory for good, by its id. It cannot be undone."""
        await self._backend.delete(memory_id)
        return Deleted(deleted=1)

    async def delete_all_memories(self) -> Deleted:
        """Forget everything for good. It cannot be undone: ask the person first."""
        return Deleted(deleted=await self._backend.delete_all())

    async def ask(self, question: Question) -> Answered:
        """Have the memory's own small language model answer a question from what was remembered, with the passages it drew on.

        The passages are often more reliable than the answer's wording. The question and the answer are not remembered.
        """
        reply = await self._backend.ask(_worded(question, "question"))
        return Answered(answer=reply.text, passages=[Passage.of(one) for one in reply.passages])


class MemoryServer(MCPServer[None]):
    """The protocol's server of one memory; the memory is open while the server runs."""

    def __init__(self, backend: Backend) -> None:
        @asynccontextmanager
        async def opened(_: MCPServer[None]) -> AsyncIterator[None]:
            try:
                yield
            finally:
                await backend.close()

        super().__init__("mplus", instructions=INSTRUCTIONS, version=_version(), lifespan=opened, log_level="WARNING")
        tools = MemoryTools(backend)
        for tool, hints in (
            (tools.add_memory, ToolAnnotations(read_only_hint=False, destructive_hint=False)),
            (tools.search_memories, ToolAnnotations(read_only_hint=True)),
            (tools.get_memory, ToolAnnotations(read_only_hint=True)),
            (tools.delete_memory, ToolAnnotations(read_only_hint=False, destructive_hint=True)),
            (tools.delete_all_memories, ToolAnnotations(read_only_hint=False, destructive_hint=True)),
            (tools.ask, ToolAnnotations(read_only_hint=True)),
        ):
            self.add_tool(tool, description=inspect.getdoc(tool), annotations=hints)

    async def call_tool(self, name: str, arguments: dict[str, Any], context: Any = None) -> Any:
        """Run a tool.

        Raises:
            ToolError: one sentence that the model may read.
        """
        try:
            return await super().call_tool(name, arguments, context)
        except ToolError as error:
            if isinstance(error.__cause__, ValidationError):
                raise ToolError(_complaint(error.__cause__)) from error.__cause__
            if isinstance(error.__cause__, MPlusError):
                raise ToolError(" ".join(str(error.__cause__).split())) from None
            raise


def _complaint(error: ValidationError) -> str:
    first = error.errors()[0]
    name, message = ".".join(map(str, first["loc"])) or "the arguments", first["msg"]
    return f"{name}: {message[:1].lower()}{message[1:]}; see the tool's schema"


def _worded(text: str, what: str) -> str:
    if not text.strip():
        raise EmptyTextError(f"{what} is empty; give at least a word")
    return text


def _version() -> str:
    try:
        return version("mplus-llm")
    except PackageNotFoundError:
        return ""
