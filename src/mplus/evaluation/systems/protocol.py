"""What a system of a run is: something that is told a text and answers, or scores, what is due. Knows no model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

from mplus.evaluation.schedule.stream import ScheduledQuestion

if TYPE_CHECKING:  # these bring torch and transformers, and listing tasks needs neither
    from mplus.evaluation.systems.clock import Clock
    from mplus.evaluation.systems.retrieval_recall import RetrievalRecall

SYSTEMS: Final = {
    "mplus": "the model's memory, short-term and long-term",
    "memoryllm": "short-term memory only, at the same read budget N + K0",
    "full": "the plain base with the whole text in its context, asked only where that fits",
    "window": "the plain base with the end of the text, as much as its positions allow (--text-budget: so many tokens)",
    "bm25": "the plain base with the chunks that BM25 finds, as many tokens as a memory reads (--text-budget: so many)",
    "passage": "the plain base with the right passage, at the smallest distance only; an upper bound",
}
"""All there are; what each may see is printed with every table."""

GREEDY: Final = {"do_sample": False, "num_beams": 1, "repetition_penalty": 1.0, "no_repeat_ngram_size": 0}
"""How every system answers: the likeliest token, whatever a model's generation settings say."""

PLAIN: Final = ("full", "window", "bm25", "passage")
"""Those that get text in the prompt of a plain model."""


@dataclass(frozen=True)
class Response:
    """What a system gave for one question.

    Attributes:
        text: the answer.
        ltm_tokens: long-term tokens its memory held then.
        read: what was read of what the question needs, where that can be told.
        nats, tokens: negative log-likelihood of a continuation, summed, and how many tokens it is of.
        seen_tokens: text tokens in the prompt, for systems that get text.
        measures: further numbers by name (seconds, bytes).
        spared_s: seconds it would have cost, had another system not been asked the same before.
    """

    text: str = ""
    ltm_tokens: int = 0
    read: RetrievalRecall | None = None
    nats: float | None = None
    tokens: int = 0
    seen_tokens: int = 0
    measures: dict[str, float] = field(default_factory=dict)
    spared_s: float = 0.0


class Reader(Protocol):
    """Takes the text in."""

    def read(self, ids: list[int], start: int) -> None:
        """The next chunk, which begins at position ``start`` of the text."""


class System(Protocol):
    """Answers questions; being asked changes nothing."""

    @property
    def name(self) -> str: ...
    def wants(self, due: ScheduledQuestion, max_new_tokens: int) -> bool:
        """Whether this question at this distance is one for this system (a text may not fit, a passage be missing)."""

    def answer(self, due: Sequence[ScheduledQuestion], max_new_tokens: int, *, clock: Clock | None = None) -> list[Response]:
        """Greedy answers; with a clock (one question) exactly so many tokens, whatever they say, each told to it."""

    def likelihood(self, due: Sequence[ScheduledQuestion]) -> list[Response]:
        """How likely each question's continuation is, its text before it."""

    def size_bytes(self, due: ScheduledQuestion) -> int:
        """Bytes it keeps of what it has read to answer this: a memory's rows, or keys and values of the text in context."""


def as_chat(message: str) -> list[dict[str, Any]]:
    """A conversation of one message."""
    return [{"role": "user", "content": message}]
