"""The context a task builder works with, and the streams it makes. Knows tokens and files, no models."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict

from mplus.errors import InputError
from mplus.evaluation.schedule.stream import Encode, EvalStream, Question, SourceStart, Span, Unit, cut_chunks, units_of
from mplus.evaluation.schedule.stream import ScheduledQuestion as ScheduledQuestion
from mplus.evaluation.tasks.left_out import LeftOut
from mplus.evaluation.tasks.task_file import Source, TaskFile

_SECONDS_TO_CONNECT: Final = 10
_ABOUT: Final = ("COPYING", "LICENCE", "LICENSE", "NOTICE", "README")  # texts beside data
_DATA: Final = (".json", ".jsonl", ".txt", ".parquet")


class Settings(BaseModel):
    """Settings of a task builder; each has its own."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True, kw_only=True)
class StreamSource:
    """One text with its questions, read by systems of its own: nothing that one stream read is known in another.

    Attributes:
        name: "seed 0", "pass 2", a document's; samples carry it.
        seed: of the memories' random drops.
        script: or what makes it, so that not all texts are held at once.
    """

    name: str
    seed: int
    script: EvalStream | Callable[[], EvalStream]

    def opened(self) -> EvalStream:
        """The script, made now if it was not."""
        return self.script if isinstance(self.script, EvalStream) else self.script()


@dataclass(frozen=True, kw_only=True)
class DocumentQuestion:
    """A question about a whole text; what it has beside ``text`` and ``answers`` is as in ``Question``."""

    id: str
    row: str
    text: str
    answers: tuple[str, ...]
    query: str = ""
    options: tuple[str, ...] = ()
    unanswerable: bool = False

    def more(self) -> dict[str, Any]:
        """Fields of a ``Question``."""
        query = self.query or " ".join([self.text, *self.options])
        return {"row": self.row, "query": query, "options": self.options, "unanswerable": self.unanswerable}


