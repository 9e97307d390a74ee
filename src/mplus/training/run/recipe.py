"""The settings of one training run, validated once. Knows no model and no file; see ``recipe_file`` for the YAML."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from mplus.errors import GeometryError, RecipeError
from mplus.runtime import differences
from mplus.runtime.suggest import nearest
from mplus.settings import check_each, spell_out
from mplus.training.objectives import registry

MAY_DIFFER = ("steps", "minutes", "out", "save_every", "keep", "log_every", "processes")
"""What a resumed run may change: how long it goes on, where it stands and what it tells, not what it computes."""


VALID_MODEL = re.compile(r"a valid dictionary or instance of \w+")
S = TypeVar("S", bound=BaseModel)


class Settings(BaseModel):
    """Frozen settings that refuse unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Adapter(Settings):
    """A fresh LoRA set."""

    rank: int = Field(16, ge=1)
    alpha: float = Field(32.0, gt=0)
    targets: list[str] | None = Field(None, description="projections; null: the paper's six (q, k, v, gate, up, down)")


class Retriever(Settings):
    """Retrieval of long-term tokens."""

    key_width: int | None = Field(64, ge=1, description="R; null: the training-free search")
    voting: list[int] | Literal["per_layer"] | None = Field(
        None, description="layers that vote; per_layer: each layer for itself (paper); null: three late layers"
    )


class Scratch(Settings):
    """A decoder of Llama's architecture with random weights, embeddings tied, whose words are those of task `recall`."""

    layers: int = Field(4, ge=1)
    width: int = Field(128, ge=8)
    heads: int = Field(4, ge=1)
    kv_heads: int = Field(2, ge=1)
    mlp: int = Field(384, ge=8, description="width between the two halves of a layer's perceptron")
    positions: int = Field(2048, ge=16)
    init_std: float = Field(0.05, gt=0)

    @model_validator(mode="after")
    def _divides(self) -> Scratch:
        if self.width % (2 * self.heads) or self.heads % self.kv_heads:
            raise ValueError(
                f"width {self.width}, heads {self.heads} and kv_heads {self.kv_heads} do not divide: width must be a multiple of twice "
                "heads, heads one of kv_heads"
            )
        return self


class ModelSettings(Settings):
    """Model that a run starts from: a base with fresh memory parts, random weights, or a delta trained before."""

    base: str | None = Field(None, description="name, directory or hub id of a stock decoder")
    scratch: Scratch | None = Field(None, description="a small decoder with random weights instead")
    start: str | None = Field(None, description="directory of a delta, e.g. another recipe's out/delta; or a whole M+ model")
    name: str | None = Field(None, description="what the delta is called; null: the recipe's name")
    geometry: dict[str, Any] = Field(default_factory=dict, description="fields of mplus.Geometry to replace")
    read_adapter: Adapter | None = Field(None, description="null: none, or what `start` brings")
    write_adapter: Adapter | None = Field(None, description="null: none, or what `start` brings")
    retriever: Retriever | None = Field(None, description="null: the training-free search, or what `start` brings")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    attention: str = Field("auto", description="auto, eager, sdpa, grouped (ours, for CPUs) or another of transformers'")
    device: Literal["auto", "cpu"] = "auto"

    @property
    def adapters(self) -> dict[str, Adapter | None]:
        """Both of them by role."""
        return {"read": self.read_adapter, "write": self.write_adapter}

    @field_validator("geometry")
    @classmethod
    def _known_sizes(cls, fields: dict[str, Any]) -> dict[str, Any]:
        try:
            check_each(fields)
            return spell_out(fields)
        except GeometryError as error:
            raise ValueError(str(error).removeprefix("geometry: ")) from None

    @model_validator(mode="after")
    def _one_origin(self) -> ModelSettings:
        if sum(origin is not None for origin in (self.base, self.scratch, self.start)) != 1:
            raise ValueError(
                "give one of `base` (fresh memory parts), `scratch` (random weights) and `start` (a delta to go on from)"
            )
        if self.retriever is not None and self.retriever.voting == "per_layer":
            if self.geometry.get("retrieval", "per_layer") != "per_layer":
                raise ValueError("retriever.voting is per_layer, so geometry.retrieval must be per_layer too")
            if self.retriever.key_width is None:
                raise ValueError("retriever.voting is per_layer, which is always trained; give retriever.key_width a number")
        return self


