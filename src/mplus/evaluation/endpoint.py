"""One reply of a language model behind an OpenAI-compatible address. Knows nothing of samples.

Uses the standard library only, so that judging needs no further package.
"""

from __future__ import annotations

import http.client
import json
import os
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any, Final

from mplus.errors import InputError

_LONGEST_PAUSE_S: Final = 60.0
_TOLD_CHARS: Final = 160


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """Where, and how patiently.

    Attributes:
        url: up to and with the version; ``/chat/completions`` is put behind it.
        key_env: environment variable with the key; where it is unset none is sent.
        timeout_s: for one attempt.
        attempts: where the endpoint is busy (429), broken (5xx) or silent.
        backoff_s: pause after the first attempt; doubles each time, unless the endpoint says how long.
    """

    url: str
    key_env: str
    timeout_s: float
    attempts: int
    backoff_s: float

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise InputError(
                f"the judge's address is '{self.url}', expected http:// or https://, such as https://api.openai.com/v1"
            )
        try:
            self._request(b"")
            (os.environ.get(self.key_env) or "").strip().encode("latin-1")
        except UnicodeEncodeError:
            raise InputError(f"the key in {self.key_env} has characters that no header can carry; copy it again") from None
        except ValueError:
            raise InputError(f"the judge's address is '{self.url}', which is no address; check it") from None
        if self.attempts < 1:
            raise InputError(f"attempts is {self.attempts}, expected 1 or more")

    def reply(self, model: str, message: str, *, temperature: float, max_tokens: int | None) -> str:
        """The model's reply to a conversation of one message.

        Raises:
            InputError: it cannot be reached, refuses, or answers in another form.
        """
        body: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": message}], "temperature": temperature}
        if max_tokens is not None:
            body["max_tokens"] = max_tokens
        raw = self._post(json.dumps(body).encode())
        try:
            said = json.loads(raw)["choices"][0]["message"]["content"]
        except (ValueError, KeyError, IndexError, TypeError):
            raise InputError(
                f"'{self.url}' answered {_told(raw)!r}, expected a chat completion (choices[0].message.content); check the address"
            ) from None
        return said if isinstance(said, str) else ""  # null where a model used up its tokens thinking

    def _post(self, body: bytes) -> bytes:
        """The answer to a request; tried again where that may help."""
        for attempt in range(self.attempts):
            pause_s = self.backoff_s * 2**attempt
            try:
                with urllib.request.urlopen(self._request(body), timeout=self.timeout_s) as answer:
                    return bytes(answer.read())
            except urllib.error.HTTPError as error:
                told = _content(error)
                trouble = f"answered {error.code} ({told})"
                if error.code != 429 and error.code < 500:
                    hint = (
                        f"; set {self.key_env} to its key" if error.code in (401, 403) else "; check address, model and settings"
                    )
                    raise InputError(f"'{self.url}' {trouble}{hint}") from None
                pause_s = _asked_pause_s(error.headers.get("Retry-After"), pause_s)
            except (OSError, http.client.HTTPException) as error:
                trouble = f"cannot be reached ({getattr(error, 'reason', None) or error or type(error).__name__})"
            if attempt + 1 < self.attempts:
                time.sleep(min(pause_s, _LONGEST_PAUSE_S))
        raise InputError(
            f"'{self.url}' {trouble}, {self.attempts} times; check the address and go on later, what was judged is kept"
        )

    def _request(self, body: bytes) -> urllib.request.Request:
        headers = {"Content-Type": "application/json"}
        if key := (os.environ.get(self.key_env) or "").strip():
            headers["Authorization"] = f"Bearer {key}"
        return urllib.request.Request(f"{self.url.rstrip('/')}/chat/completions", data=body, headers=headers, method="POST")


def _content(error: urllib.error.HTTPError) -> str:
    """What came with a refusal, as far as it came."""
    with error:
        try:
            return _told(error.read())
        except (OSError, http.client.HTTPException):
            return "nothing more"


def _told(raw: bytes) -> str:
    """The beginning of an answer on one line."""
    return " ".join(raw.decode("utf-8", "replace").split())[:_TOLD_CHARS]


def _asked_pause_s(header: str | None, otherwise_s: float) -> float:
    try:
        return max(float(header or ""), 0.0)
    except ValueError:  # absent, or a date
        return otherwise_s
