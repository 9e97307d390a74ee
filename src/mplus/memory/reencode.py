"""A stored memory written again for another model: every source, in the old order and at the old times. Knows models as writers only.

The new memory grows in a directory beside its place, where it is saved now and then together with how far it got: so a stopped call goes on.
It takes its place at the very end, in one step.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from mplus.errors import InputError, SnapshotError
from mplus.memory.file_names import SAVE_LOCK
from mplus.memory.home import PROGRESS, reencoding_place
from mplus.memory.ledger import Ledger
from mplus.memory.manifest import read_manifest, state_digest
from mplus.memory.memory import Memory
from mplus.memory.snapshot import read_ledger
from mplus.memory.stores.lock import PATIENCE_S, exclusive_change
from mplus.runtime.atomic import OLD, aside_of, clear_leftovers, put_in_place, replace_files
from mplus.runtime.folder import names_in
from mplus.runtime.input_file import absolute_directory
from mplus.runtime.json_file import UnreadableJsonError, read_json_object

if TYPE_CHECKING:
    from mplus.memory.encoder import Encoder

SAVE_EVERY_S = 60.0
"""So much work a kill costs at most, beside the text at hand."""
Progress = Callable[[int, int], None]
"""Takes text tokens of the old memory that are written again, and all of them."""
Decode = Callable[[list[int]], str]
"""Token ids of the old model to text."""
_MEMORY = "memory"


class NewModel(Protocol):
    """The model that a memory is written again for."""

    @property
    def writer(self) -> Encoder: ...
    def new_memory(self, *, seed: int) -> Memory: ...


@dataclass(frozen=True, kw_only=True)
class ReencodeReport:
    """What was written again.

    Attributes:
        sources: how many; text without a name is one.
        tokens_before: text tokens of the old memory; tokens: of the new one.
        from_ids: whether token ids were taken as they are; else text went from one tokenizer to the other.
        resumed_at: tokens of the old memory that an earlier call had done.
    """

    sources: int
    tokens_before: int
    tokens: int
    from_ids: bool
    resumed_at: int

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


class Passage(NamedTuple):
    """Text of one source that was written at one time."""

    source: str | None
    ids: list[int]
    at: float | None


def needs_text(manifest: Mapping[str, Any], model: NewModel) -> bool:
    """Whether a model has another tokenizer than the one that wrote a memory, so that its token ids mean nothing to it."""
    before = manifest["model"].get("tokenizer_print")
    return before is None or before != getattr(model.writer, "tokenizer_print", None)


def reencode(
    directory: str | Path,
    model: NewModel,
    *,
    to: str | Path | None = None,
    decode: Decode | None = None,
    progress: Progress | None = None,
    patience_s: float = PATIENCE_S,
) -> ReencodeReport:
    """Write a stored memory again for another model. A call that was stopped goes on when it is made again.

    Args:
        to: a new or empty directory for the result; None replaces the old memory.
        decode: of the old model's tokenizer, where the new model has another one.
        patience_s: how long another one that changes the memory is waited for.

    Raises:
        SnapshotError: there is no memory, it is damaged, or there is something at `to`.
        InputError: the memory did not keep what it read, or `decode` is missing.
        StoreError: another one changed the memory all the time.
    """
    old = absolute_directory(directory)
    target = old if to is None else absolute_directory(to)
    if to is not None and target.exists() and (not target.is_dir() or names_in(target)):
        raise SnapshotError(f"there is something at {target} already; choose another place, or delete it first")
    read_manifest(old)
    with (
        exclusive_change(old, timeout_s=patience_s) if to is None else nullcontext()
    ):  # nothing is lost that is written meanwhile
        work = _Work(old, target, model, decode)
        report = work.run(progress)
        work.finish()
    return report


class _Work:
    """One memory on its way to another model, in a directory beside its place."""

    def __init__(self, old: Path, target: Path, model: NewModel, decode: Decode | None) -> None:
        manifest, ledger = read_ledger(old)
        self.model, self.target, self.seed = model, target, int(manifest["seed"])
        self.from_ids = not needs_text(manifest, model)
        if not self.from_ids and decode is None:
            raise InputError(
                f"{model.writer.name!r} has another tokenizer than {manifest['model']['name']!r:.80}, which wrote {old}; "
                "give decode=, that model's tokenizer.decode"
            )
        passages = _passages(ledger, manifest["pending"], old)
        self.passages = list(passages if self.from_ids else _joined(passages))
        self.decode = decode
        self.place = reencoding_place(target)
        self.of = [state_digest(manifest), model.writer.fingerprint]
        """Which state is written again, and for which model."""
        self.saved: dict[str, int] = {}
        """Data files of saved states, with how many passages they hold."""

    def run(self, progress: Progress | None) -> ReencodeReport:
        """Write what is not written yet."""
        total = sum(len(passage.ids) for passage in self.passages)
        memory, begun = self._begin()
        resumed_at = done = sum(len(passage.ids) for passage in self.passages[:begun])
        saved_at = time.monotonic()
        for number, passage in enumerate(self.passages[begun:], begun + 1):
            text = passage.ids if self.from_ids or self.decode is None else self.decode(passage.ids)
            if text:
                memory.write(text, passage.source, at=passage.at)
            done += len(passage.ids)
            if time.monotonic() - saved_at >= SAVE_EVERY_S:
                self._save(memory, number)
                saved_at = time.monotonic()
            if progress is not None:
                progress(done, total)
        self._save(memory, len(self.passages))
        return ReencodeReport(
            sources=len({passage.source for passage in self.passages}),
            tokens_before=total,
            tokens=memory.tokens_read + memory.pending_tokens,
            from_ids=self.from_ids,
            resumed_at=resumed_at,
        )

    def _begin(self) -> tuple[Memory, int]:
        """The memory as far as it got, and how many passages it holds."""
        try:
            noted = read_json_object(self.place / PROGRESS)
            if noted["of"] == self.of:
                memory = Memory.load(self.place / _MEMORY, self.model)
                self.saved = dict(noted["saved"])
                return memory, self.saved[self._tokens(memory)]
        except (FileNotFoundError, UnreadableJsonError, KeyError, TypeError, ValueError, SnapshotError):
            pass
        shutil.rmtree(self.place, ignore_errors=True)
        return self.model.new_memory(seed=self.seed), 0

    def _save(self, memory: Memory, number: int) -> None:
        """Store the memory; what it holds is noted before, so that both a new and an old state are known after a kill."""
        self.place.mkdir(exist_ok=True)
        newest = list(self.saved.items())[-1:]
        self.saved = dict([*newest, (self._tokens(memory), number)])
        noted = json.dumps({"of": self.of, "saved": self.saved})
        replace_files({self.place / PROGRESS: lambda path: path.write_text(noted, encoding="utf-8")})
        memory.save(self.place / _MEMORY)

    @staticmethod
    def _tokens(memory: Memory) -> str:
        return str(memory.tokens_read + memory.pending_tokens)

    def finish(self) -> None:
        """Put the new memory in its place, in one step, and remove what was there."""
        made = self.place / _MEMORY
        clear_leftovers(self.target)
        with aside_of(self.target) as aside:
            if self.target.is_dir() and not names_in(self.target):
                self.target.rmdir()
            put_in_place(made, self.target, aside / OLD)
            for gone in (made, aside / OLD):  # who waits for the lock of what was replaced looks for a new one
                (gone / SAVE_LOCK).unlink(missing_ok=True)
        shutil.rmtree(self.place)


def _passages(ledger: Ledger, pending: Iterable[Any], directory: Path) -> Iterator[Passage]:
    """What was written, in order; last what only waits.

    Raises:
        InputError: token ids were not kept.
    """
    for chunk in ledger.chunks:
        if chunk.ids is None:
            raise InputError(
                f"memory {directory} was stored by a version that did not keep what it read; write its sources again with the new model"
            )
        at = 0
        for source, count in chunk.sources:
            yield Passage(source, list(chunk.ids[at : at + count]), chunk.at)
            at += count
    for source, ids in pending:
        yield Passage(source, [int(token) for token in ids], None)


def _joined(passages: Iterable[Passage]) -> Iterator[Passage]:
    """Passages of one source and time that follow each other as one: a character may lie across two."""
    held: Passage | None = None
    for passage in passages:
        if held is not None and (held.source, held.at) == (passage.source, passage.at):
            held.ids.extend(passage.ids)
            continue
        if held is not None:
            yield held
        held = passage
    if held is not None:
        yield held
