"""Numbers as people write them: dates, times, prices, codes, measures in many formats. Knows nothing of facts."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from random import Random
from typing import Final

from mplus.corpus.word_lists import Table, Words

_LETTERS: Final = "ABCDEFGHJKLMNPRSTUVWXYZ"
_SIGNS: Final = re.compile(r"9\{(\d),(\d)\}|9+|A+")


class _Measure(Table):
    units: Words
    range: tuple[int, int]


class _NumberTable(Table):
    months: Words
    weekdays: Words
    tens: Words
    ones: Words  # up to twelve
    currencies: Words
    pictures: dict[str, Words]  # formats in which 9 is a digit, A a letter, and 9{3,6} three to six digits
    measures: dict[str, _Measure]


_TABLE: Final = _NumberTable.read("numbers")
MONTHS: Final = _TABLE.months


def _digits(rng: Random, count: int) -> str:
    return str(rng.randint(10 ** (count - 1), 10**count - 1))


def _picture(rng: Random, picture: str) -> str:
    def drawn(signs: re.Match[str]) -> str:
        if signs[1]:
            return _digits(rng, rng.randint(int(signs[1]), int(signs[2])))
        return _digits(rng, len(signs[0])) if signs[0][0] == "9" else "".join(rng.choices(_LETTERS, k=len(signs[0])))

    return _SIGNS.sub(drawn, picture)


def _pictured(kind: str) -> Callable[[Random], str]:
    return lambda rng: rng.choice([_picture(rng, picture) for picture in _TABLE.pictures[kind]])


def _measured(kind: str) -> Callable[[Random], str]:
    def draw(rng: Random) -> str:
        measure = _TABLE.measures[kind]
        number = rng.randint(*measure.range)
        shown = f"{number}.{rng.randint(1, 9)}" if rng.random() < 0.2 else f"{number:,}"
        return f"{shown} {rng.choice(measure.units)}"

    return draw


def _with_comma(count: int) -> Callable[[Random], str]:
    return lambda rng: rng.choice((_digits(rng, count), f"{int(_digits(rng, count)):,}"))


def _date(rng: Random) -> str:
    """A day of the year, with or without the year."""
    day, month, year = rng.randint(1, 28), rng.choice(MONTHS), rng.randint(1850, 2030)
    suffix = "th" if 10 <= day <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(day % 10, "th")
    forms = (
        f"{day} {month}",
        f"{day} {month}",
        f"{month} {day}",
        f"{day}{suffix} {month}",
        f"{month} {day}, {year}",
        f"{day} {month} {year}",
        f"the {day}{suffix} of {month}",
        f"{rng.choice(_TABLE.weekdays)}, {day} {month}",
        f"{year}-{rng.randint(1, 12):02d}-{day:02d}",
        f"{day:02d}.{rng.randint(1, 12):02d}.{year}",
    )
    return rng.choice(forms)


def _time(rng: Random) -> str:
    """A time of day."""
    hour, minute = rng.randint(0, 23), rng.choice((rng.randint(0, 59), 5 * rng.randint(0, 11)))
    hours = _TABLE.ones
    forms = (
        f"{hour}:{minute:02d}",
        f"{hour}:{minute:02d}",
        f"{hour % 12 + 1}:{minute:02d} {rng.choice(('am', 'pm'))}",
        f"{hour % 12 + 1} {rng.choice(('am', 'pm'))}",
        f"{hour:02d}.{minute:02d}",
        f"{rng.choice(('half past', 'quarter to', 'quarter past'))} {rng.choice(hours)}",
        f"{rng.choice(hours)} o'clock",
    )
    return rng.choice(forms)


def _spelled(rng: Random) -> str:
    """A number below a hundred, as figures or in words."""
    number = rng.randint(21, 99)
    word = _TABLE.tens[number // 10 - 2] + ("-" + _TABLE.ones[number % 10 - 1] if number % 10 else "")
    return rng.choice((str(number), word))


def _price(rng: Random) -> str:
    """A sum of money."""
    amount = rng.choice((rng.randint(2, 99), rng.randint(100, 999), 50 * rng.randint(20, 400)))
    cents = f"{rng.randint(0, 99):02d}"
    forms = (
        f"{amount} euros",
        f"{amount} dollars",
        f"{amount} pounds",
        f"${amount:,}",
        f"£{amount:,}",
        f"€{amount}.{cents}",
        f"${amount}.{cents}",
        f"{amount:,} {rng.choice(_TABLE.currencies)}",
    )
    return rng.choice(forms)


NUMBERS: Final[Mapping[str, Callable[[Random], str]]] = {
    **{kind: _pictured(kind) for kind in _TABLE.pictures},
    **{kind: _measured(kind) for kind in _TABLE.measures},
    "number2": _spelled,
    "number3": lambda rng: _digits(rng, 3),
    "number4": _with_comma(4),
    "number5": _with_comma(5),
    "pin": lambda rng: _digits(rng, rng.choice((3, 4, 4, 5, 6))),
    "year": lambda rng: str(rng.randint(1480, 2035)),
    "date": _date,
    "time": _time,
    "price": _price,
    "percent": lambda rng: rng.choice((f"{rng.randint(2, 99)} percent", f"{rng.randint(2, 99)}%")),
    "speed": lambda rng: f"{rng.randint(20, 320)} {rng.choice(('km/h', 'miles per hour', 'knots'))}",
    "score": lambda rng: f"{rng.randint(0, 9)}-{rng.randint(0, 9)}",
    "age": lambda rng: rng.choice((str(rng.randint(3, 99)), f"{rng.randint(3, 99)} years")),
    "seat": lambda rng: f"{rng.randint(1, 40)}{rng.choice('ABCDEFGHK')}",
    "size": lambda rng: str(rng.randint(31, 49)),
}
