"""Make the pictures of the server's page: ``python docs/make_page_pictures.py FOLDER`` (needs playwright, Chromium and the base weights).

A memory of the default model reads a small text of invented facts; it is asked, its passages are shown, and a source is forgotten.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import Page, expect, sync_playwright

from mplus import MPlusModel
from mplus.server.app import create_app
from mplus.server.connections import server_of
from mplus.server.settings import ServerSettings

TEXTS = {
    "harbour notes.md": "The lighthouse of Vellin Point was built in 1871 by Oda Krantz. It has a green lamp.\n\n"
    "The ferry to Sorrel Island leaves at 7:40 from pier three. Its captain is Tobias Renn.\n",
    "workshop.txt": "The kiln in the workshop of Mara Quist fires at 1,240 degrees. She glazes her bowls in cobalt blue.\n",
}
QUESTION = "Who built the lighthouse of Vellin Point?"


@contextlib.contextmanager
def served(home: Path) -> Iterator[str]:
    """A server of the default model at a free port."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = server_of(create_app(ServerSettings(home=home), model=MPlusModel.from_pretrained("smollm2-135m")), drain_timeout_s=5)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    thread.join()


def ask(page: Page, question: str) -> None:
    """Send a message and wait for its answer."""
    page.get_by_label("Message", exact=True).fill(question)
    page.evaluate("document.querySelector('#announce').textContent = ''")
    page.keyboard.press("Enter")
    expect(page.locator("#announce")).to_have_text(re.compile("^Answer: "), timeout=60_000)
    page.locator("#send").wait_for(state="visible")


def show(page: Page, part: str) -> None:
    """On a phone, where one part is seen at a time, go to it."""
    button = page.locator(f"#view-{part.lower()}")
    if button.is_visible():
        button.click()


def pictures(page: Page, folder: Path, files: list[Path]) -> None:
    """Use the page, with a picture of each state."""

    def picture(name: str) -> None:
        page.wait_for_timeout(300)
        page.screenshot(path=folder / f"{name}.png")

    picture("1-empty")
    page.get_by_role("button", name="New memory").click()
    page.get_by_role("dialog").get_by_label("Name").fill("harbour")
    picture("2-new-memory")
    page.keyboard.press("Enter")
    expect(page.locator("#announce")).to_have_text("Memory harbour is open.")
    show(page, "Sources")
    page.get_by_label("Files to read into the memory").set_input_files(files)
    for file in files:
        page.get_by_role("list", name="Sources of this memory").get_by_role("listitem").filter(has_text=file.name).wait_for()
    picture("3-read")
    show(page, "Chat")
    ask(page, QUESTION)
    page.locator("details.drew").last.evaluate("element => { element.open = true; element.scrollIntoView(); }")
    picture("4-answer")
    page.locator("button.passage").first.click()
    picture("5-passage")
    page.keyboard.press("Escape")
    show(page, "Sources")
    page.get_by_role("button", name="Forget harbour notes.md").click()
    picture("6-forget")
    page.get_by_role("dialog").get_by_role("button", name="Forget").click()
    page.get_by_role("button", name="Forget the chat").click()
    page.get_by_role("dialog").get_by_role("button", name="Forget").click()
    expect(page.locator("#messages > li")).to_have_count(0)
    show(page, "Chat")
    ask(page, QUESTION)
    picture("7-asked-again")
    page.context.set_offline(True)
    page.get_by_label("Message", exact=True).fill("Are you there?")
    page.keyboard.press("Enter")
    page.locator("#gone").wait_for()
    picture("8-server-gone")


def main(folder: Path) -> None:
    """Write `desk-*.png` and `phone-*.png`."""
    folder.mkdir(parents=True, exist_ok=True)
    program = shutil.which("chromium") or shutil.which("google-chrome")
    with tempfile.TemporaryDirectory() as place, sync_playwright() as playwright:
        files = [Path(place, name) for name in TEXTS]
        for file in files:
            file.write_text(TEXTS[file.name], encoding="utf-8")
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        for kind, width, height, dark in (("desk", 1100, 760, False), ("phone", 390, 760, True)):
            with served(Path(place, kind)) as address:
                page = browser.new_page(
                    viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light", locale="en-GB"
                )
                page.goto(address)
                page.wait_for_timeout(500)
                target = folder / kind
                target.mkdir(exist_ok=True)
                pictures(page, target, files)
                page.close()
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
