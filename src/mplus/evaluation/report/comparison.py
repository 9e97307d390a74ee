"""Several finished runs of one task in one table and one picture. Reads ``summary.json`` files, computes nothing with models.

Systems of runs that differ in nothing but the seed are joined: their mean, and the standard deviation over the seeds. A seed
is a stream of `facts`, and a run of `retention` (its passes ask different samples). What differs otherwise stays apart.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from mplus.errors import InputError
from mplus.evaluation.report.pictures import Line, draw_bars, draw_lines, score_of
from mplus.evaluation.report.result_log import without_retired
from mplus.evaluation.report.summary import NAMES, SCHEMA, SUMMARY, markdown_table
from mplus.evaluation.systems.protocol import PLAIN

_NOT_COMPARED: Final = {"seed", "seeds", "systems", "store", "memoryllm_model", "plain_adapter", "plain_adapter_digest"}
_OF_ONE_SYSTEM: Final = {"memoryllm": "memoryllm_model", **dict.fromkeys(PLAIN, "plain_adapter")}


@dataclass(frozen=True, kw_only=True)
class Series:
    """One system, over seeds.

    Attributes:
        weights: of its own, where it had some (an adapter of a plain model, MemoryLLM's model).
        runs: directories it comes from.
        shares: by seed, then row (a distance's label, a subtask).
        bands: 95 % interval by row, of the first seed's run.
        asked: questions by row, in all.
    """

    system: str
    key: str
    weights: str | None = None
    runs: list[str] = field(default_factory=list)
    shares: dict[str, dict[str, float]] = field(default_factory=dict)
    bands: dict[str, tuple[float, float]] = field(default_factory=dict)
    asked: dict[str, int] = field(default_factory=dict)

    def at(self, row: str) -> list[float]:
        """The scores of all seeds in a row."""
        return [shares[row] for shares in self.shares.values() if row in shares]

    def band(self, row: str) -> tuple[float, float]:
        """Mean minus and plus the spread; with one seed the 95 % interval."""
        shares = self.at(row)
        if len(shares) == 1:
            return self.bands[row]
        mean, spread = statistics.fmean(shares), statistics.stdev(shares)
        return max(0.0, mean - spread), mean + spread if mean > 1 else min(1.0, mean + spread)


@dataclass(frozen=True, kw_only=True)
class Report:
    """The joined scores of several runs of one task."""

    task: str
    score: str
    series: list[Series]
    distances: dict[str, int] = field(default_factory=dict)

    @property
    def row_names(self) -> list[str]:
        """All rows: distances ascending, else as they first come."""
        found = list(dict.fromkeys(row for one in self.series for row in one.asked))
        return sorted(found, key=self.distances.__getitem__) if self.distances.keys() >= set(found) else found

    def label(self, one: Series) -> str:
        """The system's name; where several have it with its weights if these tell them apart, else with its first run."""
        name = NAMES.get(one.system, one.system)
        named = [other.weights for other in self.series if other.system == one.system]
        if len(named) == 1:
            return name
        if len(set(named)) == len(named):
            return name if one.weights is None else f"{name} with {Path(one.weights).name}"
        return f"{name} ({one.runs[0]})"

    def rows(self) -> tuple[list[str], list[list[str]]]:
        """Headings and cells: a row per distance, a column per series."""
        headings = ["distance" if self.distances else ""]
        for one in self.series:
            headings.append(self.label(one) + (f", {len(one.shares)} seeds" if len(one.shares) > 1 else ""))
        return headings, [[row, *(_cell(one, row) for one in self.series)] for row in self.row_names]

    def to_markdown(self) -> str:
        """The table as Markdown, with the runs it was made from."""
        lines = [
            f"# {self.task}",
            "",
            f"{self.score[:1].upper()}{self.score[1:]}: mean ± standard deviation over seeds; of one seed [95 % interval].",
            "",
        ]
        lines += markdown_table(*self.rows())
        lines += ["", *(f"{self.label(one)}: {', '.join(one.runs)}.  " for one in self.series)]
        return "\n".join(lines).rstrip() + "\n"

    def draw(self, path: Path) -> None:
        """Write the picture as PNG: lines over distance, or bars."""
        title = f"{self.task} (bands: one standard deviation over seeds; of one seed 95 %)"
        places = self.distances or {row: number for number, row in enumerate(self.row_names)}
        lines = []
        for one in self.series:
            rows = [row for row in self.row_names if row in one.asked]
            if not rows:
                continue
            low, high = zip(*(one.band(row) for row in rows), strict=True)
            shares = [statistics.fmean(one.at(row)) for row in rows]
            lines.append(
                Line(
                    system=one.system,
                    label=self.label(one),
                    distances=[places[row] for row in rows],
                    shares=shares,
                    low=low,
                    high=high,
                )
            )
        if self.distances:
            draw_lines(lines, path, title=title, score=self.score)
        else:
            draw_bars(lines, self.row_names, path, title=title, score=self.score)


def read_report(directories: Sequence[Path]) -> Report:
    """Join finished runs.

    Raises:
        InputError: a directory holds no finished run, or the runs are of different tasks.
    """
    series: list[Series] = []
    tasks: dict[str, Path] = {}
    score = ""
    distances: dict[str, int] = {}
    for directory in dict.fromkeys(directories):
        data = _read(directory)
        try:
            for system in data["systems"].values():
                distances.update(zip(system["rows"], system.get("distances", []), strict=False))
            tasks.setdefault(str(data["task"]), directory)
            score = score_of(data.get("measure", "answer"), data.get("metric"))
            if data.get("measure") == "speed":
                raise InputError(f"'{directory}' measured times, which a report does not join; read each run's {SUMMARY}")
            for system in data["systems"]:
                _join(series, system, data, str(directory))
        except (KeyError, TypeError, IndexError, AttributeError) as error:
            raise InputError(
                f"{directory / SUMMARY} is not what this version writes ({type(error).__name__}: {error}); make the run again"
            ) from None
    if len(tasks) > 1:
        found = ", ".join(f"{task} in {directory}" for task, directory in tasks.items())
        raise InputError(f"one report holds one task, these runs are of several: {found}; make a report of each")
    return Report(task=next(iter(tasks)), score=score, series=series, distances=distances)


def _read(directory: Path) -> dict[str, Any]:
    path = directory / SUMMARY
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(
            f"'{directory}' holds no finished run ({SUMMARY} is missing); give what `mplus eval` had as --out"
        ) from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}); make the run again") from None
    schema = data.get("schema") if isinstance(data, dict) else None
    if schema != SCHEMA:
        raise InputError(f"{path} has schema {schema!r}, this version reads {SCHEMA}; make the run again or update mplus")
    return dict(data)


