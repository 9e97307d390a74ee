"""The systems of a run, made anew for every stream: no memory outlives one. Knows models, no task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mplus.errors import InputError
from mplus.evaluation.ablations import Ablation
from mplus.evaluation.protocol import MemoryModel
from mplus.evaluation.systems.bm25 import Bm25System, load_bm25
from mplus.evaluation.systems.memory import MemoryReader, MemorySystem, OtherReading
from mplus.evaluation.systems.plain_model import PlainModel
from mplus.evaluation.systems.protocol import PLAIN, SYSTEMS, Reader, System
from mplus.evaluation.systems.text import FullSystem, PassageSystem, TextRead, WindowSystem
from mplus.runtime.suggest import hint_before


def known_systems(names: Sequence[str]) -> list[str]:
    """The names, each once.

    Raises:
        InputError: one is not known; the nearest is named.
    """
    for name in names:
        if name not in SYSTEMS:
            raise InputError(f"there is no system '{name}'; {hint_before(name, SYSTEMS, cutoff=0.6)}known: {', '.join(SYSTEMS)}")
    if not names:
        raise InputError(f"no system was named; give one or more of {', '.join(SYSTEMS)}")
    if "bm25" in names:
        load_bm25()
    return list(dict.fromkeys(names))


@dataclass(frozen=True, kw_only=True)
class SystemFactory:
    """How systems are made.

    Attributes:
        model: whose memory is measured; also the base of the plain systems.
        systems: names of ``SYSTEMS``.
        geometry: sizes of the memory to replace; MemoryLLM gets the same read budget, N + K0, as short-term tokens.
        memoryllm_model: weights trained without long-term memory; None: those of ``model``.
        plain_model: plain model for the systems that get text; None: the untouched base.
        text_budget: tokens of text that ``window`` and ``bm25`` get; None: a window of as much as fits, and BM25's chunks up
            to the read budget.
        store: a directory for long-term memories on disk; None: in RAM.
        variants: further M+ memories. All memories of one model take the same write passes, whose chunks see the newest tokens of
            the M+ memory. A variant that only reads differently needs no memory of its own.
    """

    model: MemoryModel
    systems: Sequence[str]
    variants: Sequence[Ablation] = ()
    geometry: dict[str, Any] = field(default_factory=dict)
    memoryllm_model: MemoryModel | None = None
    plain_model: Any = None
    text_budget: int | None = None
    store: Path | None = None

    @property
    def names(self) -> list[str]:
        """Of everything that answers."""
        return [*self.systems, *(variant.name for variant in self.variants)]

    @property
    def sizes(self) -> Any:
        """The geometry that is measured."""
        return self.model.geometry.changed(**self.geometry) if self.geometry else self.model.geometry

    @property
    def read_budget_tokens(self) -> int:
        """Memory tokens a prompt reads: N + K0."""
        return int(self.sizes.stm_tokens + self.sizes.ltm_read_tokens)

    @property
    def text_budgets(self) -> dict[str, int | str]:
        """What each system that gets text may see, in tokens."""
        room = "what fits"
        found: dict[str, int | str] = {"full": room, "window": self.text_budget or room, "passage": room}
        found["bm25"] = self.text_budget or self.read_budget_tokens
        return {name: found[name] for name in self.systems if name in found}

    @property
    def geometries(self) -> dict[str, Any]:
        """Of every memory that is asked, by system.

        Raises:
            GeometryError: a variant's contradicts itself.
        """
        found = {"mplus": self.sizes} if "mplus" in self.systems else {}
        if "memoryllm" in self.systems:
            found["memoryllm"] = self.sizes.changed(**self._changes_of_memoryllm)
        return found | {variant.name: variant.geometry(self.sizes) for variant in self.variants}

    def make(self, *, seed: int, nearest: int, label: str) -> tuple[list[Reader], list[System]]:
        """Fresh systems.

        Args:
            seed: of the memories' random drops.
            nearest: smallest distance, the one the ``passage`` system is asked at.
            label: of the stream; names its directory where memories are on disk.
        """
        readers: list[Reader] = []
        systems: list[System] = []
        own: dict[str, MemorySystem] = {}
        text, plain = TextRead(), PlainModel(self.model, self.plain_model)
        if any(name in PLAIN for name in self.systems):
            readers.append(text)
        for name in self.systems:
            if name in PLAIN:
                systems.append(self._plain(name, plain, text, nearest))
            else:
                system = self._mplus(seed, label) if name == "mplus" else self._memoryllm(seed)
                systems.append(system)
                if system.model is self.model:
                    own[name] = system
                else:
                    readers.append(MemoryReader(system.model, [system]))
        for variant in self.variants:
            if "mplus" in own and variant.only_reads_differently(self.sizes):
                systems.append(OtherReading(variant.name, own["mplus"], variant.geometry(self.sizes)))
            else:
                own[variant.name] = self._mplus(seed, f"{label}-{variant.name}", variant)
                systems.append(own[variant.name])
        if own:
            # chunks are encoded for the memory that is measured, and with search keys if any memory wants them
            geometries = self.geometries
            first = sorted(own, key=lambda name: (not geometries[name].reads_ltm, name != "mplus"))
            readers.append(MemoryReader(self.model, [own[name] for name in first]))
        return readers, systems

    def _plain(self, name: str, plain: PlainModel, text: TextRead, nearest: int) -> System:
        if name == "full":
            return FullSystem(plain, text)
        if name == "window":
            return WindowSystem(plain, text, self.text_budget)
        if name == "bm25":
            return Bm25System(plain, text, self.text_budget or self.read_budget_tokens)
        return PassageSystem(plain, nearest)

    def _mplus(self, seed: int, label: str, variant: Ablation | None = None) -> MemorySystem:
        where = {} if self.store is None else {"store": self.store / label}
        changes = self.geometry if variant is None else {**self.geometry, **variant.changes}
        memory = self.model.new_memory(seed=seed, **changes, **where)
        return MemorySystem("mplus" if variant is None else variant.name, self.model, memory)

    def _memoryllm(self, seed: int) -> MemorySystem:
        model = self.memoryllm_model or self.model
        kept = {name: value for name, value in self.geometry.items() if name not in ("stm_tokens", "ltm", "ltm_capacity")}
        return MemorySystem("memoryllm", model, model.new_memory(seed=seed, **{**kept, **self._changes_of_memoryllm}))

    @property
    def _changes_of_memoryllm(self) -> dict[str, Any]:
        return {"stm_tokens": self.read_budget_tokens, "ltm": False}
