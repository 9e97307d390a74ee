"""Systems of a run, made anew for every stream: no memory outlives one. Knows models, no task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mplus.evaluation.ablations import Ablation
from mplus.evaluation.schedule.stream import ScheduledQuestion
from mplus.evaluation.systems.memory import MemoryReader, MemorySystem
from mplus.evaluation.systems.plain_model import PlainModel
from mplus.evaluation.systems.protocol import PLAIN, MemoryModel, Reader, System
from mplus.evaluation.systems.text import Bm25System, FullSystem, PassageSystem, TextRead, WindowSystem
from mplus.settings import Geometry


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
        source_tokens: text tokens of one source; None: a stream is one source.
        store: a directory for long-term memories on disk; None: in RAM.
        ablations: further M+ memories. All memories of one model take the same write passes, whose chunks see the newest tokens of
            the M+ memory. An ablation that only reads differently needs no memory of its own.
    """

    model: MemoryModel
    systems: Sequence[str]
    ablations: Sequence[Ablation] = ()
    geometry: dict[str, Any] = field(default_factory=dict)
    memoryllm_model: MemoryModel | None = None
    plain_model: Any = None
    text_budget: int | None = None
    source_tokens: int | None = None
    store: Path | None = None

    @property
    def names(self) -> list[str]:
        """Of everything that answers."""
        return [*self.systems, *(one.name for one in self.ablations)]

    @property
    def measured(self) -> Geometry:
        """The geometry that is measured."""
        own: Geometry = self.model.geometry
        return own.changed(**self.geometry) if self.geometry else own

    @property
    def read_budget_tokens(self) -> int:
        """Memory tokens a prompt reads: N + K0."""
        return int(self.measured.sizes.stm_tokens + self.measured.sizes.ltm_read_tokens)

    @property
    def text_budgets(self) -> dict[str, int | str]:
        """Tokens that each system with text may see."""
        room = "what fits"
        budgets: dict[str, int | str] = {"full": room, "window": self.text_budget or room, "passage": room}
        budgets["window_long"] = budgets["window"]
        budgets["bm25"] = self.text_budget or self.read_budget_tokens
        return {name: budgets[name] for name in self.systems if name in budgets}

    @property
    def geometries(self) -> dict[str, Any]:
        """Of every memory that is asked, by system.

        Raises:
            GeometryError: an ablation's contradicts itself.
        """
        found = {"mplus": self.measured} if "mplus" in self.systems else {}
        if "memoryllm" in self.systems:
            found["memoryllm"] = self.measured.changed(**self._changes_of_memoryllm)
        return found | {one.name: one.geometry(self.measured) for one in self.ablations}

    def make(self, *, seed: int, questions: Sequence[ScheduledQuestion], label: str) -> tuple[list[Reader], list[System]]:
        """Fresh systems.

        Args:
            seed: of the memories' random drops.
            questions: all of the stream; ``passage`` is asked at their smallest distance.
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
                systems.append(self._plain(name, plain, text, questions))
                continue
            system = self._mplus(seed, label) if name == "mplus" else self._memoryllm(seed)
            systems.append(system)
            if system.model is self.model:
                own[name] = system
            else:
                readers.append(MemoryReader(system.model, [system], {name}, self.source_tokens))
        for one in self.ablations:
            if "mplus" in own and one.only_reads_differently(self.measured):
                systems.append(
                    own["mplus"].reading_as(one.name, one.geometry(self.measured), self._retriever(one), rounds=one.rounds)
                )
            else:
                own[one.name] = self._mplus(seed, f"{label}-{one.name}", one)
                systems.append(own[one.name])
        if own:
            # chunks are encoded for the memory that is measured, and with search keys if any memory wants them
            geometries = self.geometries
            first = sorted(own, key=lambda name: (not geometries[name].sizes.reads_ltm, name != "mplus"))
            serves = {*own, *(one.name for one in self.ablations)}
            readers.append(MemoryReader(self.model, [own[name] for name in first], serves, self.source_tokens))
        return readers, systems

    def _plain(self, name: str, plain: PlainModel, text: TextRead, questions: Sequence[ScheduledQuestion]) -> System:
        if name == "full":
            return FullSystem(plain, text)
        if name in ("window", "window_long"):
            is_long = name == "window_long"
            together = [one.question.message for one in questions] if "window_long" in self.systems else None
            return WindowSystem(plain, text, self.text_budget, together=together, is_long=is_long, name=name)
        if name == "bm25":
            return Bm25System(plain, text, self.text_budget or self.read_budget_tokens)
        return PassageSystem(plain, min((one.distance for one in questions), default=0))

    def _mplus(self, seed: int, label: str, ablation: Ablation | None = None) -> MemorySystem:
        where = {} if self.store is None else {"store": self.store / label}
        changes = self.geometry if ablation is None else {**self.geometry, **ablation.of_geometry}
        memory = self.model.new_memory(seed=seed, **changes, **where)
        memory.retriever = self._retriever(ablation)
        if ablation is None:
            return MemorySystem("mplus", self.model, memory)
        return MemorySystem(ablation.name, self.model, memory, rounds=ablation.rounds)

    def _retriever(self, ablation: Ablation | None) -> Any:
        """The retriever of an ablation's memory in place of the model's; None: that one."""
        model: Any = self.model
        return None if ablation is None else ablation.retriever(model.parts.retriever)

    def _memoryllm(self, seed: int) -> MemorySystem:
        model = self.memoryllm_model or self.model
        kept = {name: value for name, value in self.geometry.items() if name not in ("stm_tokens", "ltm", "ltm_capacity")}
        return MemorySystem("memoryllm", model, model.new_memory(seed=seed, **{**kept, **self._changes_of_memoryllm}))

    @property
    def _changes_of_memoryllm(self) -> dict[str, Any]:
        return {"stm_tokens": self.read_budget_tokens, "ltm": False}
