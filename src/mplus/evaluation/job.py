"""A whole run of one task: streams read one after the other, samples stored as they come, then the summary. Prints nothing."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from mplus.errors import InputError
from mplus.evaluation.report.pictures import draw_summary
from mplus.evaluation.report.result_log import SAMPLES, SETTINGS, ResultLog, Sample
from mplus.evaluation.report.sessions import SESSIONS, Sessions
from mplus.evaluation.report.summary import SUMMARY, TABLE, Summary, store
from mplus.evaluation.schedule.stream import EvalStream
from mplus.evaluation.schedule.stream_run import DEFAULT_MAX_NEW_TOKENS, Measure, last_missing, run_script
from mplus.evaluation.scoring.metrics import Metric
from mplus.evaluation.systems.factory import SystemFactory
from mplus.evaluation.tasks.context import StreamSource
from mplus.evaluation.tasks.left_out import LeftOut
from mplus.runtime.atomic import replace_files
from mplus.runtime.differences import first_difference
from mplus.runtime.environment import environment_of
from mplus.runtime.extras import can_draw

Progress = Callable[[str, int, int], None]
_LEFT_OUT: Final = "left_out"


@dataclass(frozen=True, kw_only=True)
class TaskRun:
    """What is read, who answers, and when an answer is right.

    Attributes:
        task: names the picture.
        metric: of answers; None where none are given.
        about: of the task (version, digest, paper), stored with the result.
        settings: stored with the result; a run that goes on must have the same.
        left_out: questions of the data that are not asked, by reason; stored with the result.
    """

    task: str
    bench: SystemFactory
    streams: Sequence[StreamSource]
    metric: Metric | None
    measure: Measure = "answer"
    max_new_tokens: int = DEFAULT_MAX_NEW_TOKENS
    about: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    left_out: LeftOut = field(default_factory=LeftOut)

    def run(self, directory: Path, progress: Progress | None = None, *, resume: bool = False) -> tuple[Summary, list[Path]]:
        """Read, ask, store.

        Args:
            directory: made if absent; gets run.json and samples.jsonl at once, then summary.json, table.md and pictures.
            progress: called with a stream's name, text tokens read and their total.
            resume: keep the samples of an earlier run in this directory and give what is missing.

        Returns:
            the summary and the paths of what was stored.

        Raises:
            InputError: the directory to be resumed was begun with other settings.
        """
        directory.mkdir(parents=True, exist_ok=True)
        if resume:
            self._check_same(directory)
        else:
            for earlier in (SETTINGS, SAMPLES, SESSIONS):
                (directory / earlier).unlink(missing_ok=True)
        for earlier in (SUMMARY, TABLE, f"{self.task}.png"):  # else an unfinished run would look like a finished one
            (directory / earlier).unlink(missing_ok=True)
        settings = (
            json.dumps({**self._settings(), _LEFT_OUT: self.left_out.to_json()}, indent=1, ensure_ascii=False, default=str) + "\n"
        )
        replace_files({directory / SETTINGS: lambda path: path.write_text(settings, encoding="utf-8")})
        tokens: dict[str, int] = {}
        sessions = Sessions(directory / SESSIONS)
        with ResultLog(directory / SAMPLES, resume=resume) as journal:
            try:
                for stream in self.streams:
                    self._run_stream(stream, journal, sessions, tokens, progress)
            finally:
                sessions.save()
        context = self._context(sessions, tokens, journal.samples)
        summary = Summary(task=self.task, model=self.bench.model.name, samples=journal.samples, context=context)
        return summary, [journal.path, *store(summary, directory, draw_summary if can_draw() else None)]

    def _run_stream(
        self, stream: StreamSource, journal: ResultLog, sessions: Sessions, tokens: dict[str, int], progress: Progress | None
    ) -> None:
        script = stream.opened()
        tokens[stream.name] = script.tokens
        _check_ids(stream.name, script)
        if last_missing(script, self.bench.names, journal, stream.name) < 0:
            return
        nearest = min((due.distance for asked in script.due.values() for due in asked), default=0)
        readers, systems = self.bench.make(
            seed=stream.seed, nearest=nearest, label=stream.name.replace(" ", "-").replace("/", "-")
        )
        run_script(
            script,
            readers,
            systems,
            journal,
            stream=stream.name,
            metric=self.metric,
            measure=self.measure,
            max_new_tokens=self.max_new_tokens,
            progress=None if progress is None else _of(progress, stream.name),
            spend=sessions.spend,
        )

    def _settings(self) -> dict[str, Any]:
        """All that a result depends on, but for versions and hardware, which are told but not compared."""
        bench = self.bench
        models = {"mplus": bench.model, "memoryllm": bench.memoryllm_model}
        return {
            "task": self.task,
            **self.about,
            "model": bench.model.name,
            "dtype": str(bench.model.dtype).removeprefix("torch."),
            "fingerprints": {name: getattr(model, "fingerprint", None) for name, model in models.items() if model is not None},
            "geometry": bench.sizes.model_dump(),
            "variants": {variant.name: variant.changes for variant in bench.variants},
            "read_budget_tokens": bench.read_budget_tokens,
            "text_budget_tokens": bench.text_budgets,
            "metric": None if self.metric is None else self.metric.name,
            "measure": self.measure,
            "max_new_tokens": self.max_new_tokens,
            "seeds": seeds
            if len(seeds := {stream.name: stream.seed for stream in self.streams}) <= 16
            else {"streams": len(seeds)},
            "settings": self.settings,
        }

    def _check_same(self, directory: Path) -> None:
        path = directory / SETTINGS
        try:
            earlier = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            if (directory / SAMPLES).exists():
                raise InputError(
                    f"'{directory}' has samples but no {SETTINGS} that says how they were made; begin anew with --overwrite"
                ) from None
            return
        except (OSError, ValueError) as error:
            raise InputError(f"{path} cannot be read ({error}); begin anew with --overwrite") from None
        if isinstance(earlier, dict):
            earlier.pop(_LEFT_OUT, None)  # follows from the settings and the data
        now = json.loads(json.dumps(self._settings(), default=str))
        if (different := first_difference(earlier, now)) is not None:
            name, old, new = different
            raise InputError(
                f"'{directory}' was begun with {name} {old!r:.80}, now it is {new!r:.80}; go on with the same settings, or give another --out"
            )

    def _context(self, sessions: Sessions, tokens: dict[str, int], samples: Sequence[Sample]) -> dict[str, Any]:
        versions, hardware = environment_of(self.bench.model.dtype)
        seconds = sessions.seconds
        answers = Counter(one.system for one in samples if one.asked)
        return {
            **{name: value for name, value in self._settings().items() if name not in ("task", "model")},
            _LEFT_OUT: self.left_out.to_json(),
            "streams": len(tokens),
            "tokens_read": tokens if len(tokens) <= 16 else {"all streams": sum(tokens.values())},
            "seconds": round(sum(seconds.values()), 1),
            "seconds_of": seconds,
            "seconds_per_1000_answers": {name: round(1000 * seconds.get(name, 0.0) / count) for name, count in answers.items()},
            "sessions": sessions.count,
            "versions": versions,
            "hardware": hardware,
            "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }


def _check_ids(stream: str, script: EvalStream) -> None:
    """Refuse two questions that samples could not tell apart: one of them would be lost."""
    counted = Counter((due.question.id, due.distance) for asked in script.due.values() for due in asked)
    for (name, _), count in counted.items():
        if count > 1:
            raise InputError(f"{stream}: {count} questions have the id '{name}'; give each record of the data an id of its own")


def _of(progress: Progress, stream: str) -> Callable[[int, int], None]:
    return lambda done, total: progress(stream, done, total)
