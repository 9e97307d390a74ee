"""Laws of the page, in a browser: what a person adds, asks, sees and takes away; what a reload, a wrong key or a lost server does."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from mplus import MPlusModel
from mplus.server.app import create_app
from mplus.server.keys import add_key
from mplus.server.settings import ServerSettings
from tests.unit.server.conftest import serving
from tests.unit.server.page.conftest import Open
from tests.unit.server.page.steps import ask, expect, make_memory, passages, source, upload

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route

pytestmark = pytest.mark.slow


@pytest.fixture
def page(open_page: Open, address: str, request: pytest.FixtureRequest) -> Page:
    """The page, with a memory that is named for the test."""
    page = open_page(address)
    make_memory(page, request.node.name)
    return page


def test_a_person_uploads_asks_and_sees_where_the_answer_is_from(page: Page, letters: Path) -> None:
    upload(page, letters)
    assert re.search(r"[1-9]\d* tokens", source(page, "letters.txt").inner_text())
    answer = ask(page, "Where does Ana live?")
    assert answer.locator(".said").inner_text().strip()
    assert re.search(r"Drew on \d+ passages? of \d+ source", answer.inner_text())
    first = passages(answer).filter(has_text="letters.txt").first
    assert re.search(r"score \d\.\d\d|newest text", first.inner_text())
    snippet = first.locator(".snippet").text_content() or ""
    first.click()
    dialog = page.get_by_role("dialog", name="letters.txt")
    assert dialog.locator("#text").text_content() == letters.read_text()
    assert (dialog.locator("mark").text_content() or "").strip() == snippet.strip() != ""
    page.keyboard.press("Escape")
    dialog.wait_for(state="hidden")
    assert first.evaluate("element => element === document.activeElement")


def test_a_source_is_forgotten_once_the_person_agrees(page: Page, letters: Path) -> None:
    upload(page, letters)
    for agrees in (False, True):
        source(page, "letters.txt").get_by_role("button", name="Forget").click()
        dialog = page.get_by_role("dialog", name="Forget letters.txt?")
        assert re.search(r"text of \d+ tokens .* cannot be undone", dialog.inner_text())
        dialog.get_by_role("button", name="Forget" if agrees else "Cancel").click()
        dialog.wait_for(state="hidden")
        if not agrees:
            page.reload()
            source(page, "letters.txt").wait_for()
    source(page, "letters.txt").wait_for(state="detached")
    answer = ask(page, "Where does Ana live?")
    assert "letters.txt" not in answer.inner_text()


def test_two_sources_are_forgotten_one_right_after_the_other(page: Page, letters: Path, tmp_path: Path) -> None:
    second = tmp_path / "second.txt"
    second.write_text("Carla moved to Rome.")
    upload(page, letters, second)
    for name in ("letters.txt", "second.txt"):
        page.get_by_role("button", name=f"Forget {name}").click()
        page.get_by_role("dialog").get_by_role("button", name="Forget").click()
    page.locator("#no-sources").wait_for()
    assert page.locator("#sources > li").count() == 0


def test_a_reload_shows_the_same_memory_and_its_chat(page: Page, letters: Path) -> None:
    upload(page, letters)
    said = ask(page, "What is the boat's name?").locator(".said").text_content()
    name = page.locator("#memory").input_value()
    page.reload()
    source(page, "letters.txt").wait_for()
    page.locator("#messages > li.assistant").wait_for()
    assert page.locator("#memory").input_value() == name
    assert page.locator("#messages > li.user .said").all_text_contents() == ["What is the boat's name?"]
    assert page.locator("#messages > li.assistant .said").text_content() == (said or "").strip()
    source(page, "This chat").get_by_role("button", name="Forget").click()
    page.get_by_role("dialog").get_by_role("button", name="Forget").click()
    page.locator("#messages > li").first.wait_for(state="detached")
    assert page.locator("#messages > li").count() == 0


@pytest.mark.parametrize("name", ["<img src=x onerror=window.hit=1>.txt", "a&amp;b <script>window.hit=1<", "100%2Fß #?.txt"])
def test_text_of_a_document_stays_text(page: Page, tmp_path: Path, name: str) -> None:
    file = tmp_path / (name.replace("/", "_"))
    content = f"<script>window.hit=1</script><img src=x onerror=window.hit=1><b>{name}</b> " * 5
    file.write_text(content)
    upload(page, file)
    answer = ask(page, "<img src=x onerror=window.hit=1>")
    passages(answer).first.click()
    dialog = page.get_by_role("dialog")
    assert "<script>window.hit=1</script>" in (dialog.locator("#text").text_content() or "")
    page.keyboard.press("Escape")
    source(page, "window.hit" if "window" in name else name[:4]).get_by_role("button", name="Forget").click()
    dialog.wait_for()
    assert page.evaluate("window.hit") is None
    assert page.locator("main img, main script, main b:has(*), dialog img").count() == 0


def test_a_file_that_is_given_while_a_memory_opens_is_compared_with_that_memory(page: Page, letters: Path) -> None:
    upload(page, letters)

    def slowly(route: Route) -> None:
        time.sleep(0.3)
        route.continue_()

    page.route("**/v1/memories?*", slowly)
    page.get_by_role("button", name="New memory").click()
    page.get_by_role("dialog").get_by_label("Name").fill("opens slowly")
    page.keyboard.press("Enter")
    page.get_by_role("dialog").wait_for(state="hidden")
    upload(page, letters)
    assert page.get_by_role("dialog").count() == 0
    assert page.locator("#memory").input_value() == "opens slowly"


def test_a_file_of_a_known_name_takes_its_place(page: Page, letters: Path) -> None:
    upload(page, letters)
    letters.write_text("Carla moved to Rome.")
    page.get_by_label("Files to read into the memory").set_input_files(letters)
    page.get_by_role("dialog", name="Replace letters.txt?").get_by_role("button", name="Replace").click()
    source(page, "letters.txt").filter(has_text=re.compile(r"2\d tokens")).wait_for()
    source(page, "letters.txt").get_by_role("button", name="letters.txt", exact=True).click()
    expect(page.locator("#text")).to_have_text("Carla moved to Rome.")


def test_a_file_that_cannot_be_read_says_why(page: Page, tmp_path: Path) -> None:
    broken = tmp_path / "broken.pdf"
    broken.write_bytes(b"%PDF-1.7 nothing of the kind")
    page.get_by_label("Files to read into the memory").set_input_files(broken)
    row = page.get_by_role("alert").filter(has_text="broken.pdf")
    row.get_by_role("button", name="Try broken.pdf again").wait_for()
    assert "broken.pdf" in row.locator(".wrong").inner_text()
    row.get_by_role("button", name="Close").click()
    row.wait_for(state="detached")


def test_a_long_file_shows_its_progress_and_can_be_cancelled(page: Page, tmp_path: Path) -> None:
    long = tmp_path / "long.txt"
    long.write_text("The rain fell all day, and the river rose. " * 2_000)
    page.get_by_label("Files to read into the memory").set_input_files(long)
    row = page.get_by_role("list", name="Files that are being read").get_by_role("listitem")
    row.filter(has_text=re.compile(r"[\d,]+ (of [\d,]+ )?tokens, [\d,]+ a second")).wait_for()
    row.get_by_role("button", name="Cancel long.txt").click()
    row.wait_for(state="detached")
    expect(page.locator("#announce")).to_contain_text("cancelled")
    page.reload()
    page.locator("#no-sources").wait_for()
    assert source(page, "long.txt").count() == 0


def test_a_fork_goes_its_own_way_and_an_export_is_a_file(page: Page, letters: Path, tmp_path: Path) -> None:
    upload(page, letters)
    page.get_by_role("button", name="Fork").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name").fill(first := page.locator("#memory").input_value())
    page.keyboard.press("Enter")
    dialog.get_by_text("exists already").wait_for()
    dialog.get_by_label("Name").fill("fork of it")
    page.keyboard.press("Enter")
    expect(page.locator("#memory")).to_have_value("fork of it")
    source(page, "letters.txt").get_by_role("button", name="Forget").click()
    page.get_by_role("dialog").get_by_role("button", name="Forget").click()
    source(page, "letters.txt").wait_for(state="detached")
    page.get_by_label("Memory", exact=True).select_option(first)
    source(page, "letters.txt").wait_for()
    with page.expect_download() as download:
        page.get_by_role("button", name="Export").click()
    assert download.value.suggested_filename.endswith(".mplus")
    download.value.save_as(tmp_path / "memory.mplus")
    assert (tmp_path / "memory.mplus").read_bytes()[:2] == b"PK"
    page.get_by_role("button", name="Delete this memory").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.locator("#memory option").filter(has_text=first)).to_have_count(0)


def test_a_lost_server_is_told_and_nothing_typed_is_lost(page: Page) -> None:
    page.context.set_offline(True)
    page.get_by_label("Message", exact=True).fill("Are you there?")
    page.keyboard.press("Enter")
    page.get_by_role("alert").filter(has_text="The server does not answer").wait_for()
    assert page.get_by_label("Message", exact=True).input_value() == "Are you there?"
    assert page.locator("#messages > li").count() == 0
    page.context.set_offline(False)
    page.get_by_role("button", name="Try now").click()
    page.locator("#gone").wait_for(state="hidden")
    assert page.get_by_label("Message", exact=True).input_value() == "Are you there?"
    ask(page, "Are you there?")


class Locked(NamedTuple):
    """A server with keys, and one of them."""

    address: str
    key: str


@pytest.fixture
def locked(reader: MPlusModel, tmp_path: Path) -> Iterator[Locked]:
    _, key = add_key(tmp_path / "keys.json", "anna")
    with serving(create_app(ServerSettings(home=tmp_path / "home", api_keys=tmp_path / "keys.json"), model=reader)) as address:
        yield Locked(address, key)


def test_a_key_is_asked_for_and_a_wrong_one_is_refused(open_page: Open, locked: Locked) -> None:
    page = open_page(locked.address)
    dialog = page.get_by_role("dialog", name="This server needs a key")
    dialog.get_by_label("Key").fill("mplus-wrong")
    page.keyboard.press("Enter")
    dialog.locator("#key-error").filter(has_text=re.compile(r"\w.*\.$")).wait_for()
    page.keyboard.press("Escape")
    page.get_by_role("alert").filter(has_text="needs a key").wait_for()
    page.get_by_role("button", name="Key").click()
    dialog.get_by_label("Key").fill(locked.key)
    page.keyboard.press("Enter")
    dialog.wait_for(state="hidden")
    make_memory(page, "private")
    ask(page, "Hello?")
    page.reload()
    page.locator("#messages > li.assistant").wait_for()
    assert page.evaluate("JSON.stringify({...localStorage})").find(locked.key) < 0
    other = open_page(locked.address)
    other.get_by_role("dialog", name="This server needs a key").wait_for()
    assert other.locator("#memory option[value=private]").count() == 0
