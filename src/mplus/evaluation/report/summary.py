"""The summary of a run's samples: mean scores with intervals, what was retrieved, the table. Computes nothing with models.

``summary.json``, schema 2: ``systems`` has for each system lists of one length, an entry per row of the table: ``rows`` (labels),
``accuracy`` (mean score; for a likelihood perplexity, where smaller is better), ``low`` and ``high`` (95 %, bootstrap over clusters),
``asked``, ``right`` (scores of 1), ``not_asked`` (the text did not fit, or there was none), ``tokens_back``, ``ltm_tokens`` and
``seen_tokens`` (means as measured); ``distances`` where rows are distances; ``overall`` over all of its samples; where speed was
measured ``measures`` (medians); and over several streams ``streams``, ``mean`` and ``spread`` (standard deviation). ``retrieval``
has lists of one value that holds for all layers, or one per layer.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mplus.evaluation.report.refusal import beside_alone, refusal_of, refusal_sentence
from mplus.evaluation.report.result_log import Sample
from mplus.evaluation.schedule.distances import short
from mplus.evaluation.scoring.interval import mean_interval
from mplus.runtime.atomic import replace_files

SCHEMA = 2
SUMMARY, TABLE = "summary.json", "table.md"
RETRIEVAL = "right long-term tokens read (chance); answer read as a whole"
NAMES = {
    "mplus": "M+",
    "memoryllm": "MemoryLLM",
    "full": "full context",
    "window": "last window",
    "window_long": "last window, 40 tokens",
    "bm25": "BM25",
    "passage": "passage in the prompt",
}
MEASURES = {"first_token_ms": "first token, ms", "tokens_per_s": "tokens/s", "size_mb": "MB kept"}
_MANY_STREAMS = 16


@dataclass(frozen=True, kw_only=True)
class Summary:
    """All samples of a run and the environment they must be read with.

    Attributes:
        context: the rest of ``summary.json``.
        streams_about: how each stream was made.
        paths: of what was stored.
    """

    task: str
    model: str
    samples: Sequence[Sample]
    context: dict[str, Any] = field(default_factory=dict)
    streams_about: dict[str, dict[str, Any]] = field(default_factory=dict)
    paths: list[Path] = field(default_factory=list)

    @property
    def systems(self) -> list[str]:
        """Names, in the order they first answered."""
        return list(dict.fromkeys(sample.system for sample in self.samples))

    @property
    def streams(self) -> list[str]:
        """Names, in their order."""
        return list(dict.fromkeys(sample.stream for sample in self.samples))

    @property
    def by_distance(self) -> bool:
        """Whether the table's rows are distances."""
        return not any(sample.row for sample in self.samples)

    @property
    def measure(self) -> str:
        """What was measured: "answer", "likelihood" or "speed"."""
        return str(self.context.get("measure", "answer"))

    @property
    def rows_in_order(self) -> list[str]:
        """Labels of all rows: distances ascending, else as they first come."""
        if self.by_distance:
            return [short(one) for one in sorted({sample.distance for sample in self.samples})]
        return list(dict.fromkeys(sample.row for sample in self.samples))

    def of(self, system: str) -> dict[str, list[Sample]]:
        """Samples of a system that were asked, by row."""
        found: dict[str, list[Sample]] = {}
        for sample in self.samples:
            if sample.system == system and sample.asked:
                found.setdefault(self._row(sample), []).append(sample)
        return {row: found[row] for row in self.rows_in_order if row in found}

    def _row(self, sample: Sample) -> str:
        return short(sample.distance) if self.by_distance else sample.row

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
        left_out = [self._row(one) for one in self.samples if one.system == system and not one.asked]
        made: dict[str, Any] = {"rows": list(groups)}
        if self.by_distance:
            made["distances"] = [group[0].distance for group in groups.values()]
        made["accuracy"] = [self._mean(group) for group in groups.values()]
        made["asked"] = [len(group) for group in groups.values()]
        made["right"] = [sum(one.right for one in group) for group in groups.values()]
        bands = [self._interval(group) for group in groups.values()]
        made["low"], made["high"] = [round(low, 4) for low, _ in bands], [round(high, 4) for _, high in bands]
        made["not_asked"] = {row: left_out.count(row) for row in dict.fromkeys(left_out)}
        for name in ("tokens_back", "ltm_tokens", "seen_tokens"):
            made[name] = [round(statistics.fmean(getattr(one, name) for one in group)) for group in groups.values()]
        every = [one for group in groups.values() for one in group]
        if every:
            low, high = self._interval(every)
            made["overall"] = {"accuracy": self._mean(every), "low": round(low, 4), "high": round(high, 4), "asked": len(every)}
        if any(one.unanswerable for one in every):
            refused = [one for one in every if one.unanswerable]
            made["abstention"] = {"asked": len(refused), "right": sum(one.right for one in refused)}
            made["refusal"] = refusal_of(every)
        if (beside := beside_alone(every)) is not None:
            made["beside_alone"] = beside
        if any(one.measures for one in every):
            made["measures"] = {
                name: [round(statistics.median(one.measures[name] for one in group), 3) for group in groups.values()]
                for name in every[0].measures
            }
        if self.by_distance and 1 < len(self.streams) <= _MANY_STREAMS:
            self._add_streams(made, groups)
        return made

    def _add_streams(self, made: dict[str, Any], groups: dict[str, list[Sample]]) -> None:
        table = {
            stream: [
                self._mean(part) if (part := [one for one in group if one.stream == stream]) else None
                for group in groups.values()
            ]
            for stream in self.streams
        }
        columns = [[share for share in column if share is not None] for column in zip(*table.values(), strict=True)]
        made["streams"] = table
        made["mean"] = [round(statistics.fmean(column), 4) for column in columns]
        made["spread"] = [round(statistics.stdev(column), 4) if len(column) > 1 else 0.0 for column in columns]

    def _mean(self, group: Sequence[Sample]) -> float:
        """The mean score; of likelihoods the perplexity over all tokens."""
        if self.measure == "likelihood":
            return round(math.exp(_nats(group)), 4)
        return round(statistics.fmean(one.score for one in group), 4)

    def _interval(self, group: Sequence[Sample]) -> tuple[float, float]:
        clusters: dict[str, list[Sample]] = {}
        for one in group:
            clusters.setdefault(one.cluster, []).append(one)
        scores = [[one.score for one in cluster] for cluster in clusters.values()]
        if self.measure == "likelihood":
            low, high = mean_interval(scores, weights=[[float(one.tokens) for one in cluster] for cluster in clusters.values()])
            return math.exp(low), math.exp(high)
        return mean_interval(scores)

    def _retrieval(self, system: str) -> dict[str, Any] | None:
        """Right long-term tokens read among those that were there (sums over all questions), and how many chance would have read."""
        groups = {row: traced for row, group in self.of(system).items() if (traced := [one for one in group if one.read])}
        if not groups:
            return None
        made: dict[str, Any] = {"rows": list(groups)}
        if self.by_distance:
            made["distances"] = [group[0].distance for group in groups.values()]
        made["traced"] = [len(group) for group in groups.values()]
        for name in ("right_share", "chance", "answer_read", "with_right_tokens_in_ltm"):
            made[name] = []
        for group in groups.values():
            reads = [one.read for one in group if one.read]
            layers = range(len(reads[0].chance))
            there = [sum(read.right_in_ltm[layer] for read in reads) for layer in layers]
            drawn = [sum(read.right_read[layer] for read in reads) for layer in layers]
            made["right_share"].append([round(one / all_, 4) if all_ else None for one, all_ in zip(drawn, there, strict=True)])
            by_chance = [sum(read.chance[layer] * read.right_in_ltm[layer] for read in reads) for layer in layers]
            made["chance"].append([round(one / all_, 4) if all_ else None for one, all_ in zip(by_chance, there, strict=True)])
            answered = zip(*(one.answer_read for one in reads), strict=True)
            made["answer_read"].append([round(statistics.fmean(map(float, column)), 4) for column in answered])
            made["with_right_tokens_in_ltm"].append(sum(any(read.right_in_ltm) for read in reads))
        return made

    def rows(self) -> tuple[list[str], list[list[str]]]:
        """Headings and cells: a row per distance or subtask, a column per system; the last row is all of them."""
        data = self.to_json()["systems"]
        headings = ["distance" if self.by_distance else "", *(NAMES.get(system, system) for system in data)]
        table = [[row, *(self._cell(one, row) for one in data.values())] for row in self.rows_in_order]
        if len(table) > 1 and not self.by_distance and self.measure != "speed":
            table.append(["all", *(_scored(one["overall"]) if not one["not_asked"] else "-" for one in data.values())])
        return headings, table

    def _cell(self, system: dict[str, Any], row: str) -> str:
        if row not in system["rows"]:
            if row not in system["not_asked"]:
                return "-"
            return f"{'all in STM' if self.measure == 'reading' else 'not asked'} ({system['not_asked'][row]})"
        at = system["rows"].index(row)
        if self.measure == "speed":
            return " / ".join(f"{values[at]:,.1f}" for values in system["measures"].values())
        left_out = system["not_asked"].get(row, 0)
        scored = _scored({name: system[name][at] for name in ("accuracy", "low", "high", "asked")})
        return f"{scored} ({left_out} not asked)" if left_out else scored

    def retrieval_rows(self) -> tuple[list[str], list[list[str]]]:
        """The same for what was retrieved (see ``RETRIEVAL``), with a column per system where that was measured."""
        retrieval = self.to_json()["retrieval"]
        headings = ["distance" if self.by_distance else "", *(NAMES.get(system, system) for system in retrieval)]
        rows = [row for row in self.rows_in_order if any(row in drawn["rows"] for drawn in retrieval.values())]
        return headings, [[row, *(_retrieval_cell(drawn, row) for drawn in retrieval.values())] for row in rows]

    @property
    def meaning(self) -> str:
        """What a cell of the table says."""
        if self.measure == "likelihood":
            return "Perplexity (smaller is better), 95 % interval, texts."
        if self.measure == "reading":
            return "Share of the right long-term tokens that were read, 95 % interval, questions."
        if self.measure == "speed":
            names = next((list(one.measures) for one in self.samples if one.measures), [])
            return "Medians: " + " / ".join(MEASURES.get(name, name) for name in names) + "."
        name = self.context.get("metric")
        said = f"Mean score ({name})" if name else "Share of right answers"
        return f"{said}, 95 % interval, questions."

    def to_markdown(self) -> str:
        """The tables as Markdown, with what they must be read with."""
        lines = [f"# {self.task}: {self.model}", "", self.meaning, ""]
        lines += markdown_table(*self.rows())
        if len((drawn := self.retrieval_rows())[0]) > 1:
            lines += ["", RETRIEVAL[:1].upper() + RETRIEVAL[1:] + ".", "", *markdown_table(*drawn)]
        for line in self.refusal_lines():
            lines += ["", line]
        if budgets := self.budget_sentence():
            lines += ["", budgets]
        for name, changes in self.context.get("variants", {}).items():
            lines += [*([""] if lines[-1].startswith("|") else []), f"`{name}`: M+ with {_listed(changes)}.  "]
        for reason, one in self.context.get("left_out", {}).items():
            lines += ["", f"Not asked: {one['questions']:,}, {reason}."]
        settings = self.context.get("settings", {})
        if settings:
            lines += ["", "Settings: " + _listed(settings) + "."]
        return "\n".join(lines) + "\n"

    def refusal_lines(self) -> list[str]:
        """A line a system about its refusals, and of answers that are right alone the share that is right behind other messages."""
        systems, lines = self.to_json()["systems"], list[str]()
        for system, made in systems.items():
            name = NAMES.get(system, system)
            if made.get("refusal"):
                lines.append(refusal_sentence(name, made["refusal"]))
            if beside := made.get("beside_alone"):
                shares = ", ".join(f"{row} {one['share']:.2f}" for row, one in beside.items())
                lines.append(f"{name}: of what is right alone, right there too: {shares}.")
        return lines

    def budget_sentence(self) -> str:
        """What each system may see for one question."""
        if "read_budget_tokens" not in self.context:
            return ""
        memories = f"memories {self.context['read_budget_tokens']} memory tokens"
        texts = [f"{NAMES[name]} {budget} of text" for name, budget in self.context.get("text_budget_tokens", {}).items()]
        return f"May see, in tokens: {', '.join([memories, *texts])}."


