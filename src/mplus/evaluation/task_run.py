"""A whole run of one task: streams read one after the other, samples stored as they come, then the summary. Prints nothing."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from mplus.errors import InputError
from mplus.evaluation.report.pictures import draw_summary
from mplus.evaluation.report.result_log import SAMPLES, SESSIONS, SETTINGS, ResultLog, Sample, Sessions, without_retired
from mplus.evaluation.report.summary import SUMMARY, TABLE, Summary, store
from mplus.evaluation.schedule.stream import EvalStream
from mplus.evaluation.schedule.stream_run import DEFAULT_MAX_NEW_TOKENS, Hooks, Measure, last_missing, run_stream
from mplus.evaluation.scoring.metrics import Metric
from mplus.evaluation.systems.factory import SystemFactory
from mplus.evaluation.tasks.context import StreamSource
from mplus.evaluation.tasks.left_out import LeftOut
from mplus.runtime.atomic import replace_files
from mplus.runtime.differences import first_difference
from mplus.runtime.environment import environment_of
from mplus.runtime.extras import can_draw

_LEFT_OUT: Final = "left_out"


@dataclass(frozen=True, kw_only=True)
class TaskRun:
    """A run of one task: what is read, who answers, and when an answer is right.

    Attributes:
        task: names the picture.
        metric: of answers; None where none are given.
        about: of the task (version, digest, paper), stored with the result.
        settings: stored with the result; a run that goes on must have the same.
        left_out: questions of the data that are not asked, by reason; stored with the result.
    """

    task: str
    factory: SystemFactory
    streams: Sequence[StreamSource]
    metric: Metric | None
    measure: Measure = "answer"
    max_new_tokens: int = DEFAULT_MAX_NEW_TOKENS
    about: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    left_out: LeftOut = field(default_factory=LeftOut)

    def run(self, directory: Path, hooks: Hooks | None = None, *, resume: bool = False) -> Summary:
        """Read, ask, store.

        Args:
            directory: made if absent; gets run.json and samples.jsonl at once, then summary.json, table.md and pictures.
            resume: keep the samples of an earlier run in this directory and give what is missing.

        Returns:
            the summary; its ``paths`` are those of what was stored.

        Raises:
            InputError: the directory to be resumed was begun with other settings.
        """
        directory.mkdir(parents=True, exist_ok=True)
        if resume:
            self.check_same(directory)
        else:
            for earlier in (SETTINGS, SAMPLES, SESSIONS):
                (directory / earlier).unlink(missing_ok=True)
        for earlier in (SUMMARY, TABLE, f"{self.task}.png"):  # else an unfinished run would look like a finished one
            (directory / earlier).unlink(missing_ok=True)
        settings = {**self._settings(), _LEFT_OUT: self.left_out.to_json()}
        text = json.dumps(settings, indent=1, ensure_ascii=False, default=str) + "\n"
        replace_files({directory / SETTINGS: lambda path: path.write_text(text, encoding="utf-8")})
        tokens: dict[str, int] = {}
        about: dict[str, dict[str, Any]] = {}
        sessions = Sessions(directory / SESSIONS)
        hooks = replace(hooks or Hooks(), spend=sessions.spend)
        with ResultLog(directory / SAMPLES, resume=resume) as log:
            try:
                for source in self.streams:
                    stream = source.opened()
                    tokens[source.name], about[source.name] = stream.tokens, stream.about
                    self._run_stream(source, stream, log, hooks)
            finally:
                sessions.save()
        context = self._context(sessions, tokens, log.samples)
        summary = Summary(
            task=self.task, model=self.factory.model.name, samples=log.samples, context=context, streams_about=about
        )
        return replace(summary, paths=[log.path, *store(summary, directory, draw_summary if can_draw() else None)])

    def _run_stream(self, source: StreamSource, stream: EvalStream, log: ResultLog, hooks: Hooks) -> None:
        _check_ids(source.name, stream)
        if last_missing(stream, self.factory.names, log, source.name) < 0:
            return
        questions = [due for asked in stream.due.values() for due in asked]
        label = source.name.replace(" ", "-").replace("/", "-")
        readers, systems = self.factory.make(seed=source.seed, questions=questions, label=label)
        run_stream(
            stream,
            readers,
            systems,
            log,
            name=source.name,
            metric=self.metric,
            measure=self.measure,
            max_new_tokens=self.max_new_tokens,
            hooks=hooks,
        )

    def _settings(self) -> dict[str, Any]:
        """All that a result depends on, but for versions and hardware, which are told but not compared."""
        factory = self.factory
        models = {"mplus": factory.model, "memoryllm": factory.memoryllm_model}
        return {
            "task": self.task,
            **self.about,
            "model": factory.model.name,
            "dtype": str(factory.model.dtype).removeprefix("torch."),
            "fingerprints": {name: getattr(model, "fingerprint", None) for name, model in models.items() if model is not None},
            "geometry": factory.measured.flat(),
            "variants": {one.name: one.changes for one in factory.ablations},
            "read_budget_tokens": factory.read_budget_tokens,
            "text_budget_tokens": factory.text_budgets,
            "metric": None if self.metric is None else self.metric.name,
            "measure": self.measure,
            "max_new_tokens": self.max_new_tokens,
            "seeds": seeds
            if len(seeds := {stream.name: stream.seed for stream in self.streams}) <= 16
            else {"streams": len(seeds)},
            "settings": self.settings,
        }

    def check_same(self, directory: Path) -> None:
        """Refuse to go on with a run of other settings."""
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
            earlier["geometry"] = without_retired(earlier.get("geometry"))
        now = json.loads(json.dumps(self._settings(), default=str))
        if (different := first_difference(earlier, now)) is not None:
            name, old, new = different
            raise InputError(
                f"'{directory}' was begun with {name} {old!r:.80}, now it is {new!r:.80}; go on with the same settings, or give another --out"
            )

    def _context(self, sessions: Sessions, tokens: dict[str, int], samples: Sequence[Sample]) -> dict[str, Any]:
        versions, hardware = environment_of(self.factory.model.dtype)
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
