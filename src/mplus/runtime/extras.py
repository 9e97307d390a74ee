"""Packages that an extra brings, and the one sentence for each that is missing. Imports none of them by itself."""

from __future__ import annotations

import logging
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any, Final

from mplus.errors import MissingExtraError

log = logging.getLogger(__name__)

EXTRA_OF: Final = {
    "gguf": ("gguf", "fetch"),
    "pypdf": ("pypdf", "files"),
    "mammoth": ("mammoth", "files"),
    "markdownify": ("markdownify", "files"),
    "bs4": ("beautifulsoup4", "files"),
    "lxml": ("lxml", "files"),
    "matplotlib": ("matplotlib", "plots"),
    "tensorboard": ("tensorboard", "train"),
    "datasets": ("datasets", "train"),
    "pyarrow": ("pyarrow", "eval"),
    "bm25s": ("bm25s", "eval"),
    "rouge_score": ("rouge-score", "eval"),
    "lm_eval": ("lm-eval", "eval"),
    "cryptography": ("cryptography", "encrypt"),
    "fastapi": ("fastapi", "server"),
    "uvicorn": ("uvicorn", "server"),
    "python_multipart": ("python-multipart", "server"),
    "prometheus_client": ("prometheus-client", "server"),
    "mcp": ("mcp", "server"),
}
"""Module to package and extra, as ``pyproject.toml`` has them."""


def is_installed(module: str) -> bool:
    """Whether a module can be imported, without importing it."""
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):  # its parent is missing, or it stands in sys.modules as None
        return False


def missing(module: str, feature: str) -> MissingExtraError:
    """The error to raise where `feature` needs a module that is not installed."""
    package, extra = EXTRA_OF[module]
    return MissingExtraError(
        f"{feature} needs the package {package}, which is not installed; run: pip install {package} "
        f"(extra '{extra}' of mplus-llm; from a checkout: pip install -e '.[{extra}]')"
    )


def require(module: str, feature: str) -> ModuleType:
    """Import a module (or a submodule) of an extra.

    Raises:
        MissingExtraError: it is not installed; names `feature`, the package, the extra and the command.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        own = module.split(".")[0]
        if (error.name or "").split(".")[0] != own:
            raise
        raise missing(own, feature) from None


def can_draw() -> bool:
    """Whether pictures can be drawn; the log says what is missing."""
    if is_installed("matplotlib"):
        return True
    log.warning("no picture: %s", missing("matplotlib", "drawing a picture"))
    return False


def figure_of(**settings: Any) -> Any:
    """An empty figure of matplotlib that needs no screen.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    figure = require("matplotlib.figure", "drawing a picture").Figure(**settings)
    require("matplotlib.backends.backend_agg", "drawing a picture").FigureCanvasAgg(figure)
    return figure
