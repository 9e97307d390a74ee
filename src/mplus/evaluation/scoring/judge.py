"""A second opinion on the answers of a finished run: a language model behind an OpenAI-compatible address says whether each is right.

Reads ``samples.jsonl``. Verdicts go to ``judged.jsonl`` beside it as they come, a line each, so that a stopped judge goes on where it was and no
answer is judged twice; ``judged.json`` has the shares per system and row. Knows no task and no model of ours.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from mplus.errors import InputError
from mplus.evaluation.report.result_log import SAMPLES, SETTINGS, Key, Sample, stored_lines, stored_samples
from mplus.evaluation.schedule.distances import short
from mplus.evaluation.scoring.endpoint import Endpoint, Reply
from mplus.evaluation.scoring.interval import mean_interval
from mplus.evaluation.scoring.verdict import score_of, thinks_on
from mplus.runtime.atomic import replace_files

SCHEMA: Final = 1
VERDICTS, SHARES = "judged.jsonl", "judged.json"
PROMPT_VERSION: Final = 2
"""Raised whenever a verdict could change; verdicts of another version do not count."""

_ALL: Final = "all"
_KEPT_CHARS: Final = 200  # of what the judge said
_SHOWN: Final = 5
_ANSWERED: Final = """You check one answer to one question.

Question:
{question}

Right answers (each of them alone is right; one may describe what a good answer does):
{answers}

Answer to check:
{given}

Does the answer to check agree with at least one right answer? Other wording, more words and other ways to write a date or a number do not \
matter. If it leaves out what matters, contradicts it, or says that it does not know, it does not agree.
Reply with a single word, yes or no."""
_REFUSED: Final = """You check one answer to one question. What was read does not tell the answer, so the only right reply is to say so.

Question:
{question}

Answer to check:
{given}

Does the answer to check say that this is not known, was not mentioned or cannot be answered?
Reply with a single word, yes or no."""

Progress = Callable[[int, int], None]
_Known = dict[tuple[Key, str], "Verdict"]


@dataclass(frozen=True)
class Judge:
    """A judge behind an endpoint.

    Attributes:
        url: up to and with the version, such as https://api.openai.com/v1 or http://localhost:8000/v1.
        model: its name there.
        key_env: environment variable with the key; it may be unset where none is needed.
        timeout_s: for one reply.
        attempts: at one reply, where the endpoint is busy, broken or silent.
        backoff_s: pause after the first attempt; doubles each time.
        max_tokens: of a reply; None: as many as the endpoint likes, and so where they end in the middle of thinking aloud.
        at_once: requests at the same time.
    """

    url: str
    model: str
    key_env: str = "OPENAI_API_KEY"
    timeout_s: float = 60.0
    attempts: int = 5
    backoff_s: float = 1.0
    max_tokens: int | None = 64
    at_once: int = 4

    def verdict(self, sample: Sample) -> Verdict:
        """Ask about one answer.

        Raises:
            InputError: the endpoint cannot be reached, refuses, or is of another kind.
        """
        reply = self._reply(sample)
        score = score_of(reply.text)
        if score is None and (reply.is_cut or thinks_on(reply.text)) and self.max_tokens is not None:
            self.endpoint.lift_limit()  # it thinks before it answers
            reply = self._reply(sample)
            score = score_of(reply.text)
        return Verdict(sample.key, fingerprint(sample), score, reply.text[:_KEPT_CHARS], self.model, PROMPT_VERSION)

    def _reply(self, sample: Sample) -> Reply:
        limit = self.max_tokens if self.endpoint.is_limited else None
        return self.endpoint.reply(self.model, prompt_of(sample), temperature=0, max_tokens=limit)

    @cached_property
    def endpoint(self) -> Endpoint:
        """Who is asked; one for all answers, so that what it refuses is not sent twice."""
        return Endpoint(
            url=self.url, key_env=self.key_env, timeout_s=self.timeout_s, attempts=self.attempts, backoff_s=self.backoff_s
        )


@dataclass(frozen=True)
class Verdict:
    """The judge's verdict on one answer; ``score`` is 1, 0, or None where it said neither yes nor no."""

    key: Key
    answer: str
    score: int | None
    said: str
    model: str
    prompt: int

    def line(self) -> str:
        """As it is stored."""
        stream, system, name, distance = self.key
        about = {"stream": stream, "system": system, "id": name, "distance": distance, "answer": self.answer}
        rest = {"score": self.score, "said": self.said, "model": self.model, "prompt": self.prompt}
        return json.dumps({**about, **rest}, ensure_ascii=False) + "\n"


def prompt_of(sample: Sample) -> str:
    """The judge's prompt."""
    given = sample.given.strip() or "(nothing)"
    if sample.unanswerable:
        return _REFUSED.format(question=sample.question, given=given)
    listed = "\n".join(f"- {answer}" for answer in sample.answers)
    return _ANSWERED.format(question=sample.question, answers=listed, given=given)


