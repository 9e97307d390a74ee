"""Laws of task files: every shipped one is whole, has its README and opens; a wrong one is one sentence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mplus.errors import InputError
from mplus.evaluation.schedule.stream import Question
from mplus.evaluation.scoring.interval import mean_interval
from mplus.evaluation.scoring.metrics import METRICS, abstains, chosen_option, word_f1
from mplus.evaluation.scoring.text_match import wilson_interval
from mplus.evaluation.tasks.builders import settings_of
from mplus.evaluation.tasks.task_file import TaskFile, known_tasks, open_task


def asked(*answers: str, options: tuple[str, ...] = (), unanswerable: bool = False) -> Question:
    return Question(
        id="1",
        cluster="1",
        text="?",
        answers=answers,
        span=(0, 1),
        answer_span=(0, 1),
        options=options,
        unanswerable=unanswerable,
    )


@pytest.mark.parametrize("name", known_tasks())
def test_every_task_opens_and_has_a_readme(name: str) -> None:
    task = open_task(name)
    settings_of(task, {})
    assert task.task == name and task.readme is not None and len(task.digest) == 16
    text = task.readme.read_text(encoding="utf-8").lower()
    for words in (("**data",), ("compar", "published"), ("protocol",)):
        assert any(word in text for word in words), f"the README of {name} says nothing of {words[0]}"


def test_the_issue_s_tasks_are_all_there() -> None:
    wanted = "retention longbench longbook-qa event-qa needle ruler babilong locomo longmemeval memory-agent-bench perplexity retrieval efficiency"
    assert set(wanted.split()) <= set(known_tasks())


GOOD = "task: mine\nversion: 1\ntitle: t\nadapter: documents\nmetric: f1\n"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (GOOD.replace("version: 1\n", ""), "'version' is missing"),
        (GOOD + "promt: x\n", "there is no setting 'promt'; did you mean 'prompt'?"),
        (GOOD.replace("f1", "f2"), "metric is 'f2', expected one of contained"),
        (GOOD + "prompt: hello\n", "no place for the {question}"),
        (GOOD + "systems: [mplus, bm26]\n", "systems has 'bm26'"),
        (GOOD + "source: {hub: a/b}\n", "needs 'file'"),
        ("[1]", "holds no table of settings"),
        ("a: [", "is not YAML"),
    ],
)
def test_a_wrong_task_file_is_one_sentence(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as caught:
        open_task(str(path))
    assert told in str(caught.value) and "\n" not in str(caught.value) and str(path) in str(caught.value)


def test_unknown_tasks_and_settings_name_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean 'needle'"):
        open_task("neddle")
    with pytest.raises(InputError, match="no task file 'gone.yaml'"):
        open_task("gone.yaml")
    with pytest.raises(InputError, match="no setting 'lenghts'; did you mean 'lengths'"):
        settings_of(open_task("needle"), {"lenghts": [1]})


def test_options_are_listed_in_the_message() -> None:
    message = open_task("event-qa").message("What next?", ("He ran.", "He sat."))
    assert "What next?" in message and "A. He ran.\nB. He sat." in message


def test_an_option_with_braces_is_quoted_as_it_is() -> None:
    task = TaskFile(task="x", version=1, title="x", adapter="events", prompt="{question}\n{options}")
    assert task.message("Q {options}", ("{question}", "b")) == "Q {options}\nA. {question}\nB. b"


def test_a_task_file_with_numbers_for_keys_or_dates_is_no_traceback(tmp_path: Path) -> None:
    file = tmp_path / "t.yaml"
    file.write_text("task: t\nversion: 1\ntitle: t\nadapter: facts\n1: 2\n")
    with pytest.raises(InputError, match="there is no setting '1'"):
        open_task(str(file))
    file.write_text("task: t\nversion: 1\ntitle: t\nadapter: facts\nsettings: {since: 2024-01-01}\n")
    assert len(open_task(str(file)).digest) == 16


@pytest.mark.parametrize(
    ("metric", "said", "question", "score"),
    [
        ("contained", "It was Ana Lee.", asked("Ana Lee"), 1.0),
        ("exact", "the Ana!", asked("ana"), 1.0),
        ("exact", "it is Ana", asked("ana"), 0.0),
        ("f1", "in the red house", asked("a red house", "blue"), 0.8),  # red, house of in, red, house
        ("share", "1234 and 99", asked("1234", "77"), 0.5),
        ("any", "1234 and 99", asked("99", "77"), 1.0),
        ("choice", "B.", asked("He sat.", options=("He ran.", "He sat.")), 1.0),
        ("choice", "I think he sat down", asked("He sat.", options=("He ran.", "He sat.")), 1.0),
        ("choice", "C", asked("He sat.", options=("He ran.", "He sat.")), 0.0),
        ("f1", "That is not mentioned.", asked("x", unanswerable=True), 1.0),
        ("contained", "Ana", asked("Ana", unanswerable=True), 0.0),
    ],
)
def test_scores_by_hand(metric: str, said: str, question: Question, score: float) -> None:
    assert METRICS[metric](said, question) == pytest.approx(score)


def test_rouge_l_is_that_of_the_library() -> None:
    pytest.importorskip("rouge_score", reason="rouge-score is not installed (extra eval)")
    assert METRICS["rouge_l"]("the cat sat", asked("a dog", "the cat sat")) == pytest.approx(1.0)
    assert METRICS["rouge_l"]("the cat", asked("the cat sat down")) == pytest.approx(2 / 3)


def test_small_parts_of_scores() -> None:
    assert word_f1("", "x") == 0.0 and word_f1("b c", "c d") == 0.5
    assert abstains("I don’t know.") and not abstains("Ana knows.")
    assert chosen_option("It says a thing", ("One", "Two")) is None
    assert chosen_option("(D)", ("1", "2", "3", "fourth")) == 3
    assert chosen_option("**B**", ("one", "two")) == chosen_option("[B]", ("one", "two")) == 1
    assert chosen_option("a start", ("art", "end")) is None and chosen_option("an art", ("art", "end")) == 0


def test_one_text_is_one_answer_for_an_interval() -> None:
    assert mean_interval([[1.0, 0.0, 1.0, 1.0, 0.0]]) == wilson_interval(0.6, 1)
    assert mean_interval([[1.0] * 20, [1.0] * 30]) == wilson_interval(2, 2)
    assert mean_interval([[2.0, 3.0]], weights=[[1.0, 3.0]]) == (2.75, 2.75)


def test_bootstrap_intervals_are_those_of_theory_and_wilsons_at_the_ends() -> None:
    generator = np.random.default_rng(1)
    scores = generator.normal(0.5, 0.1, 400).tolist()
    low, high = mean_interval([[score] for score in scores])
    half = 1.96 * float(np.std(scores)) / 20
    assert (high - low) / 2 == pytest.approx(half, rel=0.1) and (high + low) / 2 == pytest.approx(
        float(np.mean(scores)), abs=half / 5
    )
    assert mean_interval([[score] * 4 for score in scores]) == pytest.approx((low, high))  # repeats tell nothing new
    assert mean_interval([[1.0], [1.0]]) == wilson_interval(2, 2)
    heavy = mean_interval([[1.0], [3.0]] * 50, weights=[[3.0], [1.0]] * 50)
    assert heavy[0] < 1.5 < heavy[1] < 2.0
