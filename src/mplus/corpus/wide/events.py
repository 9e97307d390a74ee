"""What somebody once did, where and when: verbs and circumstances. Data only.

A verb: base | past | participle | kind of value | noun for it | question word.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Verb:
    """Something a person did to something."""

    base: str
    past: str
    participle: str
    value: str  # kind
    noun: str
    asked: str  # how one asks for the value: what, who, which city


VERBS: Final = tuple(
    Verb(*(part.strip() for part in line.split("|")))
    for line in """
    buy|bought|bought|object|object|what
    find|found|found|object|thing|what
    lose|lost|lost|object|thing|what
    sell|sold|sold|object|thing|what
    repair|repaired|repaired|object|object|what
    borrow|borrowed|borrowed|object|object|what
    hide|hid|hidden|object|object|what
    break|broke|broken|object|thing|what
    draw|drew|drawn|object|object|what
    carry home|carried home|carried home|object|object|what
    steal|stole|stolen|object|object|what
    give away|gave away|given away|object|object|what
    photograph|photographed|photographed|animal|animal|what
    see|saw|seen|animal|animal|what
    paint|painted|painted|animal|animal|what
    feed|fed|fed|animal|animal|what
    rescue|rescued|rescued|animal|animal|what
    dream of|dreamt of|dreamt of|animal|animal|what
    chase|chased|chased|animal|animal|what
    cook|cooked|cooked|food|dish|what
    eat|ate|eaten|food|dish|what
    order|ordered|ordered|food|dish|what
    bring|brought|brought|food|dish|what
    spill|spilled|spilled|drink|drink|what
    drink|drank|drunk|drink|drink|what
    serve|served|served|drink|drink|what
    visit|visited|visited|city|city|which city
    fly to|flew to|flown to|city|city|which city
    move to|moved to|moved to|city|city|which city
    leave|left|left|city|city|which city
    travel through|travelled through|travelled through|country|country|which country
    write about|wrote about|written about|country|country|which country
    meet|met|met|person|person|who
    call|called|called|person|person|who
    thank|thanked|thanked|person|person|who
    invite|invited|invited|person|person|who
    interview|interviewed|interviewed|person|person|who
    defeat|defeated|defeated|person|person|who
    quarrel with|quarrelled with|quarrelled with|person|person|who
    dance with|danced with|danced with|person|person|who
    hire|hired|hired|person|person|who
    plant|planted|planted|tree|tree|what
    water|watered|watered|plant|plant|what
    pick|picked|picked|plant|flower|what
    read|read|read|title|book|what
    recommend|recommended|recommended|title|book|what
    sing|sang|sung|title|song|what
    teach|taught|taught|study|subject|what
    speak about|spoke about|spoken about|study|subject|what
    practise|practised|practised|hobby|activity|what
    try|tried|tried|hobby|activity|what
    play|played|played|instrument|instrument|what
    tune|tuned|tuned|instrument|instrument|what
    pay|paid|paid|price|amount|how much
    win|won|won|price|amount|how much
    donate|donated|donated|price|amount|how much
    walk|walked|walked|distance|distance|how far
    peel|peeled|peeled|fruit|fruit|what
    chop|chopped|chopped|vegetable|vegetable|what
    add|added|added|spice|spice|what
    drive|drove|driven|vehicle|vehicle|what
    rent|rented|rented|vehicle|vehicle|what
    wear|wore|worn|gemstone|stone|what
    dance|danced|danced|dance|dance|what
    choose|chose|chosen|colour|colour|which colour
    catch|caught|caught|illness|illness|what
    load|loaded|loaded|cargo|cargo|what
    name|named|named|petname|name|what name
    type in|typed in|typed in|code|code|which code
    whisper|whispered|whispered|password|word|what word
    """.strip().splitlines()
)

CIRCUMSTANCES: Final = tuple(
    " ".join(part.split())
    for part in """
    at the market; at the flea market; in the garden; at the party; at the station; on the beach; in the park; during the storm; last Tuesday;
    last Friday; on Monday morning; in the summer; in the autumn; before breakfast; after lunch; after the concert; before the exam; at the wedding;
    during the holidays; on the ferry; at the airport; in the kitchen; in the cellar; in the attic; at school; at the office; in the library; at the
    fair; near the river; by the lake; on the bridge; in the forest; in the mountains; on the island; at midnight; at dawn; yesterday; two days
    ago; a week ago; last winter; last spring; in May; in November; on New Year's Eve; at Christmas; for the first time in years; on the way
    home; on the way to work; during the interview; at the end of the evening; in front of everyone; at the hospital; in the waiting room; on
    the night train; in the hotel; at the museum café; on the last day; on the first day; after the accident; before the journey; at the reunion; in
    secret; with some hesitation; without telling anyone; at the bus stop; behind the church; on stage; at the harbour; in the old town
    """.split(";")
)

TELL_EVENT: Final = (
    "{s} {past} {p} {c}.",
    "{s} {past} {p} {c}.",
    "{C}, {s} {past} {p}.",
    "{C} {s} {past} {p}.",
    "It was {p} that {s} {past} {c}.",
    "{P} was what {s} {past} {c}.",
    "What {s} {past} {c} was {p}.",
    "Neighbours say that {s} {past} {p} {c}.",
    "{C}, to everyone's surprise, {s} {past} {p}.",
    "In a letter {s} told us about {c}: {s} {past} {p}.",
    '"{s} {past} {p} {c}," the driver said.',
)
TELL_EVENT_PASSIVE: Final = ("{P} was {participle} by {s} {c}.", "{C}, {p} was {participle} by {s}.")
ASK_EVENT: Final = (
    "{W} did {s} {base} {c}?",
    "{W} did {s} {base} {c}?",
    "{W} did {s} {base} {c}?",
    "{C}, {w} did {s} {base}?",
    "Which {noun} did {s} {base} {c}?",
    "{W} was it that {s} {past} {c}?",
    "Tell me {w} {s} {past} {c}.",
    "Do you know {w} {s} {past} {c}?",
    "Can you remember {w} {s} {past} {c}?",
    "I wonder {w} {s} {past} {c}.",
    "{W} had {s} {participle} {c}?",
    "{s} {past} {w} {c}?",
)
