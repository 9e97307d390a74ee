"""What is told of the prompts of one call of ``generate`` besides their answers: traces and confidences, and the refusal of an answer.

Knows a reading, not how it is opened nor what it computes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from mplus.attach.attention_mass import AttentionMass
from mplus.attach.hooks import Hooks
from mplus.attach.read_pass import Reading
from mplus.errors import InputError
from mplus.inference.confidence import Judgement, judgements_of
from mplus.inference.generation import Settings
from mplus.memory.memory import Memory
from mplus.settings.calibration import REFUSAL, Calibration, check_calibrated, checked_confidence
from mplus.trace.passages import trace_of
from mplus.trace.trace import Answer, Trace

NOT_ASKED = Trace(note="no trace was asked for")


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What a caller wants to be told.

    Attributes:
        trace, attention: passages, and how much attention each got.
        confidence: also told without a trace.
        min_confidence: below it an answer is replaced by the refusal; None: never.
    """

    trace: bool = False
    attention: bool = False
    confidence: bool = False
    min_confidence: float | None = None

    @classmethod
    def of(cls, arguments: dict[str, Any], memory: Any, calibration: Calibration | None) -> Wish | None:
        """Take what concerns this out of a call's arguments; None: nothing is wanted.

        Raises:
            InputError: something is of another kind, there is no memory, or no calibration for what needs one.
        """
        trace, confidence, least = (arguments.pop(name, None) for name in ("trace", "confidence", "min_confidence"))
        if trace not in (None, False, True, "attention"):
            raise InputError(f"trace must be True, 'attention' or False, got {trace!r}")
        if confidence not in (None, False, True):
            raise InputError(f"confidence must be True or False, got {confidence!r:.60}; min_confidence takes a number")
        least = None if least is None else checked_confidence(least)
        wish = cls(trace=bool(trace), attention=trace == "attention", confidence=bool(confidence), min_confidence=least)
        if not (wish.trace or wish.needs_calibration):
            return None
        memories = memory if isinstance(memory, (list, tuple)) else [memory]
        if not memories or not all(isinstance(one, Memory) for one in memories):
            name = "trace" if wish.trace else "confidence" if wish.confidence else "min_confidence"
            raise InputError(
                f"{name} tells of what was read of a memory, and none was given; give memory=..., or leave {name} out"
            )
        if wish.needs_calibration:
            check_calibrated(calibration)
        if wish.min_confidence and arguments.get("streamer") is not None:
            raise InputError(
                "min_confidence cannot be used with a streamer: an answer is judged when it is whole; leave one of them out"
            )
        return wish

    @property
    def needs_calibration(self) -> bool:
        """Whether a confidence must be told."""
        return self.confidence or self.min_confidence is not None

    def answer(self, text: str, trace: Trace, judgement: Judgement) -> str | Answer:
        """An answer as it is returned."""
        evidence, confidence = judgement.of_answer(text)
        if is_refused(confidence, self.min_confidence):
            text = REFUSAL
        return Answer(text, trace, confidence, evidence) if self.trace or self.confidence else text


def is_refused(confidence: float | None, least: float | None) -> bool:
    """Whether an answer is replaced by the refusal; one of unknown confidence is not."""
    return least is not None and confidence is not None and confidence < least


class Tracing:
    """Collects what is wanted of each prompt of a call.

    Args:
        calibration: None: confidences are not told.
    """

    def __init__(self, wish: Wish, calibration: Calibration | None, tokenizer: Any) -> None:
        self.wish, self.calibration, self.tokenizer = wish, calibration, tokenizer
        self.traces: list[Trace] = []
        self.judgements: list[Judgement] = []
        self._mass: AttentionMass | None = None

    def install(self, hooks: Hooks, reading: Reading, settings: Settings) -> None:
        """Begin to measure attention, where that is wanted.

        Raises:
            InputError: the answer is made in a way that does not show which token attended.
        """
        if not self.wish.attention:
            return
        config = settings.arguments["generation_config"]
        unfit = {
            "assistant_model": settings.arguments.get("assistant_model") is not None,
            "prompt_lookup_num_tokens": bool(config.prompt_lookup_num_tokens),
            "num_beams": (config.num_beams or 1) > 1,
            "use_cache=False": not settings.storing,
        }
        for name in [name for name, is_on in unfit.items() if is_on]:
            raise InputError(f"trace='attention' cannot be used with {name}; leave one of them out, or give trace=True")
        ends = config.eos_token_id
        self._mass = AttentionMass(reading.prefix_pass, [] if ends is None else ends if isinstance(ends, list) else [ends])
        self._mass.install(hooks)

    def take(self, reading: Reading) -> None:
        """Trace every prompt of a reading that has run; its memories have not changed since."""
        mean = None if self._mass is None else self._mass.mean()
        for row, (memory, retrieved) in enumerate(zip(reading.memories, reading.retrieved(), strict=True)):
            assert isinstance(memory, Memory)
            attention = None if mean is None else mean[row]
            traced = trace_of(memory, retrieved.layers, attention_LP=attention) if self.wish.trace else NOT_ASKED
            self.traces.append(traced)
        self.judgements = judgements_of(reading, self.calibration, self.tokenizer)

    def answers(self, texts: Sequence[str]) -> list[str | Answer]:
        """Answers with what is wanted of them; several of one prompt stand together and share its trace."""
        each = len(texts) // len(self.traces)
        return [
            self.wish.answer(text, self.traces[number // each], self.judgements[number // each])
            for number, text in enumerate(texts)
        ]


@contextmanager
def traced(tracing: Tracing | None, reading: Reading | None, settings: Settings) -> Iterator[None]:
    """Have the passes inside traced, where that is wanted and a memory is read."""
    if tracing is None or reading is None:
        yield
        return
    with Hooks() as hooks:
        tracing.install(hooks, reading, settings)
        yield
    tracing.take(reading)
