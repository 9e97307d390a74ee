"""`mplus serve` as people and service managers run it: what it prints, how it ends, what it refuses to begin."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from mplus.cli import main
from mplus.errors import CheckpointError
from mplus.server.keys import Keys, Principal, add_key
from tests.unit.cli.test_commands import SOURCES, mistake

slow = pytest.mark.slow

STARTED = """
import sys, time
from tests.tiny import text_model
from mplus.cli import main, serve
def opened(*given, **named):
    {opened}
serve.locate = lambda name: None
serve.open_model = opened
sys.exit(main(sys.argv[1:]))
"""


class Server:
    """A server in a process of its own."""

    def __init__(self, *arguments: str, opened: str = "return text_model()") -> None:
        environment = {**os.environ, "PYTHONPATH": f"{SOURCES}{os.pathsep}{SOURCES.parent}", "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-c", STARTED.format(opened=opened), "serve", "--port", "0", "--json", *arguments]
        self.process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        first = self.process.stdout.readline()
        self.said: dict[str, Any] = json.loads(first) if first else {}
        self.address = str(self.said.get("address"))

    def wait_until_ready(self) -> None:
        for _ in range(600):
            if httpx.get(self.address + "/ready").status_code == 200:
                return
            time.sleep(0.1)
        raise AssertionError("it is not ready")

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Exit code and stderr after a signal."""
        self.process.send_signal(number)
        _, err = self.process.communicate(timeout=60)
        return self.process.returncode, err


@contextlib.contextmanager
def server(*arguments: str, **options: Any) -> Iterator[Server]:
    started = Server(*arguments, **options)
    try:
        yield started
    finally:
        started.process.kill()
        started.process.communicate()


# -- running


@slow
def test_a_server_says_where_it_is_and_ends_with_what_it_was_answering(tmp_path: Path) -> None:
    opened = "time.sleep(0.5); return text_model()"
    with server("--home", str(tmp_path / "home"), "--set", "drain_timeout_s=20", opened=opened) as running:
        assert running.said == {
            "address": running.address,
            "model": "smollm2-135m",
            "home": str(tmp_path / "home"),
            "keys": False,
        }
        loading = httpx.get(running.address + "/ready")
        assert (loading.status_code, loading.json()) == (
            503,
            {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}},
        )
        assert httpx.get(running.address + "/health").status_code == 200
        assert httpx.get(running.address + "/v1/memories").json()["error"]["message"] == "Loading model"
        running.wait_until_ready()
        answers: list[httpx.Response] = []

        def write() -> None:
            body = {"source": "long", "text": "Ana keeps an orchid in a blue pot. " * 40}
            answers.append(httpx.post(running.address + "/v1/memories/ana/sources", json=body, timeout=60))

        asking = threading.Thread(target=write)
        asking.start()
        while "mplus_requests_running 2.0" not in httpx.get(running.address + "/metrics").text and not answers:
            time.sleep(0.01)
        code, err = running.end()
        asking.join(60)
        assert code == 0
        assert [one.status_code for one in answers] == [201]
        lines = [json.loads(line) for line in err.splitlines()]
        assert any(line["message"] == "request" and line["status"] == 201 for line in lines)
        assert "orchid" not in err


