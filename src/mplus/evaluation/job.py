"""A whole run: streams read one after the other, samples stored as they come, then the summary. Prints nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mplus.circumstances import circumstances
from mplus.evaluation.bench import Bench
from mplus.evaluation.curves import draw_curves
from mplus.evaluation.run import DEFAULT_MAX_NEW_TOKENS, IsRight, Journal, run_script
from mplus.evaluation.script import Script
from mplus.evaluation.summary import SUMMARY, TABLE, Summary, store

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, kw_only=True)
class Stream:
    """One text with its questions.

    Attributes:
        name: "seed 0", "pass 2"; samples carry it.
        seed: of the memories' random drops.
    """

    name: str
    seed: int
    script: Script


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is read, who answers, and when an answer is right.

    Attributes:
        task: names the picture.
        settings: stored with the result.
    """

    task: str
    bench: Bench
    streams: Sequence[Stream]
    is_right: IsRight
    max_new_tokens: int = DEFAULT_MAX_NEW_TOKENS
    settings: dict[str, Any] = field(default_factory=dict)

    def run(self, directory: Path, progress: Progress | None = None) -> tuple[Summary, list[Path]]:
        """Read, ask, store.

        Args:
            directory: made if absent; gets samples.jsonl, then summary.json, table.md and a picture.
            progress: called with a stream's name, text tokens read and their total.

        Returns:
            the summary and the paths of what was stored.
        """
        directory.mkdir(parents=True, exist_ok=True)
        for earlier in (SUMMARY, TABLE, f"{self.task}.png"):  # else an unfinished run would look like a finished one
            (directory / earlier).unlink(missing_ok=True)
        nearest = min(due.distance for stream in self.streams for asked in stream.script.due.values() for due in asked)
        seconds: dict[str, float] = {}
        with Journal(directory / "samples.jsonl") as journal:
            for stream in self.streams:
                readers, systems = self.bench.make(seed=stream.seed, nearest=nearest, label=stream.name.replace(" ", "-"))
                spent = run_script(
                    stream.script,
                    readers,
                    systems,
                    journal,
                    stream=stream.name,
                    is_right=self.is_right,
                    max_new_tokens=self.max_new_tokens,
                    progress=None if progress is None else _of(progress, stream.name),
                )
                seconds = {name: round(seconds.get(name, 0.0) + value, 1) for name, value in spent.items()}
        summary = Summary(task=self.task, model=self.bench.model.name, samples=journal.samples, context=self._context(seconds))
        return summary, [journal.path, *store(summary, directory, draw_curves)]

    def _context(self, seconds: dict[str, float]) -> dict[str, Any]:
        bench = self.bench
        versions, hardware = circumstances(bench.model.dtype)
        models = {"mplus": bench.model, "memoryllm": bench.memoryllm_model}
        return {
            "fingerprints": {name: getattr(model, "fingerprint", None) for name, model in models.items() if model is not None},
            "geometry": bench.sizes.model_dump(),
            "variants": {variant.name: variant.changes for variant in bench.variants},
            "read_budget_tokens": bench.read_budget_tokens,
            "tokens_read": {stream.name: stream.script.tokens for stream in self.streams},
            "seeds": {stream.name: stream.seed for stream in self.streams},
            "max_new_tokens": self.max_new_tokens,
            "settings": self.settings,
            "seconds": round(sum(seconds.values()), 1),
            "seconds_of": seconds,
            "versions": versions,
            "hardware": hardware,
            "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }


def _of(progress: Progress, stream: str) -> Callable[[int, int], None]:
    return lambda done, total: progress(stream, done, total)
