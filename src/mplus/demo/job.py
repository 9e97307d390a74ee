"""The demo's job: read far more than a window holds, then answer about facts at growing distances. Prints nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from mplus.corpus.stream import Stream, build_stream, shortest_stream
from mplus.demo.result import LONG_ANSWER_TOKENS, WINDOW_LONG, Answered, RetentionResult
from mplus.errors import InputError
from mplus.evaluation.protocol import MemoryModel
from mplus.evaluation.systems.shared_context import answer_from_window
from mplus.runtime.environment import environment_of

DEFAULT_DISTANCES: Final = (1000, 2000, 4000, 8000, 16_000, 32_000, 64_000, 128_000, 160_000)
DEFAULT_TOKENS: Final = 164_000
DEFAULT_QUESTIONS: Final = 16
MAX_NEW_TOKENS: Final = 10
_CHAT_BATCH: Final = 8

Progress = Callable[[str, int, int], None]


def distances_within(tokens: int, questions: int = DEFAULT_QUESTIONS) -> list[int]:
    """The default distances that a text of so many tokens has room for.

    Raises:
        InputError: not even the smallest one fits.
    """
    fitting = [distance for distance in DEFAULT_DISTANCES if shortest_stream([distance], questions) <= tokens]
    if not fitting:
        needed = shortest_stream(DEFAULT_DISTANCES[:1], questions)
        raise InputError(f"tokens is {tokens}, expected at least {needed} to ask {questions} questions 1,000 tokens back")
    return fitting


def run_retention(
    model: MemoryModel,
    *,
    haystack: str,
    tokens: int = DEFAULT_TOKENS,
    distances: Sequence[int] | None = None,
    questions: int = DEFAULT_QUESTIONS,
    seed: int = 0,
    progress: Progress | None = None,
) -> RetentionResult:
    """Let a model read a long text with facts in it, then ask M+, MemoryLLM and the plain window about them.

    MemoryLLM has the same weights and as many short-term tokens as M+ reads in all (N + K0), and is filled in the
    same pass. All systems use the chat template and answer greedily in at most 10 tokens. The untrained window
    model tends to repeat the question first, so its answers of 40 tokens are kept and scored apart as well.

    Args:
        haystack: running text of at least 2,000 tokens.
        tokens: length of what is read.
        distances: tokens between a fact and the end of the text; by default all of 1k, 2k, 4k ... 160k that fit.
        questions: per distance.
        seed: of names, values, places and random drops.
        progress: called with a stage ("read" or a system), what is done and the total.

    Raises:
        InputError: a number is out of range or the haystack too short; nothing was computed then.
    """
    report: Progress = progress or (lambda stage, done, total: None)
    wanted = distances_within(tokens, questions) if distances is None else sorted(set(distances))
    stream = build_stream(haystack, _counter(model.tokenizer), tokens=tokens, distances=wanted, questions=questions, seed=seed)
    stream.planted.sort(key=lambda planted: planted.tokens_back)
    asked = [planted.fact.question for planted in stream.planted]
    seconds: dict[str, float] = {}
    budget = model.geometry.stm_tokens + model.geometry.ltm_read_tokens
    memories = {"mplus": model.new_memory(seed=seed), "memoryllm": model.new_memory(seed=seed, stm_tokens=budget, ltm=False)}

    started = time.perf_counter()
    _read(model, stream, list(memories.values()), report)
    seconds["read"] = time.perf_counter() - started

    answers: dict[str, list[str]] = {}
    for system, memory in memories.items():
        started = time.perf_counter()
        answers[system] = _ask_memory(model, memory, asked, partial(report, system))
        seconds[system] = time.perf_counter() - started
    started = time.perf_counter()
    with model.untouched() as hf_model:
        ids, window_tokens = answer_from_window(
            hf_model,
            model.tokenizer,
            "".join(stream.pieces),
            asked,
            max_new_tokens=LONG_ANSWER_TOKENS,
            progress=partial(report, "window"),
        )
    answers["window"] = [_decoded(model, answer[:MAX_NEW_TOKENS]) for answer in ids]
    answers[WINDOW_LONG] = [_decoded(model, answer) for answer in ids]
    seconds["window"] = time.perf_counter() - started

    versions, hardware = environment_of(model.dtype)
    return RetentionResult(
        model=model.name,
        tokens_read=stream.tokens,
        distances=wanted,
        answered=[
            Answered(planted=planted, answers={system: texts[row] for system, texts in answers.items()})
            for row, planted in enumerate(stream.planted)
        ],
        ltm_tokens=int(memories["mplus"].stats().ltm_tokens),
        read_budget_tokens=budget,
        window_tokens=window_tokens,
        seed=seed,
        seconds=seconds,
        settings={"tokens": tokens, "questions": questions, "max_new_tokens": MAX_NEW_TOKENS, "geometry": _plain(model.geometry)},
        versions=versions,
        hardware=hardware,
    )


def _read(model: MemoryModel, stream: Stream, memories: list[Any], report: Progress) -> None:
    """Write the text into all memories, encoding every chunk once."""
    done = 0
    report("read", 0, stream.tokens)
    for piece in stream.pieces:
        for ids in model.cut(piece):
            written = model.encode(ids, memories[0])
            for memory in memories:
                memory.update(written)
            done += len(ids)
            report("read", min(done, stream.tokens), stream.tokens)


def _ask_memory(model: MemoryModel, memory: Any, questions: list[str], report: Callable[[int, int], None]) -> list[str]:
    answers: list[str] = []
    for start in range(0, len(questions), _CHAT_BATCH):
        messages = [[{"role": "user", "content": question}] for question in questions[start : start + _CHAT_BATCH]]
        answers += model.chat(messages, memory=memory, max_new_tokens=MAX_NEW_TOKENS, do_sample=False)
        report(len(answers), len(questions))
    return [answer.strip() for answer in answers]


def _decoded(model: MemoryModel, ids: list[int]) -> str:
    text: str = model.tokenizer.decode(ids, skip_special_tokens=True)
    return text.strip()


def _counter(tokenizer: Any) -> Callable[[str], int]:
    return lambda text: len(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def _plain(geometry: Any) -> Any:
    return geometry.model_dump() if hasattr(geometry, "model_dump") else vars(geometry)
