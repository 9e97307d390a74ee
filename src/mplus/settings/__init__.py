"""Settings of a memory, validated once, in groups by owner. Knows nothing of tensors or models.

The paper's symbols, taken as names of settings everywhere: K new memory tokens per write, N short-term
tokens, K0 long-term tokens read per prompt, M long-term capacity per layer.
"""

from mplus.settings.flat import PATHS, RETIRED, SYMBOLS, GeometrySettings, spell_out
from mplus.settings.geometry import Geometry, check_each
from mplus.settings.quirks import PublishedQuirks
from mplus.settings.read_rule import BesidePrompt, PerLayerRetrieval, ReadRule, SharedRetrieval
from mplus.settings.sizes import Sizes
from mplus.settings.storage import MemoryFormat, RowType, SearchType, Storage
from mplus.settings.write_rule import Policy, WriteContext, WriteRule

__all__ = [
    "PATHS",
    "RETIRED",
    "SYMBOLS",
    "BesidePrompt",
    "Geometry",
    "GeometrySettings",
    "MemoryFormat",
    "PerLayerRetrieval",
    "Policy",
    "PublishedQuirks",
    "ReadRule",
    "RowType",
    "SearchType",
    "SharedRetrieval",
    "Sizes",
    "Storage",
    "WriteContext",
    "WriteRule",
    "check_each",
    "spell_out",
]
