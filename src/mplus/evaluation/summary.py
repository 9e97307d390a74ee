"""What the samples of a run add up to: shares with intervals, what was retrieved, the table. Computes nothing with models.

``summary.json``, schema 1: ``systems`` has for each system ``distances``, ``accuracy``, ``asked``, ``right``, ``low`` and
``high`` (95 %), ``tokens_back`` and ``ltm_tokens`` (means as measured), and over several streams ``streams`` (accuracy of each),
``mean`` and ``spread`` (standard deviation). ``retrieval`` has lists of one value that holds for all layers, or one per layer.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mplus.evaluation.distances import short
from mplus.evaluation.run import Sample
from mplus.evaluation.score import clustered_interval
from mplus.memory.files import written_whole

SCHEMA = 1
SUMMARY, TABLE = "summary.json", "table.md"
RETRIEVAL = "right long-term tokens read (chance); answer read as a whole"
NAMES = {"mplus": "M+", "memoryllm": "MemoryLLM", "window": "plain window", "passage": "passage in the prompt"}


@dataclass(frozen=True, kw_only=True)
class Summary:
    """All samples of a run and the circumstances they must be read with."""

    task: str
    model: str
    samples: Sequence[Sample]
    context: dict[str, Any] = field(default_factory=dict)

    @property
    def systems(self) -> list[str]:
        """Names, in the order they first answered."""
        return list(dict.fromkeys(sample.system for sample in self.samples))

    @property
    def streams(self) -> list[str]:
        """Names, in their order."""
        return list(dict.fromkeys(sample.stream for sample in self.samples))

    def of(self, system: str) -> dict[int, list[Sample]]:
        """Samples of a system at each of its distances, ascending."""
        found: dict[int, list[Sample]] = {}
        for sample in self.samples:
            if sample.system == system:
                found.setdefault(sample.distance, []).append(sample)
        return dict(sorted(found.items()))

    def to_json(self) -> dict[str, Any]:
        """The content of ``summary.json``."""
        systems = {system: self._system(system) for system in self.systems}
        retrieval = {system: drawn for system in self.systems if (drawn := self._retrieval(system))}
        return {
            "schema": SCHEMA,
            "task": self.task,
            "model": self.model,
            "systems": systems,
            "retrieval": retrieval,
            **self.context,
        }

    def _system(self, system: str) -> dict[str, Any]:
        groups = self.of(system)
        made: dict[str, Any] = {
            "distances": list(groups),
            "accuracy": [_share(group) for group in groups.values()],
            "asked": [len(group) for group in groups.values()],
            "right": [sum(one.right for one in group) for group in groups.values()],
        }
        bands = [_interval(group) for group in groups.values()]
        made["low"], made["high"] = [round(low, 4) for low, _ in bands], [round(high, 4) for _, high in bands]
        for name in ("tokens_back", "ltm_tokens"):
            made[name] = [round(statistics.fmean(getattr(one, name) for one in group)) for group in groups.values()]
        if len(self.streams) > 1:
            table = {
                stream: [
                    _share(part) if (part := [one for one in group if one.stream == stream]) else None
                    for group in groups.values()
                ]
                for stream in self.streams
            }
            columns = [[share for share in column if share is not None] for column in zip(*table.values(), strict=True)]
            made["streams"] = table
            made["mean"] = [round(statistics.fmean(column), 4) for column in columns]
            made["spread"] = [round(statistics.stdev(column), 4) if len(column) > 1 else 0.0 for column in columns]
        return made

    def _retrieval(self, system: str) -> dict[str, Any] | None:
        """Right long-term tokens read among those that were there (sums over all questions), beside chance."""
        groups = {
            distance: traced for distance, group in self.of(system).items() if (traced := [one.read for one in group if one.read])
        }
        if not groups:
            return None
        made: dict[str, Any] = {"distances": list(groups), "traced": [len(reads) for reads in groups.values()]}
        layers = len(next(iter(groups.values()))[0].chance)
        for name in ("right_share", "chance", "answer_read"):
            made[name] = []
        for reads in groups.values():
            there = [sum(read.right_in_ltm[layer] for read in reads) for layer in range(layers)]
            drawn = [sum(read.right_read[layer] for read in reads) for layer in range(layers)]
            made["right_share"].append([round(one / all_, 4) if all_ else None for one, all_ in zip(drawn, there, strict=True)])
            for name, values in (
                ("chance", [read.chance for read in reads]),
                ("answer_read", [read.answer_read for read in reads]),
            ):
                made[name].append([round(statistics.fmean(map(float, column)), 4) for column in zip(*values, strict=True)])
        made["with_right_tokens_in_ltm"] = [sum(any(read.right_in_ltm) for read in reads) for reads in groups.values()]
        return made

    def rows(self) -> tuple[list[str], list[list[str]]]:
        """Headings and cells: a row per distance, a column per system."""
        data = self.to_json()
        distances = sorted({sample.distance for sample in self.samples})
        headings = ["distance", *(NAMES.get(system, system) for system in data["systems"])]
        table = [[short(distance), *(_cell(one, distance) for one in data["systems"].values())] for distance in distances]
        return headings, table

    def retrieval_rows(self) -> tuple[list[str], list[list[str]]]:
        """The same for what was retrieved (see ``RETRIEVAL``), with a column per system where that was measured."""
        retrieval = self.to_json()["retrieval"]
        distances = sorted({distance for drawn in retrieval.values() for distance in drawn["distances"]})
        headings = ["distance", *(NAMES.get(system, system) for system in retrieval)]
        return headings, [[short(one), *(_retrieval_cell(drawn, one) for drawn in retrieval.values())] for one in distances]

    def to_markdown(self) -> str:
        """The tables as Markdown, with what they must be read with."""
        lines = [f"# {self.task}: {self.model}", "", "Share of right answers, 95 % interval, right/asked.", ""]
        lines += markdown_table(*self.rows())
        if len((drawn := self.retrieval_rows())[0]) > 1:
            lines += ["", RETRIEVAL[:1].upper() + RETRIEVAL[1:] + ".", "", *markdown_table(*drawn)]
        for name, changes in self.context.get("variants", {}).items():
            lines += [*([""] if lines[-1].startswith("|") else []), f"`{name}`: M+ with {_listed(changes)}.  "]
        settings = self.context.get("settings", {})
        if settings:
            lines += ["", "Settings: " + _listed(settings) + "."]
        return "\n".join(lines) + "\n"


def markdown_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table in Markdown."""
    table = ["| " + " | ".join(headings) + " |", "|---:" * len(headings) + "|"]
    return table + ["| " + " | ".join(row) + " |" for row in rows]


