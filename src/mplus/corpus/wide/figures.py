"""Numbers as people write them: dates, times, prices, codes, measures in many formats. Knows nothing of facts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random
from typing import Final

MONTHS: Final = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
_DAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_LETTERS: Final = "ABCDEFGHJKLMNPRSTUVWXYZ"
_TENS: Final = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_ONES: Final = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_HOURS: Final = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")


def _digits(rng: Random, count: int) -> str:
    return str(rng.randint(10 ** (count - 1), 10**count - 1))


def _letters(rng: Random, count: int) -> str:
    return "".join(rng.choices(_LETTERS, k=count))


def date(rng: Random) -> str:
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
        f"{rng.choice(_DAYS)}, {day} {month}",
        f"{year}-{rng.randint(1, 12):02d}-{day:02d}",
        f"{day:02d}.{rng.randint(1, 12):02d}.{year}",
    )
    return rng.choice(forms)


def time(rng: Random) -> str:
    """A time of day."""
    hour, minute = rng.randint(0, 23), rng.choice((rng.randint(0, 59), 5 * rng.randint(0, 11)))
    forms = (
        f"{hour}:{minute:02d}",
        f"{hour}:{minute:02d}",
        f"{hour % 12 + 1}:{minute:02d} {rng.choice(('am', 'pm'))}",
        f"{hour % 12 + 1} {rng.choice(('am', 'pm'))}",
        f"{hour:02d}.{minute:02d}",
        f"{rng.choice(('half past', 'quarter to', 'quarter past'))} {rng.choice(_HOURS)}",
        f"{rng.choice(_HOURS)} o'clock",
    )
    return rng.choice(forms)


def spelled(rng: Random) -> str:
    """A number below a hundred, as figures or in words."""
    number = rng.randint(21, 99)
    word = _TENS[number // 10 - 2] + ("-" + _ONES[number % 10 - 1] if number % 10 else "")
    return rng.choice((str(number), word))


def price(rng: Random) -> str:
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
        f"{amount:,} {rng.choice(('crowns', 'francs', 'rupees', 'pesos', 'yen', 'zloty'))}",
    )
    return rng.choice(forms)


def phone(rng: Random) -> str:
    """A telephone number."""
    forms = (
        f"0{_digits(rng, 3)} {_digits(rng, 6)}",
        f"{_digits(rng, 3)}-{_digits(rng, 4)}",
        f"+{_digits(rng, 2)} {_digits(rng, 2)} {_digits(rng, 3)} {_digits(rng, 4)}",
        f"({_digits(rng, 3)}) {_digits(rng, 3)}-{_digits(rng, 4)}",
        f"{_digits(rng, 4)} {_digits(rng, 4)}",
        _digits(rng, 7),
    )
    return rng.choice(forms)


def code(rng: Random) -> str:
    """Letters and digits that mean nothing."""
    forms = (
        f"{_letters(rng, 2)}-{_digits(rng, 3)}",
        f"{_letters(rng, 3)}{_digits(rng, 2)}",
        f"{_letters(rng, 1)}{_digits(rng, 4)}",
        f"{_digits(rng, 2)}-{_letters(rng, 1)}-{_digits(rng, 2)}",
        f"{_letters(rng, 4)}",
        f"{_digits(rng, 2)}{_letters(rng, 2)}{_digits(rng, 1)}",
        f"#{_digits(rng, 4)}",
        _digits(rng, rng.randint(3, 6)),
        _digits(rng, 4),
    )
    return rng.choice(forms)


def plate(rng: Random) -> str:
    """A registration number of a vehicle."""
    forms = (
        f"{_letters(rng, 2)} {_digits(rng, 2)} {_letters(rng, 3)}",
        f"{_letters(rng, 1)}-{_letters(rng, 2)} {_digits(rng, 3)}",
        f"{_digits(rng, 3)} {_letters(rng, 3)}",
        f"{_letters(rng, 3)} {_digits(rng, 4)}",
    )
    return rng.choice(forms)


def measure(units: str, low: int, high: int) -> Callable[[Random], str]:
    """A number with one of the `units` (divided by slashes)."""

    def draw(rng: Random) -> str:
        number = rng.randint(low, high)
        shown = f"{number}.{rng.randint(1, 9)}" if rng.random() < 0.2 else f"{number:,}"
        return f"{shown} {rng.choice(units.split('/'))}"

    return draw


def _room(rng: Random) -> str:
    forms = (f"room {_digits(rng, 3)}", f"room {_digits(rng, 2)}", f"{_letters(rng, 1)}{_digits(rng, 3)}", _digits(rng, 3))
    return rng.choice(forms)


FIGURES: Final[Mapping[str, Callable[[Random], str]]] = {
    "number2": spelled,
    "number3": lambda rng: _digits(rng, 3),
    "number4": lambda rng: rng.choice((_digits(rng, 4), f"{int(_digits(rng, 4)):,}")),
    "number5": lambda rng: rng.choice((_digits(rng, 5), f"{int(_digits(rng, 5)):,}")),
    "pin": lambda rng: _digits(rng, rng.choice((3, 4, 4, 5, 6))),
    "year": lambda rng: str(rng.randint(1480, 2035)),
    "date": date,
    "time": time,
    "price": price,
    "phone": phone,
    "code": code,
    "plate": plate,
    "room": _room,
    "percent": lambda rng: rng.choice((f"{rng.randint(2, 99)} percent", f"{rng.randint(2, 99)}%")),
    "length": measure("metres/feet/centimetres", 2, 400),
    "distance": measure("kilometres/miles/km", 2, 900),
    "weight": measure("kilograms/kg/pounds/grams/tons", 2, 900),
    "duration": measure("minutes/hours/days/weeks/months/years", 2, 90),
    "temperature": measure("degrees/degrees Celsius/°C", 2, 98),
    "area": measure("hectares/square metres/acres", 3, 900),
    "speed": lambda rng: f"{rng.randint(20, 320)} {rng.choice(('km/h', 'miles per hour', 'knots'))}",
    "score": lambda rng: f"{rng.randint(0, 9)}-{rng.randint(0, 9)}",
    "age": lambda rng: rng.choice((str(rng.randint(3, 99)), f"{rng.randint(3, 99)} years")),
    "seat": lambda rng: f"{rng.randint(1, 40)}{rng.choice('ABCDEFGHK')}",
    "size": lambda rng: str(rng.randint(31, 49)),
}
