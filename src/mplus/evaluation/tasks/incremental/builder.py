"""Long contexts with many questions each, read once and asked about at the end: MemoryAgentBench. Knows tokens and files, no models.

Data are its Parquet files, one per split, or the same records as JSON lines.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Final

from pydantic import Field

from mplus.corpus.records import Record, read_records
from mplus.errors import InputError
from mplus.evaluation.tasks.context import DocumentQuestion, Settings, StreamSource, TaskContext, located
from mplus.runtime.extras import missing

SPLITS: Final = ("Accurate_Retrieval", "Test_Time_Learning", "Long_Range_Understanding", "Conflict_Resolution")
_COLUMNS: Final = ("context", "questions", "answers", "metadata.source", "metadata.question_ids")
_BATCH: Final = 4  # a context has up to three million characters
_ABSTENTION: Final = "_abs"


class IncrementalSettings(Settings):
    """Settings of the task file.

    Attributes:
        splits: read from the hub; each is put where the source's ``file`` says ``{split}``.
        sources: only contexts whose source begins with one of these; empty: all.
        leave_out: no contexts whose source begins with one of these.
        instructions: what is put before a question, by the beginning of its context's source; the longest that fits counts.
    """

    splits: tuple[str, ...] = SPLITS
    sources: tuple[str, ...] = ()
    leave_out: tuple[str, ...] = ()
    instructions: dict[str, str] = Field(default_factory=dict)


def streams(settings: IncrementalSettings, task_context: TaskContext) -> list[StreamSource]:
    """One stream per context."""
    counted: Counter[str] = Counter()
    made = []
    number = -1
    for file in _files(settings, task_context):
        for record in _parquet(file) if file.suffix.lower() == ".parquet" else read_records(file):
            number += 1
            row = _row(record, file)
            if row.startswith(settings.leave_out) or not (row.startswith(settings.sources) or not settings.sources):
                count = len(record.data["questions"]) if isinstance(record.data.get("questions"), list) else 1
                task_context.left_out.add(f"of source {row} (sources, leave_out)", f"context {number}", count=count)
                continue
            left = None if task_context.limit is None else task_context.limit - counted[row]
            asked = _questions_of(record, row, _instruction(settings, row))
            task_context.beyond_limit(
                [f"context {number} question {one.id}" for one in (asked[left:] if left is not None else [])]
            )
            asked = asked[:left]
            if asked:
                counted[row] += len(asked)
                script = partial(task_context.questions_at_end, f"context {number}", record.text("context"), asked)
                made.append(StreamSource(name=f"context {number}", seed=task_context.seed, script=script))
    return made


def _files(settings: IncrementalSettings, task_context: TaskContext) -> list[Path]:
    source = task_context.task.source
    if task_context.data or source is None or source.file is None:
        return task_context.files()
    names = dict.fromkeys(source.file.replace("{split}", split) for split in settings.splits)
    return [path for name in names for path in located(source.model_copy(update={"file": name}), task_context.task)]


def _parquet(path: Path) -> Iterator[Record]:
    """Records of a Parquet file, a few at a time.

    Raises:
        InputError: pyarrow is not installed, or the file is none.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise missing("pyarrow", f"reading the parquet file '{path}'") from None
    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=_BATCH, columns=list(_COLUMNS)):
                for data in batch.to_pylist():
                    yield Record(data, f"'{path}' entry {number}")
                    number += 1
    except (pyarrow.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())[:120]
        raise InputError(f"'{path}' is no Parquet file that can be read ({reason}); fetch it again") from None


def _about(record: Record) -> Record:
    """The metadata of a context; some files have none."""
    return record.inside("metadata") if record.data.get("metadata") is not None else Record({}, record.where)


def _row(record: Record, file: Path) -> str:
    """The context's source; where there is none, the split, which the file is named for."""
    about = _about(record)
    return about.text("source") if about.data.get("source") is not None else file.stem.split("-")[0]


def _instruction(settings: IncrementalSettings, row: str) -> str:
    fitting = [start for start in settings.instructions if row.startswith(start)]
    return settings.instructions[max(fitting, key=len)].strip() if fitting else ""


def _questions_of(record: Record, row: str, instruction: str) -> list[DocumentQuestion]:
    questions, answers = record.entries("questions"), record.entries("answers")
    about = _about(record)
    names = about.data.get("question_ids") or []
    if len(answers) != len(questions):
        raise InputError(f"{record.where}: 'answers' has {len(answers)} entries, expected {len(questions)}, one per question")
    made = []
    for place, (question, answer) in enumerate(zip(questions, answers, strict=True)):
        asks, wants = f"questions[{place}]", f"answers[{place}]"
        entry = Record({asks: question, wants: answer}, record.where)
        query = entry.text(asks).strip()
        refused = len(names) == len(questions) and str(names[place]).endswith(_ABSTENTION)
        text = f"{instruction}\n\n{query}".strip()
        made.append(
            DocumentQuestion(id=str(place), row=row, text=text, query=query, answers=entry.texts(wants), unanswerable=refused)
        )
    return made
