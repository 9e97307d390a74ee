"""Write docs/reference/server-api.md from the server's own description: ``python docs/make_server_api.py``. A test compares both."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mplus.server.app import create_app
from mplus.server.settings import ServerSettings

PAGE = Path(__file__).parent / "reference" / "server-api.md"
HEAD = """# Server reference

Made by `python docs/make_server_api.py` from the routes themselves; do not edit. How to use them: [serve.md](../how-to/serve.md). The same for
programs, with every field: `GET /openapi.json` of a running server.

A server with a key file wants a key with all routes but `/health` and `/ready`: `Authorization: Bearer KEY`, `Authorization: Token KEY` or
`X-API-Key: KEY`. Refusals are JSON: `{"error": {"message", "type", "param", "code"}}`, under mem0's paths `{"detail"}`, under `/slots`
`{"error": {"code", "message", "type"}}`. Any route may answer 400, 401, 403, 408, 413, 429 (with `Retry-After`) and 503.
"""
USUAL = {"400", "401", "403", "408", "413", "422", "429", "503"}


def page() -> str:
    """The whole reference."""
    with tempfile.TemporaryDirectory() as home:
        described = create_app(ServerSettings(home=Path(home)), model=_no_model).openapi()
    by_tag: dict[str, list[str]] = {}
    for path, operations in described["paths"].items():
        for method, operation in operations.items():
            by_tag.setdefault(operation["tags"][0], []).append(_route(method.upper(), path, operation, described))
    return "\n\n".join([HEAD.strip(), *(f"## {tag}\n\n" + "\n\n".join(routes) for tag, routes in sorted(by_tag.items()))]) + "\n"


def _no_model() -> Any:
    raise AssertionError("the description of the routes needs no model")


def _route(method: str, path: str, operation: dict[str, Any], described: dict[str, Any]) -> str:
    return "\n\n".join([f"### `{method} {path}`", *_parts(operation, described)])


def _parts(operation: dict[str, Any], described: dict[str, Any]) -> Iterator[str]:
    yield f"{operation['summary']}. {' '.join(operation.get('description', '').split())}".strip()
    rows = [_parameter(one) for one in operation.get("parameters", [])]
    content = operation.get("requestBody", {}).get("content", {})
    if "application/json" in content:
        rows += _fields(content["application/json"]["schema"], described)
    if rows:
        yield "\n".join(["| field | where | type | |", "|---|---|---|---|", *rows])
    other = [f"`{kind}`" for kind in content if kind != "application/json"]
    if other:
        yield f"Takes {' and '.join(other)}{' too' if 'application/json' in content else ''}."
    example = _example(content.get("application/json", {}).get("schema", {}), described)
    if example is not None:
        yield f"```json\n{json.dumps(example, ensure_ascii=False)}\n```"
    told = [status for status in operation["responses"] if status not in USUAL]
    yield f"Answers {', '.join(told)}."


def _parameter(one: dict[str, Any]) -> str:
    needed = ", needed" if one.get("required") else ""
    return _row(one["name"], one["in"] + needed, _type(one["schema"]), one.get("description", ""))


def _fields(schema: dict[str, Any], described: dict[str, Any]) -> list[str]:
    whole = _resolved(schema, described)
    needed = whole.get("required", [])
    return [
        _row(name, "body" + (", needed" if name in needed else ""), _type(one), one.get("description", ""))
        for name, one in whole.get("properties", {}).items()
    ]


def _resolved(schema: dict[str, Any], described: dict[str, Any]) -> dict[str, Any]:
    """A schema behind its reference; of a body that may be missing the one it has."""
    for one in schema.get("anyOf", []):
        if "$ref" in one:
            schema = one
    if "$ref" in schema:
        found: dict[str, Any] = described["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
        return found
    return schema


def _example(schema: dict[str, Any], described: dict[str, Any]) -> Any:
    examples = _resolved(schema, described).get("examples")
    return examples[0] if examples else None


def _type(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        return str(schema["$ref"].rsplit("/", 1)[1])
    if "const" in schema:
        return json.dumps(schema["const"])
    if "enum" in schema:
        return ", ".join(json.dumps(one) for one in schema["enum"])
    parts = [_type(one) for one in schema.get("anyOf", schema.get("oneOf", []))]
    if parts:
        return " or ".join(dict.fromkeys(part for part in parts if part != "null"))
    if schema.get("type") == "array":
        return f"array of {_type(schema.get('items', {}))}"
    return str(schema.get("format") or schema.get("type") or "any")


def _row(name: str, where: str, kind: str, told: str) -> str:
    return "| " + " | ".join(" ".join(part.split()).replace("|", "\\|") for part in (f"`{name}`", where, kind, told)) + " |"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
