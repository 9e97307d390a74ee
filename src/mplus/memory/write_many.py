"""Writing into several memories side by side, so that their chunks share write passes. Knows no model."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any

from mplus.errors import InputError
from mplus.memory.arguments import Text
from mplus.memory.encoder import Encoder
from mplus.memory.memory import Memory
from mplus.memory.rows import EncodedChunk
from mplus.runtime.turns import in_order

Encode = Callable[[list[tuple[list[int], Memory]]], list[EncodedChunk]]
"""Write passes of several chunks, each for a memory of its own."""


def write_many(
    encoder: Encoder,
    memories: Sequence[Memory],
    texts: Sequence[Text],
    sources: Sequence[str | None] | None,
    *,
    batch: int,
    progress: Callable[[int], None] | None,
) -> list[int]:
    """See ``MPlusModel.write_many``."""
    encoder.refuse_reentry()
    if isinstance(batch, bool) or not isinstance(batch, int) or batch < 1:
        raise InputError(f"batch is {batch!r}, expected how many chunks one pass may have, at least 1")
    for what, given in (("memories", memories), ("texts", texts), ("sources", sources)):
        _check_list(what, given)
    for memory in memories:
        _check_memory(memory, encoder)
    names = list(sources) if sources is not None else [None] * len(texts)
    if not len(memories) == len(texts) == len(names):
        raise InputError(
            f"{len(memories)} memories, {len(texts)} texts and {len(names)} sources; give one text and source for each"
        )
    if len({id(memory) for memory in memories}) < len(memories):
        raise InputError("a memory is named twice; write its texts one after the other, or into forks of it")
    for memory in memories:
        memory.turn.refuse_reentry()
    with in_order(memory.turn for memory in memories):
        return _write_side_by_side(memories, texts, names, lambda requests: encoder.encode_many(requests, batch=batch), progress)


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
    encode: Encode,
    progress: Callable[[int], None] | None,
) -> list[int]:
    running = [(memory, memory.steps(text, name)) for memory, text, name in zip(memories, texts, names, strict=True)]
    totals: dict[int, int] = {}
    waiting: list[tuple[int, Memory, Generator[list[int], EncodedChunk, int], list[int]]] = []
    done = 0

    def advance(
        number: int, memory: Memory, steps: Generator[list[int], EncodedChunk, int], written: EncodedChunk | None
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
                written = encode([(ids, memory) for _, memory, _, ids in turn])
            except BaseException:
                waiting[:] = turn
                raise
            for place, ((number, memory, steps, ids), one) in enumerate(zip(turn, written, strict=True)):
                try:
                    advance(number, memory, steps, one)
                except BaseException:  # of the others nothing was taken in yet
                    waiting += turn[place + 1 :]
                    raise
                done += len(ids)
            if progress is not None:
                progress(done)
    finally:
        for _, _, steps, _ in waiting:
            steps.close()  # what was not taken in waits in its memory
    return [totals[number] for number in range(len(running))]
