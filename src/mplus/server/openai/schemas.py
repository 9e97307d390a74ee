"""Request bodies of OpenAI's endpoints. A field that clients send and that means nothing here is ignored; what cannot be done is refused by name.

Types are strict: a number is not taken from a string. ``model`` may be left out, since a server has one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from mplus.server.answers import Sampling
from mplus.server.errors import BadRequestError, NotFoundError
from mplus.server.metadata import checked_json


def _example(**fields: Any) -> ConfigDict:
    """Settings of a body with an example for the OpenAPI page."""
    return ConfigDict(extra="ignore", strict=True, protected_namespaces=(), json_schema_extra={"examples": [fields]})


TEXT_OR_PARTS: dict[str, Any] = {"anyOf": [{"type": "string"}, {"type": "array", "items": {}}]}
STOP: dict[str, Any] = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}, {"type": "null"}]}
MOST_STOPS = 4
MOST_ITEMS = 20
"""Items that one request may add to a conversation, as OpenAI has it."""


class MemoryOptions(BaseModel):
    """Our extension (``extra_body={"memory": {...}}``): which memory is read, what is written, whether passages are told."""

    model_config = ConfigDict(extra="forbid", strict=True)

    id: str | None = Field(None, description="the memory; also by the header X-Memory-Id")
    write: Literal["none", "user", "both"] | None = Field(None, description="whose turns are written; also by X-Memory-Write")
    trace: bool = Field(False, description="also tell which passages were read")
    confidence: bool = Field(False, description="also tell how likely it is, 0 to 1, that the memory holds the answer")
    min_confidence: float | None = Field(
        None, ge=0, le=1, description='below it the answer is "I don\'t have that in memory.", sent when it is whole'
    )


class ModelRequest(BaseModel):
    """What all questions have."""

    model_config = ConfigDict(extra="ignore", strict=True, protected_namespaces=())

    model: str | None = None
    memory: MemoryOptions | None = None
    conversation: Any = Field(None, description="a conversation's id, or {'id': ...}")
    user: str | None = None
    stream: bool | None = None
    temperature: float | None = Field(None, ge=0, le=2, description="0 (greedy) where it is left out")
    top_p: float | None = Field(None, gt=0, le=1)
    top_k: int | None = Field(None, ge=1)
    top_logprobs: int | None = None
    tools: list[Any] | None = None
    tool_choice: Any = None


class StreamOptions(BaseModel):
    """Of a stream of chunks."""

    model_config = ConfigDict(extra="ignore", strict=True)

    include_usage: bool | None = None


class SamplingRequest(ModelRequest):
    """What chat and text completions share."""

    max_tokens: int | None = Field(None, ge=1)
    n: int | None = None
    stop: Any = Field(None, json_schema_extra=STOP, description=f"a string, or at most {MOST_STOPS}")
    seed: int | None = None
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    stream_options: StreamOptions | None = None
    logprobs: Any = None
    logit_bias: Any = None

    @property
    def most_tokens(self) -> int | None:
        """The limit of the answer."""
        return self.max_tokens

    @property
    def sampling(self) -> Sampling:
        """How tokens are chosen."""
        return Sampling(
            max_tokens=self.most_tokens,
            temperature=self.temperature or 0.0,
            top_p=1.0 if self.top_p is None else self.top_p,
            top_k=self.top_k,
            stop=stops_of(self.stop),
            seed=self.seed,
            frequency_penalty=self.frequency_penalty or 0.0,
            presence_penalty=self.presence_penalty or 0.0,
        )


class ChatRequest(SamplingRequest):
    """``POST /v1/chat/completions``."""

    model_config = _example(
        messages=[{"role": "user", "content": "Which number has my locker?"}],
        memory={"id": "anna", "write": "both", "trace": True},
        max_tokens=16,
    )

    messages: list[dict[str, Any]]
    max_completion_tokens: int | None = Field(None, ge=1)
    response_format: Any = None
    functions: Any = None
    modalities: Any = None
    audio: Any = None
    web_search_options: Any = None

    @property
    def most_tokens(self) -> int | None:
        """The limit of the answer; the newer of the two fields counts."""
        return self.max_completion_tokens or self.max_tokens


class CompletionRequest(SamplingRequest):
    """``POST /v1/completions``."""

    model_config = _example(prompt="The locker of Anna has the number", memory={"id": "anna", "write": "user"}, max_tokens=8)

    prompt: Any = Field(json_schema_extra=TEXT_OR_PARTS, description="a string, or a list of one string")
    echo: bool | None = None
    suffix: Any = None
    best_of: int | None = None


class ResponseRequest(ModelRequest):
    """``POST /v1/responses``."""

    model_config = _example(input="Where was Ilse Varga born?", max_output_tokens=16)

    input: Any = Field(json_schema_extra=TEXT_OR_PARTS, description="a string, or a list of messages")
    instructions: str | None = None
    store: bool | None = Field(None, description="true where it is left out")
    previous_response_id: str | None = None
    max_output_tokens: int | None = Field(None, ge=1)
    metadata: dict[str, str] | None = None
    background: bool | None = None
    prompt: Any = None
    text: dict[str, Any] | None = None

    @property
    def sampling(self) -> Sampling:
        """How tokens are chosen."""
        return Sampling(
            max_tokens=self.max_output_tokens,
            temperature=self.temperature or 0.0,
            top_p=1.0 if self.top_p is None else self.top_p,
            top_k=self.top_k,
        )


class ConversationRequest(BaseModel):
    """``POST /v1/conversations``."""

    model_config = _example(items=[{"role": "user", "content": "Ilse Varga was born in Tromso."}], metadata={"topic": "people"})

    items: list[Any] | None = None
    metadata: dict[str, str] | None = None
    memory: MemoryOptions | None = None


class ConversationUpdate(BaseModel):
    """``POST /v1/conversations/{id}``."""

    model_config = _example(metadata={"topic": "people"})

    metadata: dict[str, str] | None


class ItemsRequest(BaseModel):
    """``POST /v1/conversations/{id}/items``."""

    model_config = _example(items=[{"role": "user", "content": "Ilse Varga moved to Porto."}])

    items: list[Any]


Refused = Mapping[str, tuple[Callable[[Any], bool], str]]


def is_given(value: Any) -> bool:
    """Whether a client asked for something; null, false, 0 and nothing do not."""
    return bool(value)


def is_several(value: Any) -> bool:
    """Whether more than one answer is asked for."""
    return value is not None and value != 1


def is_no_text(value: Any) -> bool:
    """Whether another form than text is asked for."""
    return value is not None and (not isinstance(value, Mapping) or value.get("type") != "text")


REFUSED: Refused = {
    "n": (is_several, "one answer is made for a prompt; leave n out, and ask again for another"),
    "best_of": (is_several, "one answer is made for a prompt; leave best_of out"),
    "logprobs": (
        lambda value: value is not None and value is not False,
        "probabilities of tokens are not told; leave logprobs out",
    ),
    "top_logprobs": (is_given, "probabilities of tokens are not told; leave top_logprobs out"),
    "logit_bias": (is_given, "tokens cannot be made more or less likely; leave logit_bias out"),
    "response_format": (is_no_text, "answers are plain text; leave response_format out, or give {'type': 'text'}"),
    "functions": (is_given, "this model calls no functions; leave functions out"),
    "audio": (is_given, "answers are text; leave audio out"),
    "modalities": (lambda value: value not in (None, ["text"]), "answers are text; leave modalities out, or give ['text']"),
    "web_search_options": (lambda value: value is not None, "this server searches no web; leave web_search_options out"),
    "echo": (is_given, "the prompt is not repeated; leave echo out"),
    "suffix": (is_given, "text is only continued at its end; leave suffix out"),
    "background": (is_given, "answers are not made in the background; leave background out, and stream instead"),
    "prompt": (lambda value: value is not None, "this server keeps no prompt templates; give instructions and input"),
}
"""Field to (whether its value is refused, the sentence for it)."""


def refuse(body: ModelRequest) -> None:
    """Refuse what a request asks for and cannot have.

    Raises:
        BadRequestError: names the field.
    """
    refused = {name: rule for name, rule in REFUSED.items() if not (name == "prompt" and isinstance(body, CompletionRequest))}
    for name, (is_refused, sentence) in refused.items():
        if is_refused(getattr(body, name, None)):
            raise BadRequestError(sentence, param=name, code="unsupported_parameter")
    if body.tools and body.tool_choice != "none":
        raise BadRequestError(
            "this model calls no tools; leave tools out, or give tool_choice 'none'", param="tools", code="unsupported_parameter"
        )
    if isinstance(body, ResponseRequest) and is_no_text((body.text or {}).get("format")):
        raise BadRequestError(
            "answers are plain text; leave text.format out, or give {'type': 'text'}", param="text", code="unsupported_parameter"
        )


def check_model(asked: str | None, served: str) -> None:
    """Refuse another model than the one that is served.

    Raises:
        NotFoundError.
    """
    if asked is not None and asked != served:
        raise NotFoundError(
            f"the model {asked!r:.100} is not served here; this server has {served!r}", param="model", code="model_not_found"
        )


def stops_of(value: Any) -> tuple[str, ...]:
    """Strings that end an answer.

    Raises:
        BadRequestError: it is neither a string nor a short list of them.
    """
    stops = [] if value is None else [value] if isinstance(value, str) else value
    if not isinstance(stops, list) or not all(isinstance(one, str) and one for one in stops):
        raise BadRequestError(
            f"stop must be a string or a list of strings with something in them, got {value!r:.60}", param="stop"
        )
    if len(stops) > MOST_STOPS:
        raise BadRequestError(f"stop has {len(stops)} strings, at most {MOST_STOPS} are allowed", param="stop")
    return tuple(stops)


def metadata_of(value: Mapping[str, str] | None) -> dict[str, str]:
    """Checked metadata, by OpenAI's limits.

    Raises:
        BadRequestError.
    """
    pairs = dict(value or {})
    if len(pairs) > 16:
        raise BadRequestError(f"metadata has {len(pairs)} pairs, at most 16 are allowed", param="metadata")
    for name, text in pairs.items():
        if len(name) > 64 or len(text) > 512:
            raise BadRequestError(
                f"metadata {name!r:.70} is too long: a key has at most 64 characters, a value 512", param="metadata"
            )
    return checked_json(pairs, "metadata")
