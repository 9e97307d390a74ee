"""What any checkpoint format yields: a decoder with memory parts and, if it has one, its initial memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from mplus.attach.parts import ModelParts
from mplus.checkpoints.load_report import LoadReport
from mplus.settings import Geometry
from mplus.settings.calibration import Calibration


@dataclass
class InitialMemory:
    """The memory a published checkpoint comes with, as hidden states.

    Attributes:
        stm: [L, N, D].
        ltm, ltm_keys: L tensors [M_l, D], [M_l, R]; empty for MemoryLLM.
        ltm_ages, ltm_frequencies: L tensors [M_l]; ages int64.
        initialised: False when the pool is to be made by the first write.
    """

    stm: Tensor
    ltm: list[Tensor] = field(default_factory=list)
    ltm_keys: list[Tensor] = field(default_factory=list)
    ltm_ages: list[Tensor] = field(default_factory=list)
    ltm_frequencies: list[Tensor] = field(default_factory=list)
    initialised: bool = True


@dataclass
class LoadedModel:
    """A model ready to be given a public face.

    Attributes:
        base_name: what the base weights are called, for a delta to name.
        base_fingerprint: of the bare decoder.
        chat_template: Jinja text that a delta was trained with, where it is not the base's own.
        calibration: how its reads give a confidence; None: it was not fitted.
    """

    parts: ModelParts
    geometry: Geometry
    tokenizer: Any
    name: str
    base_name: str
    base_fingerprint: str
    report: LoadReport
    initial: InitialMemory | None = None
    adapter_configs: dict[str, dict[str, Any]] = field(default_factory=dict)
    chat_template: str | None = None
    calibration: Calibration | None = None

    def use_chat_template(self, template: str | None) -> None:
        """Ask questions as a delta learned them; None leaves the base's own way."""
        self.chat_template = template
        if template is not None and self.tokenizer is not None:
            self.tokenizer.chat_template = template
