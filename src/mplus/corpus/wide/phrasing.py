"""Ways to say that an owner has something, and to ask for it. Knows no names and no values.

Placeholders: {s} owner, {S} at the start, {o} owner with 's, {O} at the start, {n} noun, {N} at the start, {v} value,
{p} value with its article, {P} at the start.
"""

from __future__ import annotations

from random import Random
from typing import Final

from mplus.corpus.relation import article

TELL: Final = tuple(
    line.strip()
    for line in """
    The {n} of {s} is {p}.
    {O} {n} is {p}.
    The {n} of {s} is {p}.
    {O} {n} is {p}.
    {P} is the {n} of {s}.
    {P} is {o} {n}.
    As for the {n} of {s}, it is {p}.
    For {s}, the {n} is {p}.
    {S}: {n} {v}.
    {S}, {n}: {v}.
    {N} of {s}: {v}.
    {O} {n}: {v}.
    Note: the {n} of {s} is {p}.
    Note that {o} {n} is {p}.
    If anyone asks for the {n} of {s}, say it is {p}.
    When it comes to {s}, the {n} is {p}.
    Do not forget that {o} {n} is {p}.
    Remember that the {n} of {s} is {p}.
    The {n} recorded for {s} is {p}.
    In the file on {s}, the {n} is given as {v}.
    {S} (whose {n} is {p}) was mentioned again that day.
    It turned out that the {n} of {s} was {p}.
    It turned out that {o} {n} was {p}.
    Somebody wrote down the {n} of {s}: {v}.
    The list gives {v} as the {n} of {s}.
    We learned that {o} {n} is {p}.
    You will need the {n} of {s}, which is {p}.
    {P}, that is the {n} of {s}.
    {P} is what the register shows as the {n} of {s}.
    {P} was entered as {o} {n}.
    Nobody doubts that the {n} of {s} is {p}.
    The {n}? For {s} it is {p}.
    With {s}, the {n} has always been {p}.
    "The {n} of {s} is {p}," she said.
    "{O} {n} is {p}," he explained.
    They say that {o} {n} is {p}.
    According to the letter, the {n} of {s} is {p}.
    According to the notes, {o} {n} is {p}.
    A reminder about {s}: the {n} is {p}.
    On the card of {s} it says under {n}: {v}.
    Since last year {o} {n} has been {p}.
    {S} has told us the {n}: {v}.
    The secretary noted {v} as {o} {n}.
    Officially, the {n} of {s} is {p}.
    People often ask about {s}; the {n} is {p}.
    By the way, {o} {n} is {p}.
    By the way, the {n} of {s} is {p}.
    Everyone here knows that {o} {n} is {p}.
    At the moment the {n} of {s} is {p}.
    What matters about {s} is the {n}, {v}.
    """.strip().splitlines()
)
TELL_PERSON: Final = tuple(
    line.strip()
    for line in """
    The name of {o} {n} is {v}.
    {O} {n} is called {v}.
    {O} {n} is named {v}.
    The {n} of {s} is called {v}.
    The {n} of {s} goes by the name of {v}.
    {v} is the name of {o} {n}.
    {S} has a {n} called {v}.
    {S} introduced the {n}, {v}.
    """.strip().splitlines()
)
TELL_COLOUR: Final = ("The {n} of {s} is {v}.", "{O} {n} is {v}.", "{S} chose {v} as the {n}.", "As {n}, {s} picked {v}.")

