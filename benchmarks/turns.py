"""What turns before the question cost: ``python -m benchmarks.turns --json FILE``.

A model reads texts with generated facts (names held out from training), then is asked about them: the question alone, behind a system
prompt, and behind 1, 4 and 12 earlier exchanges of small talk. Each time once as it was before decision 0025 (the whole prompt searches)
and once as it is (the last user turn searches). ``--old-order`` reads memory before earlier turns, as before, in the second case too.
Right is an answer that holds the value; read, that every token of the statement was, from short-term or long-term memory.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from mplus import Memory, MPlusModel
from mplus.attach.read_pass import Reading
from mplus.corpus.python_docs import python_text
from mplus.corpus.stream import PlantedFact, build_stream
from mplus.evaluation.schedule.stream import Question
from mplus.evaluation.scoring.retrieval_recall import ChunkBirths, reads
from mplus.evaluation.scoring.text_match import wilson_interval
from mplus.runtime.environment import environment_of

BATCH: Final = 8
SYSTEM: Final = (
    "You are the evening voice of a small guest house by the lake. Speak warmly and briefly, never use slang, and give no medical advice. "
    "When somebody greets you, greet them back. If a guest complains about noise, apologise once and offer earplugs. Mention breakfast "
    "only when it is asked for, and close with a kind wish."
)
TALK: Final = (
    ("Good evening, is anybody there?", "Good evening! Yes, I am here. What can I do for you?"),
    (
        "It rained the whole way, my shoes are soaked.",
        "Oh dear. Put them beside the stove in the hall; they will be dry by the morning.",
    ),
    ("Thanks. Do you like thunderstorms?", "I enjoy the sound of them, as long as everyone is safe indoors."),
    ("Can you tell me a joke?", "Why did the bicycle fall over? Because it was two tired."),
    ("Ha, not bad. And what goes well with tomato soup?", "A slice of toasted bread with butter, and a few leaves of basil."),
    ("I sleep badly lately.", "A short walk and a cup of warm milk help many people. Shall I open the window a little?"),
    (
        "No, thank you. How do I fold a shirt without creases?",
        "Button it, lay it face down, fold both sleeves in, then fold it twice.",
    ),
    ("My daughter wants a rabbit. Are they a lot of work?", "They need company, hay and a clean place every day."),
    ("What rhymes with window?", "Hardly anything does, but 'akimbo' comes close enough for a song."),
    ("Please write a line for a birthday card.", "May your year be as bright as the candles on your cake."),
    ("Lovely. Is green tea stronger than black tea?", "Usually not. Black tea tends to have more caffeine."),
    ("All right, one more thing, then I go to bed.", "Of course, take your time. I am listening."),
)
Messages = list[dict[str, str]]


def before(exchanges: int) -> Messages:
    """Small talk of so many messages and answers."""
    roles = ("user", "assistant")
    return [{"role": role, "content": text} for pair in TALK[:exchanges] for role, text in zip(roles, pair, strict=True)]


CONDITIONS: Final[dict[str, Messages]] = {
    "question alone": [],
    "system prompt": [{"role": "system", "content": SYSTEM}],
    "1 exchange": before(1),
    "4 exchanges": before(4),
    "12 exchanges": before(12),
}


@contextmanager
def memory_first(wanted: bool) -> Iterator[None]:
    """Read memory before earlier turns, as before decision 0025."""
    kept = Reading._moves
    if wanted:
        Reading._moves = lambda self, query: False  # type: ignore[method-assign]
    try:
        yield
    finally:
        Reading._moves = kept  # type: ignore[method-assign]


def read_text(
    model: MPlusModel, seed: int, options: argparse.Namespace
) -> tuple[Memory, ChunkBirths, list[tuple[PlantedFact, Question]]]:
    """A memory of one text, where its tokens went, and the facts to ask about."""
    encode = model.tokenizer
    count = lambda text: len(encode(text, add_special_tokens=False, verbose=False)["input_ids"])  # noqa: E731
    distances = [options.tokens // 4, options.tokens - 500]
    stream = build_stream(
        python_text(), count, tokens=options.tokens, distances=distances, questions=options.questions // 2, seed=seed
    )
    memory, births, done, spans = model.new_memory(seed=seed), ChunkBirths(), 0, {}
    for piece in stream.pieces:
        chunks = model.cut(piece)
        ids = [token for chunk in chunks for token in chunk]
        offsets = encode(piece, add_special_tokens=False, return_offsets_mapping=True, verbose=False)["offset_mapping"]
        for planted in stream.planted:
            if (at := piece.find(planted.fact.statement)) >= 0:
                inside = [n for n, (low, high) in enumerate(offsets) if high > at and low < at + len(planted.fact.statement)]
                spans[planted.fact.statement] = (done + inside[0], done + inside[-1] + 1)
        for chunk in chunks:
            first = memory.now
            memory.update(model.encode(chunk, memory))
            births.note(done, done + len(chunk), first, memory.now)
            done += len(chunk)
        assert len(offsets) == len(ids)
    asked = []
    for planted in stream.planted:
        fact, span = planted.fact, spans[planted.fact.statement]
        one = Question(
            id=fact.statement, cluster=str(seed), text=fact.question, answers=(fact.value,), span=span, answer_span=span
        )
        asked.append((planted, one))
    return memory, births, asked


def ask(
    model: MPlusModel,
    memory: Memory,
    births: ChunkBirths,
    asked: list[tuple[PlantedFact, Question]],
    turns: Messages,
    *,
    whole: bool,
) -> list[dict[str, Any]]:
    """One line per question: its answer, whether that is right and whether the statement was read."""
    out: list[dict[str, Any]] = []
    for start in range(0, len(asked), BATCH):
        batch = asked[start : start + BATCH]
        chats: list[Messages] = [[*turns, {"role": "user", "content": question.text}] for _, question in batch]
        drawn: list[Any] = []
        kwargs: dict[str, Any] = {"query": [_prompt(model, chat) for chat in chats]} if whole else {}
        texts = model.chat(chats, memory, max_new_tokens=10, do_sample=False, retrieved=drawn, **kwargs)
        found = reads(memory, births, [question for _, question in batch], drawn)
        for (planted, question), text, read in zip(batch, texts, found, strict=True):
            assert read is not None
            right = planted.fact.value.lower() in text.lower()
            line = {"question": question.text, "value": planted.fact.value, "answer": text, "right": right}
            out.append({**line, "read": all(read.answer_read), "tokens_back": planted.tokens_back})
    return out


def _prompt(model: MPlusModel, chat: Messages) -> list[int]:
    text = model.tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    ids: list[int] = model.tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def main() -> None:
    """Print the table, store everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--tokens", type=int, default=8600, help="of each text")
    parser.add_argument("--questions", type=int, default=32, help="about each text")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--old-order", action="store_true", help="memory before earlier turns")
    parser.add_argument("--rules", nargs="+", default=["whole prompt", "last user turn"], help="what searches")
    parser.add_argument("--json", type=Path, help="store everything there")
    options = parser.parse_args()
    model = MPlusModel.from_pretrained(options.model)
    texts = [read_text(model, seed, options) for seed in options.seeds]
    table = Table("before the question", "searches", "right", "95 %", "statement read", "95 %")
    rows: list[dict[str, Any]] = []
    for name, turns in CONDITIONS.items():
        for rule in options.rules:
            whole = rule == "whole prompt"
            with memory_first(whole or options.old_order):
                lines = [line for text in texts for line in ask(model, *text, turns, whole=whole)]
            sums = {what: sum(line[what] for line in lines) for what in ("right", "read")}
            limits = {what: wilson_interval(count, len(lines)) for what, count in sums.items()}
            rows.append({"before": name, "searches": rule, "questions": len(lines), **sums, "intervals": limits, "lines": lines})
            cells = [part for what in sums for part in (f"{sums[what] / len(lines):.2f}", "{:.2f}-{:.2f}".format(*limits[what]))]
            table.add_row(name, rule, *cells)
            Console(stderr=True).print(name, rule, sums)
    Console().print(table)
    versions, hardware = environment_of(model.dtype)
    settings = {key: str(value) if isinstance(value, Path) else value for key, value in vars(options).items()}
    if options.json:
        stored = {"settings": settings, "versions": versions, "hardware": hardware, "rows": rows}
        options.json.write_text(json.dumps(stored, indent=1, default=str) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
