"""Refusals as the OpenAPI page has them: the body of each form and its statuses. Knows no route."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from pydantic import BaseModel

Responses = dict[int | str, dict[str, Any]]


class ErrorOfOpenAI(BaseModel):
    message: str
    type: str
    param: str | None
    code: str | None


class OpenAIError(BaseModel):
    """A refusal in OpenAI's form."""

    error: ErrorOfOpenAI


class Mem0Error(BaseModel):
    """A refusal in mem0's form."""

    detail: str


class ErrorOfLlamaCpp(BaseModel):
    code: int
    message: str
    type: str


class LlamaCppError(BaseModel):
    """A refusal in llama.cpp's form."""

    error: ErrorOfLlamaCpp


ALWAYS = (400, 401, 403, 429, 503)
"""What any route may answer: a request that cannot be read, a wrong key, too many requests, a server that starts or stops."""


def errors(*statuses: int, form: type[BaseModel] = OpenAIError) -> Responses:
    """What a route answers where it refuses.

    Args:
        statuses: beside those that any route may answer.
    """
    return {status: {"model": form, "description": HTTPStatus(status).phrase} for status in sorted({*ALWAYS, *statuses})}
