"""Host tensors that rows are kept in: pinned where a GPU copies from them, else pageable. Knows no rows."""

from __future__ import annotations

import logging

import torch
from torch import Tensor

log = logging.getLogger(__name__)


def host_empty(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """An uninitialised tensor in host memory, pinned if CUDA is there and has room for that.

    Raises:
        RuntimeError, MemoryError: there is no room at all.
    """
    if torch.cuda.is_available():
        try:
            return torch.empty(shape, dtype=dtype, device="cpu", pin_memory=True)
        except RuntimeError as error:  # pinned memory is limited apart from RAM
            reason = str(error).partition("\n")[0]
            log.warning("%s of %s cannot be pinned (%s); copies to the GPU will be slower", list(shape), dtype, reason)
    return torch.empty(shape, dtype=dtype, device="cpu")
