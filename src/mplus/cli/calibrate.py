"""`mplus calibrate`: fit how a model's reads give a confidence, and measure it on names and articles that the fit never saw."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mplus.cli import terminal
from mplus.cli.model import open_model
from mplus.cli.options import LARGEST_SEED, AsJson, Device, DType, NumberType, Verbose, a_path
from mplus.errors import InputError
from mplus.runtime.extras import require

if TYPE_CHECKING:
    from mplus.corpus.passages import PassageFile
    from mplus.evaluation.scoring.refusals import Judged
    from mplus.model import MPlusModel
    from mplus.training.calibration import EvidenceRow

SEEDS = 2
"""Question sets that are fitted to, and as many that are measured with."""
FEWEST = 12


def calibrate(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A known name, or a model directory.", show_default=False)],
    out: Annotated[
        Path,
        typer.Option("--out", metavar="DIR", parser=a_path, help="New directory for the model and what was measured.", show_default=False),
    ],
    passages: Annotated[
        list[Path] | None,
        typer.Option(
            "--passages", metavar="FILE", parser=a_path, help="Passages with questions, to fit and measure with too; may be given again."
        ),
    ] = None,
    questions: Annotated[
        int, typer.Option("--questions", min=FEWEST, max=10_000, help="Of generated facts, and of each file, in a question set.")
    ] = 80,
    seed: Annotated[int, typer.Option("--seed", min=0, max=LARGEST_SEED - 2 * SEEDS, help="Of names, values and choices.")] = 0,
    dtype: DType = NumberType.auto,
    device: Device = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:  # fmt: skip
    """Fit how a model's reads give a confidence; `mplus ask --min-confidence` then refuses what memory does not hold.

    DIR/delta is the same model with a calibration, DIR/refusals.json and DIR/refusals.png say how well it tells.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"--out {out} is there already; name a new directory, or remove that one")
    require("matplotlib", "mplus calibrate")
    from mplus.corpus.passages import read_passages
    from mplus.evaluation.report.refusal_picture import draw_refusals
    from mplus.evaluation.scoring.refusals import report
    from mplus.training.calibration import check_calibratable, fit

    files = [read_passages(file) for file in passages or []]
    opened = open_model(model, dtype=dtype, device=device)
    check_calibratable(opened)
    sets = _question_sets(files, questions, seed)
    fitted = [row for number in range(SEEDS) for row in _rows(opened, sets, "train", number)]
    opened.checkpoint.calibration = fit(fitted)
    seeds = [[_judged(row, opened) for row in _rows(opened, sets, "held_out", number)] for number in range(SEEDS)]
    found = {"model": opened.name, "fitted_to": len(fitted), **_environment(opened, questions, seed, files), **report(seeds)}
    opened.save_pretrained(out / "delta")
    (out / "refusals.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    draw_refusals(seeds, out / "refusals.png", title=f"{opened.name}: saying no, on names and articles that the fit never saw")
    terminal.mark_stored(out)
    terminal.say_json(found) if as_json else _show(found, out)


Sets = Callable[[Any, int], Any]


def _question_sets(files: list[PassageFile], questions: int, seed: int) -> Sets:
    """Sets of questions by split and number; a file that is too small is told before the first is asked."""
    from mplus.corpus.absent import question_set
    from mplus.corpus.python_docs import python_text

    made = {
        (split, number): question_set(split, seed + number, size=questions, filler=python_text(), files=files)
        for split in ("train", "held_out")
        for number in range(SEEDS)
    }
    return lambda split, number: made[split, number]


def _rows(model: MPlusModel, sets: Sets, split: str, number: int) -> list[EvidenceRow]:
    from mplus.training.calibration import read_rows

    asked, name = sets(split, number), f"{'fit' if split == 'train' else 'measure'} {number + 1} of {SEEDS}"
    with terminal.stage_bar({name: (name, "questions")}) as bar:
        return read_rows(model, asked, progress=lambda done: bar(name, done, len(asked.questions)))


def _judged(row: EvidenceRow, model: MPlusModel) -> Judged:
    from mplus.evaluation.scoring.refusals import Judged
    from mplus.evaluation.scoring.text_match import contains_answer, contains_value

    assert model.calibration is not None
    asked = row.question
    is_right = (
        contains_value(row.answer, asked.answers[0]) if asked.kind == "fact" else contains_answer(row.answer, asked.answers)
    )
    return Judged(
        kind=asked.kind, is_present=asked.is_present, is_right=is_right, confidence=model.calibration.confidence(row.evidence)
    )


def _environment(model: MPlusModel, questions: int, seed: int, files: list[PassageFile]) -> dict[str, Any]:
    from mplus.runtime.environment import environment_of

    versions, machine = environment_of(model.dtype)
    settings = {"questions": questions, "seed": seed, "seeds": SEEDS, "passages": [Path(file.path).name for file in files]}
    return {"settings": settings, "versions": versions, "machine": machine}


def _show(found: dict[str, Any], out: Path) -> None:
    table = terminal.table(
        "questions", "asked", "refused", title=f"At a minimum confidence of {found['at_most_wrongly']['min_confidence']:.2f}"
    )
    for kind, one in found["by_kind"].items():
        table.add_row(kind, f"{one['questions']:,}", f"{one['refused']:.2f}")
    terminal.results().print(table)
    at = found["at_most_wrongly"]
    terminal.say(
        f"refused without an answer in memory: {at['absent']:.2f}, answered right but refused: {at['right']:.2f}",
        f"area {found['area']:.3f}, of right answers {found['area_of_right']:.3f}; calibration error {found['calibration_error']:.3f}",
        f"stored: {out / 'delta'}, {out / 'refusals.json'}, {out / 'refusals.png'}",
    )
