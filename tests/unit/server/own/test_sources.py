"""`/v1/memories/{id}/sources`: written as text and as files, read, replaced, forgotten, searched, traced."""

from __future__ import annotations

import io
import zipfile
from typing import Any

import httpx
import pytest

pytestmark = pytest.mark.anyio
SOURCES = "/v1/memories/alice/sources"
OSLO = "Alice lives in Oslo, near the old harbour, since May."
BOAT = "Alice has a boat that she painted red in the summer."


async def text_of(client: httpx.AsyncClient, source: str) -> str:
    answer = await client.get("/v1/memories/alice/text", params={"source": source})
    assert answer.status_code == 200, answer.text
    return answer.text


async def test_write_makes_the_memory_and_gives_the_text_back(client: httpx.AsyncClient) -> None:
    written = await client.post(
        SOURCES, json={"source": "notes/may.md", "text": OSLO, "at": "2026-05-03T09:00:00Z", "note": {"by": "Ben"}}
    )
    assert written.status_code == 201
    assert written.json()["tokens"] == written.json()["total_tokens"] > 0
    assert await text_of(client, "notes/may.md") == OSLO
    (record,) = (await client.get(SOURCES)).json()["data"]
    assert record["note"] == {"by": "Ben"}
    assert record["first_at"] == 1777798800.0
    for path in ("notes/may.md", "notes%2Fmay.md"):
        assert (await client.get(f"{SOURCES}/{path}")).json() == record


async def test_write_goes_on_at_the_end_of_a_source(client: httpx.AsyncClient) -> None:
    for text in (OSLO, " " + BOAT):
        await client.post(SOURCES, json={"source": "one", "text": text})
    assert await text_of(client, "one") == f"{OSLO} {BOAT}"


async def test_a_text_without_a_name_gets_one(client: httpx.AsyncClient) -> None:
    written = (await client.post(SOURCES, json={"text": OSLO})).json()
    assert written["source"].startswith("text_")
    assert await text_of(client, written["source"]) == OSLO


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("a.txt", OSLO.encode(), OSLO),
        ("a.md", b"# Alice\n\nShe lives in Oslo.", "# Alice\n\nShe lives in Oslo."),
        (
            "a.html",
            b"<html><title>Alice</title><body><p>She lives in <b>Oslo</b>.</p></body></html>",
            "Alice\n\nShe lives in **Oslo**.",
        ),
    ],
)
async def test_a_file_is_a_source_under_its_name(client: httpx.AsyncClient, name: str, data: bytes, expected: str) -> None:
    written = await client.post(SOURCES, files={"file": (name, data)}, data={"note": '{"from": "upload"}'})
    assert written.status_code == 201, written.text
    assert written.json()["source"] == name
    assert await text_of(client, name) == expected
    assert (await client.get(f"{SOURCES}/{name}")).json()["note"] == {"from": "upload"}


async def test_a_file_may_have_another_name(client: httpx.AsyncClient) -> None:
    written = await client.post(SOURCES, files={"file": ("a.txt", OSLO.encode())}, data={"source": "b", "at": "1777798800"})
    assert written.json()["source"] == "b"
    assert (await client.get(f"{SOURCES}/b")).json()["first_at"] == 1777798800.0


def _empty_zip() -> bytes:
    data = io.BytesIO()
    zipfile.ZipFile(data, "w").close()
    return data.getvalue()


@pytest.mark.parametrize(
    ("sent", "sentence"),
    [
        ({"json": {"source": "a"}}, "text: field required"),
        ({"json": {"text": ""}}, "text: "),
        ({"json": {"text": " \n"}}, "empty"),
        ({"json": {"text": "x", "at": "soon"}}, "at"),
        ({"json": {"text": "x", "source": "a\tb"}}, "printable"),
        ({"json": ["x"]}, "dictionary"),
        ({"content": b'{"text": "\xff"}'}, "no JSON"),
        ({"content": b'{"text": "\\ud83d"}'}, ""),
        ({"content": b"[" * 100_000}, "no JSON"),
        ({"content": b"x", "headers": {"content-type": "text/plain"}}, "text/plain"),
        ({"files": {"file": ("a.png", b"\x89PNG\r\n\x1a\n")}}, "PNG"),
        ({"files": {"file": ("a.txt", b"")}}, "empty"),
        ({"files": {"file": ("a.pdf", b"%PDF-1.7 nothing")}}, "damaged PDF"),
        ({"files": {"file": ("a.docx", _empty_zip())}}, ""),
        ({"files": {"other": ("a.txt", b"x")}}, "no file"),
        ({"files": {"file": ("a.txt", b"x")}, "data": {"note": "{"}}, "note"),
        ({"files": {"file": ("a.txt", b"x")}, "data": {"title": "x"}}, "title"),
    ],
)
async def test_what_cannot_be_written_changes_nothing(client: httpx.AsyncClient, sent: dict[str, object], sentence: str) -> None:
    answer = await client.post(SOURCES, **sent)  # type: ignore[arg-type]
    assert answer.status_code == 400, answer.text
    assert sentence in answer.json()["error"]["message"]
    assert (await client.get("/v1/memories")).json()["data"] == []


