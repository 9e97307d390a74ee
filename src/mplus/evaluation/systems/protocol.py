"""The systems of a run: each takes a text in and answers, or scores, what is due. Knows no model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

from mplus.errors import InputError
from mplus.evaluation.schedule.stream import ScheduledQuestion, SourceStart
from mplus.runtime.extras import require
from mplus.runtime.suggest import hint_before

if TYPE_CHECKING:  # these bring torch and transformers, and listing tasks needs neither
    from mplus.evaluation.scoring.retrieval_recall import RetrievalRecall
    from mplus.evaluation.systems.clock import TokenClock

SYSTEMS: Final = {
    "mplus": "the model's memory, short-term and long-term",
    "memoryllm": "short-term memory only, at the same read budget N + K0",
    "full": "the plain base with the whole text in its context, asked only where that fits",
    "window": "the plain base with the end of the text, as much as its positions allow (--text-budget: so many tokens)",
    "window_long": "the same window once more, in answers of 40 tokens (an untrained base first repeats the question)",
    "bm25": "the plain base with the chunks that BM25 finds, as many tokens as a memory reads (--text-budget: so many)",
    "passage": "the plain base with the right passage, at the smallest distance only; an upper bound",
}
"""All there are; what each may see is printed with every table."""

LONG_ANSWER_TOKENS: Final = 40
"""Of an answer of ``window_long``."""

GREEDY: Final = {"do_sample": False, "num_beams": 1, "repetition_penalty": 1.0, "no_repeat_ngram_size": 0}
"""Generation settings of every system: the likeliest token, whatever a model's generation settings say."""

PLAIN: Final = ("full", "window", "window_long", "bm25", "passage")
"""Those that get text in the prompt of a plain model."""


@dataclass(frozen=True)
class Response:
    """A system's response to one question.

    Attributes:
        text: the answer.
        ltm_tokens: long-term tokens its memory held then.
        read: what was read of what the question needs, where that can be told.
        nats, tokens: negative log-likelihood of a continuation, summed, and how many tokens it is of.
        seen_tokens: text tokens in the prompt, for systems that get text.
        measures: further numbers by name (seconds, bytes).
        confidence: the probability, by the system itself, that what it has read holds the answer; None: it tells none.
        spared_s: seconds it would have cost, had another system not been asked the same before.
    """

    text: str = ""
    ltm_tokens: int = 0
    read: RetrievalRecall | None = None
    nats: float | None = None
    tokens: int = 0
    seen_tokens: int = 0
    measures: dict[str, float] = field(default_factory=dict)
    confidence: float | None = None
    spared_s: float = 0.0


class MemoryModel(Protocol):
    """A model whose memories are values of their own."""

    @property
    def name(self) -> str: ...
    @property
    def dtype(self) -> Any: ...
    @property
    def tokenizer(self) -> Any: ...
    @property
    def geometry(self) -> Any: ...
    @property
    def new_memory(self) -> Callable[..., Any]: ...
    def cut(self, text: str) -> Sequence[Any]: ...
    def encode(self, ids: Any, memory: Any, *, source: Any = None) -> Any: ...
    def chat(self, messages: Any, *, memory: Any, **generate: Any) -> Any: ...
    def untouched(self) -> AbstractContextManager[Any]: ...


class Reader(Protocol):
    """Takes the text in.

    Attributes:
        serves: names of the systems that answer from what it has taken in.
    """

    @property
    def serves(self) -> set[str]: ...

    def read(self, ids: list[int], start: int, source: SourceStart | None = None) -> None:
        """The next chunk, which begins at position ``start`` of the text and belongs to a source, where the text has several."""

    def forget(self, sources: Sequence[str]) -> None:
        """Take back what was read of these sources."""


class System(Protocol):
    """Answers questions; being asked changes nothing."""

    @property
    def name(self) -> str: ...
    @property
    def batch_in_order(self) -> int:
        """Questions asked together where their order is kept."""

    def wants(self, due: ScheduledQuestion, max_new_tokens: int) -> bool:
        """Whether this question at this distance is one for this system (a text may not fit, a passage be missing)."""

    def answer(self, due: Sequence[ScheduledQuestion], max_new_tokens: int, *, clock: TokenClock | None = None) -> list[Response]:
        """Greedy answers; with a clock (one question) exactly so many tokens, whatever they say, each told to it."""

    def reading(self, due: Sequence[ScheduledQuestion]) -> list[Response]:
        """Answer each question as briefly as its read can be told from."""

    def likelihood(self, due: Sequence[ScheduledQuestion]) -> list[Response]:
        """How likely each question's continuation is, its text before it."""

    def size_bytes(self, due: ScheduledQuestion) -> int:
        """Bytes it keeps of what it has read to answer this: a memory's rows, or keys and values of the text in context."""


def as_chat(message: str) -> list[dict[str, Any]]:
    """A conversation of one message."""
    return [{"role": "user", "content": message}]


def known_systems(names: Sequence[str]) -> list[str]:
    """The names, each once.

    Raises:
        InputError: one is not known; the nearest is named.
    """
    for name in names:
        if name not in SYSTEMS:
            raise InputError(f"there is no system '{name}'; {hint_before(name, SYSTEMS, cutoff=0.6)}known: {', '.join(SYSTEMS)}")
    if not names:
        raise InputError(f"no system was named; give one or more of {', '.join(SYSTEMS)}")
    if "bm25" in names:
        require("bm25s", "system 'bm25'")
    return list(dict.fromkeys(names))
