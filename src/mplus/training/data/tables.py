"""Small tables and lists of what several people or things have, asked for one cell. Knows no tokenizer."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from random import Random
from typing import Final

from mplus.corpus.facts import ATTRIBUTES, Attribute, FactGenerator
from mplus.corpus.names import OTHER_KINDS, RELATION_KINDS, NamePool
from mplus.corpus.phrasing import PHRASES, capital, fill, varied_question
from mplus.training.data.asking import worded

MOST_ROWS, MOST_COLUMNS = 9, 4
ASKED: Final = 4  # cells of a table
_TURNED_SHARE: Final = 0.25  # of questions ask whose a value is
FORMS: Final = ("markdown", "commas", "semicolons", "lines")


@dataclass(frozen=True)
class Cell:
    """A question about a table, and the characters of it that tell the answer: the row."""

    question: str
    answer: str
    first: int
    last: int


class TableGenerator(FactGenerator):
    """Makes tables of the training split's names, attributes and values; nothing in them contradicts facts with known keys."""

    def __init__(self, rng: Random, known_keys: deque[str], pool: NamePool | None = None) -> None:
        super().__init__(rng, known_keys=known_keys, pool=pool)

    def table(self) -> tuple[str, list[Cell]]:
        """The text of a table, and what is asked about it."""
        rng = self._rng
        kind = rng.choice(RELATION_KINDS + OTHER_KINDS)
        columns = rng.sample(ATTRIBUTES[kind], rng.randint(2, min(MOST_COLUMNS, len(ATTRIBUTES[kind]))))
        heads = [rng.choice(column.nouns) for column in columns]
        rows: list[list[str]] = []
        wanted = rng.randint(3, MOST_ROWS)
        while len(rows) < wanted:
            name = self._names.subject(kind).name
            if all(self._is_new(f"{name} {column.nouns[0]}") for column in columns):
                rows.append([name, *(self._values.draw(column.value) for column in columns)])
        text, spans = _written(rng.choice(FORMS), ["name", *heads], rows)
        cells = [(row, column) for row in range(len(rows)) for column in range(len(columns))]
        asked = rng.sample(cells, min(ASKED, len(cells)))
        return text, [self._cell(rows, columns, row, column, spans[row]) for row, column in asked]

    def _cell(self, rows: list[list[str]], columns: list[Attribute], row: int, column: int, span: tuple[int, int]) -> Cell:
        rng, name, value = self._rng, rows[row][0], rows[row][column + 1]
        noun = rng.choice(columns[column].nouns)
        if rng.random() < _TURNED_SHARE and [other[column + 1] for other in rows].count(value) == 1:
            return Cell(worded(rng, "turned", n=noun, v=value), name, *span)
        question = fill(rng.choice(PHRASES.attribute.questions), name, noun=noun)
        return Cell(varied_question(rng, question, share=0.25), value, *span)


def _written(form: str, heads: list[str], rows: list[list[str]]) -> tuple[str, list[tuple[int, int]]]:
    """The text and the characters of each row."""
    if form == "lines":
        text, written = "", ["\n".join(f"{capital(h)}: {v}" for h, v in zip(heads, row, strict=True)) + "\n\n" for row in rows]
    elif form == "markdown":
        text = f"| {' | '.join(map(capital, heads))} |\n|{'---|' * len(heads)}\n"
        written = [f"| {' | '.join(row)} |\n" for row in rows]
    else:
        sign = "," if form == "commas" else ";"
        text = sign.join(heads) + "\n"
        written = [sign.join(f'"{cell}"' if sign in cell else cell for cell in row) + "\n" for row in rows]
    spans = []
    for row in written:
        spans.append((len(text), len(text) + len(row.rstrip())))
        text += row
    return text, spans
