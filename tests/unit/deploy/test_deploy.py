"""The Dockerfile, the compose file and the systemd unit run commands that exist, as a user of their own, with keys."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from mplus.cli.app import app
from mplus.runtime.extras import EXTRA_OF

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "deploy"
UNIT = DEPLOY / "mplus.service"


def instructions() -> list[tuple[str, str]]:
    """Of the Dockerfile: each with its arguments, lines that go on joined."""
    text = re.sub(r"\\\n", " ", (DEPLOY / "Dockerfile").read_text(encoding="utf-8"))
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in lines)]


def unit() -> list[tuple[str, str, str]]:
    """Section, key and value of each line of the unit; keys may stand several times."""
    section, found = "", []
    for line in UNIT.read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.append((section, key, value))
    return found


def check_command(words: list[str]) -> None:
    """Let the command line parse what would be run, without running it."""
    command: Any = typer.main.get_command(app)
    assert words[0].endswith("mplus")
    with command.make_context("mplus", words[1:]) as context:
        name, inner, rest = command.resolve_command(context, words[1:])
        assert name == "serve"
        assert inner is not None
        inner.make_context(name, rest, parent=context)


def test_the_image_serves_with_keys_as_a_user_of_its_own() -> None:
    found = instructions()
    last = dict(found)
    check_command([*json.loads(last["ENTRYPOINT"]), *json.loads(last["CMD"])])
    assert "--api-keys" in last["CMD"]
    assert last["USER"] == "10001"
    words = [word for word, _ in found]
    assert words.index("USER") < words.index("ENTRYPOINT")
    assert "/health" in last["HEALTHCHECK"]
    assert last["STOPSIGNAL"] == "SIGTERM"


def test_the_image_is_built_of_files_and_extras_that_there_are() -> None:
    for word, rest in instructions():
        if word == "COPY" and not rest.startswith("--from"):
            assert all((ROOT / source).exists() for source in shlex.split(rest)[:-1]), rest
    (extras,) = re.findall(r"'\.\[([\w,]+)\]'", (DEPLOY / "Dockerfile").read_text(encoding="utf-8"))
    assert set(extras.split(",")) <= {extra for _, extra in EXTRA_OF.values()}


def test_the_compose_file_keeps_what_is_stored_and_lets_the_server_end() -> None:
    service = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))["services"]["mplus"]
    stored = {volume.partition(":")[2] for volume in service["volumes"]}
    assert stored == set(json.loads(next(rest for word, rest in instructions() if word == "VOLUME")))
    assert service["ports"] == ["127.0.0.1:8000:8000"]
    assert int(service["stop_grace_period"].removesuffix("s")) > 30
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert (DEPLOY / service["build"]["context"] / service["build"]["dockerfile"]).is_file()


def test_the_unit_serves_with_keys_as_a_user_of_its_own() -> None:
    values = {key: value for _, key, value in unit()}
    check_command(shlex.split(values["ExecStart"]))
    assert "--api-keys" in values["ExecStart"]
    assert values["User"] == "mplus"
    assert int(values["TimeoutStopSec"]) > 30
    assert values["RestartPreventExitStatus"] == "2"
    assert values["ProtectSystem"] == "strict"
    assert values["NoNewPrivileges"] == "yes"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="a system without systemd-analyze")
def test_systemd_knows_every_line_of_the_unit() -> None:
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", str(UNIT)], capture_output=True, text=True, check=False)
    complaints = [line for line in done.stderr.splitlines() if "is not executable" not in line]
    assert complaints == []
