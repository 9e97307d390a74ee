"""Sets a decoder back to its owner's after a pass that was interrupted. Knows what passes change, not what they compute."""

from __future__ import annotations

import logging

from mplus.attach.attention import owners_attention
from mplus.attach.parts import ModelParts

log = logging.getLogger(__name__)


def sweep(model_parts: ModelParts) -> bool:
    """Take off hooks, adapter and attention that a pass left on; to be called before a pass, while no other runs.

    A pass cleans up after itself, whatever is raised in it. Only an interrupt that falls into the cleaning itself, or between two
    steps of Python's own ``with``, can leave something. Where nothing is left this takes some microseconds.

    Returns:
        whether anything had been left on.
    """
    left = [hooks for hooks in model_parts.decoder.hooked if not hooks.around_passes]
    for hooks in left:
        hooks.search_and_remove()
        model_parts.decoder.hooked.remove(hooks)
    found = [bool(left), model_parts.adapters.reset(), owners_attention(model_parts.decoder)]
    if any(found):
        log.info("set back after an interrupted pass: hooks %s, adapter %s, attention %s", *found)
    return any(found)
