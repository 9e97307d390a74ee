"""What a model needs beside its decoder to have a memory. Knows where the parts live, not what they do."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from mplus.attach.adapters import Adapters
from mplus.attach.engine import Engine
from mplus.attach.families import Decoder
from mplus.retriever import LayerRetriever, VoteRetriever


@dataclass
class Attached:
    """A decoder with its memory parts.

    Attributes:
        bos: [L, D], the vector that stands before all memory in each layer.
        position: [D], added to the new memory's rows before every layer of a write (paper section 3.1); None where not trained.
        retriever: None when there is no long-term memory to search.
        engine: how it is computed; never what.
    """

    decoder: Decoder
    adapters: Adapters
    bos: Tensor
    position: Tensor | None
    retriever: LayerRetriever | VoteRetriever | None
    engine: Engine = field(default_factory=Engine)