ASK: Final = tuple(
    line.strip()
    for line in """
    What is the {n} of {s}?
    What is {o} {n}?
    What is the {n} of {s}?
    What is {o} {n}?
    What is the {n} of {s}?
    What is {o} {n}?
    What is the {n} of {s}?
    What is {o} {n}?
    Which {n} does {s} have?
    What {n} does {s} have?
    Tell me the {n} of {s}.
    Tell me {o} {n}.
    I need the {n} of {s}.
    I need {o} {n}, please.
    Please give me {o} {n}.
    Do you know the {n} of {s}?
    Do you remember {o} {n}?
    Can you tell me the {n} of {s}?
    Could you look up {o} {n}?
    What was the {n} of {s} again?
    What was {o} {n}?
    {N} of {s}?
    {O} {n}?
    {S}: what is the {n}?
    For {s}, what is the {n}?
    Remind me of {o} {n}.
    I forgot the {n} of {s}. What is it?
    The {n} of {s} is what?
    What did the text say about the {n} of {s}?
    According to what you read, what is {o} {n}?
    What is the {n} for {s}?
    State the {n} of {s}.
    What is given as the {n} of {s}?
    What would you answer if asked for the {n} of {s}?
    Name the {n} of {s}.
    How is the {n} of {s} given?
    What have you read about {o} {n}?
    """.strip().splitlines()
)
ASK_BY_KIND: Final = {
    "person": (
        "Who is {o} {n}?",
        "Who is the {n} of {s}?",
        "What is the name of {o} {n}?",
        "What is {o} {n} called?",
        "By what name is the {n} of {s} known?",
        "Who is it that {s} has as {n}?",
    ),
    "petname": (
        "What is the name of {o} {n}?",
        "What is {o} {n} called?",
        "How is {o} {n} named?",
        "What name does {o} {n} have?",
    ),
    "city": ("Which city is the {n} of {s}?", "What city is {o} {n}?", "Which place is {o} {n}?"),
    "country": ("Which country is the {n} of {s}?", "What country is {o} {n}?"),
    "date": ("When is {o} {n}?", "On what date is {o} {n}?", "Which date is the {n} of {s}?", "What date is given for {o} {n}?"),
    "time": ("When is {o} {n}?", "At what time is {o} {n}?", "What time is the {n} of {s}?", "What time is given for {o} {n}?"),
    "weekday": ("Which day is {o} {n}?", "On what day is {o} {n}?", "What day of the week is the {n} of {s}?"),
    "year": ("Which year is {o} {n}?", "What year is given as {o} {n}?"),
    "price": ("How much is {o} {n}?", "How much is the {n} of {s}?", "What amount is {o} {n}?"),
    "animal": ("Which animal is {o} {n}?", "What animal is the {n} of {s}?"),
    "object": ("Which object is {o} {n}?", "What thing is the {n} of {s}?"),
    "language": ("Which language is {o} {n}?",),
    "job": ("Which job is {o} {n}?", "What work is the {n} of {s}?"),
    "food": ("Which dish is {o} {n}?", "Which food is the {n} of {s}?"),
    "drink": ("Which drink is {o} {n}?",),
    "duration": ("How long is {o} {n}?",),
    "distance": ("How far is {o} {n}?", "What distance is {o} {n}?"),
    "number3": ("Which number is {o} {n}?", "What number is the {n} of {s}?"),
    "code": ("Which code is {o} {n}?", "What is written as {o} {n}?"),
    "title": ("What is the title of {o} {n}?", "What is {o} {n} called?"),
}
BEFORE_FACT: Final = (
    *(
        "As everyone knows, ",
        "By the way, ",
        "According to the paper, ",
        "Note that ",
        "It is said that ",
        "I hear that ",
        "In fact, ",
        "Besides, ",
    ),
    *(
        "We know that ",
        "Somebody mentioned that ",
        "One thing is certain: ",
        "They told me that ",
        "The report says that ",
        "Incidentally, ",
    ),
    *("It is a fact that ", "You may not know that ", "I read that ", "Also, ", "Of course ", "My notes say: "),
)
AFTER_FACT: Final = (
    *(
        ", I believe",
        ", as the letter says",
        ", they say",
        ", of course",
        ", by the way",
        ", as far as anyone knows",
        ", so I heard",
        ", it seems",
    ),
    *(", which surprised nobody", ", as was announced this morning", ", according to the clerk", ", as you know"),
)
BEFORE_QUESTION: Final = (
    *(
        "Please answer: ",
        "Question: ",
        "Tell me, ",
        "Quick question: ",
        "One more thing: ",
        "From what you have read, ",
        "Hi! ",
        "Do you remember? ",
    ),
    *("I would like to know: ", "Say, ", "Help me: ", "Based on the text: ", "Answer briefly: ", "In short: "),
)
AFTER_QUESTION: Final = (
    *(
        " Answer in a few words.",
        " Just the answer, please.",
        " I forgot.",
        " Thanks!",
        " Please be brief.",
        " Do you remember?",
        " Only the answer.",
    ),
)


def own(name: str) -> str:
    """A name with 's; "my" for "me"."""
    if name == "me":
        return "my"
    return name + ("'" if name.endswith("s") else "'s")


def capital(text: str) -> str:
    """The text with its first letter large."""
    return text[:1].upper() + text[1:]


def filled(wording: str, *, subject: str, noun: str, value: str = "", countable: bool = False) -> str:
    """A wording of this file with everything put in."""
    phrase = f"{article(value)} {value}" if countable else value
    return wording.format(
        s=subject,
        S=capital(subject),
        o=own(subject),
        O=capital(own(subject)),
        n=noun,
        N=capital(noun),
        v=value,
        p=phrase,
        P=capital(phrase),
    )


def varied_statement(rng: Random, statement: str, subject: str, value: str, *, share: float) -> str:
    """A statement, in a share of cases with some words before or after it."""
    chance = rng.random()
    if chance >= share or ":" in statement or '"' in statement or (subject.startswith(("my ", "our ")) and "," in statement):
        return statement
    if chance < share / 2:
        keep = (statement.startswith((subject, "I ", "I'")) and not subject.startswith("the ")) or statement.startswith(value)
        return rng.choice(BEFORE_FACT) + (statement if keep else _small_start(statement))
    return statement[:-1] + rng.choice(AFTER_FACT) + "."


_SMALL_STARTS: Final = frozenset(
    "The A An In On At As By For It My When What If To After Before Under Every Since With Some Nobody Somebody From Our Everyone".split()
)


def _small_start(statement: str) -> str:
    return statement[0].lower() + statement[1:] if statement.split(" ", 1)[0] in _SMALL_STARTS else statement


def varied_question(rng: Random, question: str, *, share: float) -> str:
    """A question as people type it: in a share of cases with other words around it, in small letters or without its mark."""
    if rng.random() >= share:
        return question
    match rng.randrange(8):
        case 0 | 1:
            return question.removesuffix("?").removesuffix(".")
        case 2:
            return question[0].lower() + question[1:]
        case 3:
            return question[0].lower() + question[1:].removesuffix("?")
        case 4:
            return rng.choice(BEFORE_QUESTION) + question
        case 5:
            return question + rng.choice(AFTER_QUESTION)
        case 6:
            return f"Q: {question}\nA:"
        case _:
            return question.lower() if rng.random() < 0.3 else rng.choice(BEFORE_QUESTION) + question
