"""Laws of the threads beside the model's: torch computes alone in them, and in the model's thread with all it had."""

from __future__ import annotations

import asyncio

import torch

from mplus.server.io_threads import COUNT, IoThreads, io_threads


def test_torch_computes_alone_beside_the_model_and_with_all_threads_in_it() -> None:
    before = torch.get_num_threads()

    async def run() -> tuple[IoThreads, IoThreads, list[int], int]:
        first, again = await io_threads(), await io_threads()
        seen = await asyncio.gather(*(asyncio.to_thread(torch.get_num_threads) for _ in range(4 * COUNT)))
        return first, again, list(seen), torch.get_num_threads()

    try:
        first, again, seen, here = asyncio.run(run())
    finally:
        torch.set_num_threads(before)
    assert first is again
    assert first.model_threads == before
    assert set(seen) == {1}
    assert here == before


def test_two_tasks_that_begin_at_once_have_the_same_threads() -> None:
    async def run() -> set[int]:
        return {id(one) for one in await asyncio.gather(*(io_threads() for _ in range(5)))}

    assert len(asyncio.run(run())) == 1
