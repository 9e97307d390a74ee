"""The description of all routes: complete, and kept to."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
from fastapi import FastAPI

from mplus import MPlusModel

DOCS = Path(__file__).parents[3] / "docs"
METHODS = {"get", "post", "put", "patch", "delete"}


def test_every_route_says_what_it_does_takes_and_answers(app: FastAPI) -> None:
    described = app.openapi()
    summaries = set()
    for path, operations in described["paths"].items():
        for method, operation in operations.items():
            place = f"{method.upper()} {path}"
            assert method in METHODS, place
            assert operation.get("summary"), place
            assert operation.get("tags"), place
            assert "HTTPValidationError" not in str(operation), place
            if operation["security"]:
                assert {"400", "401", "429"} <= set(operation["responses"]), place
            body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
            if body is not None:
                assert _has_example(body, described), f"{place} has no example of its body"
            summaries.add((path, method, operation["operationId"]))
    assert len({id for _, _, id in summaries}) == len(summaries)


def test_the_reference_is_up_to_date() -> None:
    made = runpy.run_path(str(DOCS / "make_server_api.py"))["page"]()
    stored = (DOCS / "reference" / "server-api.md").read_text(encoding="utf-8")
    assert stored == made, "a route has changed; run `python docs/make_server_api.py`"


def _has_example(schema: dict[str, object], described: dict[str, dict[str, dict[str, dict[str, object]]]]) -> bool:
    if "$ref" in schema:
        return _has_example(described["components"]["schemas"][str(schema["$ref"]).rsplit("/", 1)[1]], described)
    parts = schema.get("anyOf")
    return (
        "examples" in schema
        or "example" in schema
        or (isinstance(parts, list) and any(_has_example(one, described) for one in parts))
    )


@pytest.mark.filterwarnings("ignore")
def test_no_request_is_answered_outside_the_description(text_model: MPlusModel, tmp_path: Path) -> None:
    pytest.importorskip("schemathesis")
    from .schema_run import failures

    found = failures(text_model, tmp_path, count=2)
    assert not found, "\n\n".join(found)
