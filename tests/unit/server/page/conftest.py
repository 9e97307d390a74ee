"""A headless Chromium before a real server of a tiny model. Without the one or the other the tests skip and say why."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from mplus import MPlusModel
from mplus.server.app import create_app
from mplus.server.settings import ServerSettings
from tests.tiny import text_model
from tests.unit.server.conftest import serving

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PATIENCE_MS = 8_000
"""The machine of a test may be busy; nothing here measures time."""
Open = Callable[..., "Page"]


def chromium() -> str:
    """The browser's program; without one the test skips, and fails where MPLUS_REQUIRE_BROWSER is 1."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        missing = "needs Chromium (Debian: apt-get install chromium)"
        (pytest.fail if os.environ.get("MPLUS_REQUIRE_BROWSER") == "1" else pytest.skip)(missing)
        raise AssertionError
    return found


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    program = chromium()
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")
    with (
        sync_api.sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=program, args=["--no-sandbox"]) as browser,
    ):
        yield browser


@pytest.fixture(scope="package")
def reader() -> MPlusModel:
    """A tiny model with room for a chat."""
    return text_model(positions=8192)


@pytest.fixture(scope="package")
def address(reader: MPlusModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server without keys."""
    with serving(create_app(ServerSettings(home=tmp_path_factory.mktemp("home")), model=reader)) as address:
        yield address


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Open]:
    """Open an address in a browser of its own; errors of the page's scripts fail the test, and so does what its policy stops."""
    contexts: list[Any] = []
    wrong: list[str] = []

    def said(message: Any) -> None:
        if message.type in ("error", "warning") and "Failed to load resource" not in message.text:
            wrong.append(message.text)

    def open(address: str, *, width: int = 1100, height: int = 760, dark: bool = False, **options: Any) -> Page:
        scheme: Any = "dark" if dark else "light"
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme, locale="en-GB", **options)
        context.set_default_timeout(PATIENCE_MS)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", said)
        page.goto(address)
        return page

    yield open
    for context in contexts:
        context.close()
    assert not wrong


@pytest.fixture
def letters(tmp_path: Path) -> Path:
    file = tmp_path / "letters.txt"
    file.write_text("Ana lives in Oslo and keeps bees. " * 6 + "Ben has a boat named Storm.\n" + "It rained all day. " * 8)
    return file
