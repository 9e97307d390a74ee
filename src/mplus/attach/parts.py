"""What a model needs beside its decoder to have a memory. Knows where the parts live, not what they do."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from mplus.attach.adapters import Adapters
from mplus.attach.families import Decoder, rotate
from mplus.attach.prefix_buffers import PrefixCachePool
from mplus.retrieval.late_interaction import LateInteractionRetriever
from mplus.retrieval.per_layer import PerLayerRetriever


@dataclass
class ModelParts:
    """A decoder with its memory parts.

    Attributes:
        bos: [L, D], the vector that stands before all memory in each layer.
        position: [D], added to the new memory's rows before every layer of a write (paper section 3.1); None where not trained.
        retriever: None when there is no long-term memory to search.
        prefix_pool: buffers of the last read.
    """

    decoder: Decoder
    adapters: Adapters
    bos: Tensor
    position: Tensor | None
    retriever: PerLayerRetriever | LateInteractionRetriever | None
    prefix_pool: PrefixCachePool = field(default_factory=PrefixCachePool)
    _bos_kv: dict[str | None, tuple[int, list[tuple[Tensor, Tensor]]]] = field(default_factory=dict)

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name == "bos":  # another tensor, as in training: its version says nothing
            self._bos_kv, self.prefix_pool = {}, PrefixCachePool()

    def weights_version(self) -> int:
        """A number that changes when the weights that make keys and values of memory do, as in training."""
        weights = [self.bos, *self.decoder.key_value_weights(), *self.adapters.weights()]
        return sum(weight._version for weight in weights if not weight.is_inference())

    def project_bos(self, layers: int) -> list[tuple[Tensor, Tensor]]:
        """Key before rotation and value, [1, H, E] each, of BOS in the first `layers` layers, with whatever adapter is on."""
        return [self.decoder.project(layer, self.bos[layer][None].to(self.decoder.dtype)) for layer in range(layers)]

    def bos_kv(self, adapter: str | None, layers: int) -> list[tuple[Tensor, Tensor]]:
        """Key and value, [1, H, E] each, of BOS in the first `layers` layers, as an adapter projects it, in its place.

        At position 0 nothing turns, but some rotary types scale all keys (YaRN, longrope).
        """
        version = self.weights_version()
        held = self._bos_kv.get(adapter)
        if held is None or held[0] != version or len(held[1]) < layers or held[1][0][0].dtype != self.decoder.dtype:
            decoder = self.decoder
            with torch.inference_mode(False), torch.no_grad(), self.adapters.on(adapter):  # kept, so of no caller's mode
                first = decoder.rotation(torch.zeros(1, 1, dtype=torch.int64, device=self.bos.device), self.bos)
                pairs = [(rotate(keys[None], *first)[0], values) for keys, values in self.project_bos(layers)]
            held = self._bos_kv[adapter] = (version, pairs)
        return held[1]
