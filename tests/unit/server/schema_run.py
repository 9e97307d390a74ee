"""Requests made up from the description of all routes, right ones and wrong ones: ``python -m tests.unit.server.schema_run --examples 100``.

A route must answer each with a status, a body and headers that the description has, and never with 5xx.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import httpx
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed
from hypothesis import settings as examples
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    allow_header_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from mplus import MPlusModel
from mplus.server.app import create_app
from mplus.server.keys import add_key
from mplus.server.settings import ServerSettings

from ... import tiny
from .conftest import serving

CHECKS: Final[list[Any]] = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    response_headers_conformance,
    allow_header_conformance,
]
SEED: Final = 19
MODES: Final = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)


def failures(model: MPlusModel, home: Path, *, count: int, tell: Callable[[str], None] = lambda line: None) -> list[str]:
    """What went wrong, a text for each route; `count` right and `count` wrong requests are made for each."""
    keys = home / "keys.json"
    headers = {"Authorization": f"Bearer {add_key(keys, 'anna', admin=True)[1]}"}
    app = create_app(ServerSettings(home=home / "server", api_keys=keys, most_new_tokens=16), model=model)
    with serving(app) as address:
        _fill(address, headers)
        described = httpx.get(f"{address}/openapi.json", headers=headers).json()
        schema = schemathesis.openapi.from_dict(described)
        schema.config.update(base_url=address)
        found = []
        for result in schema.get_all_operations():
            began, operation = time.monotonic(), _valid(result)
            found += list(_failures_of(operation, headers, count))
            tell(f"{operation.label}: {time.monotonic() - began:.1f} s, {len(found)} failures so far")
    return found


def _valid(result: Any) -> Any:
    """A route whose description can be read; raises where it cannot."""
    return result.ok()


def _failures_of(operation: Any, headers: dict[str, str], count: int) -> Iterator[str]:
    for mode in MODES:

        @seed(SEED)
        @examples(
            max_examples=count, database=None, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def check(case: Any) -> None:
            case.call_and_validate(headers=headers, checks=CHECKS, timeout=20)

        try:
            check()
        except (Exception, BaseExceptionGroup) as error:
            if "cannot be negated" not in str(error) and type(error).__name__ not in ("Unsatisfiable", "SkipTest"):
                yield f"{operation.label} ({mode.name.lower()}): {error}"


def _fill(address: str, headers: dict[str, str]) -> None:
    """Have something under the names that the description's examples use."""
    source = {"source": "notes/2026-05", "text": "Alice lives in Oslo, near the old harbour, since May."}
    httpx.post(f"{address}/v1/memories/alice/sources", json=source, headers=headers).raise_for_status()
    httpx.post(f"{address}/memories", json={"text": "Alice likes tea.", "user_id": "alice"}, headers=headers).raise_for_status()


def main() -> None:
    """Make many requests, and show what went wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=50)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        found = failures(tiny.text_model(), Path(home), count=arguments.examples, tell=print)
    print("\n\n".join(found))
    print(json.dumps({"examples": arguments.examples, "failures": len(found)}))
    raise SystemExit(bool(found))


if __name__ == "__main__":
    main()