def _join(series: list[Series], system: str, data: dict[str, Any], directory: str) -> None:
    """Add a system of a run to the series of the same settings that lacks its seeds, else begin one."""
    own, key = data["systems"][system], _key(system, data)
    seeds = _seeds(own, data)
    one = next((one for one in series if one.key == key and not one.shares.keys() & seeds.keys()), None)
    if one is None:
        one = Series(system=system, key=key, weights=data["settings"].get(_OF_ONE_SYSTEM.get(system, "")))
        series.append(one)
    one.runs.append(directory)
    one.shares.update(seeds)
    for row, low, high, asked in zip(own["rows"], own["low"], own["high"], own["asked"], strict=True):
        one.bands.setdefault(row, (low, high))
        one.asked[row] = one.asked.get(row, 0) + asked


def _seeds(own: dict[str, Any], data: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Scores by row of each seed in a run."""
    if data["task"] == "facts":
        streams = own.get("streams") or {next(iter(data["seeds"])): own["accuracy"]}
    else:
        streams = {f"seed {data['settings'].get('seed', 0)}": own["accuracy"]}
    return {
        name: {row: share for row, share in zip(own["rows"], shares, strict=True) if share is not None}
        for name, shares in streams.items()
    }


def _key(system: str, data: dict[str, Any]) -> str:
    """Everything that two runs of a system must share to be joined, in one text."""
    settings = {name: value for name, value in data["settings"].items() if name not in _NOT_COMPARED}
    geometry = without_retired(data["geometry"])
    if geometry["ltm_capacity"] >= max(data["tokens_read"].values()):
        del geometry["ltm_capacity"]  # never reached; `facts` raises it to the length of the longest stream
    alike = {
        "system": system,
        "changes": data.get("variants", {}).get(system),
        "task": data["task"],
        "model": data["model"],
        "fingerprint": data["fingerprints"].get(
            "memoryllm" if system == "memoryllm" else "mplus", data["fingerprints"].get("mplus")
        ),
        "weights": data["settings"].get(_OF_ONE_SYSTEM.get(system, "")),
        "geometry": geometry,
        "settings": settings,
        "max_new_tokens": data["max_new_tokens"],
        "protocol": [data.get(name) for name in ("version", "digest", "metric", "dtype")],
        "text_budget": data.get("text_budget_tokens", {}).get(system),
        "written_beside_mplus": system == "memoryllm" and "mplus" in data["systems"],
    }
    return json.dumps(alike, sort_keys=True, default=str)


def _cell(one: Series, row: str) -> str:
    shares = one.at(row)
    if not shares:
        return "-"
    if len(shares) > 1:
        return f"{statistics.fmean(shares):.3f} ± {statistics.stdev(shares):.3f}"
    low, high = one.band(row)
    return f"{shares[0]:.3f} [{low:.2f}, {high:.2f}]"
