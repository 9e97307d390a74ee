"""Laws of the judge: every answer is judged once, what was judged is kept, and nonsense is counted, not guessed."""

from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from mplus.cli import main
from mplus.errors import InputError
from mplus.evaluation.journal import Sample
from mplus.evaluation.judge import Judge, judge_run, prompt_of, score_of


class Served(HTTPServer):
    """An endpoint that says yes to answers with "Oslo" in them; counts what it was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[dict[str, Any]] = []
        self.busy = 0
        self.raw: bytes | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Served

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.server.busy:
            self.server.busy -= 1
            self.send_response(429)
            self.send_header("Retry-After", "0")
            self.end_headers()
            return
        self.server.asked.append({**body, "key": self.headers.get("Authorization"), "path": self.path})
        checked = body["messages"][0]["content"].split("Answer to check:")[1]
        said = "maybe" if "odd" in checked else "Yes." if "Oslo" in checked or "not known" in checked.split("Does")[0] else "no"
        content = self.server.raw or json.dumps({"choices": [{"message": {"content": said}}]}).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments: Any) -> None:
        """Quiet."""


@pytest.fixture
def served() -> Iterator[Served]:
    server = Served()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def sample(number: int, given: str, **changes: Any) -> Sample:
    fields: dict[str, Any] = {
        "stream": "s", "id": str(number), "cluster": str(number), "system": "mplus", "distance": 0, "tokens_back": 0, "position": 9,
        "ltm_tokens": 0, "question": f"Where {number}?", "answers": ("Oslo",), "given": given, "right": False, "row": "a",
    }  # fmt: skip
    return Sample(**{**fields, **changes})


def stored(directory: Path, *samples: Sample) -> Path:
    lines = "".join(json.dumps(dataclasses.asdict(one)) + "\n" for one in samples)
    (directory / "samples.jsonl").write_text(lines, encoding="utf-8")
    return directory


def judge(served: Served, **changes: Any) -> Judge:
    return Judge(**{"url": served.url, "model": "m", "backoff_s": 0.0, "attempts": 3, **changes})


def test_shares_by_hand_and_nothing_is_judged_twice(served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    unknown = sample(4, "That is not known.", row="b", unanswerable=True)
    one = [sample(0, "In Oslo."), sample(1, "Rome"), sample(2, "odd"), sample(3, "Oslo!", asked=False), unknown]
    found = judge_run(stored(tmp_path, *one), judge(served))
    rows = found["systems"]["mplus"]
    assert (rows["a"]["right"], rows["a"]["judged"], rows["a"]["no_verdict"], rows["a"]["share"]) == (1, 2, 1, 0.5)
    assert (rows["b"]["share"], rows["all"]["judged"]) == (1.0, 3)
    assert len(served.asked) == 4 and all(asked["temperature"] == 0 and asked["key"] == "Bearer secret" for asked in served.asked)
    assert served.asked[0]["path"] == "/v1/chat/completions"
    assert judge_run(tmp_path, judge(served)) == found and len(served.asked) == 4
    stored(tmp_path, sample(0, "Rome after all"), *one[1:])  # another answer under the same key
    assert judge_run(tmp_path, judge(served))["systems"]["mplus"]["a"]["right"] == 0 and len(served.asked) == 5


def test_a_busy_endpoint_is_asked_again_and_a_dead_one_is_one_sentence(served: Served, tmp_path: Path) -> None:
    served.busy = 2
    assert judge_run(stored(tmp_path, sample(0, "Oslo")), judge(served, at_once=1))["judged"] == 1
    served.busy = 99
    stored(tmp_path, sample(0, "Oslo"), sample(1, "Oslo"))
    with pytest.raises(InputError, match="answered 429 .* 3 times; .*what was judged is kept"):
        judge_run(tmp_path, judge(served, at_once=1))
    served.busy = 0
    assert judge_run(tmp_path, judge(served))["judged"] == 2
    with pytest.raises(InputError, match="cannot be reached"):
        judge_run(stored(tmp_path / "..", sample(7, "Oslo")), judge(served, url="http://127.0.0.1:9/v1", attempts=1))


def test_what_is_no_completion_and_what_is_no_run_is_told(served: Served, tmp_path: Path) -> None:
    served.raw = b"<html>hello</html>"
    with pytest.raises(InputError, match="expected a chat completion"):
        judge_run(stored(tmp_path, sample(0, "Oslo")), judge(served))
    with pytest.raises(InputError, match="has no samples.jsonl"):
        judge_run(tmp_path / "nowhere", judge(served))
    with pytest.raises(InputError, match="expected http:// or https://"):
        judge_run(tmp_path, judge(served, url="ftp://x"))


def test_another_judge_does_not_mix_its_verdicts_in(served: Served, tmp_path: Path) -> None:
    judge_run(stored(tmp_path, sample(0, "Oslo")), judge(served))
    with pytest.raises(InputError, match="was judged by model 'm'"):
        judge_run(tmp_path, judge(served, model="other"))
    text = (tmp_path / "judged.jsonl").read_text(encoding="utf-8")
    (tmp_path / "judged.jsonl").write_text(text + text[:20], encoding="utf-8")  # stopped while writing
    assert judge_run(tmp_path, judge(served))["judged"] == 1


def test_the_command_shows_a_table(served: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stored(tmp_path, sample(0, "Oslo"), sample(1, "Rome"))
    assert main(["eval", "judge", str(tmp_path), "--url", served.url, "--judge-model", "m"]) == 0
    assert "0.50" in capsys.readouterr().out and (tmp_path / "judged.json").exists()


@pytest.mark.parametrize(
    ("said", "score"),
    [("yes", 1), ("No.", 0), ("**Yes**, it does", 1), ("<think>no</think> yes", 1), ("perhaps", None), ("", None)],
)
def test_verdicts_are_the_first_word(said: str, score: int | None) -> None:
    assert score_of(said) == score


def test_an_unanswerable_question_asks_for_a_refusal() -> None:
    assert "Right answers" not in prompt_of(sample(0, "x", unanswerable=True)) and "(nothing)" in prompt_of(sample(0, " "))
