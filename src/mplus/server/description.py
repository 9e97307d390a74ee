"""The description of all routes (OpenAPI): what any of them may answer, and how a key is sent. Knows no route of its own."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from mplus.server.access import PUBLIC
from mplus.server.documented import LlamaCppError, Mem0Error, OpenAIError, errors
from mplus.server.refusal import LLAMACPP_PATHS, below, is_mem0

SUMMARY = "Memories of many users behind the clients of OpenAI, mem0 and llama.cpp."
KEY, HEADER = "key", "header"
KEYS = {
    KEY: {"type": "http", "scheme": "bearer", "description": "a key of `mplus serve keys add`; a server without keys needs none"},
    HEADER: {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}
AUTOMATIC = ("HTTPValidationError", "ValidationError")
"""Schemas that the framework adds for a refusal that is told otherwise here."""


def described(app: FastAPI) -> dict[str, Any]:
    """The description, made once."""
    if app.openapi_schema is None:
        found = get_openapi(title=app.title, version=app.version, summary=SUMMARY, routes=app.routes)
        schemas = found.setdefault("components", {}).setdefault("schemas", {})
        for form in (OpenAIError, Mem0Error, LlamaCppError):
            _add_schema(schemas, form)
        for name in AUTOMATIC:
            schemas.pop(name, None)
        for path, operations in found["paths"].items():
            for operation in operations.values():
                _complete(path, operation)
        found["components"]["securitySchemes"] = KEYS
        app.openapi_schema = found
    return app.openapi_schema


def form_of(path: str) -> type[BaseModel]:
    """The form of the refusals of a path."""
    if is_mem0(path):
        return Mem0Error
    return LlamaCppError if below(path, LLAMACPP_PATHS) else OpenAIError


def _complete(path: str, operation: dict[str, Any]) -> None:
    """Add what any route may answer, and take out what none does."""
    form, responses = form_of(path), operation["responses"]
    if "HTTPValidationError" in str(responses.get("422")):
        del responses["422"]
    if path in PUBLIC:
        operation["security"] = []
        more = [503]
    else:
        operation["security"] = [{KEY: []}, {HEADER: []}]
        more = [
            *((404,) if "{" in path else ()),
            *((408, 413, 409) if "requestBody" in operation else ()),
            *((422,) if is_mem0(path) else ()),
        ]
    always = () if path in PUBLIC else (400, 401, 403, 429)
    for status, told in errors(*more).items():
        if status in more or status in always:
            responses.setdefault(str(status), {"description": told["description"]})
    for status, response in responses.items():  # in JSON, whatever the route's own answer is
        if int(status) >= 400:
            response["content"] = {"application/json": {"schema": {"$ref": f"#/components/schemas/{form.__name__}"}}}
    operation["responses"] = dict(sorted(responses.items()))


def _add_schema(schemas: dict[str, Any], form: type[BaseModel]) -> None:
    schema = form.model_json_schema(ref_template="#/components/schemas/{model}")
    for name, one in {**schema.pop("$defs", {}), form.__name__: schema}.items():
        schemas.setdefault(name, one)