def fingerprint(sample: Sample) -> str:
    """Tells an answer from another one with the same key, as a run that was begun anew gives it."""
    content = [sample.question, list(sample.answers), sample.given, sample.unanswerable]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def judge_run(directory: Path, judge: Judge, progress: Progress | None = None) -> dict[str, Any]:
    """Judge every answer of a run that was not judged yet, and add up.

    Args:
        directory: with samples.jsonl.
        progress: called with answers judged and their number.

    Returns:
        the content of ``judged.json``: ``systems`` has for each system and row (several rows: also "all") ``share``, answers judged right
        among those with a verdict (None where there is none), its 95 % interval ``low`` to ``high``, ``judged``, ``right`` and
        ``no_verdict``, how many answers have none because the judge said neither yes nor no (``unclear`` has some of what it said);
        they are asked about again the next time.

    Raises:
        InputError: there are no answers, another judge was here before, or the endpoint fails; what was judged is kept.
    """
    if not (directory / SAMPLES).is_file():
        raise InputError(f"'{directory}' has no {SAMPLES}; give the directory of a finished run")
    _check_judgeable(directory)
    samples = [one for one in stored_samples(directory) if one.asked and one.answers]
    if not samples:
        raise InputError(f"'{directory / SAMPLES}' holds no answer to judge; give a run of a task with questions")
    known = _stored(directory / VERDICTS, judge)
    missing = [one for one in samples if (was := known.get((one.key, fingerprint(one)))) is None or was.score is None]
    _ = judge.endpoint  # refuse a wrong address before any thread starts
    _judge_all(directory / VERDICTS, judge, missing, known, len(samples), progress)
    shares = _shares(samples, known, judge)
    text = json.dumps(shares, indent=1, ensure_ascii=False) + "\n"
    replace_files({directory / SHARES: lambda path: path.write_text(text, encoding="utf-8")})
    return shares


def _check_judgeable(directory: Path) -> None:
    """Refuse answers that no verdict of yes or no fits."""
    try:
        run = json.loads((directory / SETTINGS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return  # samples of another maker
    if not isinstance(run, dict):
        return
    if run.get("metric") == "share":
        raise InputError(
            f"'{directory}' is a run whose answers count by how many of several they name; a judge says yes or no only"
        )
    if run.get("measure", "answer") != "answer":
        raise InputError(f"'{directory}' is a run that measures {run['measure']}, not answers; there is nothing to judge")


def _judge_all(path: Path, judge: Judge, missing: Sequence[Sample], known: _Known, total: int, progress: Progress | None) -> None:
    """Several at once, each stored as it comes; after a failure those under way are still kept."""
    failed: BaseException | None = None
    done, stopped = total - len(missing), threading.Event()
    if progress is not None:
        progress(done, total)

    def verdict(sample: Sample) -> Verdict | None:
        return None if stopped.is_set() else judge.verdict(sample)

    with path.open("a", encoding="utf-8") as file, ThreadPoolExecutor(judge.at_once) as pool:
        try:
            for future in as_completed([pool.submit(verdict, sample) for sample in missing]):
                if (error := future.exception()) is not None:
                    failed = failed or error
                    stopped.set()
                elif (one := future.result()) is not None:
                    file.write(one.line())
                    file.flush()
                    known[one.key, one.answer] = one
                    done += 1
                    if progress is not None:
                        progress(done, total)
        finally:
            stopped.set()
    if failed is not None:
        raise failed


def _stored(path: Path, judge: Judge) -> _Known:
    """Verdicts of an earlier time; a last line that was not written whole is dropped."""
    if not path.exists():
        return {}
    verdicts, whole_bytes = stored_lines(path, _verdict_of, kind="verdict", advice="move the file away")
    for one in verdicts:
        if (one.model, one.prompt) != (judge.model, PROMPT_VERSION):
            raise InputError(
                f"'{path}' was judged by model '{one.model}' with prompt {one.prompt}, this is '{judge.model}' with prompt {PROMPT_VERSION}; "
                "name the same model, or move the file away"
            )
    with path.open("r+b") as file:
        file.truncate(whole_bytes)
    return {(one.key, one.answer): one for one in verdicts}


def _verdict_of(data: dict[str, Any]) -> Verdict:
    key: Key = (str(data["stream"]), str(data["system"]), str(data["id"]), int(data["distance"]))
    return Verdict(key, data["answer"], data["score"], data["said"], data["model"], data["prompt"])


def _shares(samples: Sequence[Sample], known: _Known, judge: Judge) -> dict[str, Any]:
    """Per system and row what the verdicts add up to."""
    scores = {one.key: known[one.key, fingerprint(one)].score for one in samples}
    groups: dict[str, dict[str, list[Sample]]] = {}
    for one in samples:
        groups.setdefault(one.system, {}).setdefault(one.row or short(one.distance), []).append(one)
    for rows in groups.values():
        if len(rows) > 1 and all(one.row for group in rows.values() for one in group):
            rows[_ALL] = [one for group in rows.values() for one in group]
    return {
        "schema": SCHEMA,
        "judge": judge.model,
        "url": judge.endpoint.shown,
        "prompt": PROMPT_VERSION,
        "judged": sum(score is not None for score in scores.values()),
        "no_verdict": sum(score is None for score in scores.values()),
        "unclear": [known[one.key, fingerprint(one)].said for one in samples if scores[one.key] is None][:_SHOWN],
        "systems": {name: {row: _share(group, scores) for row, group in rows.items()} for name, rows in groups.items()},
    }


def _share(group: Sequence[Sample], scores: Mapping[Key, int | None]) -> dict[str, Any]:
    """The share of answers judged right, with its interval; those without a verdict are left out and counted."""
    clusters: dict[str, list[float]] = {}
    for one in group:
        if (score := scores[one.key]) is not None:
            clusters.setdefault(one.cluster, []).append(float(score))
    flat = [score for cluster in clusters.values() for score in cluster]
    low, high = mean_interval(list(clusters.values())) if flat else (0.0, 1.0)
    return {
        "share": round(sum(flat) / len(flat), 4) if flat else None,
        "low": round(low, 4),
        "high": round(high, 4),
        "judged": len(flat),
        "right": int(sum(flat)),
        "no_verdict": len(group) - len(flat),
    }
