"""The lines of the README and the scripts of examples/, as a newcomer runs them."""

from __future__ import annotations

import functools
import re
import runpy
import sys
from pathlib import Path

import pytest
from tests.unit.server.conftest import serving

from mplus import MPlusModel
from mplus.server.app import create_app
from mplus.server.settings import ServerSettings

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"

EXPECTED = {
    "remember_documents": ("Oliver Quade", "5527"),
    "chat": ("glass blower", "yellow"),
    "several_users": ("anna: 318", "boris: 77", "boris: Tobias Renn", "still holds"),
    "evaluate": ("| distance | M+ | MemoryLLM |", "answers in all"),
    "train": ("nats a letter", "no memory"),
}
LONG = {"evaluate", "train"}


@pytest.fixture(scope="module", autouse=True)
def one_model() -> object:
    """Opens each model once: no script changes it."""
    patch = pytest.MonkeyPatch()
    patch.setattr(MPlusModel, "from_pretrained", functools.cache(MPlusModel.from_pretrained))
    yield None
    patch.undo()


def run(script: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """What a script prints."""
    runpy.run_path(str(script), run_name="__main__")
    return capsys.readouterr().out


@pytest.fixture(autouse=True)
def arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["example"])


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.long) if name in LONG else name for name in sorted(EXPECTED)]
)
def test_an_example_prints_what_it_promises(base_name: str, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    printed = run(EXAMPLES / f"{name}.py", capsys)
    missing = [text for text in EXPECTED[name] if text not in printed]
    assert not missing, printed


def test_openais_client_is_told_what_its_conversation_holds(
    base_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = MPlusModel.from_pretrained("smollm2-135m")
    with serving(create_app(ServerSettings(home=tmp_path), model=model)) as address:
        monkeypatch.setattr(sys, "argv", ["example", f"{address}/v1"])
        printed = run(EXAMPLES / "openai_client.py", capsys)
    told = dict(line.split(": ", 1) for line in printed.splitlines() if ": " in line)
    assert "Tromso" in told["response"]
    assert "Tromso" in told["chat"]
    assert "Tromso" in told["read"]
    assert int(told["memory tokens read"]) > 0
    assert "gone" in told["deleted"]


def test_every_example_is_run_and_named() -> None:
    scripts = {path.stem for path in EXAMPLES.glob("*.py")}
    assert scripts == {*EXPECTED, "your_own_model", "openai_client"}
    named = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert all(f"[{name}.py]({name}.py)" in named for name in scripts)


def python_blocks(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def test_the_lines_of_the_readme_answer(
    base_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (block,) = python_blocks(ROOT / "README.md")
    assert len([line for line in block.splitlines() if line.strip()]) <= 10
    (tmp_path / "LICENSE").write_text((ROOT / "LICENSE").read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "README.md", "exec"), {})
    assert "Tromso" in capsys.readouterr().out


def test_untrained_memory_helps_nearly_as_much_as_context(base_name: str, capsys: pytest.CaptureFixture[str]) -> None:
    printed = run(EXAMPLES / "your_own_model.py", capsys)
    nowhere, memory, prompt = (float(number) for number in re.findall(r": ([\d.]+) nats", printed))
    assert memory < 0.5 * nowhere
    assert abs(memory - prompt) < 0.2