@slow
@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="a system without SIGHUP")
def test_a_hang_up_reads_the_keys_again_and_an_interrupt_ends(tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"
    _, key = add_key(keys, "anna")
    with server("--home", str(tmp_path / "home"), "--api-keys", str(keys), "--host", "0.0.0.0") as running:
        running.wait_until_ready()
        address = running.address.replace("0.0.0.0", "127.0.0.1")
        assert running.said["keys"] is True
        running.process.send_signal(signal.SIGHUP)
        assert httpx.get(address + "/v1/memories").status_code == 401
        assert httpx.get(address + "/v1/memories", headers={"X-API-Key": key}).status_code == 200
        code, err = running.end(signal.SIGINT)
        assert code == 0
        assert key not in err


# -- not begun


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLUS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MPLUS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("mplus.cli.serve.locate", lambda name: None)
    return tmp_path


def test_a_model_that_cannot_be_opened_is_one_line_and_code_2(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def opened(*given: Any, **named: Any) -> None:
        raise CheckpointError("the weights are damaged")

    monkeypatch.setattr("mplus.cli.serve.open_model", opened)
    code = main(["serve", "--port", "0", "--json"])
    err = capsys.readouterr().err
    assert code == 2
    assert err.splitlines()[-1] == "mplus: the weights are damaged"
    assert "Traceback" not in err


def test_a_taken_port_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        line = mistake(capsys, "serve", "--port", str(taken.getsockname()[1]))
    assert "cannot be bound" in line
    assert "--port" in line


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--host", "0.0.0.0"], "there are no keys"),
        (["--host", "nowhere.invalid", "--api-keys", "good.json"], "cannot be bound"),
        (["--api-keys", "absent.json"], "there is no key file"),
        (["--api-keys", "damaged.json"], "cannot be read"),
        (["--api-keys", "open.json"], "chmod 600"),
        (["--api-keys", "none.json"], "has no key"),
        (["--memory-budget", "many"], "is no size"),
        (["--memory-budget", "1K"], "setting memory_budget"),
        (["--batch", "1000"], "setting batch"),
        (["--set", "nonsense=1"], "names no setting"),
        (["--set", "most_waiting"], "names no setting"),
        (["--set", "most_waiting=none"], "setting most_waiting"),
        (["--port", "70000"], "65535"),
    ],
)
def test_what_cannot_be_served_is_one_line_and_code_2(
    capsys: pytest.CaptureFixture[str], place: Path, arguments: list[str], problem: str
) -> None:
    add_key(place / "good.json", "anna")
    for name, content in (("damaged", "{"), ("none", '{"version": 1, "keys": []}'), ("open", "{}")):
        (place / f"{name}.json").write_text(content, encoding="utf-8")
        (place / f"{name}.json").chmod(0o644 if name == "open" else 0o600)
    assert problem in mistake(capsys, "serve", *arguments)
    assert not (place / "home").exists()


# -- keys


def test_keys_are_made_listed_and_revoked(capsys: pytest.CaptureFixture[str], place: Path) -> None:
    assert main(["serve", "keys", "add", "anna", "--api-keys", "keys.json"]) == 0
    out, err = capsys.readouterr()
    key = out.strip()
    assert Keys(place / "keys.json").principal(key) == Principal("anna")
    assert key not in err
    assert main(["serve", "keys", "add", "boss", "--admin", "--api-keys", "keys.json", "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert Keys(place / "keys.json").principal(made["key"]) == Principal("boss", is_admin=True)
    assert main(["serve", "keys", "list", "--api-keys", "keys.json", "--json"]) == 0
    listed = capsys.readouterr().out
    assert [(one["tenant"], one["admin"]) for one in json.loads(listed)] == [("anna", False), ("boss", True)]
    assert "digest" not in listed
    assert main(["serve", "keys", "list", "--api-keys", "keys.json"]) == 0
    assert made["id"] in capsys.readouterr().out
    assert main(["serve", "keys", "revoke", made["id"], "--api-keys", "keys.json"]) == 0
    capsys.readouterr()
    assert Keys(place / "keys.json").principal(made["key"]) is None
    assert "mplus serve keys list" in mistake(capsys, "serve", "keys", "revoke", made["id"], "--api-keys", "keys.json")


@pytest.mark.parametrize("tenant", ["", "a\nb"])
def test_a_tenant_that_cannot_be_one_is_told(capsys: pytest.CaptureFixture[str], place: Path, tenant: str) -> None:
    assert "tenant" in mistake(capsys, "serve", "keys", "add", tenant, "--api-keys", "keys.json")
    assert list(place.iterdir()) == []
