"""The model a command works with, opened without noise. Knows nothing of what the command does with it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mplus.checkpoints.base_models.base import BASES, locate
from mplus.cli import terminal

if TYPE_CHECKING:
    from mplus.model import MPlusModel

ASSETS = Path(__file__).resolve().parent.parent / "assets"  # models whose memory parts ship inside the package


def open_model(name: str, *, dtype: str = "auto", device: str | None = None) -> MPlusModel:
    """Open a model by name, directory or hub id.

    Raises:
        CheckpointError: there is no such model, or it is damaged or not on this machine.
    """
    with terminal.waiting(f"opening {name}"):
        if name in BASES or not (ASSETS / name).is_dir():
            locate(name)  # a wrong name, or a base that is not there, is told before seconds of imports
        from transformers.utils import logging

        if not terminal.is_verbose():
            logging.set_verbosity_error()
            logging.disable_progress_bar()
        from mplus.model import MPlusModel

        return MPlusModel.from_pretrained(name, dtype=dtype, device=device)
