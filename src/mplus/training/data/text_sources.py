"""Where training text comes from: local jsonl, txt and parquet files, or a hub data set. Knows tokenizers, nothing of memory.

A source gives its documents in an order that its seed and its position decide alone, so a run can be resumed exactly.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from mplus.errors import InputError
from mplus.text.chat_template import templated
from mplus.text.literal import encoded, literal_ids
from mplus.text.prompts import encode
from mplus.training.data.records import Records, open_hub, open_local

log = logging.getLogger(__name__)

MOST_TOKENS = 4  # of one character, for byte-level tokenizers; a text too short even so is skipped without tokenising it


class Source(BaseModel):
    """One collection of texts, or of passages with questions.

    A text record has `column`; a question record has ``context``, ``question`` and ``answers`` (a text or a list of them), or the
    file is SQuAD-format JSON.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str | None = Field(
        None,
        description="a .jsonl, .txt, .parquet or SQuAD-format .json file, or a directory of such; or a .md, .html, .pdf or .docx file",
    )
    hub: str | None = Field(None, description="id of a data set on the hub, streamed")
    config: str | None = Field(None, description="its configuration")
    split: str = "train"
    column: str = Field("text", description="the column that holds the text (or token ids)")
    questions: bool = Field(False, description="records are passages with questions")
    share: float = Field(1.0, gt=0, description="how often this source is drawn, relative to the others")
    tokens: tuple[int, int] | None = Field(None, description="only documents of so many tokens, from and below")

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.path is None) == (self.hub is None):
            raise ValueError("a source needs either `path` (a local file or directory) or `hub` (a data set id)")
        if self.tokens is not None and not 0 <= self.tokens[0] < self.tokens[1]:
            raise ValueError(f"tokens must be [from, below] with from < below, got {list(self.tokens)}")
        return self

    @property
    def place(self) -> str:
        """What a message calls it."""
        return self.path if self.path is not None else f"hub data set {self.hub!r}"


class Passage(BaseModel):
    """A passage, a question on it and its answer, as token ids.

    Attributes:
        span: first and last + 1 token of the answer in the passage; None where it does not stand there word for word.
    """

    model_config = ConfigDict(frozen=True)

    context: tuple[int, ...]
    prompt: tuple[int, ...]
    answer: tuple[int, ...]
    span: tuple[int, int] | None


