"""A long text with held-out facts at chosen distances from its end. Knows no models and no tokenizer, only a function that counts tokens."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from random import Random
from typing import Final

from mplus.corpus.facts import Fact
from mplus.corpus.held_out import HeldOutFacts
from mplus.errors import EmptyTextError, InputError
from mplus.text.sentences import sentences

_log = logging.getLogger(__name__)

SHORTEST_HAYSTACK_TOKENS: Final = 2000
PIECE_TOKENS: Final = 250  # just under what small models write at once (256), so that a piece is one write
_SPREAD: Final = 0.11  # where facts of a distance are aimed at, as a share of it; what lands is checked against
_TOLERANCE: Final = 0.15
_NEAR_TOKENS: Final = 1000  # up to here there is little room: both are wider
_NEAR_SPREAD: Final = 0.17
_NEAR_TOLERANCE: Final = 0.25
_ROOM_PER_FACT_TOKENS: Final = 16
_MARGIN_TOKENS: Final = 50
_ATTEMPTS: Final = 5  # long sentences can push a fact out of its place; then everything is drawn anew

CountTokens = Callable[[str], int]


@dataclass(frozen=True, kw_only=True)
class PlantedFact:
    """A fact that will be asked about, with its distance from the end."""

    fact: Fact
    distance: int  # tokens back from the end, as asked for
    tokens_back: int  # measured: tokens between the end of the statement and the end of the stream


@dataclass(frozen=True)
class Stream:
    """Text in pieces that end where sentences end; joined, they are the whole text."""

    pieces: list[str]
    planted: list[PlantedFact]
    tokens: int


@dataclass(frozen=True)
class _Plant:
    """A fact and the place it is meant for; ``distance`` is None for bystanders, which are never asked."""

    fact: Fact
    target_tokens_back: float
    distance: int | None


@dataclass(frozen=True)
class _Item:
    """A sentence of the haystack, or a planted statement."""

    text: str
    tokens: int
    plant: _Plant | None = None


def build_stream(
    haystack: str,
    count_tokens: CountTokens,
    *,
    tokens: int,
    distances: Sequence[int],
    questions: int,
    seed: int,
    fact_every: int = 200,
) -> Stream:
    """Plant facts in running text.

    Each distance gets ``questions`` facts within 15 % of it (25 % up to 1,000 tokens), between sentences;
    near the end there is room for fewer (21 facts 1,000 tokens back), and a warning says so.
    Bystander facts, one per ``fact_every`` tokens, share names and relations with them and are never asked.
    All facts come from one ``HeldOutFacts``, so no other statement answers a question.

    Args:
        haystack: text of at least 2,000 tokens; it starts at a place that depends on the seed and is repeated if too short.
        count_tokens: tokens of a text as the model would read it.
        tokens: length of the stream, at least; the largest distance must fit.
        distances: tokens back from the end, each at least 100.
        questions: facts to ask about at each distance, at most.
        seed: the same arguments give the same stream.
        fact_every: tokens per bystander fact.

    Raises:
        EmptyTextError: the haystack holds no text.
        InputError: a number is out of range, the haystack too short, or the facts do not fit where they should stand.
    """
    _check(haystack, tokens, distances, questions, fact_every)
    for distance in sorted(set(distances)):
        if (room := _room_for_facts(distance, tokens)) < questions:
            _log.warning("%d tokens back there is room for %d facts only, %d were asked for", distance, room, questions)
    for attempt in range(_ATTEMPTS):
        rng = Random(f"mplus stream {seed} {attempt}")
        plants = _plan(rng, tokens, sorted(set(distances)), questions, seed, fact_every)
        statements = {plant: count_tokens(" " + plant.fact.statement) for plant in plants}
        text = _running_text(rng, haystack, count_tokens, tokens - sum(statements.values()))
        stream = _measured(_pieces(_interleave(text, plants, statements)), count_tokens)
        astray = next((planted for planted in stream.planted if _is_astray(planted)), None)
        if astray is None:
            _prove(stream, plants)
            return stream
    assert astray is not None
    raise InputError(
        f"a fact meant for {astray.distance} tokens back landed {astray.tokens_back} tokens back, too far off; "
        "use a text with shorter sentences, or leave out the smallest distances"
    )


def _check(haystack: str, tokens: int, distances: Sequence[int], questions: int, fact_every: int) -> None:
    if not haystack.strip():
        raise EmptyTextError("the haystack holds no text; expected running text of at least 2,000 tokens")
    if not distances or min(distances) < 100:
        raise InputError(f"distances are {list(distances)}, expected at least one, each of 100 tokens or more")
    if questions < 1:
        raise InputError(f"questions per distance is {questions}, expected 1 or more")
    if fact_every < 40:
        raise InputError(f"fact_every is {fact_every}, expected 40 tokens or more, else the text is all facts")
    needed = shortest_stream(distances, questions)
    if tokens < needed:
        raise InputError(
            f"a stream of {tokens} tokens cannot hold facts {max(distances)} tokens back; "
            f"expected at least {needed} tokens, or leave out the largest distances"
        )


def shortest_stream(distances: Sequence[int], questions: int) -> int:
    """Tokens a stream needs so that the facts of its largest distance fit."""
    return max(distances) + max(200, questions * _ROOM_PER_FACT_TOKENS // 2 + _MARGIN_TOKENS)


def _plan(rng: Random, tokens: int, distances: list[int], questions: int, seed: int, fact_every: int) -> list[_Plant]:
    """Facts with the places they are meant for, nearest to the end first."""
    places: list[tuple[float, int | None]] = []
    for distance in distances:
        half_width = _half_width(distance, tokens)
        asked = min(questions, _room_for_facts(distance, tokens))
        step = 2 * half_width / asked
        places += [(distance - half_width + step * (i + rng.random()), distance) for i in range(asked)]
    places += [(rng.uniform(0, tokens), None) for _ in range(tokens // fact_every)]
    facts = HeldOutFacts(seed).make(len(places))
    rng.shuffle(facts)  # facts of one subject are made one after another: spread them
    plants = [_Plant(fact, place, distance) for fact, (place, distance) in zip(facts, places, strict=True)]
    return sorted(plants, key=lambda plant: plant.target_tokens_back)


def _half_width(distance: int, tokens: int) -> float:
    """How far from its distance a fact may be aimed."""
    spread = _NEAR_SPREAD if distance <= _NEAR_TOKENS else _SPREAD
    return min(spread * distance, tokens - distance - _MARGIN_TOKENS)


def _room_for_facts(distance: int, tokens: int) -> int:
    return int(2 * _half_width(distance, tokens) / _ROOM_PER_FACT_TOKENS)


def _running_text(rng: Random, haystack: str, count_tokens: CountTokens, tokens: int) -> list[_Item]:
    """Sentences from a random place of the haystack on, wrapping round, of slightly more than ``tokens`` tokens."""
    cut = sentences(haystack)
    cut[-1] = cut[-1].rstrip() + "\n\n"
    start = rng.randrange(len(cut))
    wanted = tokens + tokens // 500 + 50  # tokens of sentences do not quite add up to the tokens of a text
    items: list[_Item] = []
    total = in_first_round = 0
    for number, sentence in enumerate(islice(cycle(cut), start, None)):
        if number == len(cut):
            in_first_round = total
            if total < min(SHORTEST_HAYSTACK_TOKENS, tokens):
                raise InputError(
                    f"the haystack has {total} tokens, expected at least {SHORTEST_HAYSTACK_TOKENS}; give a longer text"
                )
        if total >= wanted:
            break
        items.append(_Item(sentence, _tokens_in_context(sentence, count_tokens)))
        total += items[-1].tokens
    if in_first_round:
        _log.warning("the haystack has %d tokens and is repeated to reach %d", in_first_round, tokens)
    return items


def _tokens_in_context(sentence: str, count_tokens: CountTokens) -> int:
    """About what a sentence adds to a text: tokens begin with white space, so what follows it is counted before it."""
    bare = sentence.strip()
    return count_tokens(sentence[len(sentence.rstrip()) :] + bare) if bare else 0


def _interleave(text: list[_Item], plants: list[_Plant], statement_tokens: dict[_Plant, int]) -> list[_Item]:
    """Text and statements in reading order; each statement at the sentence end nearest to its place."""
    backwards: list[_Item] = []
    waiting = plants[::-1]
    after = 0  # tokens already laid behind the current place
    for sentence in reversed(text):
        while waiting and waiting[-1].target_tokens_back <= after + sentence.tokens / 2:
            plant = waiting.pop()
            size = statement_tokens[plant]
            glue = "" if sentence.text[-1:].isspace() else " "
            backwards.append(_Item(f"{glue}{plant.fact.statement} ", size, plant))
            after += size
        backwards.append(sentence)
        after += sentence.tokens
    assert all(plant.distance is None for plant in waiting), "the stream is too short for facts that will be asked"
    return backwards[::-1]


def _pieces(items: list[_Item]) -> list[list[_Item]]:
    pieces: list[list[_Item]] = [[]]
    size = 0
    for item in items:
        if pieces[-1] and size + item.tokens > PIECE_TOKENS:
            pieces.append([])
            size = 0
        pieces[-1].append(item)
        size += item.tokens
    return pieces


def _measured(pieces: list[list[_Item]], count_tokens: CountTokens) -> Stream:
    """The stream, every distance counted on the text as it will be read."""
    texts = ["".join(item.text for item in piece) for piece in pieces]
    planted: list[PlantedFact] = []
    behind = 0
    for piece, text in zip(reversed(pieces), reversed(texts), strict=True):
        rest = ""
        for item in reversed(piece):
            if item.plant is not None and item.plant.distance is not None:
                tokens_back = behind + (count_tokens(rest) if rest.strip() else 0)
                planted.append(PlantedFact(fact=item.plant.fact, distance=item.plant.distance, tokens_back=tokens_back))
            rest = item.text + rest
        behind += count_tokens(text)
    return Stream(texts, planted, behind)


def _is_astray(planted: PlantedFact) -> bool:
    tolerance = _NEAR_TOLERANCE if planted.distance <= _NEAR_TOKENS else _TOLERANCE
    return abs(planted.tokens_back - planted.distance) > tolerance * planted.distance


def _prove(stream: Stream, plants: list[_Plant]) -> None:
    """Every asked value stands in its statement and no other statement answers its question: by construction."""
    asked = [planted.fact for planted in stream.planted]
    assert len(asked) == sum(plant.distance is not None for plant in plants)
    assert len({(plant.fact.subject, plant.fact.relation) for plant in plants}) == len(plants)
    assert all(fact.value in fact.statement and fact.value not in fact.question for fact in asked)
