"""How often the answer to a question is read, beside BM25: ``python -m benchmarks.finding --data DIR --out DIR``.

Natural Questions (the half that is never trained on) and SQuAD's dev articles at distances, needles that share no word with their
questions in texts of a length. Streams, spans and budgets are those of ``mplus eval retention-nq``, ``retention-squad`` and
``no-shared-words``; nothing is generated but a token. A question's answer is read if all of its tokens are (of a needle the whole
statement). Every part goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from mplus import MPlusModel
from mplus.errors import MPlusError
from mplus.evaluation.evaluate import Options, evaluate
from mplus.evaluation.report.result_log import SAMPLES
from mplus.evaluation.scoring.text_match import wilson_interval
from mplus.evaluation.tasks.task_file import open_task

NQ, SQUAD = "natural_questions/nq-open-oracle-part.jsonl", "squad/dev-v2.0-part.json"
FILES: Final = {"retention-nq": (NQ,), "retention-squad": (SQUAD, NQ), "no-shared-words": ()}
"""Tasks with their data: questions of the first file, more text from the others."""
SYSTEMS: Final = ("mplus", "bm25")


def options_of(task: str, given: argparse.Namespace) -> Options:
    """Settings of one part."""
    settings: dict[str, Any] = {"lengths": given.lengths} if task == "no-shared-words" else {"distances": given.distances}
    return Options(
        out=given.out / task,
        data=tuple(given.data / name for name in FILES[task]),
        limit=given.questions,
        seed=given.seed,
        settings=settings,
        systems=SYSTEMS,
        source_tokens=given.source_tokens,
        if_exists="resume" if (given.out / task / SAMPLES).exists() else "refuse",
    )


def shares(samples: Path) -> dict[tuple[str, str], tuple[int, int]]:
    """Questions whose answer was read, and all that were traced, by row and system."""
    found: dict[tuple[str, str], tuple[int, int]] = {}
    for line in samples.read_text(encoding="utf-8").splitlines():
        one = json.loads(line)
        if one.get("read") is None:
            continue
        row = one["row"] or f"{one['distance'] // 1000}k"
        read, count = found.get((row, one["system"]), (0, 0))
        found[row, one["system"]] = read + all(one["read"]["answer_read"]), count + 1
    for system in {system for _, system in found}:
        own = [share for (_, of), share in found.items() if of == system]
        found["all", system] = sum(read for read, _ in own), sum(count for _, count in own)
    return found


def show(task: str, found: dict[tuple[str, str], tuple[int, int]]) -> Table:
    """A row per distance or kind of needle, a column per system."""
    table = Table(task, *SYSTEMS)
    for row in dict.fromkeys(row for row, _ in found):
        table.add_row(row, *(_cell(found.get((row, system), (0, 0))) for system in SYSTEMS))
    return table


def _cell(share: tuple[int, int]) -> str:
    read, count = share
    if not count:
        return "-"
    low, high = wilson_interval(read, count)
    return f"{read / count:.2f} [{low:.2f}, {high:.2f}] {read}/{count}"


def main() -> int:
    """Measure what is missing, and show it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.finding", description=__doc__)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="directory with natural_questions and squad")
    parser.add_argument("--out", type=Path, required=True, help="directory of the results, one folder a task")
    parser.add_argument("--tasks", nargs="+", choices=FILES, default=list(FILES))
    parser.add_argument("--distances", type=int, nargs="+", default=[16_000, 160_000])
    parser.add_argument("--lengths", type=int, nargs="+", default=[64_000], help="of texts with needles")
    parser.add_argument("--questions", type=int, default=128, help="of a row at most")
    parser.add_argument("--source-tokens", type=int, default=None)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    try:
        model, console = MPlusModel.from_pretrained(given.model), Console()
        for name in given.tasks:
            evaluate(open_task(name).model_copy(update={"measure": "reading"}), model, options_of(name, given))
            console.print(show(name, shares(given.out / name / SAMPLES)))
    except MPlusError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
