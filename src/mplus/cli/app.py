"""The command line as a whole: which commands there are, and how every mistake ends in one line and an exit code.

Exit codes: 0 done, 1 `mplus verify` found damage, 2 a mistake that a line on stderr explains (what else was asked for is done where a
command takes several things), 130 interrupted. A traceback means a bug of ours.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from mplus.cli import (
    ask,
    bench,
    calibrate,
    chat,
    compact,
    delete,
    demo,
    encrypt,
    export,
    fetch,
    forget,
    fork,
    import_,
    info,
    key,
    mcp,
    merge,
    reencode,
    replace,
    serve,
    sources,
    sync,
    terminal,
    train,
    verify,
    write,
)
from mplus.cli import eval as evaluation
from mplus.cli import list as listing
from mplus.cli.options import Verbose, example
from mplus.errors import MPlusError
from mplus.memory.home import VARIABLE

MISTAKE, INTERRUPTED = 2, 130

# The class above every complaint about a command line. It is click's or, in newer versions of typer, a copy of click's;
# typer hands out only a leaf of it.
UsageComplaint: type[Exception] = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")

app = typer.Typer(
    name="mplus",
    help="A language model with a long-term memory: it reads far more text than its context window and answers from memory.",
    pretty_exceptions_enable=False,
    epilog=example("mplus write notes book.txt && mplus ask notes 'Who wrote it?'"),
)
app.command("fetch", epilog=example("mplus fetch smollm2-135m"))(fetch.fetch)
app.command("write", epilog=example("mplus write notes book.pdf docs --at 2026-11-28"))(write.write)
app.command("sync", epilog=example("mplus sync notes docs --pattern '*.md'"))(sync.sync)
app.command("chat", epilog=example("mplus chat notes"))(chat.chat)
app.command("ask", epilog=example('mplus ask notes "Where does Ana live?"'))(ask.ask)
app.command("list", epilog=example("mplus list"))(listing.list_)
app.command("info", epilog=example("mplus info notes --plot notes.png"))(info.info)
app.command("sources", epilog=example("mplus sources notes --pattern 'letters/*'"))(sources.sources)
app.command("forget", epilog=example("mplus forget notes chapter1.txt --now"))(forget.forget)
app.command("replace", epilog=example("mplus replace notes chapter1.txt new/chapter1.txt"))(replace.replace)
app.command("merge", epilog=example("mplus merge notes letters"))(merge.merge)
app.command("fork", epilog=example("mplus fork notes notes-2"))(fork.fork)
app.command("delete", epilog=example("mplus delete notes --yes"))(delete.delete)
app.command("reencode", epilog=example("mplus reencode notes --model my-model"))(reencode.reencode)
app.command("verify", epilog=example("mplus verify notes"))(verify.verify)
app.command("compact", epilog=example("mplus compact notes"))(compact.compact)
app.command("key", epilog=example("mplus key"))(key.key)
app.command("encrypt", epilog=example("mplus encrypt notes"))(encrypt.encrypt)
app.command("export", epilog=example("mplus export notes --out notes.mplus"))(export.export)
app.command("import", epilog=example("mplus import notes.mplus"))(import_.import_)
app.add_typer(serve.app, name="serve", epilog=example("mplus serve --port 8000"))
app.command("mcp", epilog=example("mplus mcp --memory notes"))(mcp.mcp)
app.command("demo", epilog=example("mplus demo --tokens 16000 --out demo"))(demo.demo)
app.add_typer(evaluation.app, name="eval", epilog=example("mplus eval needle,facts --out runs/eval"))
app.command("bench", epilog=example("mplus bench quick"), context_settings=bench.FORWARDED, add_help_option=False)(bench.bench)
app.command("calibrate", epilog=example("mplus calibrate runs/memory/delta --out runs/calibrated"))(calibrate.calibrate)
app.command("train", epilog=example("mplus train adapt/memory --out runs/memory"))(train.train)


def _show_version(value: bool) -> None:
    if value:
        from importlib.metadata import PackageNotFoundError, version

        try:
            terminal.say(f"mplus {version('mplus-llm')}")
        except PackageNotFoundError:
            terminal.say("mplus, not installed")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")] = False,
    verbose: Verbose = False,
) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code. Never lets a user's mistake become a traceback."""
    with terminal.streams() as (out, _):
        code = _run_to_exit_code(list(sys.argv[1:] if argv is None else argv))
        out.flush()
        if out.error is None or code or isinstance(out.error, BrokenPipeError):  # whoever read our stdout has enough
            return code
        reason = out.error.strerror or out.error
        if kept := terminal.stored():
            terminal.note(f"mplus: {kept[-1]} is stored, but stdout cannot be written ({reason})")
            return code
        return _end(f"stdout cannot be written ({reason}); nothing else was to be done", MISTAKE)


def _run_to_exit_code(arguments: list[str]) -> int:
    """Run one command; every mistake ends in one line and an exit code."""
    home = os.environ.get(VARIABLE)
    try:
        return _run(arguments)
    except terminal.Interrupted as stop:
        return _end(str(stop), INTERRUPTED)
    except (KeyboardInterrupt, typer.Abort):
        return _end("interrupted", INTERRUPTED)
    except UsageComplaint as complaint:
        return _end(_usage_sentence(complaint), MISTAKE)
    except MPlusError as error:
        return _end(str(error), MISTAKE)
    except OSError as error:  # the disk is full, a directory may not be written: nobody's bug
        if kept := terminal.stored():
            terminal.note(f"mplus: {kept[-1]} is stored, but what followed failed ({error.strerror or error})")
            return 0
        return _end(f"{error.filename or 'input or output'}: {error.strerror or error}", MISTAKE)
    except MemoryError:
        return _end("there is not enough memory for this; give smaller sizes or less text", MISTAKE)
    finally:
        terminal.stop_logging()
        os.environ.pop(VARIABLE, None) if home is None else os.environ.update({VARIABLE: home})  # `--home` is of one command


def _run(arguments: list[str]) -> int:
    result: Any = typer.main.get_command(app).main(args=arguments, prog_name="mplus", standalone_mode=False)
    if result == INTERRUPTED:
        raise KeyboardInterrupt
    return result if isinstance(result, int) else 0


def _usage_sentence(complaint: Any) -> str:
    message = str(complaint.format_message()).replace("Value error, ", "").strip().rstrip(".")
    context = getattr(complaint, "ctx", None)
    command = context.command_path if context is not None else "mplus"
    return f"{message[:1].lower()}{message[1:]}; see `{command} --help`"


def _end(sentence: str, code: int) -> int:
    """Say one line on stderr, whatever line breaks the sentence has."""
    terminal.note("mplus: " + " ".join(sentence.split()))
    return code
