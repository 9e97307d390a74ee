"""M+: a language model that keeps what it has read in latent memory. The public names, nothing else.

They are imported when first used, so that ``mplus --help`` need not wait for torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mplus.errors import MPlusError

if TYPE_CHECKING:
    from mplus.inference.reader import MPlusOutput
    from mplus.memory.memory import Memory, MemoryStats
    from mplus.model import MPlusModel
    from mplus.settings import Geometry
    from mplus.trace.trace import Answer, Passage, Trace

__version__ = "0.1.0"
__all__ = [
    "Answer",
    "Geometry",
    "MPlusError",
    "MPlusModel",
    "MPlusOutput",
    "Memory",
    "MemoryStats",
    "Passage",
    "Trace",
    "__version__",
]

_ROOMS = {
    "Answer": "mplus.trace.trace",
    "Geometry": "mplus.settings",
    "Memory": "mplus.memory.memory",
    "MemoryStats": "mplus.memory.memory",
    "MPlusModel": "mplus.model",
    "MPlusOutput": "mplus.inference.reader",
    "Passage": "mplus.trace.trace",
    "Trace": "mplus.trace.trace",
}


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return getattr(import_module(_ROOMS[name]), name)
    raise AttributeError(f"module 'mplus' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
