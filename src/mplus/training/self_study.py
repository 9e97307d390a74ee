"""Self-study: a base asks itself about running text and answers, and what it answers twice alike is kept. Knows models and texts.

``python -m mplus.training.self_study TEXT ... --model smollm2-135m --out study.jsonl --minutes 30``. The file may be gone on with: a
passage and everything drawn for it follow from the seed and the passage's number alone.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Final

import torch

from mplus.errors import InputError, MPlusError
from mplus.model import MPlusModel
from mplus.runtime.atomic import replace_files
from mplus.text.chat_template import templated
from mplus.text.documents import read_document
from mplus.text.prompts import encode
from mplus.training.data.asking import refusal
from mplus.training.data.running import RunningText
from mplus.training.data.study_records import StudyKind, StudyRecord, parsed_records

PASSAGE_CHARACTERS: Final = 520
BATCH_PASSAGES: Final = 8
ALIKE: Final = 0.5  # share of common words from which two answers say the same
WARMTH: Final = 0.6  # of sampling
QUESTION_TOKENS, ANSWER_TOKENS = 32, 56
NOT_SAID: Final = "not mentioned"

ASKS: Final = {
    "question": "Write one question that can be answered from the text above. Write the question only.",
    "two_facts": "Write one question about the text above whose answer takes two facts of it. Write the question only.",
    "topic": "What is the text above about? Answer with a noun phrase of at most six words.",
    "paraphrase": "Ask the same in other words. Write the question only.\n\n",
    "absent": f'If the text above does not say it, answer "{NOT_SAID}". ',
}
REQUESTS: Final = {
    "summary": ("Summarise what you read about {topic}.", "Give me a short summary of the text about {topic}."),
    "restructure": ("List the main points of what you read about {topic}.", "Tell me in order what you know about {topic}."),
}


@dataclass(frozen=True)
class Draft:
    """A question to be answered twice."""

    kind: StudyKind
    text: str
    question: str


class SelfStudy:
    """Asks and answers about passages.

    Args:
        model: whose base studies, with no adapter on.
        texts: running text.

    Raises:
        InputError: there is no text in them.
    """

    def __init__(self, model: MPlusModel, texts: Sequence[str], seed: int) -> None:
        if not any(text.strip() for text in texts):
            raise InputError("there is no text to study; give files that hold running text")
        self.model, self.seed = model, seed
        self.running = RunningText(list(texts))

    def passage(self, number: int, purpose: str = "passage") -> str:
        """The passage of a number: whole sentences, always the same of one seed and text."""
        return "".join(self.running.take(Random(f"{self.seed} {purpose} {number}"), PASSAGE_CHARACTERS)).strip()

    def study(self, numbers: Sequence[int]) -> list[StudyRecord]:
        """Records of some passages, kept and dropped ones, in their order."""
        texts = [self.passage(number) for number in numbers]
        seed = int.from_bytes(Random(f"{self.seed} {numbers[0]}").randbytes(7), "big")
        with torch.random.fork_rng(devices=[self.model.device] if self.model.device.type == "cuda" else []):
            torch.manual_seed(seed)
            drafts = self._drafts(numbers, texts)
            asked = [self._behind(one) for _, one in drafts]
            both = self._say(asked, ANSWER_TOKENS), self._say(asked, ANSWER_TOKENS)
        return [self._record(number, one, *said) for (number, one), *said in zip(drafts, *both, strict=True)]

    def _drafts(self, numbers: Sequence[int], texts: Sequence[str]) -> list[tuple[int, Draft]]:
        """What is asked about each passage."""

        def behind(ask: str) -> list[str]:
            return [f"{text}\n\n{ask}" for text in texts]

        questions = [_question(said) for said in self._say(behind(ASKS["question"]), QUESTION_TOKENS)]
        doubles = [_question(said) for said in self._say(behind(ASKS["two_facts"]), QUESTION_TOKENS)]
        topics = [_topic(said) for said in self._say(behind(ASKS["topic"]), QUESTION_TOKENS // 2)]
        again = [_question(said) for said in self._say([ASKS["paraphrase"] + one for one in questions], QUESTION_TOKENS)]
        elsewhere = [f"{self.passage(number, 'elsewhere')}\n\n{ASKS['question']}" for number in numbers]
        others = [_question(said) for said in self._say(elsewhere, QUESTION_TOKENS)]
        out: list[tuple[int, Draft]] = []
        for row, (number, text) in enumerate(zip(numbers, texts, strict=True)):
            rng = Random(f"{self.seed} requests {number}")
            wanted: dict[StudyKind, str] = {
                "question": questions[row],
                "two_facts": doubles[row],
                "paraphrase": again[row],
                "absent": others[row],
                "summary": rng.choice(REQUESTS["summary"]).format(topic=topics[row]) if topics[row] else "",
                "restructure": rng.choice(REQUESTS["restructure"]).format(topic=topics[row]) if topics[row] else "",
            }
            out += [(number, Draft(kind, text, question)) for kind, question in wanted.items() if question]
        return out

    def _behind(self, one: Draft) -> str:
        return f"{one.text}\n\n{ASKS['absent'] if one.kind == 'absent' else ''}{one.question}"

    def _record(self, number: int, one: Draft, first: str, second: str) -> StudyRecord:
        answer = first
        if one.kind == "absent":
            kept = all(NOT_SAID in said.lower() for said in (first, second))
            answer = refusal(Random(f"{self.seed} refusal {number}"))
        else:
            kept = alike(first, second) >= ALIKE and first.endswith((".", "!", "?")) and NOT_SAID not in first.lower()
        return StudyRecord(number=number, kind=one.kind, text=one.text, question=one.question, answer=answer, kept=kept)

    def _say(self, messages: Sequence[str], new_tokens: int) -> list[str]:
        """Sampled answers of the untouched base to messages of their own, as a conversation asks them."""
        tokenizer = self.model.tokenizer
        rows = [encode(tokenizer, templated(tokenizer, [{"role": "user", "content": message}])) for message in messages]
        out: list[str] = []
        with self.model.untouched() as base, torch.inference_mode():
            for start in range(0, len(rows), BATCH_PASSAGES):
                out += _sampled(base, tokenizer, rows[start : start + BATCH_PASSAGES], new_tokens)
        return out


def _sampled(base: Any, tokenizer: Any, rows: list[list[int]], new_tokens: int) -> list[str]:
    width = max(map(len, rows))
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id or 0
    ids = torch.tensor([[pad] * (width - len(row)) + row for row in rows], device=base.device)
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=base.device)
    out = base.generate(
        ids,
        attention_mask=mask,
        max_new_tokens=new_tokens,
        do_sample=True,
        temperature=WARMTH,
        top_k=0,
        top_p=1.0,
        pad_token_id=pad,
        eos_token_id=tokenizer.eos_token_id,
    )
    return [str(tokenizer.decode(row, skip_special_tokens=True)).strip() for row in out[:, width:]]


def alike(first: str, second: str) -> float:
    """Twice the common words over all words of two answers, 0 to 1."""
    one, two = _words(first), _words(second)
    common = sum(min(one.count(word), two.count(word)) for word in set(one))
    return 2 * common / (len(one) + len(two)) if one and two else 0.0


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def _question(said: str) -> str:
    """The question in what was said; empty if there is none."""
    found = re.search(r"[A-Z][^?\n]{8,180}\?", said)
    return found[0] if found else ""


def _topic(said: str) -> str:
    """A noun phrase as it stands within a sentence; empty if too much was said."""
    words = said.strip().strip('."').split("\n")[0].removeprefix("The text is about ").removeprefix("The text above is about ")
    if not words or len(words.split()) > 10:
        return ""
    return words[0].lower() + words[1:] if words.startswith(("The ", "A ", "An ")) else words


def go_on(study: SelfStudy, path: Path, *, passages: int | None, minutes: float | None) -> tuple[int, int]:
    """Study until enough passages or minutes are done and append to a file; returns how many records it holds and how many are kept.

    Raises:
        InputError: the file is of another seed or text, or damaged.
    """
    records = _done(study, path)
    number = max((record.number for record in records), default=-1) + 1
    kept, total = sum(record.kept for record in records), len(records)
    started = time.monotonic()
    with path.open("a", encoding="utf-8") as lines:
        while (passages is None or number < passages) and (minutes is None or time.monotonic() - started < 60 * minutes):
            last = number + BATCH_PASSAGES if passages is None else min(number + BATCH_PASSAGES, passages)
            fresh = study.study(range(number, last))
            lines.write("".join(record.model_dump_json() + "\n" for record in fresh))
            lines.flush()
            number, total, kept = last, total + len(fresh), kept + sum(record.kept for record in fresh)
            sys.stderr.write(f"{number} passages, {total} records, {kept} kept, {time.monotonic() - started:.0f} s\n")
    return total, kept


def _done(study: SelfStudy, path: Path) -> list[StudyRecord]:
    """Records of whole batches in a file; the newest batch may be incomplete and is made again."""
    if not path.exists():
        return []
    data = path.read_bytes()
    if not data.endswith(b"\n"):
        _put(path, data[: data.rfind(b"\n") + 1])
    records = list(parsed_records(path))
    if not records:
        return []
    last = records[-1]
    if last.text != study.passage(last.number):
        raise InputError(
            f"{path} was made from another text, seed or version (passage {last.number} differs); choose another --out"
        )
    kept = [record for record in records if record.number < last.number - last.number % BATCH_PASSAGES]
    _put(path, "".join(record.model_dump_json() + "\n" for record in kept).encode())
    return kept


def _put(path: Path, data: bytes) -> None:
    replace_files({path: lambda aside: aside.write_bytes(data)})


def main(arguments: Sequence[str] | None = None) -> int:
    """Study the texts that a command line names."""
    parser = argparse.ArgumentParser(prog="python -m mplus.training.self_study", description=__doc__)
    parser.add_argument("texts", nargs="+", type=Path, help="files of running text or documents")
    parser.add_argument("--model", default="smollm2-135m", help="a model or base; its base studies")
    parser.add_argument("--out", type=Path, required=True, help="JSON lines; gone on with if it exists")
    parser.add_argument("--passages", type=int, help="stop after so many in all")
    parser.add_argument("--minutes", type=float, help="stop after so many of this call")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    try:
        if options.passages is None and options.minutes is None:
            raise InputError("neither --passages nor --minutes is given, so it would never end; give one of them")
        if not options.out.parent.is_dir():
            raise InputError(f"there is no directory {options.out.parent} for --out; make it first")
        texts = [read_document(path) for path in options.texts]
        study = SelfStudy(MPlusModel.from_pretrained(options.model), texts, options.seed)
        total, kept = go_on(study, options.out, passages=options.passages, minutes=options.minutes)
    except MPlusError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(json.dumps({"file": str(options.out), "records": total, "kept": kept}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
