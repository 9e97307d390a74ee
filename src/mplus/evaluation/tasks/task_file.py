"""A task as versioned data: a YAML file that names where the data come from, how it is asked and how it is scored. Knows no data.

A task is ``evaluation/tasks/FOLDER/NAME.yaml`` with a README beside it (paper, protocol, licence, how numbers compare), or any YAML file
of a user. What turns data into texts with questions is the folder's ``builder.py``; the file names the folder and the builder's settings.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any, Final, Literal

import yaml
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError, model_validator

from mplus.errors import InputError
from mplus.evaluation.scoring.metrics import METRICS
from mplus.evaluation.systems.protocol import SYSTEMS
from mplus.runtime.suggest import did_you_mean, hint_before
from mplus.text.files import read_text

TASKS: Final = Path(__file__).parent
_MOST_BYTES: Final = 1 << 24
_NEED_DATA: Final = ("retention", "documents", "babilong", "conversations", "incremental")


class Source(BaseModel):
    """Where the data are.

    Attributes:
        hub: id of a data set on the Hugging Face hub; ``file`` is read from it, or ``members`` of that zip archive.
        local: path that is read instead; relative to the task file.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    hub: str | None = None
    revision: str | None = None
    file: str | None = None
    members: tuple[str, ...] = ()
    local: str | None = None
    licence: str = ""

    @model_validator(mode="after")
    def _one_place(self) -> Source:
        if self.hub is not None and self.file is None:
            raise ValueError("a hub id needs 'file', the path inside the data set")
        if self.hub is None and self.local is None:
            raise ValueError("expected 'hub' with 'file', or 'local'")
        return self


class Generation(BaseModel):
    """How answers are generated; always greedy."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    max_new_tokens: int = Field(default=10, ge=1)


class TaskFile(BaseModel):
    """One task.

    Attributes:
        task: its name.
        version: raised whenever a number could change.
        title: what it measures, in a few words.
        paper: whose protocol it follows.
        builder: folder of ``evaluation.tasks`` whose builder makes the streams; files of before 2026-12 call it ``adapter``.
        source: the data; None for tasks that make their own or only take a path.
        prompt: message with ``{question}`` and, for a choice, ``{options}``.
        metric: of ``METRICS``; None where nothing is answered.
        measure: answers, what was read of what is needed, the likelihood of continuations, or speed.
        chunk_tokens: of the text; None: as the model was trained.
        generation: settings.
        systems: asked when none are named.
        settings: of the builder.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    task: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    version: int = Field(ge=1)
    title: str
    paper: str = ""
    builder: str = Field(validation_alias=AliasChoices("builder", "adapter"))
    source: Source | None = None
    prompt: str = "{question}"
    metric: str | None = "contained"
    measure: Literal["answer", "reading", "likelihood", "speed"] = "answer"
    chunk_tokens: int | None = Field(default=None, ge=1)
    generation: Generation = Generation()
    systems: tuple[str, ...] = ("mplus", "memoryllm", "window", "bm25")
    settings: dict[str, Any] = Field(default_factory=dict)
    path: str = Field(default="", exclude=True)

    @model_validator(mode="after")
    def _known(self) -> TaskFile:
        if self.metric is not None and self.metric not in METRICS:
            raise ValueError(f"metric is '{self.metric}', expected one of {', '.join(METRICS)}")
        if self.measure == "answer" and self.metric is None:
            raise ValueError("a task with answers needs a metric")
        if "{question}" not in self.prompt:
            raise ValueError("prompt has no place for the {question}")
        if unknown := [name for name in self.systems if name not in SYSTEMS]:
            raise ValueError(f"systems has '{unknown[0]}', expected some of {', '.join(SYSTEMS)}")
        return self

    @property
    def digest(self) -> str:
        """Tells one content from another; stored with results."""
        content = self.model_dump()
        content["adapter"] = content.pop("builder")  # as stored runs have it
        return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]

    @property
    def data_place(self) -> str:
        """Origin of the data, for a list of tasks."""
        if self.source is not None:
            return self.source.hub or self.source.local or ""
        return "--data FILE" if self.builder in _NEED_DATA else "made here"

    @property
    def readme(self) -> Path | None:
        """The README beside it, if there is one."""
        beside = [Path(self.path).with_suffix(".md"), Path(self.path).with_name("README.md")] if self.path else []
        return next((path for path in beside if path.is_file()), None)

    def message(self, question: str, options: tuple[str, ...] = ()) -> str:
        """The question as it is asked."""
        listed = "\n".join(f"{chr(ord('A') + place)}. {option}" for place, option in enumerate(options))
        filled = {"{options}": listed, "{question}": question}
        return re.sub(r"\{options\}|\{question\}", lambda place: filled[place[0]], self.prompt).strip()


def known_tasks() -> list[str]:
    """Names of all tasks that come with the package."""
    return sorted(_packaged())


def _packaged() -> dict[str, Path]:
    return {path.stem: path for path in TASKS.glob("*/*.yaml")}


def open_task(name: str) -> TaskFile:
    """A task by its name, or by the path of a YAML file.

    Raises:
        InputError: there is none (the nearest is named), or its file is wrong.
    """
    path = _packaged().get(name)
    if name.endswith((".yaml", ".yml")):
        path = Path(name)
        if not path.is_file():
            raise InputError(f"there is no task file '{name}'; check the path, or name one of: {', '.join(known_tasks())}")
    elif path is None:
        hint = hint_before(name, known_tasks(), cutoff=0.4)
        raise InputError(f"there is no task '{name}'; {hint}known: {', '.join(known_tasks())}, or a path of a .yaml file")
    try:
        data = yaml.safe_load(read_text(path, most_bytes=_MOST_BYTES, may_be_empty=True))
    except yaml.YAMLError as error:
        raise InputError(f"task file '{path}' is not YAML ({' '.join(str(error).split())[:160]})") from None
    if not isinstance(data, dict):
        raise InputError(f"task file '{path}' holds no table of settings; expected task, version, title, builder, metric, ...")
    try:
        return TaskFile(**{str(key): value for key, value in data.items()} | {"path": str(path)})
    except ValidationError as error:
        raise InputError(f"task file '{path}': {first_complaint(error, TaskFile)}") from None


def first_complaint(error: ValidationError, model: type[BaseModel]) -> str:
    """The first thing pydantic found, in one sentence; an unknown name gets the nearest known one."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"]) or "it"
    if first["type"] == "extra_forbidden":
        known = f"known: {', '.join(sorted(model.model_fields)) or 'none'}"
        return f"there is no setting '{where}'; {did_you_mean(where, model.model_fields, otherwise=known)}"
    if first["type"] == "missing":
        return f"'{where}' is missing"
    got = first.get("input")
    message = str(first["msg"]).removeprefix("Value error, ")
    return f"{where} is {got!r:.60}: {message[:1].lower()}{message[1:]}" if first["loc"] else message
