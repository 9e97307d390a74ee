"""What a person does on the page, by the names that a person (or a screen reader) sees."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page
    from playwright.sync_api import expect as expect
else:
    expect = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright").expect


def make_memory(page: Page, name: str) -> None:
    page.get_by_role("button", name="New memory").click()
    page.get_by_role("dialog").get_by_label("Name").fill(name)
    page.keyboard.press("Enter")
    expect(page.locator("#memory")).to_have_value(name)


def upload(page: Page, *files: Path) -> None:
    """Read files into the memory, and wait until they are sources."""
    page.get_by_label("Files to read into the memory").set_input_files(list(files))
    for file in files:
        source(page, file.name).wait_for()


def source(page: Page, name: str) -> Locator:
    """The row of a source."""
    return page.get_by_role("list", name="Sources of this memory").get_by_role("listitem").filter(has_text=name)


def ask(page: Page, message: str) -> Locator:
    """Send a message; returns the row of its answer, which is whole."""
    page.get_by_label("Message", exact=True).fill(message)
    page.evaluate("document.querySelector('#announce').textContent = ''")
    page.keyboard.press("Enter")
    expect(page.locator("#announce")).to_have_text(re.compile("^Answer: "))
    page.locator("#send").wait_for(state="visible")
    return page.locator("#messages > li.assistant").last


def passages(answer: Locator) -> Locator:
    return answer.locator("button.passage")