@dataclass(frozen=True, kw_only=True)
class TaskContext:
    """Data, tokenizer and limits that every task builder gets beside its settings.

    Attributes:
        task: for the prompt.
        encode: token ids of a text, without special tokens.
        cut: token ids of a text in chunks, as a memory writes it alone.
        chunk_tokens, min_tokens: largest chunk, and the shortest if it can be helped.
        data: files or directories to read; empty: what the task's source says.
        haystack: running text to hide things in; empty: what every Python carries.
        limit: questions of a row of the table at most; None: all.
        seed: of samples, their order, what is generated, and the memories' drops.
        left_out: gets every question of the data that is not asked.
    """

    task: TaskFile
    encode: Encode
    chunk_tokens: int
    min_tokens: int
    data: Sequence[Path] = ()
    haystack: Sequence[Path] = ()
    limit: int | None = None
    seed: int = 0
    left_out: LeftOut = field(default_factory=LeftOut)
    cut: Callable[[str], Sequence[list[int]]] = lambda text: []

    def files(self) -> list[Path]:
        """The data files: those that were given, else the source's.

        Raises:
            InputError: there is no such file, or the hub cannot be reached.
        """
        given = list(self.data)
        if not given:
            if self.task.source is None:
                raise InputError(f"task '{self.task.task}' brings no data; give a file with --data FILE")
            given = located(self.task.source, self.task)
        found: list[Path] = []
        for path in given:
            if path.is_dir():
                inside = sorted(one for one in path.iterdir() if one.suffix.lower() in _DATA and one.is_file())
                inside = [one for one in inside if one.stem.upper() not in _ABOUT]
                if not inside:
                    raise InputError(f"'{path}' holds no {', '.join(_DATA)} file; give the data of task '{self.task.task}'")
                found += inside
            elif path.exists():
                found.append(path)
            else:
                raise InputError(f"there is no file '{path}'; give the data of task '{self.task.task}' with --data FILE")
        return found

    def question(self, id: str, text: str, answers: tuple[str, ...], span: Span, **more: Any) -> Question:
        """A question in the task's words; unless told otherwise it is a cluster of its own and searched for by its bare text."""
        usual = {"cluster": id, "text": self.task.message(text, more.get("options", ())), "query": text, "answer_span": span}
        return Question(id=id, answers=answers, span=span, **{**usual, **more})

    def beyond_limit(self, names: Sequence[str]) -> None:
        """Note questions that the limit leaves out."""
        self.left_out.take(f"beyond the limit of {self.limit} (--limit)", list(names))

    def script(
        self,
        parts: Sequence[str | list[Unit]],
        asked: Sequence[tuple[int, ScheduledQuestion]],
        sources: Mapping[int, SourceStart] | None = None,
    ) -> EvalStream:
        """A script of texts, with questions at positions (in tokens), and sources that begin at positions."""
        units = [unit for part in parts for unit in (self.units(part) if isinstance(part, str) else part)]
        stops = [*(position for position, _ in asked), *(sources or {})]
        script = EvalStream(cut_chunks(units, self.chunk_tokens, self.min_tokens, stops), sources=dict(sources or {}))
        for position, due in sorted(asked, key=lambda pair: pair[0]):
            script.due.setdefault(position, []).append(due)
        return script

    def units(self, text: str, *, starts_paragraph: bool = True) -> list[Unit]:
        """Sentences of a text in tokens."""
        return [unit for _, unit in units_of(text, self.encode, starts_paragraph=starts_paragraph)]

    def questions_at_end(
        self, cluster: str, text: str, asked: Sequence[DocumentQuestion], *, tokens: int | None = None
    ) -> EvalStream:
        """A script that reads one text and asks everything about it at its end; see ``document``."""

        def questions(length: int) -> list[Question]:
            at_end = (length, length)
            return [self.question(one.id, one.text, one.answers, at_end, cluster=cluster, **one.more()) for one in asked]

        return self.document(text, questions, tokens=tokens)

    def document(self, text: str, questions: Callable[[int], Sequence[Question]], *, tokens: int | None = None) -> EvalStream:
        """A script that reads one text and asks everything at its end.

        Args:
            questions: made from the text's length in tokens.
            tokens: at most; the middle is left out, half of them stand before and half behind it (as LongBench does).
        """
        units = self.units(text, starts_paragraph=False)
        length = sum(len(unit.ids) for unit in units)
        if tokens is not None and length > tokens:
            units = [*_first(units, tokens // 2), *_first(units[::-1], tokens - tokens // 2, from_end=True)[::-1]]
            length = tokens
        if not length:
            raise InputError(f"a text of task '{self.task.task}' is empty; every context needs at least one word")
        return self.script([units], [(length, ScheduledQuestion(one, length - one.end)) for one in questions(length)])


def _first(units: Sequence[Unit], tokens: int, *, from_end: bool = False) -> list[Unit]:
    """So many tokens of units; the last one is cut, at its front if ``from_end``."""
    kept, left = list[Unit](), tokens
    for unit in units:
        if left <= 0:
            break
        ids = unit.ids[-left:] if from_end else unit.ids[:left]
        kept.append(Unit(ids=ids, ends_paragraph=unit.ends_paragraph or (not from_end and len(unit.ids) > left)))
        left -= len(ids)
    return kept


def file_digests(paths: Sequence[Path]) -> dict[str, str]:
    """Digests of the content of files, and of all files below directories."""
    found = {}
    for path in paths:
        told = hashlib.sha256()
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file():
                with file.open("rb") as opened:
                    told.update(f"{file.relative_to(path)}:{hashlib.file_digest(opened, 'sha256').hexdigest()}\n".encode())
        found[str(path)] = told.hexdigest()[:16]
    return found


def located(source: Source, task: TaskFile) -> list[Path]:
    """The files of a source on this machine; those of the hub are fetched, once.

    Raises:
        InputError: it is not there, or the hub cannot be reached.
    """
    if source.local is not None:
        path = Path(source.local)
        return [path if path.is_absolute() else Path(task.path).parent / path]
    assert source.hub is not None and source.file is not None
    from huggingface_hub import hf_hub_download

    where = f"'{source.file}' of data set '{source.hub}'"
    try:
        path = Path(
            hf_hub_download(
                source.hub, source.file, repo_type="dataset", revision=source.revision, etag_timeout=_SECONDS_TO_CONNECT
            )
        )
    except Exception as error:  # which ones there are depends on the hub library and on its HTTP library
        reason = " ".join(str(error).split())[:120]
        raise InputError(
            f"{where} cannot be fetched ({type(error).__name__}: {reason}); fetch it where there is a network and give it with --data FILE"
        ) from None
    return [_member(path, one, where) for one in source.members] or [path]


def _member(archive: Path, member: str, where: str) -> Path:
    """A file of an archive, unpacked beside it."""
    target = archive.parent / f"{archive.stem}-members" / member
    if not target.exists():
        try:
            with zipfile.ZipFile(archive) as opened:
                content = opened.read(member)
        except (KeyError, zipfile.BadZipFile):
            raise InputError(f"{where} has no member '{member}'; give the data with --data FILE") from None
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_suffix(".part")
        partial.write_bytes(content)
        partial.replace(target)
    return target


def spread(items: Sequence[Any], count: int) -> Iterator[Any]:
    """So many items at even distances, the first among them."""
    count = min(count, len(items))
    for number in range(count):
        yield items[number * len(items) // count]
