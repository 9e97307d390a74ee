"""Trainable parts of a model: adapters, BOS, position vector, retriever, or everything. Knows parts, no losses.

BOS and position vector are plain tensors of a model; while they are trained their float32 originals live here and stand in the
model for the length of a step.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from torch import nn

from mplus.attach.checkpointing import taken_over
from mplus.errors import InputError
from mplus.model import MPlusModel
from mplus.training.objectives.task import ParameterGroup

Part = Literal["write", "read", "bos", "position", "retriever", "base"]
ROLES: tuple[Part, Part] = ("write", "read")


class TrainableParts(nn.Module):
    """The trainable parts of a model; everything else is frozen.

    The position vector is trained where the model has one, and made (of zeros) with the output tap, as in the paper; with the
    input tap it would be added to the text itself.

    Args:
        parts: names of what to train; a part the model does not have is left out.

    Attributes:
        parts: those that are really trained.
        writing: whether a gradient through a write pass would train anything.

    Raises:
        InputError: nothing is left.
    """

    def __init__(self, model: MPlusModel, parts: tuple[Part, ...]) -> None:
        super().__init__()
        model_parts = model.parts
        self.model, self.model_parts = model, model_parts
        adapters, retriever = model_parts.adapters, model_parts.retriever
        has_position = model_parts.position is not None or model.geometry.write.tap == "output"
        has = {
            "write": adapters.write is not None,
            "read": adapters.read is not None,
            "bos": True,
            "position": has_position,
            "retriever": retriever is not None and any(True for _ in retriever.parameters()) and model.geometry.sizes.reads_ltm,
            "base": True,
        }
        self.parts = tuple(part for part in dict.fromkeys(parts) if has[part])
        if not self.parts:
            raise InputError(
                f"nothing to train: the model has none of {', '.join(parts) or 'no parts'}; give it adapters (model.read_adapter, "
                "model.write_adapter) or name other parts in task.train"
            )
        model_parts.decoder.model.requires_grad_(False)
        self.weights: list[tuple[str, nn.Parameter]] = []
        for name, value in model_parts.decoder.model.named_parameters():
            role = next((part for part in ROLES if f".{adapters.named(part)}." in name), None) if ".lora_" in name else None
            if (role or "base") in self.parts:
                value.requires_grad_(True)
                self.weights.append((name, value))
        if retriever is not None:
            retriever.requires_grad_("retriever" in self.parts)
        self.retriever = retriever
        self.bos = nn.Parameter(model_parts.bos.detach().float().clone(), requires_grad="bos" in self.parts)
        start = model_parts.bos.new_zeros(model_parts.decoder.width) if model_parts.position is None else model_parts.position
        self.position = nn.Parameter(start.detach().float().clone(), requires_grad="position" in self.parts)

    @property
    def writing(self) -> bool:
        """See the class."""
        return bool({"write", "bos", "position", "base"} & set(self.parts))

    def groups(self, retriever_rate: float) -> list[ParameterGroup]:
        """Everything trained, the retriever with its own rate."""
        own = [*self.weights]
        own += [(name, value) for name, value in (("bos", self.bos), ("position", self.position)) if value.requires_grad]
        out = [ParameterGroup("model", own)] if own else []
        if "retriever" in self.parts and self.retriever is not None:
            named = [(f"retriever.{name}", value) for name, value in self.retriever.named_parameters()]
            out.append(ParameterGroup("retriever", named, lr_factor=retriever_rate))
        return out

    @contextmanager
    def in_place(self) -> Iterator[tuple[int, ...]]:
        """The trained BOS and position vector stand in the model, with their graph; without it afterwards.

        Yields:
            the layers that gradient checkpointing is on for, by transformers' switch, which has no effect of its own inside.
        """
        kind = self.model_parts.decoder.dtype
        if "bos" in self.parts:
            self.model_parts.bos = self.bos.to(kind)
        if "position" in self.parts:
            self.model_parts.position = self.position.to(kind)
        try:
            with taken_over(self.model_parts.decoder) as checkpointed:
                yield checkpointed
        finally:
            self.put_back()

    def put_back(self) -> None:
        """The model holds the trained values as plain tensors, and knows that it is another model now."""
        kind = self.model_parts.decoder.dtype
        if "bos" in self.parts:
            self.model_parts.bos = self.bos.detach().to(kind).clone()
        if "position" in self.parts:
            self.model_parts.position = self.position.detach().to(kind).clone()
        self.model.writer.weights_changed()
