"""Counts and times of a server in Prometheus' form, at `/metrics`. Holds no name of a user or a memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from fastapi import APIRouter, Request, Response
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from mplus.server.answers import Answering, AnswerResult
from mplus.server.auth import Admin
from mplus.server.engine import Engine, EngineCounts
from mplus.server.worker import WorkerEvents

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
PASS_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128)
SPEEDS = (1, 2, 5, 10, 20, 50, 100, 200, 500)
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

GAUGES = {
    "waiting": "Requests that wait for the model.",
    "passing": "Prompts that are passing now, of those that wait.",
    "batch": "Answers that are decoded at once now.",
    "open_memories": "Memories that are held in RAM.",
    "open_bytes": "Bytes of the memories that are held in RAM.",
    "stored_bytes": "Bytes of all stored memories.",
}
"""Fields of ``EngineCounts``, as they are told."""

router = APIRouter(tags=["operations"])


class Metrics:
    """What one application has counted."""

    def __init__(self, engine: Callable[[], Engine | None]) -> None:
        self.registry = CollectorRegistry()
        named: dict[str, Any] = {"registry": self.registry}
        self.requests = Counter("mplus_requests", "Requests that ended.", ["route", "method", "status"], **named)
        self.running = Gauge("mplus_requests_running", "Requests that have no whole answer yet, this one included.", **named)
        self.seconds = Histogram("mplus_request_seconds", "Whole requests.", ["route"], buckets=SECONDS, **named)
        self.answers = Counter("mplus_answers", "Answers, by how they ended.", ["finish"], **named)
        self.first_token = Histogram("mplus_first_token_seconds", "From request to first text.", buckets=SECONDS, **named)
        self.speed = Histogram("mplus_answer_tokens_per_second", "Of one answer, from its first text.", buckets=SPEEDS, **named)
        self.prompt_tokens = Counter("mplus_prompt_tokens", "Tokens of prompts.", **named)
        self.answer_tokens = Counter("mplus_answer_tokens", "Tokens of answers.", **named)
        self.memory_tokens = Counter("mplus_memory_tokens_read", "Memory tokens that stood before prompts.", **named)
        self.failed_keys = Counter("mplus_failed_keys", "Requests with a wrong key.", **named)
        self.worker = WorkerMetrics(self.registry)
        self.registry.register(_Gauges(engine))

    def request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count a request that ended."""
        self.requests.labels(route, method if method in METHODS else "other", str(status)).inc()
        self.seconds.labels(route).observe(seconds)

    def answer(self, answering: Answering, result: AnswerResult | None) -> None:
        """Count an answer that ended."""
        self.answers.labels("error" if result is None else result.finish).inc()
        if answering.first_piece_s is not None:
            self.first_token.observe(answering.first_piece_s - answering.begun_s)
        if result is None:
            return
        self.prompt_tokens.inc(result.prompt_tokens)
        self.answer_tokens.inc(result.completion_tokens)
        self.memory_tokens.inc(result.memory_tokens)
        if answering.first_piece_s is not None and answering.ended_s is not None and result.completion_tokens > 1:
            self.speed.observe((result.completion_tokens - 1) / max(answering.ended_s - answering.first_piece_s, 1e-6))


class WorkerMetrics(WorkerEvents):
    """What the model's worker did. Answers and their first text are counted where clients get them, loads are asked for."""

    def __init__(self, registry: CollectorRegistry) -> None:
        named: dict[str, Any] = {"registry": registry}
        self.rows = Histogram("mplus_decode_rows", "Answers that got a token in a decode step.", buckets=ROWS, **named)
        self.step_seconds = Histogram("mplus_decode_step_seconds", "Decode steps.", buckets=PASS_SECONDS, **named)
        self.written = Counter("mplus_written_tokens", "Tokens of texts that were written into memories.", **named)
        self.write_seconds = Histogram("mplus_write_pass_seconds", "Write passes.", buckets=PASS_SECONDS, **named)
        self.searches = Counter("mplus_searches", "Searches of memories without an answer.", **named)
        self.failures = Counter("mplus_worker_failures", "What ended with an error in the worker.", ["what"], **named)

    def step(self, rows: int, seconds: float) -> None:
        """Each row of a step is a token of an answer."""
        self.rows.observe(rows)
        self.step_seconds.observe(seconds)

    def wrote(self, tokens: int, seconds: float) -> None:
        """Count a write pass."""
        self.written.inc(tokens)
        self.write_seconds.observe(seconds)

    def searched(self) -> None:
        """Count a search."""
        self.searches.inc()

    def failed(self, what: str, error: BaseException) -> None:
        """Count a failure."""
        self.failures.labels(what).inc()


class _Gauges(Collector):
    """What the engine holds at the moment."""

    def __init__(self, engine: Callable[[], Engine | None]) -> None:
        self._engine = engine

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Ask it."""
        engine = self._engine()
        counts = EngineCounts() if engine is None else engine.counts()
        yield GaugeMetricFamily("mplus_ready", "1 when the model is open.", value=float(engine is not None))
        for name, text in GAUGES.items():
            yield GaugeMetricFamily(f"mplus_{name}", text, value=float(getattr(counts, name)))


@router.get("/metrics", summary="Tell counts and times", response_class=Response)
async def metrics(request: Request, caller: Admin) -> Response:
    """Everything that was counted since the start, as Prometheus reads it."""
    return Response(generate_latest(request.app.state.metrics.registry), media_type=CONTENT_TYPE_LATEST)
