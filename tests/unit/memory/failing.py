"""Calls that fail as a full disk does."""

from __future__ import annotations

import errno
from typing import Any, NoReturn


def disk_full(*args: Any, **kwargs: Any) -> NoReturn:
    """Fail as a write to a full disk."""
    raise OSError(errno.ENOSPC, "No space left on device")
