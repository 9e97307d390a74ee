"""A text to write as it comes: JSON, or a file of a form. Knows no memory."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any, TypeVar

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.datastructures import UploadFile

from mplus.runtime.unicode import well_formed
from mplus.server.errors import BadRequestError
from mplus.server.metadata import checked_json
from mplus.server.own import bodies
from mplus.text.documents import document_text

Model = TypeVar("Model", bound=BaseModel)
FORM, JSON = "multipart/form-data", "application/json"
AT_ONCE = 2
"""Files that are turned into text at once; a page of a PDF can take long."""
MOST_FIELDS, LARGEST_FIELD_BYTES = 8, 256 * 1024
_converting = asyncio.Semaphore(AT_ONCE)


@dataclass(frozen=True, kw_only=True)
class GivenText:
    """A text that a client wants written.

    Attributes:
        source: None where it was not named.
    """

    text: str
    source: str | None
    at: float | None
    note: dict[str, Any] | None


async def writing_body(request: Request) -> GivenText:
    """What is to be written.

    Raises:
        InputError: there is no text in it, or it is of no kind that is read.
        RequestValidationError: a field is wrong.
    """
    return await _given(request, bodies.WriteText)


async def replacing_body(request: Request) -> GivenText:
    """What is to take the place of a source; see ``writing_body``."""
    return await _given(request, bodies.ReplaceText)


async def _given(request: Request, kind: type[bodies.WriteText] | type[bodies.ReplaceText]) -> GivenText:
    sent = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if sent == FORM:
        return await _of_form(request)
    if sent not in (JSON, ""):
        raise BadRequestError(f"a body of type {sent[:80]!r} is not read; send {JSON}, or a file as {FORM}", param="content-type")
    try:
        data = json.loads(await request.body())
    except (ValueError, RecursionError):
        raise BadRequestError('the body is no JSON in UTF-8; send an object with a text, such as {"text": "..."}') from None
    body = _validated(kind, data)
    return _whole(body.text, body.source if isinstance(body, bodies.WriteText) else None, body)


async def _of_form(request: Request) -> GivenText:
    async with request.form(max_files=1, max_fields=MOST_FIELDS, max_part_size=LARGEST_FIELD_BYTES) as form:
        file = form.get("file")
        if not isinstance(file, UploadFile):
            raise BadRequestError("the form has no file; send one as its part 'file'", param="file")
        texts = {name: value for name, value in form.items() if name != "file" and isinstance(value, str)}
        fields = _validated(bodies.UploadFields, texts)
        data, name = await file.read(), well_formed(file.filename or "upload")
    async with _converting:
        text = await asyncio.to_thread(document_text, data, name)
    return _whole(text, fields.source or name, fields)


def _whole(text: str, source: str | None, fields: bodies.WriteText | bodies.ReplaceText | bodies.UploadFields) -> GivenText:
    if not text.strip():
        raise BadRequestError("the text is empty; give one with at least one word", param="text")
    note = None if fields.note is None else checked_json(fields.note, "note")
    return GivenText(text=text, source=source, at=bodies.seconds_of(fields.at), note=note)


def _validated(kind: type[Model], data: Any) -> Model:
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        raise RequestValidationError([{**one, "loc": ("body", *one["loc"])} for one in error.errors()]) from None


# -- the OpenAPI page ----------------------------------------------------------------------------------------------------


def _described(kind: type[BaseModel], *, named: bool) -> dict[str, Any]:
    """The request body of a route that takes either form."""
    schema = kind.model_json_schema(ref_template="#/components/schemas/{model}")
    parts: dict[str, Any] = {
        "file": {"type": "string", "format": "binary", "description": "text, Markdown, HTML, PDF or Word, at most 64 MiB"},
        "at": {"type": "string", "description": "seconds since 1970, or an ISO 8601 time"},
        "note": {"type": "string", "description": "JSON kept beside the source"},
    }
    if named:
        parts["source"] = {
            "type": "string",
            "minLength": 1,
            "maxLength": 256,
            "description": "the file's name where it is left out",
        }
    form = {"type": "object", "required": ["file"], "properties": parts}
    return {"requestBody": {"required": True, "content": {JSON: {"schema": schema}, FORM: {"schema": form}}}}


WRITE_BODY, REPLACE_BODY = _described(bodies.WriteText, named=True), _described(bodies.ReplaceText, named=False)
