"""Stories of bAbI whose facts stand scattered in running text, in their order; asked at the end. Knows tokens and files, no model."""

from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path
from random import Random
from typing import Final

from pydantic import field_validator

from mplus.corpus.stories import Story, read_stories
from mplus.errors import InputError
from mplus.evaluation.schedule.distances import Names, short
from mplus.evaluation.schedule.stream import Encode, EvalStream, ScheduledQuestion, Unit
from mplus.evaluation.tasks.context import Settings, StreamSource, TaskContext
from mplus.evaluation.tasks.haystack import Haystack, Lengths, laid

DEFAULT_SAMPLES: Final = 5
"""Questions of a row."""

INSTRUCTIONS: Final[dict[str, str]] = json.loads(Path(__file__).with_name("instructions.json").read_text(encoding="utf-8"))
"""The instruction before a question of each subtask; qa8 and qa19 are not here, for their answers are lists."""


class BabilongSettings(Settings):
    """Settings of the task file.

    Attributes:
        subtasks: names as in the files' names.
        lengths: tokens of a text, its facts included; 0 are the facts alone.
    """

    subtasks: Names = ("qa1", "qa2", "qa3")
    lengths: Lengths = (0, 1000, 4000, 16_000, 64_000)

    @field_validator("subtasks")
    @classmethod
    def _known(cls, subtasks: tuple[str, ...]) -> tuple[str, ...]:
        if not subtasks or any(one not in INSTRUCTIONS for one in subtasks):
            raise ValueError(
                f"expected some of {', '.join(INSTRUCTIONS)} (answers of qa8 and qa19 are lists, which are not scored)"
            )
        return tuple(dict.fromkeys(subtasks))


def streams(settings: BabilongSettings, context: TaskContext) -> list[StreamSource]:
    """One stream per question and length; the same questions at every length."""
    files = context.files()
    haystack = Haystack(context)
    count = DEFAULT_SAMPLES if context.limit is None else context.limit
    smallest = min((length for length in settings.lengths if length), default=None)
    made = []
    for subtask in settings.subtasks:
        file = _file_of(subtask, files)
        chosen = _chosen(subtask, file, context, count, smallest)
        for length in settings.lengths:
            row = f"{subtask} {short(length) if length else '0k'}"
            for story in chosen:
                make = partial(_script, haystack, subtask, row, story, length)
                made.append(StreamSource(name=f"{row} {story.number}", seed=context.seed, script=make))
    return made


def _file_of(subtask: str, files: list[Path]) -> Path:
    """The subtask's test file, or the only one there is."""
    named = [file for file in files if re.match(rf"{subtask}(_|\.)", file.name)]
    tests = [file for file in named if "_test" in file.name] or named
    if len(tests) != 1:
        problem = f"more than one file ({', '.join(file.name for file in tests)})" if tests else f"no file among {len(files)}"
        raise InputError(
            f"subtask '{subtask}' has {problem}; expected one named like {subtask}_..._test.txt, give it with --data"
        )
    return tests[0]


def _chosen(subtask: str, file: Path, context: TaskContext, count: int, tokens: int | None) -> list[Story]:
    """Random questions whose facts fit into so many tokens."""
    stories = read_stories(file)
    Random(f"mplus babilong {subtask} {context.seed}").shuffle(stories)
    chosen: list[Story] = []
    for one in stories:
        if len(chosen) >= count:
            context.left_out.add(f"beyond {count} of a row (--limit)", f"{subtask} {one.number}")
        elif tokens is None or sum(map(len, _encoded(one.facts, context.encode))) <= tokens:
            chosen.append(one)
        else:
            context.left_out.add(f"its facts do not fit into {tokens} tokens (lengths)", f"{subtask} {one.number}")
    if not chosen and count:
        raise InputError(f"no story of '{file}' fits into {tokens} tokens; name larger lengths")
    return chosen


def _encoded(facts: tuple[str, ...], encode: Encode) -> list[list[int]]:
    return [encode(" " + fact) for fact in facts]


def _script(haystack: Haystack, subtask: str, row: str, story: Story, length: int) -> EvalStream:
    context = haystack.context
    rng = Random(f"mplus babilong {row} {context.seed} {story.number}")
    facts = _encoded(story.facts, context.encode)
    filler: list[Unit] = []
    if length:
        filler = haystack.sentences(rng, length - sum(map(len, facts)))
    if not filler:
        facts[0] = context.encode(story.facts[0])  # nothing stands before it
    places = sorted(rng.choices(range(1, len(filler) + 1), k=len(facts))) if filler else [0] * len(facts)
    units, spans = laid(filler, list(zip(places, facts, strict=True)))
    end = sum(len(unit.ids) for unit in units)
    span = (spans[story.supports[0]][0], spans[story.supports[-1]][1])
    name = f"{subtask} {story.number}"
    text = f"{INSTRUCTIONS[subtask]} {story.question}"
    question = context.question(name, text, (story.answer,), span, query=story.question, row=row)
    return context.script([units], [(end, ScheduledQuestion(question, end - span[1]))])
