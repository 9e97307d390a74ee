"""The script that trains the delta of the default model: ``python -m mplus.training.delta vote|read``. RECIPE sections 3 and 4."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import Any

import torch

from mplus.config import Geometry
from mplus.model import MPlusModel
from mplus.training.documents import DocumentMaker
from mplus.training.vote import train_vote

VOTING = (4, 9, 13, 17, 20, 23)
KEY_WIDTH = 64
SIZES: dict[str, Any] = {
    "stm_tokens": 512,
    "ltm_read_tokens": 256,
    "read_order": "score",
}  # little read, the best beside the prompt


def main() -> None:
    """Train one stage for a number of minutes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stage", choices=["vote", "read"])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--base", default="smollm2-135m")
    parser.add_argument("--start", type=Path, help="delta to go on from")
    parser.add_argument("--name", default="smollm2-135m", help="name the delta carries")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=25.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    torch.manual_seed(options.seed)
    if options.start is not None:
        model = MPlusModel.from_pretrained(options.start, attn_implementation="sdpa", **SIZES)
    else:
        model = MPlusModel.from_base(
            options.base, geometry=Geometry().changed(**SIZES), key_width=KEY_WIDTH, voting=VOTING, attn_implementation="sdpa"
        )
    model._loaded.name = options.name
    makers = DocumentMaker(model.tokenizer, options.data, model.geometry.chunk_tokens, seed=options.seed)
    seconds = 60 * options.minutes
    if options.stage == "vote":
        train_vote(model, makers, seconds=seconds, out=options.out, seed=options.seed)
    else:
        from mplus.training import attention
        from mplus.training.reading import train_reading

        model.attached.decoder.model.set_attn_implementation(attention.register())
        train_reading(model, makers, seconds=seconds, out=options.out, seed=options.seed)


if __name__ == "__main__":
    main()