async def test_replace_leaves_nothing_of_the_text_before(client: httpx.AsyncClient) -> None:
    await client.post(SOURCES, json={"source": "one", "text": OSLO, "note": {"by": "Ben"}})
    replaced = await client.put(f"{SOURCES}/one", json={"text": BOAT})
    assert replaced.json()["tokens"] > 0
    assert await text_of(client, "one") == BOAT
    missing = await client.put(f"{SOURCES}/two", json={"text": BOAT})
    assert missing.status_code == 404
    assert missing.json()["error"]["code"] == "source_not_found"


async def test_note_changes(client: httpx.AsyncClient) -> None:
    await client.post(SOURCES, json={"source": "one", "text": OSLO, "note": {"by": "Ben"}})
    changed = await client.patch(f"{SOURCES}/one", json={"note": {"by": "Eve"}})
    assert changed.json()["note"] == {"by": "Eve"}
    assert (await client.patch(f"{SOURCES}/two", json={"note": {}})).status_code == 404


async def test_a_forgotten_source_is_nowhere(client: httpx.AsyncClient) -> None:
    await client.post(SOURCES, json={"source": "one", "text": OSLO})
    await client.post(SOURCES, json={"source": "two", "text": BOAT})
    deleted = await client.delete(f"{SOURCES}/one")
    assert deleted.json() == {"id": "one", "object": "memory.source.deleted", "deleted": True}
    assert [one["name"] for one in (await client.get(SOURCES)).json()["data"]] == ["two"]
    assert (await client.get(f"{SOURCES}/one")).status_code == 404
    assert (await client.get("/v1/memories/alice/text", params={"source": "one"})).status_code == 404
    found = (await client.post("/v1/memories/alice/search", json={"query": "Where does Alice live?"})).text
    assert "Oslo" not in found


async def test_forget_by_pattern_says_first_what_it_would_do(client: httpx.AsyncClient) -> None:
    for source, at in (("notes/a", 100), ("notes/b", 200), ("other", 300)):
        await client.post(SOURCES, json={"source": source, "text": OSLO + source, "at": at})
    asked = {"pattern": "notes/*", "before": 150}
    dry = (await client.post("/v1/memories/alice/forget", json={**asked, "dry_run": True})).json()
    assert (dry["sources"], dry["report"]) == (["notes/a"], None)
    assert len((await client.get(SOURCES)).json()["data"]) == 3
    done = (await client.post("/v1/memories/alice/forget", json=asked)).json()
    assert (done["sources"], done["tokens"]) == (dry["sources"], dry["tokens"])
    assert [one["name"] for one in (await client.get(SOURCES)).json()["data"]] == ["notes/b", "other"]
    assert (await client.post("/v1/memories/alice/forget", json={})).status_code == 400
    both = await client.post("/v1/memories/alice/forget", json={"sources": ["other"], "pattern": "*"})
    assert both.status_code == 400
    assert len((await client.get(SOURCES)).json()["data"]) == 2


async def test_search_finds_the_sources_with_their_notes(client: httpx.AsyncClient) -> None:
    for number in range(6):
        text = f"{OSLO if number == 2 else BOAT} This is page {number} of the diary of Alice."
        await client.post(SOURCES, json={"source": f"page {number}", "text": text, "note": {"page": number}})
    found = (await client.post("/v1/memories/alice/search", json={"query": "Where does Alice live?", "top_k": 2})).json()
    assert 1 <= len(found["data"]) <= 2
    for one in found["data"]:
        assert one["note"] == {"page": int(one["source"].removeprefix("page "))}
        assert one["text"]
    assert (await client.post("/v1/memories/nobody/search", json={"query": "x"})).status_code == 404


async def test_trace_reads_only_what_lies_within_its_scope(client: httpx.AsyncClient) -> None:
    for name, day in (("one", "2026-01-01"), ("two", "2026-02-01"), ("three", "2026-03-01")):
        await client.post(SOURCES, json={"source": name, "text": OSLO, "at": f"{day}T00:00:00Z"})

    async def read(**scope: Any) -> set[str]:
        asked = {"question": "Where does Alice live?", "rounds": 2, **scope}
        trace = (await client.post("/v1/memories/alice/trace", json=asked)).json()["trace"]
        return {one["source"] for one in trace["passages"]}

    assert await read() == {"one", "two", "three"}
    assert await read(sources=["t*"]) == {"two", "three"}
    assert await read(before="2026-02-15T00:00:00Z", after="2026-01-15T00:00:00Z") == {"two"}
    refused = await client.post("/v1/memories/alice/trace", json={"question": "Where?", "sources": ["twoo"]})
    assert refused.status_code == 400 and "did you mean 'two'" in refused.text


async def test_trace_says_what_is_read_and_answers_where_asked(client: httpx.AsyncClient) -> None:
    await client.post(SOURCES, json={"source": "one", "text": OSLO * 3})
    only = (await client.post("/v1/memories/alice/trace", json={"question": "Where does Alice live?"})).json()
    assert only["answer"] is None
    assert {one["source"] for one in only["trace"]["passages"]} == {"one"}
    asked = {"question": "Where does Alice live?", "answer": True, "max_tokens": 4}
    answered = (await client.post("/v1/memories/alice/trace", json=asked)).json()
    assert answered["answer"] is not None
    before = (await client.get("/v1/memories/alice")).json()["tokens"]
    assert before == (await client.get("/v1/memories/alice")).json()["tokens"]
