"""Laws of recipes: what is resolved is what was meant, and every mistake is one sentence that names the key."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

import mplus
from mplus import Geometry
from mplus.errors import RecipeError
from mplus.training.objectives import registry
from mplus.training.run.recipe import Recipe, first_difference, make_recipe
from mplus.training.run.recipe_file import find, read_recipe, write_recipe

PLAIN = """
name: toy
model: {base: some/where, geometry: {stm_tokens: 64}}
task: {kind: toy, rows: 3}
steps: 5
optimiser: {lr: 1e-3}
"""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(registry.TASKS, "toy", "tests.toy_task")
    (tmp_path / "plain.yaml").write_text(PLAIN, encoding="utf-8")
    return tmp_path


def stored(text: str, name: str = "other.yaml") -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def complaint(path: str | Path = "plain.yaml", *changes: str) -> str:
    with pytest.raises(RecipeError) as caught:
        read_recipe(path, changes)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def settings(recipe: Recipe) -> Any:
    return recipe.task.settings


# -- what is meant ---------------------------------------------------------------------------------------------------


def test_resolved_recipe_reads_back_as_itself() -> None:
    first = read_recipe("plain.yaml", ["precision=bf16", "model.read_adapter={rank: 4}"])
    again = read_recipe(stored(write_recipe(first.resolved())))
    assert again.resolved() == first.resolved()
    assert first_difference(first.resolved(), again.resolved()) is None


def test_suffix_may_be_left_out() -> None:
    assert read_recipe("plain").name == "toy"


@pytest.mark.parametrize(("text", "expected"), [("no", "no"), ("bf16", "bf16"), ("'no'", "no")])
def test_no_is_a_word(text: str, expected: str) -> None:
    assert read_recipe("plain.yaml", [f"precision={text}"]).precision == expected


@pytest.mark.parametrize(
    ("text", "expected"), [("1e-3", 1e-3), ("2E-4", 2e-4), ("0.5", 0.5), (".5", 0.5), ("1_000.0", 1000.0), ("3", 3.0)]
)
def test_numbers_are_numbers(text: str, expected: float) -> None:
    assert read_recipe("plain.yaml", [f"optimiser.lr={text}"]).optimiser.lr == expected


def test_changes_reach_every_section_and_the_last_one_wins() -> None:
    recipe = read_recipe(
        "plain.yaml", ["task.rows=7", "task.rows=9", "model.geometry.ltm=false", "schedule.kind=linear", "out=runs/1"]
    )
    assert settings(recipe).rows == 9
    assert recipe.model.geometry == {"stm_tokens": 64, "ltm": False}
    assert (recipe.schedule.kind, recipe.directory) == ("linear", "runs/1")


def test_extension_lies_over_its_base_section_by_section() -> None:
    stored("extends: plain.yaml\noptimiser: {clip: null}\nmodel: {geometry: {ltm: false}}\n", "mid.yaml")
    recipe = read_recipe(stored("extends: mid\nname: third\ntask: {tokens: 20}\n"))
    assert (recipe.name, recipe.optimiser.lr, recipe.optimiser.clip) == ("third", 1e-3, None)
    assert recipe.model.geometry == {"stm_tokens": 64, "ltm": False}
    assert (settings(recipe).rows, settings(recipe).tokens) == (3, 20)


def test_another_task_does_not_inherit_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.TASKS, "other", "tests.toy_task")
    recipe = read_recipe(stored("extends: plain.yaml\ntask: {kind: other, tokens: 8}\n"))
    assert (recipe.task.kind, settings(recipe).rows, settings(recipe).tokens) == ("other", 4, 8)


def test_extension_is_looked_for_beside_the_file() -> None:
    stored("extends: ../plain.yaml\nname: inner\n", "deep/inner.yaml")
    assert read_recipe("deep/inner.yaml").steps == 5


# -- mistakes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("optimiser.lrr=3", "unknown key 'optimiser.lrr'; did you mean 'optimiser.lr'?"),
        ("optimizer.lr=3", "unknown key 'optimizer'; did you mean 'optimiser'?"),
        ("zzzz=1", "unknown key 'zzzz'; known here are accumulation,"),
        ("task.row=1", "unknown key 'task.row'; did you mean 'task.rows'?"),
        ("task.kind=tojy", "task.kind 'tojy' is not known; did you mean 'toy'?"),
        ("model.geometry.stm_token=3", "unknown key 'stm_token'; did you mean 'stm_tokens'?"),
        ("model.retriever.key_widht=3", "unknown key 'model.retriever.key_widht'; did you mean 'model.retriever.key_width'?"),
        ("steps=many", "steps is 'many', expected a valid integer"),
        ("steps=0", "steps is 0, expected greater than or equal to 1"),
        ("steps=null", "give `steps`, `minutes` or both"),
        ("task.rows=x", "task.rows is 'x', expected a valid integer"),
        ("task=null", "task.kind is missing"),
        ("model=null", "model is None, expected a mapping"),
        ("model.read_adapter=3", "model.read_adapter is 3, expected a mapping"),
        ("model.start=x", "give one of `base` (fresh memory parts), `scratch` (random weights) and `start`"),
        ("model.retriever.voting=all", "model.retriever.voting is 'all', expected a valid list or 'per_layer'"),
        (
            "model={base: a, retriever: {voting: per_layer}, geometry: {retrieval: shared}}",
            "geometry.retrieval must be per_layer too",
        ),
        ("optimiser.betas=[0.9]", "optimiser.betas"),
        ("precision=fp8", "precision is 'fp8', expected 'no', 'bf16' or 'auto'"),
        ("steps.a=3", "--set steps.a: steps is 5 and has no keys inside"),
        ("name=[1", "--set name, line 1: not YAML"),
        ("steps", "--set 'steps' is not key=value"),
        ("=3", "is not key=value"),
        ("name=''", "name is ''"),
    ],
)
def test_mistake_names_the_key(change: str, expected: str) -> None:
    assert expected in complaint("plain.yaml", change)


def test_missing_key_is_named() -> None:
    assert "name is missing" in complaint(stored("model: {base: x}\ntask: {kind: toy}\nsteps: 1\n"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("name: toy\nsteps: [1\nmodel: 3\n", "line 3: not YAML"),
        ("name: a\nsteps: 1\nname: b\n", "line 3: not YAML: the key 'name' stands there twice"),
        ("1: a\n", "line 1: not YAML: the key 1 is not a word"),
        ("", "does not hold a mapping"),
        ("- a\n", "does not hold a mapping"),
        ("a: !!python/object/apply:os.system [ls]\n", "line 1: not YAML"),
        ("a: \x07\n", "not YAML"),
        ("extends: 3\n", "extends is 3, expected the path of another recipe"),
        ("extends: plan.yaml\n", "extends: there is no recipe plan.yaml; did you mean plain.yaml?"),
    ],
)
def test_bad_file_is_told_with_its_line(text: str, expected: str) -> None:
    assert expected in complaint(stored(text))


def test_file_that_is_not_text_is_told(place: Path) -> None:
    (place / "bytes.yaml").write_bytes(b"\xff\xfe\xfa")
    assert "not UTF-8" in complaint("bytes.yaml")


def test_circle_of_extensions_is_told() -> None:
    stored("extends: b.yaml\n", "a.yaml")
    stored("extends: a.yaml\n", "b.yaml")
    assert "goes in a circle (a.yaml -> b.yaml -> a.yaml)" in complaint("a.yaml")


def test_missing_recipe_brings_the_nearest_name() -> None:
    stored(PLAIN, "recipes/smollm2-135m/vote.yaml")
    assert "did you mean recipes/smollm2-135m/vote.yaml?" in complaint("recipes/smollm2-135m/vot.yaml")
    assert "did you mean recipes/smollm2-135m/vote.yaml?" in complaint("vote")
    with pytest.raises(RecipeError, match="there is no recipe nothing-like-it;"):
        find(Path("nothing-like-it"))


def test_task_that_is_not_installed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.TASKS, "later", "mplus.training.objectives.not_there")
    assert "'later' is not part of this installation" in complaint("plain.yaml", "task={kind: later}")


# -- difference ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("optimiser.lr=2e-3", "optimiser.lr is 0.001 there and 0.002 here"),
        ("task.rows=4", "task.rows is 3 there and 4 here"),
        ("seed=1", "seed is 0 there and 1 here"),
        ("model.geometry.ltm=false", "model.geometry.ltm is None there and False here"),
        ("model.read_adapter={rank: 2}", "model.read_adapter.rank is None there and 2 here"),
    ],
)
def test_first_difference_is_named(change: str, named: str) -> None:
    found = first_difference(read_recipe("plain.yaml").resolved(), read_recipe("plain.yaml", [change]).resolved())
    assert found == named


@pytest.mark.parametrize("change", ["steps=9", "minutes=3", "out=x", "log_every=1", "save_every=null", "keep=5", "processes=2"])
def test_what_may_differ_makes_no_difference(change: str) -> None:
    assert first_difference(read_recipe("plain.yaml").resolved(), read_recipe("plain.yaml", [change]).resolved()) is None


def test_written_recipe_is_plain_yaml() -> None:
    recipe = make_recipe(yaml.safe_load(PLAIN))
    assert yaml.safe_load(write_recipe(recipe.resolved()))["task"]["kind"] == "toy"


SHIPPED = Path(mplus.__file__).parent / "assets" / "smollm2-135m" / "mplus.json"
RECIPES = Path(__file__).parents[3] / "recipes" / "smollm2-135m"


@pytest.mark.parametrize("name", sorted(str(path.relative_to(RECIPES)) for path in RECIPES.rglob("*.yaml")))
def test_recipes_of_the_default_model_have_a_geometry(name: str) -> None:
    """What a recipe takes over, from another or from the delta it starts from, must not contradict what it changes."""
    model = read_recipe(RECIPES / name).model
    before = Geometry() if model.base else Geometry(**json.loads(SHIPPED.read_text(encoding="utf-8"))["geometry"])
    changed = before.changed(**model.geometry)
    assert {key: changed.flat()[key] for key in model.geometry} == model.geometry


# --- files that nobody would call a recipe


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{" * 5000, "nested deeper"),
        ("[" * 5000, "nested deeper"),
        ("a: &a [x]\nb: [*a, *a]", "alias"),
        ("a: &a [*a]", "alias"),
        ("a: !!python/object/apply:os.system ['true']", "not YAML"),
        ("a: !!binary '$$$'", "other.yaml"),
        ("steps: 2001-99-99", "cannot be read"),
        ("steps: " + "9" * 5000, "other.yaml"),
        ("steps: 0x" + "f" * 5000, "number"),
        ("steps: .nan", "finite"),
        ("x: " + "y" * (1 << 21), "bytes"),
    ],
)
def test_a_file_that_is_no_recipe_is_one_short_sentence(text: str, expected: str) -> None:
    stored(text)
    with pytest.raises(RecipeError, match=expected) as told:
        read_recipe("other.yaml")
    assert len(str(told.value)) < 400


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("", "name is ''"),
        ("  ", "name is"),
        ("a\0b", "name is"),
        (".", "a directory"),
        ("fifo", "a pipe"),
        ("~nobody/x", "there is no recipe"),
    ],
)
def test_a_name_that_is_no_file_is_told(place: Path, name: str, expected: str) -> None:
    os.mkfifo(place / "fifo")
    with pytest.raises(RecipeError, match=expected):
        read_recipe(name)


def test_a_file_here_is_taken_by_its_path_and_the_shipped_recipe_by_its_name(place: Path) -> None:
    stored(PLAIN, "adapt/memory.yaml")
    assert read_recipe("adapt/memory.yaml").name == "toy"
    assert read_recipe("adapt/memory").name != "toy"
    assert read_recipe(place / "adapt" / "memory.yaml").name == "toy"


def test_letters_of_the_paper_are_names_in_recipes_too() -> None:
    stored("extends: plain.yaml\nmodel: {geometry: {N: 96, K: 32}}")
    assert read_recipe("other.yaml").model.geometry == {"stm_tokens": 96, "new_tokens": 32}
    with pytest.raises(RecipeError, match="given twice"):
        read_recipe("plain.yaml", ["model.geometry={N: 96, stm_tokens: 96}"])
    with pytest.raises(RecipeError, match="did you mean 'stm_tokens'"):
        read_recipe("plain.yaml", ["model.geometry.stm_tokns=96"])
    with pytest.raises(RecipeError, match="greater than or equal to 1"):
        read_recipe("plain.yaml", ["model.geometry.N=-1"])


# --- recipes of earlier versions

STORED = Path(__file__).parents[2] / "formats" / "recipes"


@pytest.mark.parametrize("name", sorted(str(path.relative_to(STORED)) for path in STORED.rglob("*.yaml")))
def test_recipes_of_the_first_version_open_with_the_settings_of_today(name: str) -> None:
    if name.endswith("4-look.yaml"):
        assert "the second look (task look, " in complaint(STORED / name) and "was removed" in complaint(STORED / name)
        return
    stored, now = (read_recipe(place / name).resolved() for place in (STORED, RECIPES.parent))
    assert stored == now


@pytest.mark.parametrize(
    "change", ["model.look_adapter={rank: 16}", "model.geometry.second_look=6", "task={kind: look, data: x}"]
)
def test_the_second_look_is_refused_in_one_sentence(change: str) -> None:
    assert "was removed" in complaint("plain.yaml", change)


def test_old_keys_that_say_nothing_are_left_out() -> None:
    changes = ["model.look_adapter=null", "model.geometry.second_look=0", "model.geometry.look_weight=4.0", "optimiser.rate=3e-4"]
    recipe = read_recipe("plain.yaml", [*changes, "schedule.kind=hold_then_linear"])
    assert recipe.optimiser.lr == 3e-4 and recipe.schedule.kind == "warmup_stable_decay"
    assert "look_adapter" not in recipe.resolved()["model"] and "second_look" not in recipe.model.geometry
