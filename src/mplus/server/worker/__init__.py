"""The thread that owns the model: continuous batching of answers, writes between decode steps. Knows no web and no disk."""

from mplus.server.worker.events import WorkerEvents, WorkerLoad
from mplus.server.worker.worker import Worker

__all__ = ["Worker", "WorkerEvents", "WorkerLoad"]
