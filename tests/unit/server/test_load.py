"""The load run in small, against a real server, and what finds its faults: a planted leak, a lost write, a text that comes back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.serving_clients import as_sent, content_of
from benchmarks.serving_ledger import Ledger, Scope, secret_of
from benchmarks.serving_load import main, quantile

ANNA, BEN = ("acme", "m-0"), ("other", "m-0")


def written(ledger: Ledger, scope: Scope, source: str = "note") -> tuple[int, str]:
    """A text that was acknowledged."""
    value = ledger.new_value(scope)
    number, _ = ledger.begin(scope, None, value, source=source)
    ledger.acknowledge(scope, number, value)
    return number, value


def reply(ledger: Ledger, scope: Scope, body: str) -> list[str]:
    """Faults of a reply."""
    with ledger.watching(scope) as watch:
        ledger.check_reply(watch, body, "GET /")
    return ledger.faults


def test_no_two_texts_share_a_secret() -> None:
    scopes = [(f"t{tenant}", f"m{memory}") for tenant in range(4) for memory in range(5)]
    secrets = {secret_of(*scope, number) for scope in scopes for number in range(50)}
    assert len(secrets) == 1000


@pytest.mark.parametrize("cut", [0, 4])
def test_another_memorys_secret_in_a_reply_is_found_even_cut(cut: int) -> None:
    ledger = Ledger()
    _, mine = written(ledger, ANNA)
    _, theirs = written(ledger, BEN)
    assert reply(ledger, ANNA, f"read: {mine}") == []
    secret = theirs.split("code ")[1].split(" ")[0]
    assert ["other" in fault for fault in reply(ledger, ANNA, f"read: {secret[: len(secret) - cut]}")] == [True]


def test_a_forgotten_text_may_be_told_by_a_request_that_began_before_and_by_none_after() -> None:
    ledger = Ledger()
    number, value = written(ledger, ANNA)
    with ledger.watching(ANNA) as watch:
        ledger.begin(ANNA, number, None)
        ledger.acknowledge(ANNA, number, None)
        ledger.check_reply(watch, value, "GET /")
    assert ledger.faults == []
    assert ["came back" in fault for fault in reply(ledger, ANNA, value)] == [True]


def test_a_fork_has_its_parents_texts_and_not_those_that_came_later() -> None:
    ledger, fork = Ledger(), ("acme", "m-0-fork1")
    number, early = written(ledger, ANNA, "early")
    with ledger.watching(ANNA) as watch:
        ledger.forked(watch, fork, acknowledged=True)
    _, late = written(ledger, ANNA, "late")
    ledger.begin(ANNA, number, None)
    ledger.acknowledge(ANNA, number, None)
    assert reply(ledger, fork, early) == []
    ledger.check_memory(fork, {"early": early})
    assert ledger.faults == []
    assert len(reply(ledger, fork, late)) == 1


@pytest.mark.parametrize(
    ("held", "said"),
    [({}, "is lost"), ({"note": "another"}, "expected one of"), ({"note": "{value}", "more": "strange"}, "never written")],
)
def test_a_lost_changed_or_strange_text_is_found(held: dict[str, str], said: str) -> None:
    ledger = Ledger()
    _, value = written(ledger, ANNA)
    ledger.check_memory(ANNA, {"note": value})
    assert ledger.faults == []
    ledger.check_memory(ANNA, {name: text.format(value=value) for name, text in held.items()})
    assert any(said in fault for fault in ledger.faults)


def test_a_forgotten_text_that_is_there_is_found() -> None:
    ledger = Ledger()
    number, value = written(ledger, ANNA)
    ledger.begin(ANNA, number, None)
    ledger.acknowledge(ANNA, number, None)
    ledger.check_memory(ANNA, {})
    assert ledger.faults == []
    ledger.check_memory(ANNA, {"note": value})
    assert "was forgotten and is there" in ledger.faults[0]


def test_a_write_without_an_answer_may_be_there_or_not_until_it_was_looked_at() -> None:
    ledger = Ledger()
    value = ledger.new_value(ANNA)
    number, _ = ledger.begin(ANNA, None, value, source="note")
    ledger.lose(ANNA, number)
    ledger.check_memory(ANNA, {})
    ledger.check_memory(ANNA, {"note": value}, still=True)
    assert ledger.faults == []
    ledger.check_memory(ANNA, {})
    assert "is lost" in ledger.faults[0]


def test_a_refused_change_leaves_what_was() -> None:
    ledger = Ledger()
    number, _ = written(ledger, ANNA)
    number, before = ledger.begin(ANNA, number, None)
    assert ledger.free(ANNA) == []
    ledger.refuse(ANNA, number, before)
    assert ledger.free(ANNA) == [number]
    ledger.check_memory(ANNA, {})
    assert "is lost" in ledger.faults[0]


def test_pieces_of_a_stream_and_turns_are_read_as_they_were_sent() -> None:
    assert content_of('data: {"choices": [{"delta": {"content": "SEC"}}]}') == "SEC"
    assert content_of("data: [DONE]") == content_of('data: {"choices": [], "usage": null}') == ""
    assert as_sent("chat/conv_1/msg_2", "User: hello\n\n") == "hello"
    assert as_sent("note", "User: hello\n\n") == "User: hello\n\n"
    assert [quantile([3.0, 1.0, 2.0], share) for share in (0.5, 0.99)] == [2.0, 3.0]


@pytest.mark.long
@pytest.mark.parametrize("more", [["--requests", "200"], ["--requests", "500", "--kills", "2"]], ids=["load", "kills"])
def test_a_small_load_finds_no_fault(tmp_path: Path, more: list[str]) -> None:
    out, log = tmp_path / "result.json", tmp_path / "log"
    given = ["--clients", "8", "--memories", "20", "--tenants", "4", "--json", str(out), "--log", str(log)]
    code = main([*given, *more])
    result = json.loads(out.read_text(encoding="utf-8"))
    assert (code, result["faults"]) == (0, [])
    assert result["acknowledged writes"] >= 40 and result["secrets seen"] > 0 and result["texts compared"] > 0
    assert set(result["operations"]) >= {"write", "fork", "forget", "stream", "search"} or "--kills" in more
