"""Writing many texts side by side, so that their chunks share write passes. Knows no model."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any

from mplus.errors import InputError
from mplus.memory.arguments import Text
from mplus.memory.encoder import Encoder
from mplus.memory.memory import Memory
from mplus.memory.rows import ChunkToEncode, EncodedChunk
from mplus.memory.selection import Time
from mplus.memory.source_writing import SourceWriting
from mplus.runtime.turns import in_order

Encode = Callable[[list[tuple[ChunkToEncode, Memory]]], list[EncodedChunk]]
"""Write passes of several chunks, each for a memory of its own or of a source of its own."""
AHEAD_ROWS = 4096
"""Rows that may be encoded ahead of what their memory can take in yet."""


def write_many(
    encoder: Encoder,
    memories: Memory | Sequence[Memory],
    texts: Sequence[Text],
    sources: Sequence[str | None] | None,
    *,
    batch: int,
    at: Time | None,
    progress: Callable[[int], None] | None,
) -> list[int]:
    """See ``MPlusModel.write_many``."""
    encoder.refuse_reentry()
    if isinstance(batch, bool) or not isinstance(batch, int) or batch < 1:
        raise InputError(f"batch is {batch!r}, expected how many chunks one pass may have, at least 1")
    for what, given in (("texts", texts), ("sources", sources)):
        _check_list(what, given)
    if isinstance(memories, Memory):
        memories = [memories] * len(texts)
    _check_list("memories", memories)
    for memory in memories:
        _check_memory(memory, encoder)
    names = list(sources) if sources is not None else [None] * len(texts)
    if not len(memories) == len(texts) == len(names):
        raise InputError(
            f"{len(memories)} memories, {len(texts)} texts and {len(names)} sources; give one text and source for each"
        )
    _check_repeated(memories, names)
    own = list({id(memory): memory for memory in memories}.values())
    for memory in own:
        memory.turn.refuse_reentry()

    def encode(requests: list[tuple[ChunkToEncode, Memory]]) -> list[EncodedChunk]:
        return encoder.encode_many(requests, batch=batch)

    with in_order(memory.turn for memory in own):
        if any(memory.geometry.write.context == "memory" for memory in own):
            return _write_side_by_side(memories, texts, names, at, encode, progress)
        batches = SideBySide(
            [memory.writing(text, name, at=at) for memory, text, name in zip(memories, texts, names, strict=True)], progress
        )
        while not batches.is_done:
            wanted = batches.wanted(batch)
            batches.give(wanted, encode([(chunk, job.memory) for job, chunk in wanted]) if wanted else [])
        return batches.tokens


def _check_repeated(memories: Sequence[Memory], names: Sequence[str | None]) -> None:
    """Refuse what would have to be written one after the other."""
    if len({id(memory) for memory in memories}) == len(memories):
        return
    if any(memory.geometry.write.context == "memory" for memory in memories):
        raise InputError(
            "a memory is named twice, and its chunks see what was written before them (write_context='memory'); write its texts one "
            "after the other, or into forks of it"
        )
    (_, name), count = Counter((id(memory), name) for memory, name in zip(memories, names, strict=True)).most_common(1)[0]
    if count > 1:
        raise InputError(
            f"source {name!r} is named {count} times for one memory; give each text a source of its own, or join the texts"
        )


@dataclass
class TextWrite:
    """One text on its way into its memory."""

    writing: SourceWriting
    tokens: int = 0

    @property
    def memory(self) -> Memory:
        return self.writing.memory


class SideBySide:
    """Texts of sources of their own: chunks of several share a pass, and each memory takes its texts in whole, in their order.

    Args:
        progress: called with the text tokens taken in so far.
    """

    def __init__(self, writings: Sequence[SourceWriting], progress: Callable[[int], None] | None = None) -> None:
        self._jobs, self._progress, self._done = [TextWrite(one) for one in writings], progress, 0
        self._queues: dict[int, deque[TextWrite]] = {}
        for job in self._jobs:
            self._queues.setdefault(id(job.memory), deque()).append(job)

    @property
    def is_done(self) -> bool:
        """Whether all texts are in their memories."""
        return not any(self._queues.values())

    @property
    def tokens(self) -> list[int]:
        """Text tokens of each text that were taken in."""
        return [job.tokens for job in self._jobs]

    def wanted(self, most: int) -> list[tuple[TextWrite, ChunkToEncode]]:
        """Chunks of the next pass: of the texts that come first, and of later ones as far as that is not too far ahead."""
        heads = [queue[0] for queue in self._queues.values() if queue]
        ahead = sum(one.written.tokens for job in self._jobs for one in job.writing.ready)
        later = [job for queue in self._queues.values() for job in list(queue)[1:]] if ahead < AHEAD_ROWS else []
        out: list[tuple[TextWrite, ChunkToEncode]] = []
        for job in [*heads, *later]:
            if len(out) == most:
                break
            chunk = job.writing.wanted()
            if chunk is not None:
                out.append((job, chunk))
        return out

    def give(self, wanted: Sequence[tuple[TextWrite, ChunkToEncode]], written: Sequence[EncodedChunk]) -> None:
        """Take what a pass made of some chunks that were wanted, and all that their memories can take in now."""
        for (job, _), one in zip(wanted, written, strict=True):
            job.writing.give(one)
        for queue in self._queues.values():
            self._take(queue)

    def _take(self, queue: deque[TextWrite]) -> None:
        while queue:
            job = queue[0]
            for ready in job.writing.take_ready():
                job.memory.take(ready)
                job.tokens += len(ready.ids)
                self._done += len(ready.ids)
                if self._progress is not None:
                    self._progress(self._done)
            if not job.writing.is_done:
                return
            queue.popleft()


def _check_list(what: str, given: Any) -> None:
    if given is not None and (isinstance(given, (str, bytes, Memory)) or not isinstance(given, Sequence)):
        raise InputError(f"{what} is a {type(given).__name__}, expected a list; give [...] with one for each memory")


def _check_memory(memory: Any, encoder: Encoder) -> None:
    if not isinstance(memory, Memory):
        raise InputError(f"memories hold a {type(memory).__name__}, expected what model.new_memory() or Memory.load gives")
    if not encoder.wrote(memory):
        raise InputError(
            f"a memory was written by model {memory.encoder.name!r}, this is {encoder.name!r}; write with the model that made it"
        )


def _write_side_by_side(
    memories: Sequence[Memory],
    texts: Sequence[Text],
    names: Sequence[str | None],
    at: Time | None,
    encode: Encode,
    progress: Callable[[int], None] | None,
) -> list[int]:
    running = [(memory, memory.steps(text, name, at=at)) for memory, text, name in zip(memories, texts, names, strict=True)]
    totals: dict[int, int] = {}
    waiting: list[tuple[int, Memory, Generator[ChunkToEncode, EncodedChunk, int], ChunkToEncode]] = []
    done = 0

    def advance(
        number: int, memory: Memory, steps: Generator[ChunkToEncode, EncodedChunk, int], written: EncodedChunk | None
    ) -> None:
        try:
            waiting.append((number, memory, steps, next(steps) if written is None else steps.send(written)))
        except StopIteration as end:
            totals[number] = int(end.value)

    try:
        for number, (memory, steps) in enumerate(running):
            advance(number, memory, steps, None)
        while waiting:
            turn, waiting[:] = list(waiting), []
            try:
                written = encode([(chunk, memory) for _, memory, _, chunk in turn])
            except BaseException:
                waiting[:] = turn
                raise
            for place, ((number, memory, steps, chunk), one) in enumerate(zip(turn, written, strict=True)):
                try:
                    advance(number, memory, steps, one)
                except BaseException:  # of the others nothing was taken in yet
                    waiting += turn[place + 1 :]
                    raise
                done += len(chunk.ids)
            if progress is not None:
                progress(done)
    finally:
        for _, _, steps, _ in waiting:
            steps.close()  # what was not taken in waits in its memory
    return [totals[number] for number in range(len(running))]
