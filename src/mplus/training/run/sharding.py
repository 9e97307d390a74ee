"""Parameters that several processes hold in pieces (FSDP 2), and parameters by their path. Knows modules, no task.

With one process, or with whole copies on each (DDP), everything here is the identity.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from mplus.errors import TrainingError

OUTSIDE = "trained_parameters"


def register(task: nn.Module, trained: Mapping[str, nn.Parameter]) -> None:
    """Make the task own every trained parameter, so that processes exchange its gradient.

    A task may hold its model in an attribute that is no module; then its parameters are listed here.
    """
    own = {id(value) for value in task.parameters()}
    outside = [value for value in trained.values() if id(value) not in own]
    if outside:
        task.register_module(OUTSIDE, nn.ParameterList(outside))
    listed = {id(value) for value in trained.values()}
    stray = [name for name, value in task.named_parameters() if value.requires_grad and id(value) not in listed]
    assert not stray, f"{stray[0]} requires a gradient but stands in no parameter group"


def paths_of(task: nn.Module, trained: Mapping[str, nn.Parameter]) -> dict[str, str]:
    """Where each trained parameter stands in the task; sharding puts other objects into the same places."""
    place = {id(value): path for path, value in task.named_parameters()}
    return {name: place[id(value)] for name, value in trained.items()}


def parameters_at(task: nn.Module, paths: Mapping[str, str]) -> dict[str, nn.Parameter]:
    """The trained parameters, by name, as they are after ``Accelerator.prepare``.

    Raises:
        TrainingError: they are not there (FSDP 1 flattens them), or one is in pieces that its user does not look up in a module.
    """
    found = dict(task.named_parameters())
    stray = next(
        (name for name, path in paths.items() if path.startswith(f"{OUTSIDE}.") and isinstance(found.get(path), DTensor)), None
    )
    if stray is not None:
        raise TrainingError(f"{stray} is not part of a module, so FSDP cannot cut it; train without FSDP, or leave it untrained")
    missing = [path for path in paths.values() if path not in found]
    if missing:
        raise TrainingError(f"{missing[0]} was flattened by FSDP 1; set fsdp_version: 2 in accelerate's configuration")
    return {name: found[path] for name, path in paths.items()}


def whole(value: Tensor) -> Tensor:
    """A tensor with all its pieces; every process must call this."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def like(value: Tensor, model: Tensor) -> Tensor:
    """A whole tensor placed and cut as `model` is; a scalar stays as it is, on the CPU where AdamW keeps its counter."""
    if value.shape != model.shape:
        return value
    if isinstance(model, DTensor):
        return distribute_tensor(value.to(model.device), model.device_mesh, model.placements)
    return value.to(device=model.device, dtype=model.dtype, copy=True)


@contextmanager
def unsharded(module: nn.Module) -> Iterator[None]:
    """Inside, every parameter in pieces is a whole one in main memory, for a task that stores them; every process must come here.

    Not by FSDP's own ``unshard``: a ``state_dict`` cuts everything into pieces again.
    """
    held = [
        (part, name, value)
        for part in module.modules()
        for name, value in part.named_parameters(recurse=False)
        if isinstance(value, DTensor)
    ]
    try:
        for part, name, value in held:
            part._parameters[name] = nn.Parameter(whole(value.detach()).cpu(), requires_grad=False)
        yield
    finally:
        for part, name, value in held:
            part._parameters[name] = value
