"""How often what a question needs stands first in the trace of its answer: ``python -m benchmarks.trace --tokens 1000 16000 --json FILE``.

A memory reads documents, each a source of its own, and is asked about them at each size on the way: generated facts in running text, and
passages of SQuAD and Natural Questions (``--data DIR`` has ``squad`` and ``natural_questions``) with passages of other articles between
them. Right is the passage of the trace that holds at least half of the answer's place, in the right document. Facts are asked about all
over the text; passages that are asked about stand near its beginning, so that they are old where the memory is large.

Each size of each task is stored when it is done, and what the file holds is not measured again; so the sizes may be run call by call.
Documents do not depend on the sizes. Times are CPU milliseconds of one question with 10 new tokens, asked in turns with and without.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from mplus import Memory, MPlusModel
from mplus.corpus.held_out import HeldOutFacts
from mplus.corpus.passages import read_passages
from mplus.corpus.python_docs import python_text
from mplus.errors import InputError
from mplus.evaluation.schedule.stream import Question, Span, Unit, units_of
from mplus.evaluation.scoring.metrics import METRICS
from mplus.evaluation.scoring.right_span import rank_of_source, rank_of_span
from mplus.evaluation.scoring.text_match import wilson_interval
from mplus.evaluation.systems.protocol import GREEDY, as_chat
from mplus.evaluation.tasks.retention.builder import RetentionTask
from mplus.evaluation.tasks.task_file import TaskFile, open_task
from mplus.runtime.atomic import replace_files
from mplus.runtime.environment import environment_of
from mplus.text.search_query import last_user_messages
from mplus.trace.trace import Trace

SCHEMA: Final = 1
TASKS: Final = {"facts": "facts", "squad": "retention-squad", "nq": "retention-nq"}
FILES: Final = {"squad": "squad/xquad-en-dev-v1.1-part.json", "nq": "natural_questions/nq-open-oracle-part.jsonl"}
DISTRACTORS: Final = ("squadshifts/new_wiki_v1.0.json", "squad/dev-contexts-no-questions.json")
FACT_EVERY, DOCUMENT_TOKENS = 100, 500
CHARACTERS_PER_TOKEN: Final = 8
"""More than any text of these has."""
BATCH: Final = 8
NEW_TOKENS: Final = 10
TIMED: Final = 6
"""Questions that are asked with and without a trace, in turns, for the time it adds."""
KINDS: Final[dict[str, Any]] = {"plain": {}, "trace": {"trace": True}, "attention": {"trace": "attention"}}


@dataclass(frozen=True)
class Document:
    """One source with what is asked about it; spans are in its tokens."""

    source: str
    ids: list[int]
    questions: list[Question]


@dataclass(frozen=True)
class Asked:
    """One question in the result; ranks are None where the right passage was not read."""

    id: str
    tokens_back: int
    rank: int | None
    source_rank: int | None
    attention_rank: int | None
    long_term: bool
    right: bool


@dataclass(frozen=True)
class Row:
    """One task at one size.

    Attributes:
        cpu_ms: median CPU milliseconds of a read of ``NEW_TOKENS`` new tokens, by kind; wall_ms: the same on the wall clock.
    """

    task: str
    size: int
    tokens: int
    documents: int
    questions: list[Asked]
    cpu_ms: dict[str, float] = field(default_factory=dict)
    wall_ms: dict[str, float] = field(default_factory=dict)

    def count(self, of: str, most: int) -> int:
        """Questions whose rank of a kind is at most `most`."""
        ranks = [getattr(one, of) for one in self.questions]
        return sum(rank is not None and rank <= most for rank in ranks)

    def to_json(self) -> dict[str, Any]:
        """The row with its shares."""
        asked, shares = len(self.questions), {}
        for name, count in self._counts().items():
            low, high = wilson_interval(count, asked)
            shares[name] = {"share": round(count / max(1, asked), 4), "low": round(low, 4), "high": round(high, 4)}
        return {**asdict(self), "asked": asked, "shares": shares}

    def _counts(self) -> dict[str, int]:
        return {
            "read": sum(one.rank is not None for one in self.questions),
            "first": self.count("rank", 1),
            "best_three": self.count("rank", 3),
            "source_first": self.count("source_rank", 1),
            "source_best_three": self.count("source_rank", 3),
            "attention_first": self.count("attention_rank", 1),
            "attention_best_three": self.count("attention_rank", 3),
            "answered": sum(one.right for one in self.questions),
        }


# -- what is read ------------------------------------------------------------------------------------------------------


def facts_documents(task: TaskFile, encode: Callable[[str], list[int]], tokens: int, seed: int) -> Iterator[Document]:
    """Running text in documents of about ``DOCUMENT_TOKENS``, a generated fact every ``FACT_EVERY`` tokens."""
    whole = python_text()
    begin = whole.index("\n", seed * 100_003 % len(whole))
    text = (whole[begin:] + whole[:begin])[: CHARACTERS_PER_TOKEN * (tokens + 2 * DOCUMENT_TOKENS)]
    units = [unit for _, unit in units_of(text, encode)]
    facts = iter(HeldOutFacts(seed).make(tokens // FACT_EVERY + DOCUMENT_TOKENS // FACT_EVERY))
    at, number, total = 0, 0, 0
    while total < tokens:
        ids, questions, since = list[int](), list[Question](), 0
        while len(ids) < DOCUMENT_TOKENS:
            unit: Unit = units[at % len(units)]
            at, since = at + 1, since + len(unit.ids)
            ids += unit.ids
            if since >= FACT_EVERY and (fact := next(facts, None)) is not None:
                statement, since = encode(" " + fact.statement), 0
                span = (len(ids), len(ids) + len(statement))
                ids += statement
                name = f"{number}-{len(questions)}"
                questions.append(_question(name, task.message(fact.question), fact.question, (fact.value,), span))
        yield Document(f"text {number}", ids, questions)
        number, total = number + 1, total + len(ids)


def passage_documents(
    task: TaskFile, name: str, encode: Callable[[str], list[int]], tokens: int, seed: int, data: Path, questions: int
) -> Iterator[Document]:
    """Passages with their questions, then those of other articles, a document each, as the retention task lays them out."""
    layout = RetentionTask(
        data=read_passages(data / FILES[name]),
        distractors=[read_passages(data / file) for file in DISTRACTORS],
        distances=(0, tokens),
        limit=questions,
        seed=seed,
        message=task.message,
    )
    stream = layout.scripts(encode, chunk_tokens=256, min_tokens=16)[0]
    ids = [token for chunk in stream.chunks for token in chunk]
    asked = {one.question.id: one.question for due in stream.due.values() for one in due}
    starts = stream.about["articles"]
    for number, ((start, article), stop) in enumerate(zip(starts, [*(at for at, _ in starts[1:]), len(ids)], strict=True)):
        own = [one for one in asked.values() if one.begins == start]
        moved = [_question(one.id, one.text, one.query, one.answers, _moved(one.answer_span, start)) for one in own]
        yield Document(f"{article} {number}", ids[start:stop], moved)


def _moved(span: Span, start: int) -> Span:
    return span[0] - start, span[1] - start


def _question(name: str, text: str, query: str, answers: tuple[str, ...], span: Span) -> Question:
    return Question(id=name, cluster=name, text=text, query=query, answers=answers, span=span, answer_span=span)


# -- asking ------------------------------------------------------------------------------------------------------------


@dataclass
class Reader:
    """A memory that reads documents, and is asked about them."""

    model: MPlusModel
    memory: Memory
    task: str
    tokens: int = 0
    known: list[tuple[str, int, Question]] = field(default_factory=list)
    """Source, text tokens read before it, and question, in the order of reading."""
    documents: int = 0

    def read(self, document: Document) -> None:
        """Write one document."""
        self.memory.write(document.ids, source=document.source)
        self.known += [(document.source, self.tokens, question) for question in document.questions]
        self.tokens, self.documents = self.tokens + len(document.ids), self.documents + 1

    def ask(self, size: int, questions: int) -> Row:
        """Ask questions spread evenly over all that can be asked, in batches."""
        count = min(questions, len(self.known))
        chosen = [self.known[place * len(self.known) // count] for place in range(count)]
        asked: list[Asked] = []
        for start in range(0, count, BATCH):
            part = chosen[start : start + BATCH]
            answers = self._answers([question for _, _, question in part], **KINDS["attention"])
            asked += [self._asked(*one, answer) for one, answer in zip(part, answers, strict=True)]
        cpu, wall = self._times([question for _, _, question in chosen[:TIMED]])
        return Row(self.task, size, self.tokens, self.documents, asked, cpu, wall)

    def _asked(self, source: str, before: int, question: Question, answer: Any) -> Asked:
        trace: Trace = answer.trace
        span = question.answer_span
        held = [one for one in trace.passages if one.source == source and one.start < span[1] and one.stop > span[0]]
        metric = METRICS[open_task(TASKS[self.task]).metric or "contained"]
        return Asked(
            id=question.id,
            tokens_back=self.tokens - before - span[1],
            rank=rank_of_span(trace, source, span),
            source_rank=rank_of_source(trace, source),
            attention_rank=rank_of_span(trace, source, span, "attention"),
            long_term=any(one.long_term for one in held),
            right=metric(answer.text, question) >= 1.0,
        )

    def _answers(self, questions: Sequence[Question], **more: Any) -> list[Any]:
        chats = [as_chat(one.text) for one in questions]
        query = last_user_messages(self.model.tokenizer, [as_chat(one.query) for one in questions])
        answers: list[Any] = self.model.chat(chats, memory=self.memory, query=query, max_new_tokens=NEW_TOKENS, **GREEDY, **more)
        return answers

    def _times(self, questions: Sequence[Question]) -> tuple[dict[str, float], dict[str, float]]:
        """Median milliseconds of a read by kind, the kinds in turns."""
        cpu: dict[str, list[float]] = {kind: [] for kind in KINDS}
        wall: dict[str, list[float]] = {kind: [] for kind in KINDS}
        for question in questions:
            for kind, more in KINDS.items():
                started = time.process_time(), time.perf_counter()
                self._answers([question], min_new_tokens=NEW_TOKENS, **more)
                cpu[kind].append(1e3 * (time.process_time() - started[0]))
                wall[kind].append(1e3 * (time.perf_counter() - started[1]))
        return ({kind: round(median(all_ms), 1) for kind, all_ms in times.items()} for times in (cpu, wall))  # type: ignore[return-value]


# -- results -----------------------------------------------------------------------------------------------------------


@dataclass
class Results:
    """Rows in a file that grows."""

    file: Path
    settings: dict[str, Any]
    environment: dict[str, Any]
    rows: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def opened(cls, file: Path, settings: dict[str, Any], environment: dict[str, Any]) -> Results:
        """The results of an earlier run of the same settings, or none.

        Args:
            environment: of the rows that are still to come.

        Raises:
            InputError: the file is of other settings.
        """
        if not file.exists():
            return cls(file, settings, environment)
        held = json.loads(file.read_text(encoding="utf-8"))
        if held.get("settings") != settings:
            raise InputError(f"{file} holds a run with {held.get('settings')}, this one has {settings}; name another --json")
        return cls(file, settings, environment, held["rows"])

    def has(self, task: str, size: int) -> bool:
        """Whether a size of a task is done."""
        return any(row["task"] == task and row["size"] == size for row in self.rows)

    def add(self, row: Row) -> None:
        """Store one more row."""
        self.rows.append({**row.to_json(), **self.environment})
        self.rows.sort(key=lambda one: (list(TASKS).index(one["task"]), one["size"]))
        content = {"schema": SCHEMA, "what": "trace", "settings": self.settings, "rows": self.rows}
        text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
        replace_files({self.file: lambda path: path.write_text(text, encoding="utf-8")})

    def table(self) -> Table:
        """Shares and times of all rows."""
        table = Table("task", "tokens", "asked", "read", "first", "best 3", "source first", "attention first", "best 3", "answered",
                      "trace adds", "attention adds")  # fmt: skip
        for row in self.rows:
            shares, cpu = row["shares"], row["cpu_ms"]
            names = ("read", "first", "best_three", "source_first", "attention_first", "attention_best_three", "answered")
            added = [f"{cpu[kind] - cpu['plain']:+.0f} of {cpu['plain']:.0f} ms" for kind in ("trace", "attention")]
            cells = [
                row["task"],
                f"{row['tokens']:,}",
                str(row["asked"]),
                *(f"{shares[name]['share']:.2f}" for name in names),
                *added,
            ]
            table.add_row(*cells)
        return table


def measure(model: MPlusModel, results: Results, task: str, sizes: Sequence[int], options: Any, console: Console) -> None:
    """Read one task's documents up to the largest size that is missing, asking on the way."""
    missing = sorted(size for size in sizes if not results.has(task, size))
    if not missing:
        return
    opened = open_task(TASKS[task])

    def encode(text: str) -> list[int]:
        ids: list[int] = model.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        return ids

    if task == "facts":
        documents = facts_documents(opened, encode, max(sizes), options.seed)
    else:
        documents = passage_documents(opened, task, encode, max(sizes), options.seed, options.data, options.questions)
    reader = Reader(model, model.new_memory(seed=options.seed), task)
    started = time.perf_counter()
    for document in documents:
        reader.read(document)
        if missing and reader.tokens >= missing[0]:
            console.print(f"{task}: {reader.tokens:,} tokens read after {time.perf_counter() - started:.0f} s; asking")
            results.add(reader.ask(missing.pop(0), options.questions))
        if not missing:
            return


def main() -> None:
    """Measure, print, store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, nargs="+", default=[1000, 16_000, 160_000], help="sizes at which it is asked")
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--questions", type=int, default=50, help="of each task at each size, where there are so many")
    parser.add_argument("--data", type=Path, default=Path("shared/data"))
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, required=True)
    options = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 150)
    model = MPlusModel.from_pretrained(options.model)
    settings = {"model": options.model, "questions": options.questions, "seed": options.seed}
    versions, hardware = environment_of(model.dtype)  # now: files may change while it runs
    results = Results.opened(options.json, settings, {"versions": versions, "hardware": hardware})
    for task in options.tasks:
        measure(model, results, task, options.tokens, options, console)
    console.print(results.table())


if __name__ == "__main__":
    main()
