"""Threads that store, read and tokenise beside the model's thread, and in which torch computes alone. Knows no memory.

OpenMP gives each thread that computes in parallel helpers of its own. Once there are more of them than cores they sleep between steps
instead of waiting awake, which made a decode step of a small model twice as long. So one thread computes in parallel: the model's.
"""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from weakref import WeakKeyDictionary

COUNT = 8
START_TIMEOUT_S = 120.0
"""To import torch in; a thread that cannot begin is an error then, not a wait without end."""
_of_loops: WeakKeyDictionary[asyncio.AbstractEventLoop, IoThreads] = WeakKeyDictionary()


class IoThreads(ThreadPoolExecutor):
    """Such threads, all of them started at once: a later start would change how others of torch's libraries compute.

    Attributes:
        model_threads: how many threads the model may compute with, as torch was told or found before.
    """

    def __init__(self) -> None:
        super().__init__(COUNT, "mplus-io", initializer=self._begin)
        self._lock = threading.Lock()
        self.model_threads = 0
        begun = threading.Barrier(COUNT + 1, timeout=START_TIMEOUT_S)
        for _ in range(COUNT):
            self.submit(begun.wait)
        begun.wait()

    def _begin(self) -> None:
        import torch  # takes seconds, for which the event loop must not wait

        with self._lock:
            self.model_threads = self.model_threads or torch.get_num_threads()
            torch.set_num_threads(1)  # of this thread


async def io_threads() -> IoThreads:
    """The threads of the running loop, which ``asyncio.to_thread`` uses from now on."""
    loop = asyncio.get_running_loop()
    if loop not in _of_loops:
        with ThreadPoolExecutor(1) as starting:
            made = await loop.run_in_executor(starting, IoThreads)
        if loop not in _of_loops:
            _of_loops[loop] = made
            loop.set_default_executor(made)
        else:  # another task was faster
            made.shutdown(wait=False)
    return _of_loops[loop]
