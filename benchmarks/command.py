"""`mplus bench`: how fast and how small, against the paper's procedure and plain decoding. Results to a file, tables to stdout."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mplus.cli import terminal
from mplus.cli.options import Verbose, a_path, example

if TYPE_CHECKING:
    from benchmarks.plan import Plan
    from benchmarks.result import Result

REGRESSED = 1
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def run_command(arguments: list[str]) -> int:
    """Run ``mplus bench`` with these arguments; returns its exit code."""
    code: Any = typer.main.get_command(app).main(args=arguments, prog_name="mplus bench", standalone_mode=False)
    return code if isinstance(code, int) else 0


@app.command(epilog=example("mplus bench quick"))
def bench(
    kind: Annotated[
        str, typer.Argument(metavar="KIND", help="speed, memory, growth, all of them, quick, or profile of the hot paths.")
    ] = "all",
    model: Annotated[str, typer.Option("--model", metavar="NAME", help="smollm2-135m, mid, or 8b (for GPUs).")] = "mid",
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            metavar="FILE",
            parser=a_path,
            help="JSON; a picture goes beside it. An earlier result of mplus bench is replaced, nothing else.",
        ),
    ] = Path("bench.json"),
    rounds: Annotated[
        int | None, typer.Option("--rounds", min=1, max=10_000, help="Turns of each side.", show_default="7, quick 5")
    ] = None,
    ltm: Annotated[
        str | None, typer.Option("--ltm", metavar="LIST", help="Long-term sizes.", show_default="0,10k,40k,150k,1M")
    ] = None,
    contexts: Annotated[
        str | None, typer.Option("--contexts", metavar="LIST", help="Texts of the full-context baselines, in tokens.")
    ] = None,
    layers: Annotated[
        int | None, typer.Option("--layers", min=1, max=1000, help="Layers of a random model, to fit a small machine.")
    ] = None,
    dtype: Annotated[
        str | None, typer.Option("--dtype", help="float32, bfloat16 or auto.", show_default="the model's own")
    ] = None,
    end_to_end: Annotated[bool, typer.Option("--end-to-end", help="Also read 160,000 tokens and answer; takes minutes.")] = False,
    check: Annotated[
        Path | None,
        typer.Option("--check", metavar="FILE", parser=a_path, help="Bounds for the ratios; exit code 1 if one is broken."),
    ] = None,
    verbose: Verbose = False,
) -> int:
    """Measure speed and memory in one run, in turns with the paper's procedure and plain transformers on the same weights."""
    from transformers.utils import logging

    from benchmarks.models import check_size
    from benchmarks.plan import plan_of
    from benchmarks.result import check_file, check_profile
    from benchmarks.thresholds import RegressionThresholds

    if not terminal.is_verbose():
        logging.set_verbosity_error()
        logging.disable_progress_bar()
    plan = plan_of(kind, model, rounds=rounds, ltm=ltm, contexts=contexts, layers=layers, dtype=dtype, end_to_end=end_to_end)
    check_size(model, layers, dtype)
    check_file(out)
    thresholds = None if check is None else RegressionThresholds.read(check)
    if thresholds is not None:
        thresholds.check_model(model)
    if plan.kind == "profile":
        check_profile(out.with_suffix(".profile.txt"))
        _profile(plan, out)
        return 0
    result = _measure(plan, out)
    broken = [] if thresholds is None else thresholds.broken({name: one.median for name, one in result.spreads.items()})
    for sentence in broken:
        terminal.note(f"mplus: {sentence}")
    return REGRESSED if broken else 0


def _measure(plan: Plan, out: Path) -> Result:
    from benchmarks import report
    from benchmarks.picture import draw
    from benchmarks.result import store
    from benchmarks.run import run
    from mplus.runtime.extras import can_draw

    with terminal.waiting("measuring") as tell:
        result = run(plan, tell)
    paths = store(out, result.to_text(), (lambda path: draw(result, path)) if can_draw() else None)
    terminal.mark_stored(out)
    report.show(result, paths)
    return result


def _profile(plan: Plan, out: Path) -> None:
    from benchmarks import report
    from benchmarks.fixture import DoesNotFit, Fixture
    from benchmarks.profiling import profiles
    from benchmarks.result import store
    from mplus.errors import MPlusError

    with terminal.waiting("profiling") as tell:
        fixture = Fixture(plan, tell)
        try:
            measured = profiles(fixture)
        except DoesNotFit:
            raise MPlusError(f"nothing was profiled: {fixture.notes[-1]}; name a smaller size with --ltm") from None
    path = store(out.with_suffix(".profile.txt"), report.show_profiles(measured), None)[0]
    terminal.mark_stored(path)
    terminal.say(path)
