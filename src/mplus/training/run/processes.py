"""Joint acts of a run's processes. Knows accelerate, no task; with one process everything here is the identity."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from accelerate import Accelerator
from accelerate.utils import gather_object

from mplus.errors import MPlusError, TrainingError


def gathered(values: list[Any], accelerator: Accelerator) -> list[Any]:
    """The lists of all processes, one behind the other."""
    return list(gather_object(values)) if accelerator.num_processes > 1 else values


@contextmanager
def on_main(accelerator: Accelerator, what: str) -> Iterator[bool]:
    """A block that only the main process is to fill (it is given True); its failure ends the others too, with a sentence.

    Without that they would wait for it until the launcher kills them.

    Raises:
        TrainingError: on the other processes, when the main one failed in a way that a user can mend.
    """
    failure: MPlusError | None = None
    try:
        yield accelerator.is_main_process
    except MPlusError as error:
        failure = error
    failed = any(gathered([failure is not None], accelerator))
    if failure is not None:
        raise failure
    if failed:
        raise TrainingError(f"stopped, because the main process could not {what}; its own message says why")
