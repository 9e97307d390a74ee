"""Laws of access: a keyboard is enough, a phone is wide enough, and axe-core finds nothing serious in light or dark."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.server.page.conftest import Open
from tests.unit.server.page.steps import ask, make_memory, passages, source, upload

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.slow
PHONE = {"width": 360, "height": 640}


@pytest.fixture(scope="module")
def axe() -> str:
    """The source of axe-core."""
    found = find_spec("axe_playwright_python")
    if found is None or found.origin is None:
        pytest.skip("needs axe-core: pip install axe-playwright-python")
    return Path(found.origin).with_name("axe.min.js").read_text(encoding="utf-8")


def serious(page: Page, axe: str) -> list[str]:
    """What axe-core finds that is serious or critical, and where."""
    page.evaluate(axe)  # by the debugger, which the page's policy does not stop
    found: list[dict[str, Any]] = page.evaluate("async () => (await axe.run()).violations")
    return [
        f"{one['id']}: {[node['html'][:120] for node in one['nodes']]}"
        for one in found
        if one["impact"] in ("serious", "critical")
    ]


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", [{}, PHONE], ids=["desk", "phone"])
def test_axe_finds_nothing_serious(
    open_page: Open, address: str, axe: str, letters: Path, size: dict[str, int], dark: bool
) -> None:
    page = open_page(address, dark=dark, **size)
    make_memory(page, f"axe {dark} {bool(size)}")
    found = serious(page, axe)
    if size:
        page.get_by_role("button", name="Sources").click()
    upload(page, letters)
    found += serious(page, axe)
    source(page, "letters.txt").get_by_role("button", name="Forget").click()
    found += serious(page, axe)
    page.keyboard.press("Escape")
    if size:
        page.get_by_role("button", name="Chat").click()
    answer = ask(page, "Where does Ana live?")
    found += serious(page, axe)
    passages(answer).first.click()
    page.get_by_role("dialog").wait_for()
    found += serious(page, axe)
    page.keyboard.press("Escape")
    page.context.set_offline(True)
    page.get_by_label("Message", exact=True).fill("Are you there?")
    page.keyboard.press("Enter")
    page.locator("#gone").wait_for()
    found += serious(page, axe)
    assert not found


def test_a_phone_shows_all_without_scrolling_sideways(open_page: Open, address: str, letters: Path) -> None:
    page = open_page(address, **PHONE)
    make_memory(page, "a memory with a rather long name that does not fit a phone")
    page.get_by_role("button", name="Sources").click()
    upload(page, letters)
    inside = "document.documentElement.scrollWidth <= innerWidth && [...document.querySelectorAll('body *')]"
    inside += ".every(one => one.getBoundingClientRect().right <= innerWidth + 1)"
    assert page.evaluate(inside)
    page.get_by_role("button", name="Chat").click()
    passages(ask(page, "Where does Ana live? " * 10)).first.wait_for()
    assert page.evaluate(inside)
    box = page.locator("#send").bounding_box()
    assert box is not None and box["y"] + box["height"] <= PHONE["height"], "the message field needs scrolling"
    log = page.locator("#log").bounding_box()
    assert log is not None and log["height"] >= 120


def test_a_keyboard_is_enough(open_page: Open, address: str, letters: Path) -> None:
    page = open_page(address)
    make_memory(page, "keyboard")
    upload(page, letters)
    passages(ask(page, "Where does Ana live?")).first.wait_for()
    wanted = page.evaluate(
        "[...document.querySelectorAll('button, select, textarea, summary, a[href]')]"
        ".filter(one => one.checkVisibility() && !one.disabled).map(one => one.id || one.textContent)"
    )
    page.evaluate("document.activeElement.blur()")
    reached, unseen = [], []
    for _ in range(len(wanted) + 6):
        page.keyboard.press("Tab")
        name, outline = page.evaluate(
            "[document.activeElement.id || document.activeElement.textContent, getComputedStyle(document.activeElement).outlineStyle]"
        )
        reached.append(name)
        unseen += [name] if outline == "none" and name in wanted else []
    assert set(wanted) <= set(reached)
    assert not unseen, "no visible focus"


def test_an_answer_is_announced_once_it_is_whole(open_page: Open, address: str) -> None:
    page = open_page(address)
    make_memory(page, "announced")
    said = ask(page, "Hello?").locator(".said").text_content()
    live = page.locator("[aria-live=polite]#announce")
    assert live.text_content() == f"Answer: {said}"
    assert page.locator("#log[aria-live], #messages[aria-live]").count() == 0, "it would be read piece by piece"
