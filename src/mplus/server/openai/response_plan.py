"""Where a response reads and where it is kept, found before it is answered. Knows no form of the answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from starlette.requests import Request

from mplus.conversation import Remember
from mplus.server.engine import Engine
from mplus.server.errors import BadRequestError, NotFoundError, UnknownMemoryError
from mplus.server.openai.items import Item, Thread, ThreadContents, contents_of, new_items, newest_turns
from mplus.server.openai.messages import Turn
from mplus.server.openai.schemas import ResponseRequest
from mplus.server.openai.threads import (
    branch_behind,
    conversation_id,
    delete_branch,
    find_response,
    lock_of,
    open_conversation,
    put_response,
)
from mplus.server.openai.which_memory import AnswerDetails, Named, check_same, named_memory, readable
from mplus.server.scope import Scope


@dataclass
class ResponsePlan:
    """See the module.

    Attributes:
        read: the memory that is read; None: the bare model.
        contents: the thread and what it held before.
        conversation: its id where the client named it.
        is_branch: whether the memory was forked for this response; it goes again if nothing is written.
        is_shared: whether the memory is one that the client named and that holds other things too.
    """

    engine: Engine
    id: str
    is_stored: bool
    details: AnswerDetails
    read: Scope | None
    contents: ThreadContents
    conversation: str | None = None
    previous: str | None = None
    is_branch: bool = False
    is_shared: bool = False
    before: list[Turn] = field(default_factory=list)
    is_kept: bool = False

    @property
    def thread(self) -> Thread:
        """Where turns are written."""
        return self.contents.thread

    @property
    def memory(self) -> Scope | None:
        """The memory that is told of."""
        return self.thread.scope if self.is_stored else self.read

    async def keep(self, turns: Sequence[Turn], output: Item) -> None:
        """Write question and answer, where they are to be kept."""
        if not self.is_stored:
            return
        async with lock_of(self.thread):
            await self._branch_if_late()
            asked = newest_of(turns) if self.is_shared else list(turns)
            items = [*new_items(asked, self.id, known=self.contents.ids), output]
            await self.engine.write_all(self.thread.scope, [item.written(self.thread) for item in items])
        put_response(self.engine, self.thread, self.id, self.thread.source(output.id))
        self.is_kept = True

    async def close(self) -> None:
        """Delete the branch where nothing was written to it."""
        if self.is_branch and not self.is_kept:
            await delete_branch(self.engine, self.thread)

    async def _branch_if_late(self) -> None:
        """Branch where another answer to the same previous one was written while this one was made."""
        if self.previous is None or self.is_branch:
            return
        stored = await find_response(self.engine, self.thread.scope.tenant, self.previous, param="previous_response_id")
        if not stored.is_newest:
            self.contents, self.is_branch = await branch_behind(self.engine, stored, self.id), True


def newest_of(turns: Sequence[Turn]) -> list[Turn]:
    """What the user said last: the turns behind the last answer that the client repeated."""
    answers = [number for number, turn in enumerate(turns) if turn.role == "assistant"]
    return [turn for turn in turns[answers[-1] + 1 if answers else 0 :] if turn.role == "user"]


def is_stored(store: bool | None, write: Remember | None) -> bool:
    """Whether a response is kept: ``store`` says so, and ``memory.write`` must not contradict it.

    Raises:
        BadRequestError.
    """
    if write is Remember.user:
        raise BadRequestError(
            "a response is kept with question and answer, so memory.write cannot be 'user'; give 'both' or 'none', or use chat completions",
            param="memory.write",
        )
    asked = None if write is None else write is Remember.both
    if store is not None and asked is not None and store != asked:
        raise BadRequestError(
            f"store is {str(store).lower()} and memory.write is {str(write)!r}, which contradict each other; give one of them",
            param="memory.write",
        )
    return store if store is not None else asked is not False


async def plan_of(request: Request, engine: Engine, tenant: str, body: ResponseRequest, id_: str) -> ResponsePlan:
    """Find the memory of a response, and branch where it goes on from an older one.

    Raises:
        ApiError: ids are not this tenant's, or contradict each other.
    """
    named = named_memory(request.headers, body.memory, body.user, user_is_memory=engine.settings.user_is_memory)
    conversation = conversation_id(body.conversation)
    if conversation is not None and body.previous_response_id is not None:
        raise BadRequestError("give conversation or previous_response_id, not both", param="previous_response_id")
    stored = is_stored(body.store, named.write)
    scope = named.scope(tenant)
    own = Thread(id=id_, scope=scope or Scope(tenant, id_))
    plan = ResponsePlan(
        engine=engine, id=id_, is_stored=stored, details=named.details, read=None, contents=ThreadContents(thread=own)
    )
    if conversation is not None:
        return await _in_conversation(plan, tenant, conversation, named)
    if body.previous_response_id is not None:
        return await _behind(plan, tenant, body.previous_response_id, named)
    return replace(plan, read=await readable(engine, scope, is_written=stored), is_shared=scope is not None)


async def _in_conversation(plan: ResponsePlan, tenant: str, conversation: str, named: Named) -> ResponsePlan:
    thread = open_conversation(plan.engine, tenant, conversation)
    check_same(named, thread.scope)
    try:
        contents = await contents_of(plan.engine, thread)
    except UnknownMemoryError:
        raise NotFoundError(f"there is no conversation {conversation!r:.100}; create one first", param="conversation") from None
    before = await newest_turns(plan.engine, contents)
    return replace(plan, read=thread.scope, contents=contents, conversation=conversation, before=before)


async def _behind(plan: ResponsePlan, tenant: str, previous: str, named: Named) -> ResponsePlan:
    stored = await find_response(plan.engine, tenant, previous, param="previous_response_id")
    check_same(named, stored.thread.scope)
    is_newest = stored.is_newest
    contents = stored.contents if is_newest else await branch_behind(plan.engine, stored, plan.id)
    before = await newest_turns(plan.engine, contents)
    return replace(plan, read=contents.thread.scope, contents=contents, previous=previous, is_branch=not is_newest, before=before)
