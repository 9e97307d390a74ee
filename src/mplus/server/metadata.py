"""JSON that a client wants kept beside a memory or a source. Knows no memory."""

from __future__ import annotations

import json
from typing import Any

from mplus.server.errors import BadRequestError

MOST_BYTES = 64 * 1024


def checked_json(value: dict[str, Any], what: str) -> dict[str, Any]:
    """JSON that a client wants kept.

    Raises:
        BadRequestError: it is too large, too deep, or no UTF-8 can be made of it.
    """
    try:
        size = len(json.dumps(value, ensure_ascii=False, allow_nan=False).encode())
    except (ValueError, RecursionError, UnicodeEncodeError):
        raise BadRequestError(
            f"{what} holds what JSON in UTF-8 cannot, such as NaN or half a character; leave it out", param=what
        ) from None
    if size > MOST_BYTES:
        raise BadRequestError(
            f"{what} takes {size:,} bytes, at most {MOST_BYTES:,} are kept; write the text as a source", param=what
        )
    return value
