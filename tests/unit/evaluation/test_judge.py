"""A judge behind an address: every answer is asked about once, verdicts stay, and what is wrong is said. The endpoint is a thread of ours."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from mplus.cli import main
from mplus.errors import InputError
from mplus.evaluation.report.result_log import SAMPLES, ResultLog, Sample
from mplus.evaluation.scoring.endpoint import Endpoint as JudgeEndpoint
from mplus.evaluation.scoring.judge import SHARES, VERDICTS, Judge, judge_run, prompt_of
from mplus.evaluation.scoring.verdict import score_of

Reply = tuple[int, dict[str, str], str]


@dataclass
class Endpoint:
    """What it is asked, and what it says: by default yes where the answer to check is "right"."""

    url: str = ""
    asked: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    says: Callable[[int, str], Reply] = lambda number, message: completion("Yes." if "check:\nright" in message else "no")


def completion(said: str | None) -> Reply:
    """A chat completion."""
    return 200, {}, json.dumps({"choices": [{"message": {"role": "assistant", "content": said}}]})


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    made = Endpoint()
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            made.asked.append({**body, "path": self.path})
            made.keys.append(self.headers.get("Authorization"))
            code, headers, text = made.says(len(made.asked), body["messages"][0]["content"])
            raw = text.encode()
            self.send_response(code)
            for name, value in {**headers, "Content-Length": str(len(raw))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        made.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
        yield made
        server.shutdown()
        thread.join()


def judge(endpoint: Endpoint, **changes: Any) -> Judge:
    """One that does not wait and asks one thing at a time."""
    return replace(Judge(endpoint.url, "wise", backoff_s=0.0, at_once=1, timeout_s=10), **changes)


def sample(system: str, name: str, given: str, **changes: Any) -> Sample:
    """An answer."""
    made = Sample(
        stream="s", id=name, cluster=name, system=system, distance=8, tokens_back=8, position=8, ltm_tokens=0, row="easy",
        question="Which key?", answers=("the red key", "red"), given=given, right=False,
    )  # fmt: skip
    return replace(made, **changes)


def run_of(directory: Path, *samples: Sample) -> Path:
    """A finished run."""
    with ResultLog(directory / SAMPLES) as journal:
        journal.add(samples)
    return directory


def four(directory: Path) -> Path:
    """Two rows and two systems, a question that cannot be answered, and one that was not asked."""
    return run_of(
        directory,
        sample("mplus", "1", "right"),
        sample("mplus", "2", "wrong"),
        sample("mplus", "3", "right", row="hard", unanswerable=True),
        sample("window", "1", "wrong"),
        sample("window", "2", "", asked=False),
    )


def verdicts(directory: Path) -> list[dict[str, Any]]:
    """What is stored."""
    return [json.loads(line) for line in (directory / VERDICTS).read_text(encoding="utf-8").splitlines()]


def test_every_answer_is_judged_and_shares_are_by_system_and_row(tmp_path: Path, endpoint: Endpoint) -> None:
    seen: list[tuple[int, int]] = []
    found = judge_run(four(tmp_path), judge(endpoint), lambda done, total: seen.append((done, total)))
    shares = {
        system: {row: (one["share"], one["judged"]) for row, one in rows.items()} for system, rows in found["systems"].items()
    }
    assert shares == {"mplus": {"easy": (0.5, 2), "hard": (1.0, 1), "all": (0.6667, 3)}, "window": {"easy": (0.0, 1)}}
    assert (found["judged"], found["no_verdict"], found["judge"]) == (4, 0, "wise")
    assert found["systems"]["mplus"]["easy"]["low"] < 0.5 < found["systems"]["mplus"]["easy"]["high"]
    assert json.loads((tmp_path / SHARES).read_text(encoding="utf-8")) == found
    assert seen == [(done, 4) for done in range(5)]
    assert [(one["system"], one["id"], one["score"]) for one in verdicts(tmp_path)] == [
        ("mplus", "1", 1), ("mplus", "2", 0), ("mplus", "3", 1), ("window", "1", 0),
    ]  # fmt: skip


def test_what_is_sent_is_a_chat_completion_of_temperature_0(
    tmp_path: Path, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", "secret")
    judge_run(four(tmp_path), judge(endpoint, url=endpoint.url + "/", key_env="MY_KEY"))
    first, _, refusal, _ = endpoint.asked
    assert (first["path"], first["model"], first["temperature"]) == ("/v1/chat/completions", "wise", 0)
    message = first["messages"][0]["content"]
    assert len(first["messages"]) == 1 and all(
        part in message for part in ("Which key?", "- the red key\n- red\n", "check:\nright")
    )
    assert "- the red key" not in refusal["messages"][0]["content"] and "not known" in refusal["messages"][0]["content"]
    assert endpoint.keys == ["Bearer secret"] * 4
    assert "secret" not in (tmp_path / VERDICTS).read_text(encoding="utf-8") + (tmp_path / SHARES).read_text(encoding="utf-8")


def test_an_answer_with_braces_is_quoted_as_it_is() -> None:
    one = sample("mplus", "1", "{question} {0}", answers=("{given}",), question="Why {answers}?")
    assert all(part in prompt_of(one) for part in ("check:\n{question} {0}", "- {given}", "Why {answers}?"))


def test_no_answer_is_judged_twice_and_a_torn_line_is_judged_anew(tmp_path: Path, endpoint: Endpoint) -> None:
    found = judge_run(four(tmp_path), judge(endpoint))
    assert judge_run(tmp_path, judge(endpoint)) == found and len(endpoint.asked) == 4
    path = tmp_path / VERDICTS
    path.write_bytes(path.read_bytes()[:-9])
    assert judge_run(tmp_path, judge(endpoint)) == found and len(endpoint.asked) == 5
    assert len(verdicts(tmp_path)) == 4


def test_another_answer_of_the_same_key_is_judged_anew(tmp_path: Path, endpoint: Endpoint) -> None:
    judge_run(run_of(tmp_path, sample("mplus", "1", "wrong"), sample("mplus", "2", "wrong")), judge(endpoint))
    (tmp_path / SAMPLES).unlink()
    found = judge_run(run_of(tmp_path, sample("mplus", "1", "right"), sample("mplus", "2", "wrong")), judge(endpoint))
    assert len(endpoint.asked) == 3 and found["systems"]["mplus"]["easy"]["right"] == 1


def test_a_verdict_that_is_neither_yes_nor_no_is_counted_and_not_guessed(tmp_path: Path, endpoint: Endpoint) -> None:
    replies = iter(["Perhaps yes", None, "yes", ""])
    endpoint.says = lambda number, message: completion(next(replies))
    found = judge_run(four(tmp_path), judge(endpoint))
    easy = found["systems"]["mplus"]["easy"]
    assert (easy["share"], easy["judged"], easy["no_verdict"]) == (None, 0, 2)
    assert (found["judged"], found["no_verdict"]) == (1, 3)
    assert [one["score"] for one in verdicts(tmp_path)] == [None, None, 1, None]
    assert found["unclear"] == ["Perhaps yes", "", ""]
    endpoint.says = lambda number, message: completion("no")
    assert judge_run(tmp_path, judge(endpoint))["no_verdict"] == 0
    assert len(endpoint.asked) == 7  # what has no verdict is asked about again


@pytest.mark.parametrize(
    ("said", "score"),
    [
        ("yes", 1), ("No", 0), (" **Yes.** It says so.", 1), ("No, not at all: yes would be wrong", 0), ("<think>no, no</think>\nyes", 1),
        ("", None), ("<think>yes", None), ("Yesterday", None), ("It may agree.", None), ("1", None), ("not", None),
    ],
)  # fmt: skip
def test_the_first_word_is_the_verdict(said: str, score: int | None) -> None:
    assert score_of(said) == score


@pytest.mark.parametrize(
    "yes",
    [
        "Answer: yes", "**Answer:** Yes.", "Verdict - yes", "Final answer: **Yes**", "Correct.", "Yes - it agrees", '{"verdict": "yes"}',
        '```json\n{"reason": "no doubt", "correct": true}\n```', '{"score": 1}', "The answer agrees with the list.\nyes", "It agrees.",
        "The answer is correct.", "Yes or no? Answer: yes", "<think>no</think>Yes", "no, wait</think>\n\nyes", "\\boxed{yes}", "Ja",
        "Ja, das stimmt.",
        "Oui.", "Sí", "Да", "是", "是的。", "正确", "はい。", "네", "نعم", "हाँ", "“Yes”", "<answer>yes</answer>", "✅", "ｙｅｓ", "Yes, no doubt.",
    ],
)  # fmt: skip
def test_yes_is_understood_in_what_it_is_wrapped_in(yes: str) -> None:
    assert score_of(yes) == 1


@pytest.mark.parametrize(
    "no",
    [
        "Answer: no", "Incorrect.", "Not correct.", "The answer is not correct.", "It does not agree.", "Wrong", '{"verdict": "no", "yes": 1}',
        '{"agrees": false}', "The answer names another town.\n**No**", "Nein", "Non", "нет",
        "不是", "不正确", "否", "いいえ", "아니요", "لا", "नहीं", "❌",
        "The right answers say Porto.\nno", "Answer: the answer is wrong",
    ],
)  # fmt: skip
def test_no_is_understood_in_what_it_is_wrapped_in(no: str) -> None:
    assert score_of(no) == 0


@pytest.mark.parametrize(
    "neither",
    ["Yes and no", "yes/no", "Yes, or no", "<think>The answer says Porto, the right one is", "Right answers: Porto", "是否正确",
     "{}", "[1]", "I cannot say.",
     "It is correct and it is wrong.", "The answer does not say whether it is right that yes was the word that is correct", '{"verdict": "maybe"}'],
)  # fmt: skip
def test_what_says_both_or_neither_has_no_verdict(neither: str) -> None:
    assert score_of(neither) is None


def test_a_setting_that_is_refused_is_not_sent_again(tmp_path: Path, endpoint: Endpoint) -> None:
    def says(number: int, message: str) -> Reply:
        sent = endpoint.asked[-1]
        if "max_tokens" in sent:
            return (
                400,
                {},
                '{"error": {"message": "Unsupported parameter: \'max_tokens\'. Use \'max_completion_tokens\' instead."}}',
            )
        if "temperature" in sent:
            return 400, {}, '{"error": {"message": "\'temperature\' does not support 0 with this model."}}'
        return completion("yes")

    endpoint.says = says
    assert judge_run(four(tmp_path), judge(endpoint))["judged"] == 4
    optional = [sorted(set(one) - {"path", "model", "messages"}) for one in endpoint.asked]
    assert optional == [["max_tokens", "temperature"], ["max_completion_tokens", "temperature"], *[["max_completion_tokens"]] * 4]


def test_an_endpoint_that_takes_no_settings_is_asked_without_any(tmp_path: Path, endpoint: Endpoint) -> None:
    def says(number: int, message: str) -> Reply:
        extra = set(endpoint.asked[-1]) - {"path", "model", "messages"}
        return (422, {}, "Extra inputs are not permitted") if extra else completion("no")

    endpoint.says = says
    assert judge_run(four(tmp_path), judge(endpoint))["judged"] == 4 and len(endpoint.asked) == 5
    endpoint.says = lambda number, message: (400, {}, "extra inputs are not permitted")
    with pytest.raises(InputError, match=r"answered 400 \(extra inputs"):
        judge_run(run_of(tmp_path, sample("mplus", "9", "right")), judge(endpoint))


def test_a_judge_cut_off_while_it_thinks_gets_as_many_tokens_as_it_likes(tmp_path: Path, endpoint: Endpoint) -> None:
    def says(number: int, message: str) -> Reply:
        if "max_tokens" in endpoint.asked[-1]:
            return 200, {}, json.dumps({"choices": [{"message": {"content": None}, "finish_reason": "length"}]})
        return completion("<think>hm</think>yes")

    endpoint.says = says
    assert judge_run(four(tmp_path), judge(endpoint))["judged"] == 4 and len(endpoint.asked) == 5


def test_a_reply_in_parts_is_one_text(tmp_path: Path, endpoint: Endpoint) -> None:
    parts = [{"type": "reasoning", "summary": "no"}, {"type": "text", "text": "Answer: "}, {"type": "text", "text": "yes"}]
    endpoint.says = lambda number, message: (200, {}, json.dumps({"choices": [{"message": {"content": parts}}]}))
    assert judge_run(four(tmp_path), judge(endpoint))["judged"] == 4
    assert verdicts(tmp_path)[0]["said"] == "Answer: yes"


def test_the_key_is_never_shown_and_goes_to_no_other_address(
    tmp_path: Path, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    endpoint.says = lambda number, message: (401, {}, "Incorrect API key provided: sk-secret")
    with pytest.raises(InputError, match=r"Incorrect API key provided: \*\*\*\); set OPENAI_API_KEY"):
        judge_run(four(tmp_path), judge(endpoint))
    endpoint.says = lambda number, message: completion("sk-secret yes")
    judge_run(tmp_path, judge(endpoint, url=endpoint.url + "?token=sk-other"))
    assert endpoint.asked[-1]["path"] == "/v1/chat/completions?token=sk-other"
    stored = "".join(file.read_text() for file in (tmp_path / VERDICTS, tmp_path / SHARES))
    assert "sk-" not in stored
    count = len(endpoint.asked)
    endpoint.says = lambda number, message: (307, {"Location": f"{endpoint.url}/elsewhere"}, "")
    with pytest.raises(InputError, match="it points to .*/elsewhere; give the address itself with --url"):
        judge_run(run_of(tmp_path, sample("mplus", "9", "right")), judge(endpoint))
    assert len(endpoint.asked) == count + 1
    with pytest.raises(InputError, match="holds a user name or password") as caught:
        judge_run(tmp_path, judge(endpoint, url="http://me:hidden@127.0.0.1:9/v1"))
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize("line", ["[]", "{}", "3", '{"stream": 1}', "x" * 10])
def test_samples_of_another_form_are_told_in_one_sentence(tmp_path: Path, endpoint: Endpoint, line: str) -> None:
    (tmp_path / SAMPLES).write_text(line + "\n")
    (tmp_path / "run.json").write_text("[]")
    with pytest.raises(InputError, match="samples.jsonl line 1 is no sample of this version"):
        judge_run(tmp_path, judge(endpoint))
    (tmp_path / SAMPLES).write_text("")
    with pytest.raises(InputError, match="holds no answer to judge"):
        judge_run(tmp_path, judge(endpoint))


def test_no_verdict_at_all_is_an_error_and_some_are_told(
    tmp_path: Path, endpoint: Endpoint, capsys: pytest.CaptureFixture[str]
) -> None:
    run = ["eval", "judge", str(four(tmp_path)), "--url", endpoint.url, "--judge-model", "wise"]
    endpoint.says = lambda number, message: completion("Who\nknows?")
    assert main(run) == 2
    told = capsys.readouterr().err
    assert "4 of 4 answers have no verdict, for the judge said neither yes nor no ('Who knows?'" in told and told.count("\n") == 1
    endpoint.says = lambda number, message: completion("yes" if "- red" in message else "hm")
    assert main(run) == 0
    assert "1 of 4 answers have no verdict, for the judge said neither yes nor no ('hm')" in capsys.readouterr().err


@pytest.mark.parametrize("code", [429, 500, 503])
def test_a_busy_endpoint_is_asked_again(tmp_path: Path, endpoint: Endpoint, code: int) -> None:
    endpoint.says = lambda number, message: (code, {"Retry-After": "0"}, "busy") if number < 3 else completion("yes")
    found = judge_run(run_of(tmp_path, sample("mplus", "1", "right")), judge(endpoint, backoff_s=60.0))
    assert found["systems"]["mplus"]["easy"]["share"] == 1.0 and len(endpoint.asked) == 3


def test_pauses_double(tmp_path: Path, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("mplus.evaluation.scoring.endpoint.time.sleep", pauses.append)
    endpoint.says = lambda number, message: (502, {}, "gone")
    with pytest.raises(InputError, match=r"answered 502 \(gone\), 4 times"):
        judge_run(run_of(tmp_path, sample("mplus", "1", "right")), judge(endpoint, attempts=4, backoff_s=2.0))
    assert pauses == [2.0, 4.0, 8.0]


def test_what_was_judged_before_a_failure_is_kept(tmp_path: Path, endpoint: Endpoint) -> None:
    endpoint.says = lambda number, message: completion("yes") if number != 3 else (400, {}, '{"error": "no such\nmodel"}')
    with pytest.raises(InputError, match="answered 400 .*no such model.*check address, model and settings") as error:
        judge_run(four(tmp_path), judge(endpoint))
    assert "\n" not in str(error.value) and len(verdicts(tmp_path)) >= 2 and not (tmp_path / SHARES).exists()
    before = len(endpoint.asked), len(verdicts(tmp_path))
    judge_run(tmp_path, judge(endpoint, at_once=4))
    assert len(verdicts(tmp_path)) == 4 and len(endpoint.asked) == before[0] + 4 - before[1]


@pytest.mark.parametrize(
    ("reply", "complaint"),
    [
        ((200, {}, "<html>hello</html>"), "answered '<html>hello</html>', expected a chat completion"),
        ((200, {}, '{"choices": []}'), "expected a chat completion"),
        ((200, {}, "[]"), "expected a chat completion"),
        ((401, {}, "who?"), "answered 401 (who?); set OPENAI_API_KEY to its key"),
        ((404, {}, ""), "answered 404 ()"),
    ],
)
def test_an_endpoint_of_another_kind_is_told_at_once(tmp_path: Path, endpoint: Endpoint, reply: Reply, complaint: str) -> None:
    endpoint.says = lambda number, message: reply
    with pytest.raises(InputError) as error:
        judge_run(run_of(tmp_path, sample("mplus", "1", "right")), judge(endpoint))
    assert complaint in str(error.value) and endpoint.url in str(error.value) and len(endpoint.asked) == 1


def test_an_endpoint_that_is_not_there_is_told(tmp_path: Path, endpoint: Endpoint) -> None:
    nowhere = judge(endpoint, url="http://127.0.0.1:9/v1", attempts=2)
    with pytest.raises(InputError, match=r"'http://127.0.0.1:9/v1' cannot be reached \(.*refused.*\), 2 times"):
        judge_run(run_of(tmp_path, sample("mplus", "1", "right")), nowhere)
    with pytest.raises(InputError, match="expected http:// or https://"):
        judge_run(tmp_path, judge(endpoint, url="file:///etc"))


def test_another_judge_does_not_add_to_the_verdicts(tmp_path: Path, endpoint: Endpoint) -> None:
    judge_run(four(tmp_path), judge(endpoint))
    with pytest.raises(InputError, match="was judged by model 'wise' with prompt 2, this is 'other'"):
        judge_run(tmp_path, judge(endpoint, model="other"))
    (tmp_path / VERDICTS).write_text("{}\n", encoding="utf-8")
    with pytest.raises(InputError, match="line 1 is no verdict of this version"):
        judge_run(tmp_path, judge(endpoint))


def test_a_directory_without_answers_is_told(tmp_path: Path, endpoint: Endpoint) -> None:
    with pytest.raises(InputError, match=r"has no samples.jsonl; give the directory of a finished run"):
        judge_run(tmp_path, judge(endpoint))
    with pytest.raises(InputError, match="holds no answer to judge"):
        judge_run(run_of(tmp_path, sample("mplus", "1", "", answers=())), judge(endpoint))


def test_rows_of_a_run_by_distance_are_distances(tmp_path: Path, endpoint: Endpoint) -> None:
    run = run_of(tmp_path, sample("mplus", "1", "right", row="", distance=4000), sample("mplus", "1", "wrong", row=""))
    assert {row: one["share"] for row, one in judge_run(run, judge(endpoint))["systems"]["mplus"].items()} == {
        "4k": 1.0,
        "8": 0.0,
    }


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"metric": "share"}, "a judge says yes or no only"),
        ({"metric": None, "measure": "reading"}, "measures reading, not answers"),
    ],
)
def test_answers_that_no_verdict_fits_are_not_judged(
    tmp_path: Path, endpoint: Endpoint, settings: dict[str, Any], told: str
) -> None:
    (tmp_path / "samples.jsonl").write_text("")
    (tmp_path / "run.json").write_text(json.dumps(settings))
    with pytest.raises(InputError, match=told):
        judge_run(tmp_path, judge(endpoint))


@pytest.mark.parametrize(
    ("url", "key", "told"),
    [
        ("http://[::1/v1", "k", "which is no address"),
        ("http://127.0.0.1:9/v1", "sch\u0142ussel", "characters that no header can carry"),
    ],
)
def test_an_address_or_key_that_cannot_be_used_is_told_and_the_key_is_not(
    monkeypatch: pytest.MonkeyPatch, url: str, key: str, told: str
) -> None:
    monkeypatch.setenv("A_KEY", key)
    with pytest.raises(InputError, match=told) as raised:
        JudgeEndpoint(url=url, key_env="A_KEY", timeout_s=1, attempts=1, backoff_s=0)
    assert key == "k" or key not in str(raised.value)


def test_a_key_with_a_line_end_is_sent_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_KEY", "secret\n")
    made = JudgeEndpoint(url="http://127.0.0.1:9/v1", key_env="A_KEY", timeout_s=1, attempts=1, backoff_s=0)
    assert made._request(b"{}").get_header("Authorization") == "Bearer secret"