class Corpus:
    """Several sources drawn by their shares.

    Args:
        sources: at least one.
        tokenizer: may be None where columns hold token ids.
        seed: of every source's order.
        vocabulary: ids a text may have.
    """

    def __init__(self, sources: Sequence[Source], tokenizer: Any, seed: int, vocabulary: int) -> None:
        self.tokenizer, self.vocabulary = tokenizer, vocabulary
        self._reported: set[str] = set()
        self.texts = [(source, _open(source, seed + number)) for number, source in enumerate(sources) if not source.questions]
        self.asked = [(source, _open(source, seed + number)) for number, source in enumerate(sources) if source.questions]

    def document(self, randomness: random.Random, least: int) -> list[int]:
        """Token ids of a document of at least `least` tokens; which source is drawn from `randomness`.

        Raises:
            InputError: no source of text, or one whose documents are all too short.
        """
        if not self.texts:
            raise InputError("the sub-tasks read plain text, but every source holds questions; add a source of text")
        source, records = _draw_source(self.texts, randomness)
        low, high = source.tokens or (0, 1 << 62)
        low, tried, longest = max(low, least), 0, 0
        while True:
            ids = self._ids(records.next(), source, low)
            if low <= len(ids) < high:
                return ids
            longest, tried = max(longest, len(ids)), tried + 1
            if tried >= 2 * records.patience:  # the one that fits may be first in one epoch's order and last in the next
                looked = f" (longest looked at: {longest})" if longest else ""
                wanted = f"{low} to {high - 1}" if source.tokens else f"at least {low}"
                raise InputError(
                    f"none of {records.patience} documents of {source.place} has {wanted} tokens{looked}; "
                    "give longer documents, or lower the chunk length or the source's `tokens`"
                )

    def passage(self, randomness: random.Random, longest: int, least: int) -> Passage:
        """A question on a passage of `least` to `longest` tokens (a longer one is cut around its answer)."""
        if not self.asked:
            raise InputError("sub-task `question` needs a source with `questions: true`; add one or set its ratio to 0")
        source, records = _draw_source(self.asked, randomness)
        for _ in range(2 * records.patience):
            record = records.next()
            found = self._passage(record, source, randomness, longest)
            if found is not None and len(found.context) >= least:
                return found
        raise InputError(
            f"no passage of {source.place} has an answerable question and at least {least} tokens; give longer passages"
        )

    def state(self) -> list[Any]:
        """Positions of all sources."""
        return [records.state() for _, records in (*self.texts, *self.asked)]

    def load_state(self, state: list[Any]) -> None:
        """What ``state`` gave."""
        for (_, records), one in zip((*self.texts, *self.asked), state, strict=True):
            records.load_state(one)

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, nothing added."""
        if self.tokenizer is None:
            raise InputError("this model was opened without a tokenizer; give columns of token ids instead of text")
        return literal_ids(self.tokenizer, text)

    def prompt(self, question: str) -> list[int]:
        """A question as a conversation asks it."""
        if getattr(self.tokenizer, "chat_template", None) is None:
            return self.encode(question + "\n")
        messages = [{"role": "user", "content": question}]
        return encode(self.tokenizer, templated(self.tokenizer, messages))

    def _ids(self, record: dict[str, Any], source: Source, low: int) -> list[int]:
        value = _column(record, source.column, source)
        if value is None or value == "":
            return self._skipped(source, source.column)
        if isinstance(value, str):
            return self.encode(value) if len(value) * MOST_TOKENS >= low else []
        if not isinstance(value, (list, tuple)) or not all(
            isinstance(token, int) and 0 <= token < self.vocabulary for token in value
        ):
            raise InputError(
                f"column {source.column!r} of {source.place} holds {type(value).__name__}, expected text or ids below {self.vocabulary}"
            )
        return list(value)

    def _passage(self, record: dict[str, Any], source: Source, randomness: random.Random, longest: int) -> Passage | None:
        context, question, answers = (_column(record, name, source) for name in ("context", "question", "answers"))
        for name, value in (("context", context), ("question", question)):
            if value is None or (isinstance(value, str) and not value.strip()):
                self._skipped(source, name)
                return None
        texts = answers.get("text") if isinstance(answers, dict) else [answers] if isinstance(answers, str) else answers
        if texts is None or not len(texts):
            return None  # unanswerable
        answer = randomness.choice(texts)
        for name, value in (("context", context), ("question", question), ("answers", answer)):
            if not isinstance(value, str):
                raise InputError(f"column {name!r} of {source.place} holds {type(value).__name__}, expected text")
        ids, span = self._located(context, answer)
        if len(ids) > longest:
            if span is None or span[1] - span[0] > longest:
                return None
            first = randomness.randint(max(0, span[1] - longest), min(span[0], len(ids) - longest))
            ids, span = ids[first : first + longest], (span[0] - first, span[1] - first)
        end = [self.tokenizer.eos_token_id] if self.tokenizer.eos_token_id is not None else []
        return Passage(
            context=tuple(ids), prompt=tuple(self.prompt(question)), answer=tuple(self.encode(answer) + end), span=span
        )

    def _skipped(self, source: Source, column: str) -> list[int]:
        """A record without text, which only parquet files and hub data sets still have here; said once a source."""
        if source.place not in self._reported:
            self._reported.add(source.place)
            log.warning("%s: records with an empty %r are left out", source.place, column)
        return []

    def _located(self, context: str, answer: str) -> tuple[list[int], tuple[int, int] | None]:
        if self.tokenizer is None:
            self.encode(context)
        at = context.find(answer)
        if at < 0 or not answer or not getattr(self.tokenizer, "is_fast", False):
            return self.encode(context), None
        ids, offsets = encoded(self.tokenizer, context)
        inside = [number for number, (first, last) in enumerate(offsets or []) if first < at + len(answer) and last > at]
        return ids, (inside[0], inside[-1] + 1) if inside else None


def _open(source: Source, seed: int) -> Records:
    if source.hub is not None:
        return open_hub(source.hub, source.config, source.split)
    assert source.path is not None
    return open_local(source.path, seed, column=source.column, questions=source.questions)


def _draw_source(sources: list[tuple[Source, Records]], randomness: random.Random) -> tuple[Source, Records]:
    return randomness.choices(sources, [source.share for source, _ in sources])[0]


def _column(record: dict[str, Any], name: str, source: Source) -> Any:
    if name not in record:
        present = ", ".join(sorted(record)) or "none"
        raise InputError(f"{source.place} has no column {name!r}; it has: {present}; name the right one in the source's `column`")
    return record[name]
