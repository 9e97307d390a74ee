"""Laws of finding data: named files, directories, the hub (replaced here), archives; whatever fails is one sentence."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from mplus.errors import InputError
from mplus.evaluation.tasks.context import TaskContext, located
from mplus.evaluation.tasks.task_file import Source, TaskFile


def task(**changes: Any) -> TaskFile:
    return TaskFile(**{"task": "made", "version": 1, "title": "made", "builder": "documents", **changes})


def material(*data: Path, **changes: Any) -> TaskContext:
    return TaskContext(task=task(**changes), encode=lambda text: [0] * len(text.split()), chunk_tokens=8, min_tokens=1, data=data)


def test_a_directory_gives_its_data_and_no_licence(tmp_path: Path) -> None:
    for name in ("b.jsonl", "a.txt", "LICENSE.txt", "README.txt", "c.csv"):
        (tmp_path / name).write_text("x")
    (tmp_path / "below").mkdir()
    assert [path.name for path in material(tmp_path).files()] == ["a.txt", "b.jsonl"]
    with pytest.raises(InputError, match="below' holds no .json"):
        material(tmp_path / "below").files()


def test_missing_files_and_tasks_without_data_are_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no file '.*gone.json'; give the data of task 'made' with --data FILE"):
        material(tmp_path / "gone.json").files()
    with pytest.raises(InputError, match="task 'made' brings no data"):
        material().files()


def test_a_local_source_stands_beside_the_task_file(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text("{}")
    beside = task(source={"local": "x.jsonl"}, path=str(tmp_path / "task.yaml"))
    assert beside.source is not None and located(beside.source, beside) == [tmp_path / "x.jsonl"]


def test_a_file_of_the_hub_is_fetched_by_its_id_and_an_archive_is_unpacked_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as archive:
        archive.writestr("data/a.jsonl", "one")
        archive.writestr("data/b.jsonl", "two")
    calls: list[tuple[Any, ...]] = []

    def fetched(hub: str, file: str, **how: Any) -> str:
        calls.append((hub, file, how["repo_type"], how["revision"]))
        return str(tmp_path / "data.zip")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fetched)
    source = Source(hub="some/data", file="data.zip", revision="abc", members=("data/b.jsonl", "data/a.jsonl"))
    found = located(source, task())
    assert [path.read_text() for path in found] == ["two", "one"] and calls == [("some/data", "data.zip", "dataset", "abc")]
    found[0].write_text("kept")
    assert located(source, task())[0].read_text() == "kept"
    with pytest.raises(InputError, match="'data.zip' of data set 'some/data' has no member 'data/c.jsonl'"):
        located(source.model_copy(update={"members": ("data/c.jsonl",)}), task())


class ProxyError(Exception):
    """As HTTP libraries have it, outside OSError."""


@pytest.mark.parametrize("error", [OSError("no route to host"), ValueError("bad id"), ProxyError("403 Forbidden\nsee there")])
def test_without_a_network_the_way_out_is_told(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fails(*args: Any, **how: Any) -> str:
        raise error

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fails)
    with pytest.raises(InputError, match=f"cannot be fetched \\({type(error).__name__}: .*with --data FILE") as raised:
        located(Source(hub="some/data", file="x.parquet"), task())
    assert "\n" not in str(raised.value)
