"""``python -m tests.launched ... + ...`` is ``mplus ...``, once for each part, with the toy task among the tasks, for tests that
start processes.

With ``MPLUS_TEST_SHARDED`` in the environment the task is cut into pieces over the processes as accelerate does it for FSDP 2;
accelerate itself refuses that on CPUs.
"""

from __future__ import annotations

import os
import sys
from itertools import pairwise
from typing import Any

from accelerate import Accelerator
from torch import nn
from torch.distributed.fsdp import fully_shard

from mplus.cli import main
from mplus.training.objectives import registry

registry.TASKS["toy"] = "tests.toy_task"


def prepare_sharded(accelerator: Accelerator, task: nn.Module, optimiser: Any) -> tuple[nn.Module, Any]:
    """Each decoder layer and the rest in pieces; the optimiser gets the parameters that took the old ones' places."""
    old = {id(value): path for path, value in task.named_parameters()}
    for layer in task.get_submodule("decoder.model.layers").children():
        fully_shard(layer)
    fully_shard(task)
    new = dict(task.named_parameters())
    for group in optimiser.param_groups:
        group["params"] = [new[old[id(value)]] for value in group["params"]]
    return task, optimiser


if os.environ.get("MPLUS_TEST_SHARDED"):
    setattr(Accelerator, "prepare", prepare_sharded)  # noqa: B010

if __name__ == "__main__":
    words = sys.argv[1:]
    cuts = [-1, *(place for place, word in enumerate(words) if word == "+"), len(words)]
    for before, behind in pairwise(cuts):
        if code := main(words[before + 1 : behind]):
            raise SystemExit(code)