def store(summary: Summary, directory: Path, draw: Callable[[Summary, Path], None]) -> list[Path]:
    """Replace ``summary.json``, ``table.md`` and the task's picture together.

    Args:
        draw: makes a PNG of a summary at a path.

    Returns:
        the paths.
    """
    text = json.dumps(summary.to_json(), indent=1, ensure_ascii=False) + "\n"
    return written_whole(
        {
            directory / SUMMARY: lambda path: path.write_text(text, encoding="utf-8"),
            directory / TABLE: lambda path: path.write_text(summary.to_markdown(), encoding="utf-8"),
            directory / f"{summary.task}.png": lambda path: draw(summary, path),
        }
    )


def _listed(settings: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in settings.items())


def _share(group: Sequence[Sample]) -> float:
    return round(sum(one.right for one in group) / len(group), 4)


def _interval(group: Sequence[Sample]) -> tuple[float, float]:
    clusters: dict[str, list[bool]] = {}
    for one in group:
        clusters.setdefault(f"{one.stream}/{one.cluster}", []).append(one.right)
    return clustered_interval(clusters)


def _cell(system: dict[str, Any], distance: int) -> str:
    if distance not in system["distances"]:
        return "-"
    at = system["distances"].index(distance)
    low, high = system["low"][at], system["high"][at]
    return f"{system['accuracy'][at]:.2f} [{low:.2f}, {high:.2f}] {system['right'][at]}/{system['asked'][at]}"


def _retrieval_cell(drawn: dict[str, Any], distance: int) -> str:
    if distance not in drawn["distances"]:
        return "-"
    at = drawn["distances"].index(distance)
    shares = [share for share in drawn["right_share"][at] if share is not None]
    chance, answered = statistics.fmean(drawn["chance"][at]), statistics.fmean(drawn["answer_read"][at])
    read = f"{statistics.fmean(shares):.2f} ({chance:.3f})" if shares else "all in STM"
    return f"{read}; {answered:.2f}"
