"""One reply of a language model behind an OpenAI-compatible address. Knows nothing of samples.

Uses the standard library only, so that judging needs no further package.
"""

from __future__ import annotations

import http.client
import json
import logging
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass, field
from typing import Any, Final

from mplus.errors import InputError

log = logging.getLogger(__name__)

_LONGEST_PAUSE_S: Final = 60.0
_TOLD_CHARS: Final = 160
_MOST_BYTES: Final = 1 << 24
_LATER: Final = frozenset((408, 409, 425, 429))  # and 5xx
_OPTIONAL: Final = ("temperature", "max_tokens", "max_completion_tokens")
_PARAMETER: Final = (
    "parameter", "argument", "unsupported", "not supported", "unrecognized", "unknown field", "not permitted", "extra", "unexpected",
)  # fmt: skip


@dataclass(frozen=True)
class Reply:
    """A model's reply; ``is_cut`` where the limit of tokens ended it."""

    text: str
    is_cut: bool = False


class _RefusedError(Exception):
    """The endpoint does not take the request as it is."""

    def __init__(self, code: int, content: str) -> None:
        super().__init__(code, content)
        self.code, self.content = code, content


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the key to another address."""

    def redirect_request(self, *_: Any) -> None:
        return None


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """Where, and how patiently. What the endpoint refuses of a request is remembered and not sent again.

    Attributes:
        url: up to and with the version; ``/chat/completions`` is put behind it (before a query).
        key_env: environment variable with the key; where it is unset none is sent. It is never shown.
        timeout_s: for one attempt.
        attempts: where the endpoint is busy (429), broken (5xx) or silent.
        backoff_s: pause after the first attempt; doubles each time, unless the endpoint says how long.
    """

    url: str
    key_env: str
    timeout_s: float
    attempts: int
    backoff_s: float
    _refused: set[str] = field(default_factory=set, compare=False, repr=False)

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise InputError(
                f"the judge's address is '{self.shown}', expected http:// or https://, such as https://api.openai.com/v1"
            )
        try:
            if urllib.parse.urlsplit(self.url).username is not None:
                raise InputError(
                    f"the judge's address holds a user name or password; leave it out, and give the key in the variable {self.key_env}"
                )
            self._request(b"")
            self._key.encode("latin-1")
        except UnicodeEncodeError:
            raise InputError(f"the key in {self.key_env} has characters that no header can carry; copy it again") from None
        except ValueError:
            raise InputError(f"the judge's address is '{self.shown}', which is no address; check it") from None
        if self.attempts < 1:
            raise InputError(f"attempts is {self.attempts}, expected 1 or more")

    @property
    def shown(self) -> str:
        """The address without what may be secret in it."""
        return self.url.split("?", 1)[0].rsplit("@", 1)[-1]

    @property
    def is_limited(self) -> bool:
        """Whether a limit of tokens is still sent."""
        return not {"max_tokens", "max_completion_tokens"} <= self._refused

    def lift_limit(self) -> None:
        """Send no limit of tokens from now on."""
        self._refused.update(("max_tokens", "max_completion_tokens"))

    def reply(self, model: str, message: str, *, temperature: float, max_tokens: int | None) -> Reply:
        """The model's reply to a conversation of one message; again without a setting that it does not take.

        Raises:
            InputError: it cannot be reached, refuses, or answers in another form.
        """
        while True:
            body: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": message}]}
            if "temperature" not in self._refused:
                body["temperature"] = temperature
            if max_tokens is not None and self.is_limited:
                body["max_completion_tokens" if "max_tokens" in self._refused else "max_tokens"] = max_tokens
            try:
                return self._said(self._post(json.dumps(body).encode()))
            except _RefusedError as refusal:
                sent, content = [name for name in _OPTIONAL if name in body], refusal.content.lower()
                named = [name for name in sent if name in content] or list(_OPTIONAL) * bool(
                    sent and _is_about_parameters(content)
                )
                if not named:
                    raise InputError(
                        f"'{self.shown}' answered {refusal.code} ({self._quoted(refusal.content)}); check address, model and settings"
                    ) from None
                self._refused.update(named)
                log.info("%s refuses %s and is asked without it", self.shown, " and ".join(named))

    def _said(self, raw: bytes) -> Reply:
        try:
            choice = json.loads(raw)["choices"][0]
            content = choice["message"]["content"]
            is_cut = choice.get("finish_reason") == "length"
        except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
            told = self._quoted(raw.decode("utf-8", "replace"))
            raise InputError(
                f"'{self.shown}' answered {told!r}, expected a chat completion (choices[0].message.content); check the address"
            ) from None
        if isinstance(content, list):  # parts
            parts = [one.get("text") if isinstance(one, dict) else one for one in content]
            content = "".join(part for part in parts if isinstance(part, str))
        text = content if isinstance(content, str) else ""  # null where a model used up its tokens thinking
        return Reply(self._hidden(text), is_cut)

    def _post(self, body: bytes) -> bytes:
        """The answer to a request; tried again where that may help."""
        opener = urllib.request.build_opener(_NoRedirect)
        for attempt in range(self.attempts):
            pause_s = self.backoff_s * 2**attempt
            try:
                with opener.open(self._request(body), timeout=self.timeout_s) as answer:
                    return bytes(answer.read(_MOST_BYTES))
            except urllib.error.HTTPError as error:
                content = _content(error)
                if error.code in (400, 422):
                    raise _RefusedError(error.code, content) from None
                trouble = f"answered {error.code} ({self._quoted(content)})"
                if error.code not in _LATER and error.code < 500:
                    raise InputError(f"'{self.shown}' {trouble}; {self._advice(error)}") from None
                pause_s = _asked_pause_s(error.headers.get("Retry-After"), pause_s)
            except (OSError, http.client.HTTPException) as error:
                trouble = f"cannot be reached ({getattr(error, 'reason', None) or error or type(error).__name__})"
            if attempt + 1 < self.attempts:
                pause_s = min(pause_s, _LONGEST_PAUSE_S)
                log.info("%s %s; attempt %d of %d in %.0f s", self.shown, trouble, attempt + 2, self.attempts, pause_s)
                time.sleep(pause_s)
        raise InputError(
            f"'{self.shown}' {trouble}, {self.attempts} times; check the address and go on later, what was judged is kept"
        )

    def _advice(self, error: urllib.error.HTTPError) -> str:
        if error.code in (401, 403):
            return f"set {self.key_env} to its key"
        if 300 <= error.code < 400:
            return f"it points to {self._quoted(error.headers.get('Location', 'nowhere').split('?', 1)[0])}; give the address itself with --url"
        return "check address, model and settings"

    @property
    def _key(self) -> str:
        return (os.environ.get(self.key_env) or "").strip()

    def _request(self, body: bytes) -> urllib.request.Request:
        headers = {"Content-Type": "application/json"}
        if key := self._key:
            headers["Authorization"] = f"Bearer {key}"
        address, mark, query = self.url.partition("?")
        return urllib.request.Request(
            f"{address.rstrip('/')}/chat/completions{mark}{query}", data=body, headers=headers, method="POST"
        )

    def _quoted(self, text: str) -> str:
        """The beginning of an answer on one line, without the key."""
        return " ".join(self._hidden(text).split())[:_TOLD_CHARS]

    def _hidden(self, text: str) -> str:
        return text.replace(key, "***") if (key := self._key) else text


def _is_about_parameters(content: str) -> bool:
    return any(word in content for word in _PARAMETER)


def _content(error: urllib.error.HTTPError) -> str:
    """The content of a refusal, as far as it came."""
    with error:
        try:
            return error.read(_MOST_BYTES).decode("utf-8", "replace")
        except (OSError, http.client.HTTPException):
            return "nothing more"


def _asked_pause_s(header: str | None, otherwise_s: float) -> float:
    try:
        return max(float(header or ""), 0.0)
    except ValueError:  # absent, or a date
        return otherwise_s