class Optimiser(Settings):
    """AdamW."""

    kind: Literal["adamw"] = "adamw"
    lr: float = Field(5e-4, gt=0, description="learning rate; a task's groups may multiply it")
    betas: tuple[float, float] = (0.9, 0.98)
    epsilon: float = Field(1e-8, gt=0)
    weight_decay: float = Field(0.0, ge=0)
    clip: float | None = Field(1.0, gt=0, description="largest gradient norm; null: no limit")


class Schedule(Settings):
    """The factor on the learning rate over the run."""

    kind: Literal["cosine", "linear", "constant", "warmup_stable_decay"] = "cosine"
    warmup: int = Field(0, ge=0, description="steps until the full rate")
    hold: float = Field(0.4, ge=0, lt=1, description="warmup_stable_decay: share of the run at the full rate")
    floor: float = Field(0.03, ge=0, le=1, description="share of the rate that is left at the end")


class TaskSettings(BaseModel):
    """Which objective, and its own settings, which the task's module defines."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    kind: str
    settings: BaseModel

    def as_dict(self) -> dict[str, Any]:
        """As it stands in the recipe."""
        return {"kind": self.kind, **self.settings.model_dump(mode="json")}


class Recipe(Settings):
    """One training run. ``steps`` and ``minutes``: the run ends with the sooner one, and the schedule runs over it."""

    name: str = Field(min_length=1)
    seed: int = Field(0, ge=0)
    model: ModelSettings
    task: TaskSettings
    steps: int | None = Field(None, ge=1, description="optimiser steps")
    minutes: float | None = Field(None, gt=0, description="of training; opening and set-up are not counted")
    optimiser: Optimiser = Optimiser()
    schedule: Schedule = Schedule()
    accumulation: int = Field(1, ge=1, description="batches per optimiser step")
    precision: Literal["no", "bf16", "auto"] = Field(
        "no", description="bf16: autocast, what is trained stays float32; auto: bf16 where this machine computes it faster"
    )
    gradient_checkpointing: bool = False
    processes: int | None = Field(None, ge=1, description="how many must run; null: any number")
    save_every: int | None = Field(200, ge=1, description="steps between checkpoints; null: at the end only")
    keep: int = Field(2, ge=1, description="checkpoints kept")
    log_every: int = Field(10, ge=1, description="steps between lines of the log")
    out: str | None = Field(None, description="directory of the run; null: runs/<name>")

    @model_validator(mode="after")
    def _ends(self) -> Recipe:
        if self.steps is None and self.minutes is None:
            raise ValueError("give `steps`, `minutes` or both, so that the run ends")
        return self

    def resolved(self) -> dict[str, Any]:
        """Everything, defaults included, as plain values for YAML or JSON."""
        plain = self.model_dump(mode="json", exclude={"task"})
        head = {key: plain.pop(key) for key in ("name", "seed", "model")}
        return {**head, "task": self.task.as_dict(), **plain}

    @property
    def directory(self) -> str:
        """Where the run stands."""
        return self.out or f"runs/{self.name}"


def modern(raw: Mapping[str, Any], source: str = "recipe") -> dict[str, Any]:
    """Rewrite the keys of older versions (also of a part of a recipe).

    Raises:
        RecipeError: it asks for the second look, which is no longer there.
    """
    out = {key: dict(value) if isinstance(value, Mapping) else value for key, value in raw.items()}
    model, task, optimiser, schedule = (
        part if isinstance(part := out.get(name), dict) else {} for name in ("model", "task", "optimiser", "schedule")
    )
    if isinstance(model.get("geometry"), Mapping):
        model["geometry"] = dict(model["geometry"])
    sizes = model["geometry"] if isinstance(model.get("geometry"), dict) else {}
    if task.get("kind") == "look" or any([model.pop("look_adapter", None), sizes.pop("second_look", 0)]):
        raise RecipeError(
            f"{source}: the second look (task look, model.look_adapter, geometry.second_look) was removed, because it found no more "
            "(docs/decisions/0016); leave it out of the recipe"
        )
    sizes.pop("look_weight", None)
    if "rate" in optimiser and "lr" not in optimiser:
        optimiser["lr"] = optimiser.pop("rate")
    if schedule.get("kind") == "hold_then_linear":
        schedule["kind"] = "warmup_stable_decay"
    return out


def make_recipe(raw: Mapping[str, Any], *, source: str = "recipe") -> Recipe:
    """Validate a recipe.

    Raises:
        RecipeError: an unknown key (with the nearest known one), a missing key or a wrong value, named with its path.
    """
    fields = modern(raw, source)
    task = fields.pop("task", None)
    if not isinstance(task, Mapping) or not isinstance(task.get("kind"), str):
        raise RecipeError(f"{source}: task.kind is missing; choose one of {', '.join(sorted(registry.TASKS))}")
    own = {key: value for key, value in task.items() if key != "kind"}
    kind = task["kind"]
    if kind not in registry.TASKS:
        raise RecipeError(f"{source}: task.kind {kind!r} is not known{_nearest(kind, list(registry.TASKS))}")
    recipe = _validated(Recipe, {**fields, "task": TaskSettings(kind=kind, settings=Settings())}, source=source)
    settings = _validated(
        registry.settings_class(kind), own, source=source, prefix=("task",)
    )  # last: a task's module brings torch
    return recipe.model_copy(update={"task": TaskSettings(kind=kind, settings=settings)})


def first_difference(stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> str | None:
    """The first key in which two resolved recipes differ, and both values; None when a run may go on as the other."""
    left, right = ({key: value for key, value in one.items() if key not in MAY_DIFFER} for one in (stored, wanted))
    found = differences.first_difference(left, right)
    return None if found is None else "{} is {!r} there and {!r} here".format(*found)


def _validated(kind: type[S], fields: Mapping[str, Any], *, source: str, prefix: tuple[str, ...] = ()) -> S:
    try:
        return kind(**fields)
    except ValidationError as error:
        raise RecipeError(f"{source}: {_sentence(kind, error, prefix)}") from None


def _sentence(kind: type[BaseModel], error: ValidationError, prefix: tuple[str, ...]) -> str:
    """The first fault of a validation; an unknown key before a missing one, which is often the same key misspelt."""
    faults = sorted(error.errors(), key=lambda fault: fault["type"] != "extra_forbidden")
    first = faults[0]
    owner, path = _owner(kind, first["loc"])
    where = ".".join((*prefix, *path))
    if first["type"] == "extra_forbidden":
        return f"unknown key {where!r}{_nearest(path[-1], list(owner.model_fields), where.rpartition('.')[0])}"
    if first["type"] == "missing" and len(path) == len(first["loc"]):
        return f"{where} is missing; {_described(owner, path[-1])}"
    if first["type"] == "value_error":
        return f"{where + ': ' if where else ''}{first['msg'].removeprefix('Value error, ')}"
    wanted = dict.fromkeys(  # a choice of types has one fault for each
        VALID_MODEL.sub("a mapping", fault["msg"].removeprefix("Input should be "))
        for fault in faults
        if _owner(kind, fault["loc"])[1] == path
    )
    return (
        f"{where} is {first['input']!r:.200}, expected {' or '.join(wanted)}; change it in the recipe or with --set {where}=..."
    )


def _owner(kind: type[BaseModel], loc: tuple[int | str, ...]) -> tuple[type[BaseModel], tuple[str, ...]]:
    """The settings class a fault lies in, and the path of keys to it (without pydantic's names of union branches)."""
    path: list[str] = []
    owner = kind
    for part in loc:
        if path and path[-1] in owner.model_fields:
            inner = _model_of(owner.model_fields[path[-1]].annotation)
            if inner is None:
                break
            owner = inner
        path.append(str(part))
    return owner, tuple(path)


def _model_of(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _model_of(part)) is not None), None)


def _described(owner: type[BaseModel], key: str) -> str:
    text = owner.model_fields[key].description if key in owner.model_fields else None
    return f"add it ({text})" if text else "add it"


def _nearest(key: str, known: list[str], section: str = "") -> str:
    near = nearest(key, known)
    if near is not None:
        return f"; did you mean {'.'.join(filter(None, (section, near)))!r}?"
    return f"; known {'here' if not section else 'in ' + section} are {', '.join(sorted(known))}"
