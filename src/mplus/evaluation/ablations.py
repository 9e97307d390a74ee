"""Changed memories measured beside the one of the model: what was typed, and which fields may differ. Knows no models."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from mplus.errors import GeometryError, InputError
from mplus.evaluation.systems.protocol import SYSTEMS
from mplus.runtime.suggest import did_you_mean
from mplus.settings import PATHS, SYMBOLS

CHOICE: Final = "choice"
"""Which K0 long-term tokens a prompt reads: a change of the retriever, not of the geometry; see ``mplus.evaluation.unscored``."""
CHOICES: Final = ("best", "recent", "random")
"""``best`` is the model's own retriever."""

ROUNDS: Final = "rounds"
"""How often a prompt searches memory: an argument of the read, see ``mplus.text.search_query.Query``."""

OF_A_READ: Final = frozenset(
    {
        "ltm_read_tokens",
        "read_order",
        "recent_tokens",
        "certain_score",
        "same_slot",
        "slot_tolerance",
        "neighbour_blocks",
        CHOICE,
        ROUNDS,
    }
)
"""Settings that change a reading only: a memory that differs in nothing else holds the same, so one is kept for all of them."""

OF_A_WRITE: Final = frozenset({"new_tokens", "chunk_tokens", "min_write_tokens", "write_tap"})
"""Settings that change the write pass that all memories of a run share."""

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
_RESERVED: Final = (*SYSTEMS, "read")


@dataclass(frozen=True, kw_only=True)
class Ablation:
    """One more memory, filled by the same write passes; with other ``tokens_per_row``, by passes over the same chunks.

    Attributes:
        name: of the system in the results.
        changes: fields of ``Geometry`` that differ from the measured memory's, and ``choice``: who chooses what is read, and ``rounds``.
    """

    name: str
    changes: dict[str, Any] = field(default_factory=dict)

    @property
    def of_geometry(self) -> dict[str, Any]:
        """The changes without ``choice`` and ``rounds``."""
        return {name: value for name, value in self.changes.items() if name not in (CHOICE, ROUNDS)}

    @property
    def rounds(self) -> int:
        """How often a prompt searches."""
        return int(self.changes.get(ROUNDS, 1))

    def retriever(self, own: Any) -> Any:
        """The retriever in place of the model's `own` one; None: that one."""
        choice = self.changes.get(CHOICE, CHOICES[0])
        if choice == CHOICES[0] or own is None:
            return None
        from mplus.evaluation.unscored import UnscoredRetriever  # brings torch in, which a list of tasks need not wait for

        return UnscoredRetriever(own, choice)

    def geometry(self, base: Any) -> Any:
        """The base geometry with the changes.

        Raises:
            GeometryError: they contradict it; the variant is named.
        """
        try:
            return base.changed(**self.of_geometry)
        except GeometryError as error:
            raise GeometryError(f"variant '{self.name}': {error}") from None

    def only_reads_differently(self, base: Any) -> bool:
        """Whether a memory of the base geometry holds exactly what this one would.

        The published countdown looks at K0 before it forgets, and without long-term reads no search keys are kept.
        """
        return base.sizes.reads_ltm and self.changes.keys() <= OF_A_READ and base.quirks.eviction == "oldest"


def parse_ablations(entries: Sequence[str]) -> list[Ablation]:
    """Variants from entries like "k0-128:ltm_read_tokens=128" or "small:N=256,K0=64".

    Raises:
        InputError: no name, a name twice or of a system, a field that is unknown or belongs to the write pass.
    """
    made: dict[str, Ablation] = {}
    for entry in entries:
        name, colon, rest = entry.partition(":")
        name = name.strip()
        if not colon or not rest.strip():
            raise InputError(f"'{entry}' is no variant; expected NAME:KEY=VALUE[,KEY=VALUE] like k0-128:ltm_read_tokens=128")
        if not _NAME.fullmatch(name):
            raise InputError(f"'{name}' is no name for a variant; use letters, digits and . _ + - only, like k0-128")
        if name in made or name in _RESERVED:
            taken = "given twice" if name in made else "the name of something else in the results"
            raise InputError(f"variant '{name}' is {taken}; choose another name")
        changes = parse_sizes(rest.split(","), more=(CHOICE, ROUNDS))
        if changes.get(CHOICE, CHOICES[0]) not in CHOICES:
            raise InputError(
                f"variant '{name}': choice is {changes[CHOICE]!r:.60}, expected {', '.join(CHOICES[:-1])} or {CHOICES[-1]}"
            )
        if changes.get(ROUNDS, 1) not in (1, 2):
            raise InputError(f"variant '{name}': rounds is {changes[ROUNDS]!r:.60}, expected 1 or 2")
        shared = sorted(changes.keys() & OF_A_WRITE)
        if shared:
            raise InputError(
                f"variant '{name}' changes {shared[0]}, but all variants share one write pass; "
                f"make a run of its own with --set-geometry {shared[0]}={changes[shared[0]]}"
            )
        made[name] = Ablation(name=name, changes=changes)
    return list(made.values())


def parse_sizes(entries: Sequence[str], more: Sequence[str] = ()) -> dict[str, Any]:
    """Fields of ``Geometry``, and settings in `more`, from entries like "K0=512"; values are read as YAML.

    Raises:
        InputError: no key or no value, or a key that is no field; the nearest is named.
    """
    sizes: dict[str, Any] = {}
    for entry in entries:
        key, equals, value = (part.strip() for part in entry.partition("="))
        if not equals or not key or not value:
            raise InputError(f"'{entry.strip()}' is no setting of the memory; expected KEY=VALUE like K0=512")
        name = SYMBOLS.get(key, key)
        if name not in (*PATHS, *more):
            known = f"known: {', '.join(SYMBOLS)} and the fields of Geometry"
            hint = did_you_mean(name, [*PATHS, *SYMBOLS, *more], otherwise=known)
            raise InputError(f"the memory has no setting '{key}'; {hint}")
        if name in sizes:
            raise InputError(f"{name} is given twice; give it once")
        try:
            sizes[name] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise InputError(f"the value of '{entry.strip()}' cannot be read; expected a number, true, false or a word") from None
    return sizes
