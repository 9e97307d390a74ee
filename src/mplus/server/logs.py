"""The log of a server: a JSON object a line, without anything that a user said or named.

A message is its template: what stands in the place of ``%s`` is written only where it is a number, since names and texts are users'.
What an operator needs beside it is given as ``extra={"fields": {...}}``.
"""

from __future__ import annotations

import json
import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, TextIO

LOGGERS = {"mplus": logging.WARNING, "mplus.server": logging.INFO, "uvicorn": logging.WARNING}
"""From which level each is written."""


class JsonLines(logging.Formatter):
    """One record as one line."""

    def format(self, record: logging.LogRecord) -> str:
        """See the module."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _message(record),
            **getattr(record, "fields", {}),
        }
        if record.exc_info and record.exc_info[1] is not None:
            line["error"], line["frames"] = frames_of(record.exc_info[1])
        return json.dumps(line, default=str)


def _message(record: logging.LogRecord) -> str:
    given = record.args if isinstance(record.args, tuple) else ()
    if given and all(isinstance(one, int | float) for one in given):
        return record.getMessage()
    return str(record.msg)


def frames_of(error: BaseException) -> tuple[str, list[str]]:
    """Class of an error and where it was raised; its message may hold a user's text."""
    found = traceback.extract_tb(error.__traceback__)
    return type(error).__name__, [f"{one.filename}:{one.lineno} {one.name}" for one in found[-12:]]


@contextmanager
def logging_to(stream: TextIO) -> Iterator[None]:
    """Write the logs of the package and of the web server to a stream, for the time of a server."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines())
    before = {name: (logging.getLogger(name).level, logging.getLogger(name).propagate) for name in LOGGERS}
    for name, level in LOGGERS.items():
        logger = logging.getLogger(name)
        logger.setLevel(level)
        if "." not in name:
            logger.addHandler(handler)
            logger.propagate = False
    try:
        yield
    finally:
        for name, (level, propagate) in before.items():
            logger = logging.getLogger(name)
            logger.removeHandler(handler)
            logger.setLevel(level)
            logger.propagate = propagate
