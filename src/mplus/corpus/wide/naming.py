"""Names without end for people and things, many of them alike on purpose. Knows nothing of relations or facts."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from random import Random
from typing import Final

from mplus.corpus import names
from mplus.corpus.wide.given import MORE_FIRST_NAMES, MORE_SURNAMES, PARTICLES, STYLES, TITLES
from mplus.corpus.wide.reserved import free_words, reserved_name_words

RELATION_KINDS: Final = ("person", "place", "ship", "club", "company", "novel")
OTHER_KINDS: Final = ("village", "project", "event", "machine", "pet", "vehicle_line")
_INVENTED_SHARE: Final = 0.5
_ALIKE_SHARE: Final = 0.5
_RECENT: Final = 24


def _phrases(text: str) -> tuple[str, ...]:
    return tuple(" ".join(phrase.split()) for phrase in text.split(";"))


_FIRST: Final = free_words(names.FIRST_NAMES["train"] + MORE_FIRST_NAMES)
_LAST: Final = free_words(names.SURNAMES["train"] + MORE_SURNAMES)
_WORDS: Final = free_words(
    names.PLACE_WORDS["train"]
    + names.TITLE_NOUNS["train"]
    + tuple(
        """
        Abbey Almond Apple Badger Bamboo Barley Bay Bear Beaver Bell Berry Bishop Blue Bluebird Boar Border Bridge Bronze
        Buffalo Butterfly Camel Canal Canary Castle Cat Cherry Church Cliff Cloudberry Cloister Coast Condor Corner Cotton Cove
        Cross Crow Dawn Deer Delta Diamond Dolphin Dove Dragonfly Duke Dune East Elder Emerald Field Finch Fir Fisher Ford Fox
        Frost Gate Ginger Glass Gold Goose Grace Green Grove Gull Hare Hawk Hill Holly Honey Horse Indigo Iris Jade Jay King
        Lake Lavender Lemon Lily Lime Lynx Mallard Market Marsh Merlin Mint Mistletoe Moor Mulberry Myrtle Needle Nettle North
        Nutmeg Ocean Onyx Orange Palace Palm Panther Park Parrot Peach Pear Pepper Pigeon Plum Pond Poppy Primrose Prince Queen
        Rabbit Red Reed Regent Rock Rose Sage Salmon Sand Sea Seal Silk Snow South Spring Square Stag Stone Stork Sugar Sun
        Tiger Tulip Turtle Vine Violet Water West Whale Wheat White Wind Windmill Winter Wolf Yew
        """.split()
    )
)
_BUILDINGS: Final = free_words(
    names.BUILDINGS["train"]
    + _phrases(
        """
        Academy; Airport; Archive; Bank; Baths; Boathouse; Bookshop; Café; Cathedral; Cemetery; Church; Cottage; Court; Dairy;
        Depot; Dock; Factory; Farm; Fire Station; Fort; Gymnasium; Hall; Hostel; House; Ice Rink; Kitchen; Laboratory; Laundry;
        Mansion; Mill; Mosque; Nursery; Opera; Orphanage; Palace; Planetarium; Post Office; Power Station; Prison; Pub;
        Restaurant; Salon; Sawmill; Shelter; Shop; Spa; Stables; Studio; Synagogue; Tavern; Temple Hall; Terminal; Town Hall;
        University; Villa; Warehouse; Waterworks; Windmill; Winery; Workshop; Zoo
        """
    )
)
_CLUBS: Final = free_words(
    names.CLUBS["train"]
    + _phrases(
        """
        Badminton Club; Band; Baking Club; Book Club; Boxing Club; Brass Band; Choir; Climbing Club; Cooking Circle; Dance
        Company; Dive Club; Football Club; Foundation; Gliding Club; Gymnastics Club; Historical Society; Hockey Club; Jazz
        Orchestra; Judo Club; Karate School; Knitting Circle; Language Circle; Lions; Model Railway Club; Music Society;
        Orchestra; Pigeon Club; Quartet; Quilting Circle; Reading Group; Riding Club; Scouts; Ski Club; String Quartet; Surf
        Club; Theatre Group; Trust; Union; Volleyball Club; Walkers; Writers' Circle; Yacht Club; Youth Orchestra
        """
    )
)
_TRADES: Final = free_words(
    names.TRADES["train"]
    + _phrases(
        """
        & Co; & Daughters; & Sons; Adventures; Antiques; Aviation; Bank; Batteries; Bicycles; Books; Brothers; Builders; Cakes;
        Candles; Capital; Cement; Clothing; Coffee; Computers; Consulting; Cosmetics; Couriers; Design; Drones; Electric;
        Electronics; Energy; Farms; Fashion; Films; Fisheries; Flowers; Foods; Games; Garage; Glass; Group; Holdings;
        Industries; Jewellers; Kitchens; Laboratories; Logistics; Machines; Media; Metals; Mining; Outfitters; Partners; Pens;
        Pharma; Plastics; Pottery; Radio; Records; Robotics; Rubber; Security; Shoes; Silk; Software; Solar; Spices; Steel;
        Studios; Sugar; Systems; Tailors; Tractors; Travel; Umbrellas; Watches; Wines; Woodwork
        """
    )
)
_ADJECTIVES: Final = free_words(
    names.TITLE_ADJECTIVES["train"]
    + tuple(
        """
        Absent Amazing Angry Awkward Bashful Bold Bright Broad Calm Carefree Cheerful Civil Clumsy Common Cosy Crystal Damp Dark
        Dear Deep Devoted Dreaming Elegant Empty Eternal Faded Familiar Famous Far Fatal Fiery First Fleeting Foreign Free Giant
        Gloomy Grand Great Grey Hasty Haunted Heavy High Hungry Idle Immortal Infinite Innocent Invisible Jealous Just Kindly
        Last Late Light Limping Living Long Loud Loyal Magic Marble Mighty Missing Mortal Naked New Next Nimble Obedient Odd Old
        Other Pale Paper Plain Pleasant Poor Private Quick Rare Ready Real Red Rising Roaring Rough Rude Sad Sane Second Selfish
        Seven Sharp Shy Simple Singing Sleepless Slow Small Smiling Soft Spare Steady Strange Strong Sudden Sweet Tall Tame
        Third Thousand Timid Tiny True Twisted Unknown Upright Useful Vanished Vast Warm Watchful Weary White Wicked Wise Young
        """.split()
    )
)
_NOUNS: Final = free_words(
    names.TITLE_NOUNS["train"]
    + tuple(
        """
        Accord Acrobat Actor Ambush Apprentice Archer Architect Atlas Aunt Autumn Bakery Balcony Barber Baron Basket Bear Bird
        Boat Book Bread Brother Butcher Cabin Camel Captain Carnival Carpenter Chain Chapel Chess Child City Clock Coat Colonel
        Corridor Cousin Cradle Curtain Dancer Daughter Debt Diary Doctor Donkey Door Dream Eagle Echo Engine Exile Falcon
        Farewell Farmer Father Field Fire Flute Forest Fortress Fox Friend Game Garden Gate General Ghost Giant Girl Glass Goose
        Grandmother Guest Guitar Hand Harbour Hat Heart Hero Hill Honey Horse Hotel Hour House Hunter Inn Judge Jungle Key King
        Knight Lake Lamp Landlady Lantern Legend Lesson Lie Lily Map Marriage Mask Master Meadow Memory Merchant Messenger
        Miller Mine Mistake Moon Morning Mother Music Needle Neighbour Nephew Night Notebook Nurse Oath Ocean Orchard Palace
        Pearl Piano Poem Poet Portrait Prayer Prince Princess Promise Queen Rebel Riddle Road Rose Sea Season Secret Sentence
        Servant Sister Sky Smile Snow Song Sparrow Spy Star Station Stone Storm Street Summer Sword Teacher Telegram Theft Thief
        Throne Train Treasure Uncle Verdict Visitor Voice Wall War Water Wedding Wind Winter Wolf Woman Wood World
        """.split()
    )
)
_MACHINES: Final = free_words(
    _phrases(
        """
        printer; server; robot; drone; telescope; satellite; probe; pump; reactor; turbine; furnace; camera; router; scanner;
        lift; crane; locomotive; generator; antenna; sensor; boiler; drill; oven; press; loom; engine; lathe; freezer; computer;
        radio mast; weather station; buoy; submarine
        """
    )
)
_EVENTS: Final = free_words(
    _phrases(
        """
        Festival; Conference; Marathon; Regatta; Fair; Congress; Tournament; Exhibition; Auction; Gala; Parade; Cup; Workshop;
        Symposium; Race; Contest; Expedition; Summit Meeting; Reunion; Carnival; Concert; Biennale; Rally; Derby; Charity Run;
        Lecture; Retreat; Market Day; Trial; Premiere
        """
    )
)
_VILLAGE_ENDS: Final = (
    *("", "", "", "ton", "ville", "burg", "stad", "by", "ford", "mouth", "grad", "dorf", "holm", "field", "wick"),
    *(" Bay", " Hills", " Falls", " Point", " Island", " Heights", " Cove", "-on-Sea", " Springs", " Crossing", " Lake"),
)
_PETS: Final = (
    "cat",
    "dog",
    "parrot",
    "horse",
    "tortoise",
    "rabbit",
    "goat",
    "hamster",
    "donkey",
    "goldfish",
    "pony mare",
    "mule",
)


@dataclass(frozen=True)
class Named:
    """Somebody or something: what it is and how it is written within a sentence."""

    kind: str
    name: str


class Namer:
    """Draws names; half of them share a part with a recent name of their kind."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._recent: dict[str, deque[tuple[str, str]]] = {}
        self._reserved = reserved_name_words()

    def subject(self, kind: str) -> Named:
        """A name of a kind; nothing keeps it from having been drawn before, but there are millions."""
        first, second = self._pair(kind)
        return Named(kind, self._written(kind, first, second))

    def person(self) -> str:
        """A person's name as a value, plainer than a subject's."""
        first, second = self._pair("person")
        return f"{first} {second}"

    def title(self) -> str:
        """A title of a book, film or song."""
        first, second = self._pair("novel")
        return self._rng.choice((f"{first} {second}", f"The {first} {second}", f"{second} of {self.place_word()}"))

    def invented(self, syllables: int = 0) -> str:
        """A capitalised word that means nothing, of one style."""
        while True:
            begins, vowels, codas, ends = (part.split() for part in STYLES[self._rng.choice(tuple(STYLES))])
            word = ""
            for _ in range(syllables or self._rng.choice((1, 1, 2))):
                word += self._rng.choice(begins) + self._rng.choice(vowels) + self._rng.choice(codas).strip("-")
            if self._rng.random() < 0.7:
                word += self._rng.choice(ends)
            if 3 <= len(word) <= 11 and word not in self._reserved:
                return word.capitalize()

    def first(self) -> str:
        """A given name, real or invented."""
        return self.invented() if self._rng.random() < _INVENTED_SHARE * 0.8 else self._rng.choice(_FIRST)

    def last(self) -> str:
        """A surname, real or invented, sometimes double or with a particle."""
        name = self.invented() if self._rng.random() < _INVENTED_SHARE else self._rng.choice(_LAST)
        chance = self._rng.random()
        if chance < 0.05:
            particle = self._rng.choice(PARTICLES)
            return particle + name if particle in ("Mac", "O'", "D'") else f"{particle} {name}"
        return f"{name}-{self._rng.choice(_LAST)}" if chance < 0.10 else name

    def place_word(self) -> str:
        """A word that houses, streets and villages are called by."""
        return self.invented() if self._rng.random() < _INVENTED_SHARE else self._rng.choice(_WORDS)

    def _pair(self, kind: str) -> tuple[str, str]:
        """Two parts of a name, at random or one of them from a recent name."""
        pair = self._fresh(kind)
        recent = self._recent.setdefault(kind, deque(maxlen=_RECENT))
        if recent and self._rng.random() < _ALIKE_SHARE:
            seen = self._rng.choice(recent)
            pair = (seen[0], pair[1]) if self._rng.random() < 0.5 else (pair[0], seen[1])
        recent.append(pair)
        return pair

    def _fresh(self, kind: str) -> tuple[str, str]:
        choice = self._rng.choice
        match kind:
            case "person":
                return self.first(), self.last()
            case "ship" | "novel":
                return choice(_ADJECTIVES), choice(_NOUNS)
            case "place":
                return choice((self.place_word, self.place_word, self.last))(), choice(_BUILDINGS)
            case "club":
                return self.place_word(), choice(_CLUBS)
            case "company":
                return choice((self.last, self.last, self.place_word))(), choice(_TRADES)
            case "event":
                return self.place_word(), choice(_EVENTS)
            case "machine":
                return choice(_MACHINES), choice(
                    (self.invented(), f"{choice('ABDFHKMRTX')}{self._rng.randint(1, 99)}", choice(_WORDS))
                )
            case "pet":
                return choice(_PETS), self.first()
            case "vehicle_line":
                return choice(
                    ("flight", "train", "bus", "ferry", "tram")
                ), f"{choice('ABCDKLMRST')}{choice('AEFGLMNRS')} {self._rng.randint(11, 990)}"
            case "project":
                return "Project", self.place_word()
            case _:
                return self.invented(), choice(_VILLAGE_ENDS)

    def _written(self, kind: str, first: str, second: str) -> str:
        match kind:
            case "person":
                return self._person(first, second)
            case "place" | "club" | "event":
                return f"the {first} {second}"
            case "company" | "project":
                return f"{first} {second}"
            case "ship" | "novel":
                named = self._rng.random()
                if named < 0.6:
                    return f"the {kind} {first} {second}"
                return f"the {kind} {self.place_word()} {second}" if named < 0.8 else f"the {kind} {self.invented()}"
            case "machine" | "pet" | "vehicle_line":
                return f"the {first} {second}" if kind != "vehicle_line" else f"{first} {second}"
            case _:
                return f"{first}{second}"

    def _person(self, first: str, last: str) -> str:
        choice = self._rng.choice
        chance = self._rng.random()
        if chance < 0.66:
            return f"{first} {last}"
        if chance < 0.72:
            return f"{first} {choice('ABCDEFGHJKLMNPRSTVWZ')}. {last}"
        if chance < 0.76:
            return f"{choice('ABCDEFGHJKLMNPRSTVWZ')}. {choice('ABCDEFGHJKLMNPRSTVWZ')}. {last}"
        if chance < 0.86:
            return f"{choice(TITLES)} {choice((last, f'{first} {last}'))}"
        if chance < 0.91:
            return f"{first} {self.first()} {last}"
        if chance < 0.95:
            return first
        return f"{first} of {self.invented()}"
