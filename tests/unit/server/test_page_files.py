"""Laws of the page's files: nothing of elsewhere, nothing inline, and a browser asks whether its copy is still right."""

from __future__ import annotations

import re

import httpx
import pytest

from mplus.server.page.static_files import FILES, FOLDER, POLICY

pytestmark = pytest.mark.anyio


async def test_every_file_has_the_policy_and_its_type(client: httpx.AsyncClient) -> None:
    assert {"index.html", "page.css", "page.js", "icon.svg"} <= FILES
    for path in ("/", *(f"/page/{name}" for name in FILES)):
        response = await client.get(path)
        assert response.status_code == 200, path
        assert response.headers["content-security-policy"] == POLICY
        assert response.headers["x-content-type-options"] == "nosniff"
        assert (await client.head(path)).headers["content-length"] == response.headers["content-length"]
    assert "unsafe" not in POLICY and "http" not in POLICY
    assert (await client.get("/page/page.js")).headers["content-type"].startswith("text/javascript")


async def test_a_copy_that_is_still_right_is_not_sent_again(client: httpx.AsyncClient) -> None:
    tag = (await client.get("/page/page.css")).headers["etag"]
    for known, status in ((tag, 304), (f'"x", W/{tag}', 304), ('"x"', 200)):
        response = await client.get("/page/page.css", headers={"If-None-Match": known})
        assert response.status_code == status and response.headers["etag"] == tag
        assert (response.content == b"") is (status == 304)


@pytest.mark.parametrize("name", ["static_files.py", "..%2Fengine.py", "%2e%2e/engine.py", "page.css%00", "", "x"])
async def test_nothing_else_is_given_out(client: httpx.AsyncClient, name: str) -> None:
    response = await client.get(f"/page/{name}")
    assert response.status_code == 404 and "import" not in response.text


def test_nothing_is_inline_or_from_elsewhere() -> None:
    index = (FOLDER / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=|javascript:", index)
    for name in FILES:
        text = (FOLDER / name).read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://|\bsrc=\"//", text), name


def test_text_never_becomes_markup() -> None:
    scripts = "".join((FOLDER / name).read_text(encoding="utf-8") for name in FILES if name.endswith(".js"))
    assert "textContent" in scripts
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|DOMParser|srcdoc", scripts
    )
