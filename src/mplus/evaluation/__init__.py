"""Measure what a memory is worth: tasks with baselines, ``evaluate(task, model, Options(out=...))``. Builds on models, imports none."""

from mplus.evaluation.evaluate import Options, evaluate

__all__ = ["Options", "evaluate"]
