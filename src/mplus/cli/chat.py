"""`mplus chat`: a conversation with a memory that remembers it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mplus.cli import terminal
from mplus.cli.changing import PATIENCE_S
from mplus.cli.model import open_model
from mplus.cli.options import (
    DEFAULT_NAME,
    MOST_TOKENS,
    AsJson,
    Device,
    DType,
    HomeDirectory,
    MemoryPlace,
    MinConfidence,
    ModelName,
    NumberType,
    Verbose,
)
from mplus.cli.write import INCOMPLETE, check_place, newest, open_memory
from mplus.conversation import Conversation, Remember
from mplus.errors import InputError, MPlusError
from mplus.memory.home import Home
from mplus.memory.stores.lock import exclusive_change
from mplus.runtime.suggest import hint_before
from mplus.settings.calibration import check_calibrated

if TYPE_CHECKING:
    from mplus.memory.memory import Memory

COMMANDS = {
    "/help": "this list",
    "/sources": "what the memory has read",
    "/forget SOURCE": "forget a source; a chat is remembered under its day",
    "/trace": "the passages that the last answer drew on",
    "/exit": "leave; so do Ctrl-D and Ctrl-C",
}


def chat(
    memory: MemoryPlace,
    remember: Annotated[Remember, typer.Option("--remember", help="Whose turns are written into the memory.")] = Remember.both,
    source: Annotated[
        str | None,
        typer.Option("--source", metavar="NAME", help="Name that turns are remembered under.", show_default="chat/DATE"),
    ] = None,
    max_new_tokens: Annotated[
        int | None,
        typer.Option(
            "--max-new-tokens", min=1, max=MOST_TOKENS, help="Length of an answer at most.", show_default="some sentences"
        ),
    ] = None,
    min_confidence: MinConfidence = None,
    model: ModelName = DEFAULT_NAME,
    dtype: DType = NumberType.auto,
    device: Device = None,
    as_json: AsJson = False,
    home: HomeDirectory = None,
    verbose: Verbose = False,
) -> None:
    """Talk with a memory. Each turn is stored at once, so the next chat remembers it; MEMORY is made if absent.

    One line is one message; stdin may be a pipe. /help lists what else can be typed. With --json each turn is one line of JSON.
    """
    check_place(memory)
    opened = open_model(model, dtype=dtype, device=device)
    options: dict[str, Any] = {"max_new_tokens": max_new_tokens, "do_sample": False}
    if min_confidence is not None:
        check_calibrated(opened.calibration)
        options["min_confidence"] = min_confidence
    talk = Conversation(opened, open_memory(memory, opened), remember=remember, source=source, options=options)
    session = Session(memory, talk, as_json=as_json)
    if terminal.is_interactive():
        terminal.note(f"{len(talk.memory.sources())} sources in {Home(home).label(memory)}; /help lists commands, Ctrl-D ends")
    if session.run(terminal.lines("> ")):
        raise typer.Exit(INCOMPLETE)


class Session:
    """A chat at a terminal or through a pipe.

    Args:
        directory: where the memory is stored.
    """

    def __init__(self, directory: Path, talk: Conversation, *, as_json: bool) -> None:
        self.directory, self.talk, self.as_json = directory, talk, as_json

    def run(self, lines: Iterator[str]) -> bool:
        """Answer line after line; returns whether one could not be.

        Raises:
            terminal.Interrupted: Ctrl-C between two messages, or anywhere in a pipe.
        """
        failed = False
        while True:
            try:
                line = next(lines, None)
            except KeyboardInterrupt:
                raise terminal.Interrupted("interrupted; what was said is stored") from None
            if line is None or line.strip() in ("/exit", "/quit"):
                return failed
            if not line.strip():
                continue
            try:
                self._command(line.strip()) if line.startswith("/") else self._turn(line)
            except MPlusError as error:
                failed = True
                terminal.note(f"mplus: {' '.join(str(error).split())}")
            except KeyboardInterrupt:
                if not terminal.is_interactive():
                    raise terminal.Interrupted("interrupted; this turn is not remembered, those before it are stored") from None
                terminal.say_part("\n")
                terminal.note("stopped; this turn is not remembered")

    def _turn(self, message: str) -> None:
        if self.as_json:
            answer = self.talk.ask(message)
        else:
            answer = self.talk.ask(message, terminal.say_part)
            terminal.say_part("\n")
        before = self.talk.memory.tokens_read
        source = self._changed(lambda memory: self.talk.keep()) if self.talk.remembers else None
        if self.as_json:
            tokens = self.talk.memory.tokens_read - before
            sure = {} if self.talk.confidence is None else {"confidence": self.talk.confidence}
            said = {"message": message.strip(), "answer": answer, **sure, "source": source, "tokens": tokens}
            terminal.say_json(said, indent=None)

    def _changed(self, change: Callable[[Memory], Any]) -> Any:
        """Change the newest stored state of the memory, and store it."""
        with exclusive_change(self.directory, timeout_s=PATIENCE_S, tell=terminal.note):
            self.talk.memory = newest(self.talk.memory, self.directory, self.talk.model)
            result = change(self.talk.memory)
            self.talk.memory.save(self.directory)
            terminal.mark_stored(self.directory)
            return result

    def _command(self, line: str) -> None:
        word, _, argument = line.partition(" ")
        if word == "/help":
            self._say({"commands": COMMANDS}, [f"{name:16} {what}" for name, what in COMMANDS.items()])
        elif word == "/sources":
            infos = self.talk.memory.sources()
            plain = [{"source": info.name, "tokens": info.tokens} for info in infos]
            self._say({"sources": plain}, [f"{info.tokens:>9,}  {info.name or '(no name)'}" for info in infos] or ["nothing yet"])
        elif word == "/forget":
            if not argument.strip():
                raise InputError("name the source to forget, for example: /forget chat/2026-11-28; /sources lists them")
            report = self._changed(lambda memory: memory.forget(argument.strip()))
            self._say(report.to_json(), [f"forgot {', '.join(report.sources)}: {report.tokens:,} tokens"])
        elif word == "/trace":
            if self.talk.trace is None:
                raise InputError("nothing was asked yet; /trace shows what the last answer drew on")
            if self.as_json:
                terminal.say_json({"trace": self.talk.trace.to_json()}, indent=None)
            else:
                terminal.results().print(self.talk.trace)
        else:
            hint = hint_before(word, [name.split()[0] for name in COMMANDS])
            raise InputError(f"there is no command {word}; {hint}/help lists them")

    def _say(self, plain: Any, lines: list[str]) -> None:
        if self.as_json:
            terminal.say_json(plain, indent=None)
        else:
            terminal.say(*lines)