def markdown_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table in Markdown."""
    table = ["| " + " | ".join(headings) + " |", "|---:" * len(headings) + "|"]
    return table + ["| " + " | ".join(row) + " |" for row in rows]


def store(summary: Summary, directory: Path, draw: Callable[[Summary, Path], None] | None) -> list[Path]:
    """Replace ``summary.json``, ``table.md`` and the task's picture together.

    Args:
        draw: makes a PNG of a summary at a path; None: no picture.

    Returns:
        the paths.
    """
    text = json.dumps(summary.to_json(), indent=1, ensure_ascii=False, default=str) + "\n"
    writers: dict[Path, Callable[[Path], object]] = {
        directory / SUMMARY: lambda path: path.write_text(text, encoding="utf-8"),
        directory / TABLE: lambda path: path.write_text(summary.to_markdown(), encoding="utf-8"),
    }
    if draw is not None:
        writers[directory / f"{summary.task}.png"] = lambda path: draw(summary, path)
    return replace_files(writers)


def _listed(settings: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in settings.items())


def _nats(group: Sequence[Sample]) -> float:
    """Mean negative log-likelihood of a token."""
    return sum(one.score * one.tokens for one in group) / max(sum(one.tokens for one in group), 1)


def _scored(one: dict[str, Any]) -> str:
    interval = "" if one["low"] == one["high"] else f" [{one['low']:.2f}, {one['high']:.2f}]"
    return f"{one['accuracy']:.2f}{interval} {one['asked']}"


def _retrieval_cell(drawn: dict[str, Any], row: str) -> str:
    if row not in drawn["rows"]:
        return "-"
    at = drawn["rows"].index(row)
    shares = [share for share in drawn["right_share"][at] if share is not None]
    chances = [chance for chance in drawn["chance"][at] if chance is not None]
    answered = statistics.fmean(drawn["answer_read"][at])
    read = f"{statistics.fmean(shares):.2f} ({statistics.fmean(chances):.3f})" if shares else "all in STM"
    return f"{read}; {answered:.2f}"
