"""One question of a chat or text completion and its answer: what is read for it, and what is written of it. Knows no form of the answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from starlette.requests import Request

from mplus.conversation import Remember
from mplus.server.answers import AnswerResult
from mplus.server.engine import Engine
from mplus.server.errors import BadRequestError
from mplus.server.openai.items import Item, Thread, contents_of, new_items, newest_turns
from mplus.server.openai.messages import Turn
from mplus.server.openai.schemas import ModelRequest
from mplus.server.openai.threads import conversation_id, open_conversation
from mplus.server.openai.which_memory import AnswerDetails, check_same, named_memory, readable
from mplus.server.scope import Scope


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """See the module.

    Attributes:
        id: of the answer.
        read: the memory that is read; None: the bare model, or a memory that begins with this exchange.
        thread: where turns are written; None: no memory was named.
    """

    engine: Engine
    id: str
    read: Scope | None
    thread: Thread | None
    write: Remember
    details: AnswerDetails
    before: Sequence[Turn] = ()

    async def keep(self, turns: Sequence[Turn], result: AnswerResult) -> None:
        """Write the newest message of the user and the answer; what the client repeated of before is not written again."""
        if self.thread is None or self.write is Remember.none:
            return
        kept = [*[turn for turn in turns if turn.role == "user"][-1:]]
        begun = turns[-1].text if turns[-1].role == "assistant" else ""
        if self.write is Remember.both and not result.is_refused:  # a refusal is nothing to remember
            kept.append(Turn(role="assistant", text=f"{begun} {result.text}".strip()))
        items: list[Item] = new_items(kept, self.id)
        if items:
            await self.engine.write_all(self.thread.scope, [item.written(self.thread) for item in items])

    def memory(self, result: AnswerResult) -> dict[str, Any]:
        """What the answer tells of the memory."""
        return self.details.memory_json(None if self.thread is None else self.thread.scope, result)


async def exchange_of(request: Request, engine: Engine, tenant: str, body: ModelRequest, answer: str) -> Exchange:
    """Find the memory of a request.

    Args:
        answer: id of the answer to come.

    Raises:
        ApiError: it is another tenant's, is not there, or was not named.
    """
    named = named_memory(request.headers, body.memory, body.user, user_is_memory=engine.settings.user_is_memory)
    conversation = conversation_id(body.conversation)
    if conversation is not None:
        thread = open_conversation(engine, tenant, conversation)
        check_same(named, thread.scope)
        contents = await contents_of(engine, thread)
        before = await newest_turns(engine, contents)
        write = named.write or Remember.both
        return Exchange(
            engine=engine, id=answer, read=thread.scope, thread=thread, write=write, details=named.details, before=before
        )
    scope, write = named.scope(tenant), named.write or Remember.none
    if scope is None:
        if write is not Remember.none:
            raise BadRequestError("turns are to be written, but no memory is named; give memory.id", param="memory.id")
        if named.details.confidence:
            raise BadRequestError("a confidence is of a memory, and none is named; give memory.id", param="memory.id")
        return Exchange(engine=engine, id=answer, read=None, thread=None, write=write, details=AnswerDetails())
    read = await readable(engine, scope, is_written=write is not Remember.none)
    thread = Thread(id=date.today().isoformat(), scope=scope)
    return Exchange(engine=engine, id=answer, read=read, thread=thread, write=write, details=named.details)
