"""What every child of an attack has imported and run once before it starts: torch with one thread, a tiny model opened from files."""

from __future__ import annotations

import gc
import os
import tempfile
from pathlib import Path


def _preload() -> None:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # threads do not survive a fork
    os.environ["OMP_NUM_THREADS"] = "1"  # before torch: a pool that was set by a call cannot be made again behind a fork
    os.environ["HF_HUB_OFFLINE"] = "1"
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()

    from tests.abuse import models, stored

    with tempfile.TemporaryDirectory(prefix="mplus-abuse-") as place:
        stored.opened(models.store_text_model(Path(place) / "model"))
    stored.forget()
    models.forget()
    gc.collect()
    gc.freeze()  # a child that collects garbage need not look at what is imported


_preload()
