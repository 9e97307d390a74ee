"""One server for one home: a lock that the kernel gives back when its process ends. Knows nothing of what lies there."""

from __future__ import annotations

from pathlib import Path

from filelock import FileLock, Timeout

from mplus.errors import StoreError
from mplus.memory.stores.lock import owner_of, sign

LOCK = "server.lock"


def lock_home(home: Path) -> FileLock:
    """The lock of a server's home, which is made if absent.

    Raises:
        StoreError: another server has it, or it cannot be made.
    """
    path = home / LOCK
    try:
        home.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path, thread_local=False)
        lock.acquire(timeout=0)
    except Timeout:
        raise StoreError(f"{home} is served by {owner_of(path)}; stop that server, or give --home another directory") from None
    except OSError as error:
        raise StoreError(f"{home} cannot be used as the home of a server ({error}); give --home a directory of yours") from None
    sign(path)
    return lock
