"""`mplus serve`: a server of memories at an address, until it is told to end; `mplus serve keys` makes the keys of its tenants."""

from __future__ import annotations

import contextlib
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mplus.checkpoints.base_models.base import BASES, locate
from mplus.cli import serve_keys, terminal
from mplus.cli.model import open_model
from mplus.cli.options import (
    DEFAULT_NAME,
    AsJson,
    Device,
    DType,
    ModelName,
    NumberType,
    Verbose,
    a_path,
    a_size,
    example,
)
from mplus.errors import InputError
from mplus.memory.home import default_home
from mplus.runtime.extras import require

if TYPE_CHECKING:
    from fastapi import FastAPI

    from mplus.server.settings import ServerSettings

app = typer.Typer(invoke_without_command=True, help="Serve memories to clients of OpenAI, mem0 and curl.")
app.add_typer(serve_keys.app, name="keys", epilog=example("mplus serve keys add anna --api-keys keys.json"))
FEATURE = "mplus serve"


@app.callback()
def serve(
    context: typer.Context,
    model: ModelName = DEFAULT_NAME,
    home: Annotated[
        Path | None,
        typer.Option(
            "--home",
            metavar="DIR",
            parser=a_path,
            help="Where the server keeps memories.",
            show_default="`server` of $MPLUS_HOME",
        ),
    ] = None,
    host: Annotated[
        str, typer.Option("--host", help="Address to bind to; without --api-keys one of this machine only.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port to bind to; 0 takes a free one.")] = 8000,
    api_keys: Annotated[
        Path | None,
        typer.Option("--api-keys", metavar="FILE", parser=a_path, help="Keys of the tenants, made by `mplus serve keys add`."),
    ] = None,
    memory_budget: Annotated[
        int | None,
        typer.Option(
            "--memory-budget",
            metavar="SIZE",
            parser=a_size,
            help="RAM for open memories, in bytes or as 512M or 2G.",
            show_default="2G",
        ),
    ] = None,
    batch: Annotated[int | None, typer.Option("--batch", min=1, help="Answers to decode at once.", show_default="16")] = None,
    cors: Annotated[
        list[str] | None, typer.Option("--cors", metavar="ORIGIN", help="A web page's origin that may ask; may be given again.")
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Any further setting of ServerSettings; may be given again."),
    ] = None,
    device: Device = None,
    dtype: DType = NumberType.auto,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Serve memories behind OpenAI's and mem0's endpoints, and a page at `/`. SIGTERM and Ctrl-C end it when answers are given.

    Prints where it listens; a log line for each request goes to stderr, without any text of users. Without --api-keys it binds to this
    machine only and has one tenant, `local`.
    """
    if context.invoked_subcommand is not None:
        return
    for module in ("fastapi", "uvicorn", "python_multipart", "prometheus_client"):
        require(module, FEATURE)
    given = {
        "host": host,
        "port": port,
        "api_keys": api_keys,
        "memory_budget": memory_budget,
        "batch": batch,
        "cors_origins": cors,
    }
    settings = _settings({"home": home or default_home() / "server", **given}, changes or [])
    _check(settings, model)
    with _listening(settings) as listener:
        _run(settings, listener, model, lambda: open_model(model, dtype=dtype, device=device), as_json=as_json)


def _settings(given: dict[str, Any], changes: list[str]) -> ServerSettings:
    """Check what was given; all else has the defaults of the settings."""
    from pydantic import ValidationError

    from mplus.server.settings import ServerSettings

    fields = {name: value for name, value in given.items() if value is not None}
    for change in changes:
        name, equals, value = change.partition("=")
        if not equals or name not in ServerSettings.model_fields:
            known = ", ".join(sorted(set(ServerSettings.model_fields) - set(given)))
            raise InputError(f"--set {change!r} names no setting; expected NAME=VALUE with one of {known}")
        fields[name] = value
    try:
        return ServerSettings.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise InputError(f"setting {name}: {first['msg'][:1].lower()}{first['msg'][1:]}, got {first['input']!r:.60}") from None


def _check(settings: ServerSettings, model: str) -> None:
    """Refuse before seconds of imports what cannot be served."""
    from mplus.server.access import check_binding
    from mplus.server.keys import read_keys

    check_binding(settings.host, has_keys=settings.api_keys is not None)
    if settings.api_keys is not None and not read_keys(settings.api_keys):
        raise InputError(f"{settings.api_keys} has no key; make one: mplus serve keys add TENANT --api-keys {settings.api_keys}")
    if model in BASES:
        locate(model)


@contextlib.contextmanager
def _listening(settings: ServerSettings) -> Iterator[socket.socket]:
    """The bound socket.

    Raises:
        InputError: it cannot be bound.
    """
    place = f"{settings.host}:{settings.port}"
    try:
        family, _, _, _, address = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0]
        listener = socket.create_server(address[:2], family=family, backlog=1024)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{place} cannot be bound: {reason}; end what uses it, or give another --port or --host") from None
    try:
        yield listener
    finally:
        listener.close()


def _run(settings: ServerSettings, listener: socket.socket, name: str, opens: Callable[[], Any], *, as_json: bool) -> None:
    """Serve until a signal comes, or the model cannot be opened; then raise why."""
    from mplus.server.app import create_app
    from mplus.server.connections import server_of
    from mplus.server.logs import logging_to

    failures: list[Exception] = []

    def failed(error: Exception) -> None:
        failures.append(error)
        server.should_exit = True

    application = create_app(settings, model=opens, failed=failed)
    server = server_of(application, drain_timeout_s=settings.drain_timeout_s)
    _say_where(settings, listener, name, as_json=as_json)
    with logging_to(sys.stderr), _signals(application):
        server.run(sockets=[listener])
    if failures:
        raise failures[0]


def _say_where(settings: ServerSettings, listener: socket.socket, name: str, *, as_json: bool) -> None:
    bound = listener.getsockname()
    at = f"[{bound[0]}]" if ":" in bound[0] else bound[0]
    address = f"http://{at}:{bound[1]}"
    if as_json:
        terminal.say_json(
            {"address": address, "model": name, "home": str(settings.home), "keys": settings.api_keys is not None}, indent=None
        )
    else:
        terminal.say(f"{name} at {address}/v1 for OpenAI's clients, {address} for mem0's, and a page at {address}/")
        if settings.api_keys is None:
            terminal.say("no keys: only this machine may ask, as the tenant 'local'; `mplus serve keys add TENANT` makes keys")
    sys.stdout.flush()


@contextlib.contextmanager
def _signals(application: FastAPI) -> Iterator[None]:
    """SIGTERM and SIGINT end the server and not this command; SIGHUP reads the keys again."""

    def ended(number: int, frame: Any) -> None:
        """Uvicorn has ended by then, and raises the signal again."""

    def hung_up(number: int, frame: Any) -> None:
        if application.state.keys is not None:
            application.state.keys.refresh()

    wanted: dict[int, Callable[[int, Any], None]] = {signal.SIGTERM: ended, signal.SIGINT: ended}
    if hasattr(signal, "SIGHUP"):
        wanted[signal.SIGHUP] = hung_up
    before = {number: signal.signal(number, handler) for number, handler in wanted.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
