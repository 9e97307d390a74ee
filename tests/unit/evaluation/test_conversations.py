"""Conversations and long contexts with questions at their end: what is read, where the evidence stands, what is wrong with a file."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from mplus.errors import InputError
from mplus.evaluation.schedule.stream import EvalStream, ScheduledQuestion
from mplus.evaluation.tasks.builders import settings_of, streams_of
from mplus.evaluation.tasks.context import StreamSource, TaskContext
from mplus.evaluation.tasks.task_file import open_task
from tests.evaluating import Words, tokens_of

LOCOMO = Path(__file__).resolve().parents[4] / "shared" / "data" / "locomo" / "locomo10-part.json"


def material(task: str, words: Words, *files: Path, limit: int | None = None) -> TaskContext:
    """Words of white space are tokens; chunks of ten."""
    return TaskContext(task=open_task(task), encode=words, chunk_tokens=10, min_tokens=2, data=files, limit=limit)


def opened(
    task: str, words: Words, file: Path, limit: int | None = None, **changes: Any
) -> list[tuple[StreamSource, EvalStream]]:
    """All streams of a file with their scripts."""
    given = material(task, words, file, limit=limit)
    return [(stream, stream.opened()) for stream in streams_of(given.task, settings_of(given.task, changes), given)]


def asked(script: EvalStream) -> list[ScheduledQuestion]:
    """Everything that is asked, in order; all of it at the end of the text."""
    assert set(script.due) == {script.tokens}
    return script.due[script.tokens]


def stored(path: Path, data: Any) -> Path:
    """A JSON file."""
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


def locomo() -> list[dict[str, Any]]:
    """Two sessions, the second named before the first; a date of a third that never took place."""
    return [
        {
            "sample_id": "conv-1",
            "conversation": {
                "speaker_a": "Ann",
                "speaker_b": "Bo",
                "session_10_date_time": "9 am on 3 May",
                "session_10": [
                    {"speaker": "Ann", "dia_id": "D10:1", "text": "The cat came back."},
                    {"speaker": "Bo", "dia_id": "D10:02", "text": "Look!", "blip_caption": "a black cat"},
                ],
                "session_2_date_time": "8 am on 1 May",
                "session_2": [
                    {"speaker": "Ann", "dia_id": "D2:1", "text": "I lost my cat."},
                    {"speaker": "Bo", "dia_id": "D2:2", "text": "", "blip_caption": "a poster"},
                ],
                "session_11_date_time": "never",
            },
            "qa": [
                {"question": "What was lost?", "answer": "a cat", "evidence": ["D2:1"], "category": 4},
                {"question": "When did it come back?", "answer": 2023, "evidence": ["D2:1; D10:1"], "category": 2},
                {"question": "Is Ann glad?", "answer": "Likely yes; it is back", "evidence": ["D:10:2", "D"], "category": 3},
                {"question": "Who saw it?", "answer": "Bo, Ann", "evidence": [], "category": 1},
                {"question": "Who lost a dog?", "adversarial_answer": "Ann", "evidence": ["D99:1", "D02:02"], "category": 5},
            ],
        }
    ]


def test_locomo_reads_sessions_in_order_below_their_dates(tmp_path: Path) -> None:
    words = Words()
    [(stream, script)] = opened("locomo", words, stored(tmp_path / "a.json", locomo()))
    assert stream.name == "conv-1"
    assert words.text(tokens_of(script)) == (
        "Date: 8 am on 1 May Ann: I lost my cat. Bo: [image: a poster] "
        "Date: 9 am on 3 May Ann: The cat came back. Bo: Look! [image: a black cat]"
    )
    assert max(map(len, script.chunks)) <= 10


def test_locomo_rows_spans_distances_and_refusals(tmp_path: Path) -> None:
    # words: date 0-6, "Ann: I lost my cat." 6-11, "Bo: [image: a poster]" 11-15, date 15-21, "Ann: ..." 21-26, "Bo: ..." 26-32
    [(_, script)] = opened("locomo", Words(), stored(tmp_path / "a.json", locomo()))
    assert script.tokens == 32
    rows = [(one.question.row, one.question.span, one.distance, one.question.unanswerable) for one in asked(script)]
    assert rows == [
        ("single-hop", (6, 11), 21, False),
        ("temporal", (21, 26), 6, False),
        ("open-domain", (26, 32), 0, False),
        ("multi-hop", (32, 32), 0, False),
        ("adversarial", (11, 15), 17, True),
    ]
    assert all(one.question.answer_span == one.question.span for one in asked(script))
    answers = [one.question.answers for one in asked(script)]
    assert answers == [("a cat",), ("2023",), ("Likely yes",), ("Bo, Ann",), ("not mentioned",)]
    first = asked(script)[0].question
    assert first.id == "conv-1/0" and first.text == open_task("locomo").message("What was lost?")


def test_limit_counts_per_row_over_all_conversations(tmp_path: Path) -> None:
    data = [{**locomo()[0], "sample_id": name} for name in ("one", "two")]
    data[0]["qa"] = data[0]["qa"][:2]
    found = opened("locomo", Words(), stored(tmp_path / "a.json", data), limit=1)
    assert [(stream.name, [one.question.row for one in asked(script)]) for stream, script in found] == [
        ("one", ["single-hop", "temporal"]),
        ("two", ["open-domain", "multi-hop", "adversarial"]),
    ]
    data[0]["qa"] = [{**data[0]["qa"][0], "question": f"{number}?"} for number in range(3)]
    data[1]["qa"] = [{**data[0]["qa"][0], "question": f"{number}?"} for number in range(3)]
    found = opened("locomo", Words(), stored(tmp_path / "b.json", data), limit=3)
    told = [[one.question.query for one in asked(script)] for _, script in found]
    assert told == [["0?", "1?"], ["0?"]]  # in turn, not three of the first
    found = opened("locomo", Words(), tmp_path / "a.json", rows=["adversarial"])
    assert [stream.name for stream, _ in found] == ["two"]


@pytest.mark.parametrize(
    ("path", "value", "complaint"),
    [
        (("qa", 0, "answer"), None, "entry 0 qa[0]: 'answer' is null, expected text"),
        (("qa", 0, "answer"), ..., "entry 0 qa[0] has no field 'answer'; its fields are: category, evidence, question"),
        (("qa", 1, "category"), 6, "entry 0 qa[1]: 'category' is 6, expected one of 1, 2, 3, 4, 5"),
        (("qa", 1, "category"), "2", "entry 0 qa[1]: 'category' is text, expected one of"),
        (("qa", 1, "category"), [2], "entry 0 qa[1]: 'category' is a list, expected one of"),
        (("qa", 2, "evidence"), "D1:1", "entry 0 qa[2]: 'evidence' is text, expected a list of turns"),
        (("qa", 2, "evidence"), [3], "entry 0 qa[2]: 'evidence' holds a number, expected turns"),
        (("qa", 3, "question"), " ", "entry 0 qa[3]: 'question' is empty"),
        (("qa",), {}, "entry 0: 'qa' is empty, expected a list of objects"),
        (("sample_id",), ..., "entry 0 has no field 'sample_id'"),
        (("conversation",), [], "entry 0: 'conversation' is a list, expected an object"),
        (("conversation",), {"speaker_a": "Ann"}, "entry 0 conversation has no session"),
        (("conversation", "session_2"), ["hello"], "entry 0 conversation: session_2[0] is text, expected an object"),
        (("conversation", "session_2_date_time"), ..., "entry 0 conversation has no field 'session_2_date_time'"),
        (("conversation", "session_2", 0, "text"), ..., "entry 0 conversation session_2[0] has no field 'text'"),
        (("conversation", "session_2", 0, "speaker"), None, "entry 0 conversation session_2[0]: 'speaker' is null"),
        (("conversation", "session_2", 0, "dia_id"), {}, "entry 0 conversation session_2[0]: 'dia_id' is an object"),
    ],
)
def test_a_misshapen_locomo_record_is_named(tmp_path: Path, path: tuple[Any, ...], value: Any, complaint: str) -> None:
    refused("locomo", stored(tmp_path / "a.json", changed(locomo(), path, value)), complaint)


def changed(data: list[dict[str, Any]], path: tuple[Any, ...], value: Any) -> list[dict[str, Any]]:
    """The first record with another value at a place, or without that field."""
    place: Any = data[0]
    for key in path[:-1]:
        place = place[key]
    if value is ...:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return data


def refused(task: str, file: Path, complaint: str, **changes: Any) -> None:
    """The file is refused in one line that names it."""
    with pytest.raises(InputError) as error:
        opened(task, Words(), file, **changes)
    told = str(error.value)
    assert complaint in told and str(file) in told and "\n" not in told


def test_two_conversations_of_one_name_are_refused(tmp_path: Path) -> None:
    file = stored(tmp_path / "a.json", locomo() + locomo())
    refused("locomo", file, "entry 1: there is another 'conv-1' before it")


def longmemeval(**changes: Any) -> dict[str, Any]:
    """Two sessions that are not in order, and an empty one."""
    return {
        "question_id": "q1",
        "question_type": "temporal-reasoning",
        "question": "Which tea?",
        "answer": 7,
        "question_date": "2023/06/01 (Thu) 10:00",
        "haystack_dates": ["2023/05/20 (Sat) 02:21", "2023/05/02 (Tue) 09:00", "2023/05/01 (Mon) 09:00"],
        "haystack_session_ids": ["late", "early", "empty"],
        "haystack_sessions": [
            [{"role": "user", "content": "I like green tea."}, {"role": "assistant", "content": "Good."}],
            [{"role": "user", "content": "Hello you.", "has_answer": True}, {"role": "assistant", "content": ""}],
            [],
        ],
        "answer_session_ids": ["late"],
        **changes,
    }


def test_longmemeval_reads_sessions_by_date_and_asks_one_question(tmp_path: Path) -> None:
    words = Words()
    file = stored(tmp_path / "longmemeval_s", [longmemeval()])
    [(stream, script)] = opened("longmemeval", words, file)
    assert words.text(tokens_of(script)) == (
        "Date: 2023/05/02 (Tue) 09:00 User: Hello you. Date: 2023/05/20 (Sat) 02:21 User: I like green tea. Assistant: Good."
    )
    [due] = asked(script)
    assert stream.name == due.question.id == "q1"
    assert (due.question.row, due.question.answers, due.question.unanswerable) == ("temporal-reasoning", ("7",), False)
    assert (due.question.span, due.distance, script.tokens) == ((4, 7), 11, 18)
    assert due.question.text.endswith("(Asked on 2023/06/01 (Thu) 10:00.) Which tea?")
    assert due.question.query == "Which tea?"  # the date would find the headings


def test_longmemeval_without_marked_turns_goes_by_its_answer_sessions(tmp_path: Path) -> None:
    plain = longmemeval()
    del plain["haystack_sessions"][1][0]["has_answer"]
    nowhere = {**plain, "question_id": "q2_abs", "answer": "You never told.", "answer_session_ids": ["other"]}
    found = opened("longmemeval", Words(), stored(tmp_path / "a.json", [plain, nowhere]))
    spans = [(one.question.span, one.distance, one.question.unanswerable) for _, script in found for one in asked(script)]
    assert spans == [((16, 18), 0, False), ((18, 18), 0, True)]


@pytest.mark.parametrize(
    ("path", "value", "complaint"),
    [
        (("answer",), ..., "entry 0 has no field 'answer'"),
        (("question_type",), ..., "entry 0 has no field 'question_type'"),
        (("haystack_sessions",), ..., "entry 0 has no field 'haystack_sessions'"),
        (("haystack_sessions",), "none", "entry 0: 'haystack_sessions' is text, expected a list"),
        (("haystack_sessions", 1), {}, "entry 0: haystack_sessions[1] is an object, expected a list of turns"),
        (("haystack_sessions", 1, 0), "hi", "entry 0: haystack_sessions[1][0] is text, expected an object"),
        (("haystack_sessions", 1, 0, "role"), ..., "entry 0 haystack_sessions[1][0] has no field 'role'"),
        (("haystack_sessions", 1, 0, "content"), None, "entry 0 haystack_sessions[1][0]: 'content' is null, expected text"),
        (("haystack_dates",), ["today"], "entry 0: 'haystack_dates' has 1 entries, expected 3, one per session"),
        (("haystack_dates", 0), None, "entry 0: haystack_dates[0] is null, expected a date"),
        (("haystack_session_ids",), ["x"], "entry 0: 'haystack_session_ids' has 1 entries, expected 3"),
        (("haystack_sessions",), [[], [], []], "entry 0: 'haystack_sessions' holds no turn"),
    ],
)
def test_a_misshapen_longmemeval_record_is_named(tmp_path: Path, path: tuple[Any, ...], value: Any, complaint: str) -> None:
    refused("longmemeval", stored(tmp_path / "a.json", changed([longmemeval()], path, value)), complaint)


def incremental(**changes: Any) -> dict[str, Any]:
    """A context with two questions."""
    return {
        "context": "1. Ann lives in Oslo. 2. Ann lives in Rome.",
        "questions": ["Where is Ann?", "Where is Bo?"],
        "answers": [["Rome", "in Rome", "Rome"], ["unknown"]],
        "metadata": {"source": "factconsolidation_sh_6k", "question_ids": ["a", "b_abs"], "demo": None},
        **changes,
    }


def lines(path: Path, *records: dict[str, Any]) -> Path:
    """A file of JSON lines."""
    path.write_text("".join(json.dumps(one) + "\n" for one in records), encoding="utf-8")
    return path


def test_a_context_is_read_once_and_asked_with_its_kind_of_instruction(tmp_path: Path) -> None:
    words, task = Words(), open_task("memory-agent-bench")
    file = lines(tmp_path / "Conflict_Resolution.jsonl", incremental(), incremental(metadata={"source": None}))
    (stream, script), (_, other) = opened("memory-agent-bench", words, file)
    assert (stream.name, words.text(tokens_of(script))) == ("context 0", incremental()["context"])
    first, second = (one.question for one in asked(script))
    assert (first.row, first.answers, first.span, first.unanswerable) == (
        "factconsolidation_sh_6k", ("Rome", "in Rome"), (10, 10), False,
    )  # fmt: skip
    assert (first.query, first.cluster) == ("Where is Ann?", "context 0")
    assert second.unanswerable and (second.id, asked(script)[1].distance) == ("1", 0)
    assert first.text == f"{task.settings['instructions']['factconsolidation'].strip()}\n\nWhere is Ann?"
    assert next((one.question.row, one.question.text) for one in asked(other)) == ("Conflict_Resolution", "Where is Ann?")


def test_sources_are_chosen_and_left_out_and_counted(tmp_path: Path) -> None:
    names = ("icl_a", "recsys_redial_full", "icl_a", "eventqa_full")
    file = lines(tmp_path / "a.jsonl", *(incremental(metadata={"source": name}) for name in names))

    def rows(**changes: Any) -> list[tuple[str, str, int]]:
        found = opened("memory-agent-bench", Words(), file, **changes)
        return [(stream.name, asked(script)[0].question.row, script.questions) for stream, script in found]

    assert rows() == [("context 0", "icl_a", 2), ("context 2", "icl_a", 2), ("context 3", "eventqa_full", 2)]
    assert rows(limit=3) == [("context 0", "icl_a", 2), ("context 2", "icl_a", 1), ("context 3", "eventqa_full", 2)]
    assert rows(sources=["event"]) == [("context 3", "eventqa_full", 2)]
    with pytest.raises(InputError, match="has no question with these settings"):
        rows(sources=["ruler"])


def test_parquet_and_json_lines_give_the_same(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="needs pyarrow: pip install 'mplus-llm[eval]'")
    from pyarrow import parquet

    records = [incremental(context=f"Text {number}.") for number in range(6)]
    for one in records:
        one["metadata"]["haystack_sessions"] = [[[{"role": "user", "content": "Hi."}]]]
    (tmp_path / "data").mkdir()
    parquet.write_table(pyarrow.Table.from_pylist(records), tmp_path / "data" / "Conflict_Resolution-00000-of-00001.parquet")

    def seen(file: Path) -> list[Any]:
        words = Words()
        found = opened("memory-agent-bench", words, file)
        return [(stream.name, words.text(tokens_of(one)), [vars(due.question) for due in asked(one)]) for stream, one in found]

    assert len(seen(tmp_path / "data")) == 6
    assert seen(tmp_path / "data") == seen(lines(tmp_path / "b.jsonl", *records))
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(b"PAR1 not really")
    refused("memory-agent-bench", broken, "is no Parquet file that can be read")
    bare = tmp_path / "bare.parquet"
    parquet.write_table(pyarrow.Table.from_pylist([{"context": "Text."}]), bare)
    refused("memory-agent-bench", bare, "entry 0 has no field 'questions'; its fields are: context")


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"context": ""}, "line 1: 'context' is empty"),
        ({"context": ["a"]}, "line 1: 'context' is a list, expected text"),
        ({"questions": []}, "line 1: 'questions' is empty, expected a list"),
        ({"questions": "Where?"}, "line 1: 'questions' is text, expected a list"),
        ({"questions": ["Where?"]}, "line 1: 'answers' has 2 entries, expected 1, one per question"),
        ({"questions": ["Where?", 3.5, ""], "answers": ["a", "b", "c"]}, "line 1: 'questions[2]' is empty"),
        ({"answers": [[], ["x"]]}, "line 1: 'answers[0]' is empty"),
        ({"answers": [["x"], {"a": 1}]}, "line 1: 'answers[1]' is an object, expected a list of texts"),
        ({"metadata": "icl"}, "line 1: 'metadata' is text, expected an object"),
        ({"metadata": {"source": ["a"]}}, "line 1 metadata: 'source' is a list, expected text"),
    ],
)
def test_a_misshapen_context_is_named(tmp_path: Path, changes: dict[str, Any], complaint: str) -> None:
    refused("memory-agent-bench", lines(tmp_path / "a.jsonl", incremental(**changes)), complaint)


@pytest.fixture(scope="module")
def real_locomo() -> Path:
    if not LOCOMO.is_file():
        if os.environ.get("MPLUS_REQUIRE_SHARED") == "1":
            pytest.fail(f"{LOCOMO} is missing, and this run must not skip")
        pytest.skip(f"needs the public data in {LOCOMO}")
    return LOCOMO


def test_the_real_locomo_file_is_read_whole(real_locomo: Path) -> None:
    words = Words()
    found = opened("locomo", words, real_locomo)
    questions = {one.question.id: (one, script) for _, script in found for one in asked(script)}
    assert len(found) == 8 and len(questions) == 1629
    rows = Counter(one.question.row for one, _ in questions.values())
    assert rows == {"multi-hop": 220, "temporal": 260, "open-domain": 76, "single-hop": 709, "adversarial": 364}
    assert all(one.question.unanswerable == (one.question.row == "adversarial") for one, _ in questions.values())
    whole = sum(one.question.span == (script.tokens, script.tokens) for one, script in questions.values())
    assert whole == 2  # with an empty list; every malformed one still names a turn
    one, script = questions["conv-30/0"]
    said = words.text(tokens_of(script)[slice(*one.question.span)])
    assert re.match(r"Jon: Hey Gina! .* Lost my job as a banker yesterday", said) and said.endswith("my own business.")
    assert one.distance == script.tokens - one.question.end
