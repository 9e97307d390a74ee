"""Laws of ``benchmarks.trace``: spans are of what they say, sizes are asked on the way, what is stored is not measured again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import trace
from mplus import MPlusModel
from mplus.errors import InputError
from mplus.evaluation.tasks.task_file import open_task

pytestmark = pytest.mark.slow


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A SQuAD file of six articles, of which three are asked about, and another with more text."""

    def article(name: str) -> dict[str, Any]:
        code = name[0] + "7"  # two bytes: the tokenizer has one token a byte
        context = f"The river {name} rises in the hills. On charts it is {code}. Boats go there in May."
        asked = {
            "id": name,
            "question": "What is it on charts?",
            "answers": [{"text": code, "answer_start": context.index(code)}],
        }
        return {"title": name, "paragraphs": [{"context": context, "qas": [asked]}]}

    names = ["Arl", "Bem", "Cas", "Dol", "Erl", "Fim"]
    (tmp_path / "squad.json").write_text(json.dumps({"version": "1.1", "data": [article(name) for name in names]}))
    others = [
        {"title": name, "paragraphs": [{"context": f"{name} is a hill. Sheep live on it.", "qas": []}]} for name in ("Gor", "Hul")
    ]
    (tmp_path / "more.json").write_text(json.dumps({"version": "1.1", "data": others}))
    monkeypatch.setattr(trace, "FILES", {"squad": "squad.json", "nq": "squad.json"})
    monkeypatch.setattr(trace, "DISTRACTORS", ("more.json",))
    monkeypatch.setattr(trace, "TIMED", 1)
    return tmp_path


def encode_with(model: MPlusModel) -> Any:
    return lambda text: model.tokenizer(text, add_special_tokens=False)["input_ids"]


def test_facts_stand_where_their_spans_say(text_model: MPlusModel) -> None:
    documents = list(trace.facts_documents(open_task("facts"), encode_with(text_model), 3000, seed=1))
    assert sum(len(one.ids) for one in documents) >= 3000 and len({one.source for one in documents}) == len(documents)
    asked = [(one, question) for one in documents for question in one.questions]
    assert len(asked) > 10
    for document, question in asked:
        start, stop = question.answer_span
        assert question.answers[0] in text_model.tokenizer.decode(document.ids[start:stop])


def test_passages_stand_where_their_spans_say(text_model: MPlusModel, data: Path) -> None:
    made = trace.passage_documents(open_task("retention-squad"), "squad", encode_with(text_model), 2000, 0, data, 3)
    documents = [one for _, one in zip(range(12), made, strict=False)]
    asked = [(one, question) for one in documents for question in one.questions]
    assert len(asked) == 3
    for document, question in asked:
        start, stop = question.answer_span
        assert text_model.tokenizer.decode(document.ids[start:stop]).strip() == question.answers[0]
        assert document.source.startswith(question.answers[0][0])


def test_every_size_is_asked_once_and_kept(
    text_model: MPlusModel, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(MPlusModel, "from_pretrained", lambda name: text_model)
    file = data / "result.json"
    command = ["trace", "--data", str(data), "--json", str(file), "--questions", "2", "--tasks", "facts", "squad", "--tokens"]

    def run(*sizes: str, more: tuple[str, ...] = ()) -> Any:
        monkeypatch.setattr("sys.argv", [*command, *sizes, *more])
        trace.main()
        return json.loads(file.read_text())["rows"]

    first = run("600")
    assert [(row["task"], row["size"], row["asked"]) for row in first] == [("facts", 600, 2), ("squad", 600, 2)]
    assert "asking" in capsys.readouterr().out
    for row in first:
        assert row["tokens"] >= 600 and row["shares"]["first"]["share"] <= row["shares"]["best_three"]["share"] <= 1
        assert set(row["cpu_ms"]) == {"plain", "trace", "attention"}
    assert run("600") == first
    assert "asking" not in capsys.readouterr().out
    both = run("600", "900")
    assert [row for row in both if row["size"] == 600] == first and len(both) == 4
    with pytest.raises(InputError, match="name another --json"):
        run("600", more=("--seed", "3"))
