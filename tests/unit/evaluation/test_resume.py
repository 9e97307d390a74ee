"""Laws of stopping and going on: no sample is lost or given twice, and the result is that of a run that was never stopped."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mplus import MPlusModel
from mplus.errors import InputError
from mplus.evaluation.report.result_log import Sessions, stored_samples
from mplus.evaluation.schedule.stream import Question
from mplus.evaluation.scoring.metrics import METRICS
from mplus.evaluation.systems.factory import SystemFactory
from mplus.evaluation.task_run import TaskRun
from mplus.evaluation.tasks.context import StreamSource, TaskContext, file_digests
from mplus.evaluation.tasks.task_file import open_task
from mplus.runtime.differences import first_difference
from tests import tiny

pytestmark = pytest.mark.slow

TIMES = ("seconds", "seconds_of", "seconds_per_1000_answers", "sessions", "finished", "versions", "hardware")


@pytest.fixture(scope="module")
def model() -> MPlusModel:
    return tiny.text_model(ltm_capacity=3000)


def texts(model: MPlusModel, order: list[int]) -> list[StreamSource]:
    """Three documents of a few chunks with three questions each."""
    encode = lambda text: model.tokenizer(text, add_special_tokens=False)["input_ids"]  # noqa: E731
    material = TaskContext(task=open_task("facts"), encode=encode, chunk_tokens=32, min_tokens=8)

    def stream(number: int) -> StreamSource:
        text = " ".join(f"Part {part} of text {number} says {chr(97 + number) * (3 + part)}." for part in range(6))

        def questions(length: int) -> list[Question]:
            return [
                Question(
                    id=f"{number}-{one}",
                    cluster="text",
                    text=f"What {one}?",
                    answers=("x",),
                    span=(0, length),
                    answer_span=(0, length),
                    row="texts",
                )
                for one in range(3)
            ]

        return StreamSource(name=f"document {number}", seed=3, script=lambda: material.document(text, questions))

    return [stream(number) for number in order]


def job(model: MPlusModel, order: list[int] | None = None, **changes: Any) -> TaskRun:
    factory = SystemFactory(model=model, systems=changes.pop("systems", ["mplus", "memoryllm", "full", "window"]))
    streams = texts(model, order or [0, 1, 2])
    return TaskRun(task="made", factory=factory, streams=streams, metric=METRICS["contained"], max_new_tokens=4, settings=changes)


def content(directory: Path) -> dict[str, Any]:
    data = json.loads((directory / "summary.json").read_text(encoding="utf-8"))
    return {name: value for name, value in data.items() if name not in TIMES}


def test_a_stopped_run_goes_on_to_the_result_of_one_that_was_not(
    model: MPlusModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job(model).run(tmp_path / "whole")
    whole = (tmp_path / "whole" / "samples.jsonl").read_bytes()
    for cut in (0, 1, 5, 14, len(whole.splitlines())):
        place = tmp_path / f"cut {cut}"
        place.mkdir()
        lines = whole.splitlines(keepends=True)
        (place / "run.json").write_bytes((tmp_path / "whole" / "run.json").read_bytes())
        (place / "samples.jsonl").write_bytes(b"".join(lines[:cut]) + (lines[cut][:25] if cut < len(lines) else b""))
        job(model).run(place, resume=True)
        assert (place / "samples.jsonl").read_bytes() == whole
        assert content(place) == content(tmp_path / "whole")
        assert (place / "table.md").read_bytes() == (tmp_path / "whole" / "table.md").read_bytes()


def test_nothing_is_asked_twice_and_finished_texts_are_not_read_again(
    model: MPlusModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job(model).run(tmp_path)
    encoded: list[int] = []
    plain = model.encode

    def counted(ids: Any, memory: Any, **options: Any) -> Any:
        encoded.append(1)
        return plain(ids, memory, **options)

    monkeypatch.setattr(model, "encode", counted)
    lines = (tmp_path / "samples.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "samples.jsonl").write_bytes(b"".join(lines[:-1]))
    job(model).run(tmp_path, resume=True)
    assert not encoded  # a plain system lacked an answer, no memory did
    (tmp_path / "samples.jsonl").write_bytes(
        b"".join(line for line in lines if b'"2-0", "cluster": "text", "system": "mplus"' not in line)
    )
    job(model).run(tmp_path, resume=True)
    assert len(encoded) == len(job(model).streams[2].opened().chunks)
    keys = [sample.key for sample in stored_samples(tmp_path)]
    assert len(keys) == len(set(keys)) == 3 * 3 * 4


def test_samples_do_not_depend_on_what_was_read_before_them(model: MPlusModel, tmp_path: Path) -> None:
    """No memory outlives its text: in any order, and alone, a text gets the same answers."""
    found = {}
    for order in ([0, 1, 2], [2, 0, 1], [1]):
        place = tmp_path / "-".join(map(str, order))
        job(model, order).run(place)
        found[tuple(order)] = {sample.key: sample for sample in stored_samples(place)}
    first = found[0, 1, 2]
    assert first == found[2, 0, 1]
    assert found[(1,)] == {key: sample for key, sample in first.items() if key[0] == "document 1"}
    assert len({sample.given for sample in first.values()}) > 1  # else this says nothing


@pytest.mark.parametrize(
    ("changes", "told"),
    [({"limit": 4}, "begun with settings.limit None, now it is 4"), ({"systems": ["mplus"]}, "text_budget_tokens")],
)
def test_other_settings_are_refused_by_name(model: MPlusModel, tmp_path: Path, changes: dict[str, Any], told: str) -> None:
    job(model).run(tmp_path)
    before = (tmp_path / "samples.jsonl").read_bytes()
    with pytest.raises(InputError, match=told) as caught:
        job(model, **changes).run(tmp_path, resume=True)
    assert "\n" not in str(caught.value) and (tmp_path / "samples.jsonl").read_bytes() == before
    assert (tmp_path / "summary.json").exists()


def test_samples_without_settings_are_not_gone_on_with(model: MPlusModel, tmp_path: Path) -> None:
    (tmp_path / "samples.jsonl").write_text("{}\n", encoding="utf-8")
    with pytest.raises(InputError, match="no run.json"):
        job(model).run(tmp_path, resume=True)
    job(model).run(tmp_path / "other")
    (tmp_path / "other" / "samples.jsonl").write_text('{"stream": 1}\n', encoding="utf-8")
    with pytest.raises(InputError, match="line 1 is no sample of this version"):
        job(model).run(tmp_path / "other", resume=True)


def test_the_first_difference_is_named_with_both_values() -> None:
    assert first_difference({"a": {"b": [1, 2]}}, {"a": {"b": [1, 2]}}) is None
    assert first_difference({"a": {"b": 1}, "c": 1}, {"a": {"b": 2}, "c": 2}) == ("a.b", 1, 2)
    assert first_difference({}, {"c": 2}) == ("c", None, 2)


def test_the_time_of_a_thousand_answers_is_told_for_every_system(model: MPlusModel, tmp_path: Path) -> None:
    summary = job(model, systems=["mplus", "window"]).run(tmp_path)
    told, spent = summary.context["seconds_per_1000_answers"], summary.context["seconds_of"]
    assert list(told) == ["mplus", "window"] and spent["read"] >= 0
    assert told == {name: round(1000 * spent[name] / 9) for name in told}  # nine questions each


def test_the_time_of_a_killed_run_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mplus.evaluation.report.result_log._SAVE_EVERY_S", 0.0)
    path = tmp_path / "sessions.jsonl"
    killed = Sessions(path)
    killed.spend("read", 2.0)
    killed.spend("mplus", 3.0)
    killed.spend("mplus", 4.0)  # and nobody saves
    after = Sessions(path)
    after.spend("mplus", 1.0)
    assert (after.count, after.seconds) == (2, {"read": 2.0, "mplus": 8.0})
    assert [json.loads(line)["seconds_of"] for line in path.read_text().splitlines()] == [
        {"read": 2.0, "mplus": 7.0}, {"mplus": 1.0},
    ]  # fmt: skip


def test_two_questions_of_one_id_are_refused(model: MPlusModel, tmp_path: Path) -> None:
    streams = texts(model, [0])
    script = streams[0].opened()
    due = next(iter(script.due.values()))
    due.append(due[0])
    twice = replace(job(model), streams=[replace(streams[0], script=script)])
    with pytest.raises(InputError, match="document 0: 2 questions have the id '0-0'; give each record"):
        twice.run(tmp_path)


def test_other_content_of_a_file_is_another_setting(tmp_path: Path) -> None:
    file, folder = tmp_path / "a.json", tmp_path / "books"
    folder.mkdir()
    file.write_text("one")
    (folder / "b.txt").write_text("two")
    before = file_digests([file, folder])
    assert file_digests([file, folder]) == before and list(before) == [str(file), str(folder)]
    file.write_text("one more")
    after = file_digests([file, folder])
    assert after[str(file)] != before[str(file)] and after[str(folder)] == before[str(folder)]
    (folder / "b.txt").rename(folder / "c.txt")  # read in another order
    assert file_digests([folder])[str(folder)] != before[str(folder)]


DIGESTS = {
    "babilong": "800107c7390c4a79",
    "efficiency": "97fa3999695222de",
    "event-qa": "7d3395b8858736f3",
    "facts": "ac5f61ffeb2befb9",
    "locomo": "f09613b38d568218",
    "longbench": "b6f3df34ea291dc3",
    "longbook-qa": "ca049d4b6ea3267f",
    "longmemeval": "2195bbf6ce019918",
    "memory-agent-bench": "d09fd9c8a128b319",
    "narrativeqa": "441deb2790f962af",
    "needle": "047bceb31205fbe4",
    "perplexity": "0b4dbffa9c167ea8",
    "retention": "39c6109a2d060897",
    "retention-nq": "0b542209d9394dff",
    "retention-squad": "0155c05ec59d5f07",
    "retrieval": "b7d4fc792097f6f7",
    "ruler": "56e3cae11562b0db",
    "squality": "e5567b42203ce522",
}
"""Of the task files as runs of commit c48067e stored them."""


@pytest.mark.parametrize("task", DIGESTS)
def test_a_task_file_has_the_digest_that_stored_runs_have(task: str) -> None:
    assert open_task(task).digest == DIGESTS[task]


def test_a_run_that_was_stored_with_settings_now_retired_goes_on(model: MPlusModel, tmp_path: Path) -> None:
    job(model).run(tmp_path)
    path = tmp_path / "run.json"
    stored = json.loads(path.read_text(encoding="utf-8"))
    retired = {"second_look": 0, "look_weight": 4.0, "exact_below": 65_536, "candidates": 0}
    path.write_text(json.dumps({**stored, "geometry": {**stored["geometry"], **retired}}), encoding="utf-8")
    before = (tmp_path / "samples.jsonl").read_bytes()
    job(model).run(tmp_path, resume=True)
    assert (tmp_path / "samples.jsonl").read_bytes() == before
    path.write_text(json.dumps({**stored, "geometry": {**stored["geometry"], "second_look": 2}}), encoding="utf-8")
    with pytest.raises(InputError, match="geometry.second_look 2, now it is None"):
        job(model).run(tmp_path, resume=True)
