"""The words that names are made of, all of them or a small world's few. Knows no relations, facts or rules of names."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Final

from mplus.corpus import names
from mplus.corpus.wide.given import MORE_FIRST_NAMES, MORE_SURNAMES
from mplus.corpus.wide.reserved import free_words

SMALLEST_SHARE: Final = 0.2


def _phrases(text: str) -> tuple[str, ...]:
    return tuple(" ".join(phrase.split()) for phrase in text.split(";"))


FIRST: Final = free_words(names.FIRST_NAMES["train"] + MORE_FIRST_NAMES)
LAST: Final = free_words(names.SURNAMES["train"] + MORE_SURNAMES)
WORDS: Final = free_words(
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
BUILDINGS: Final = free_words(
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
CLUBS: Final = free_words(
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
TRADES: Final = free_words(
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
ADJECTIVES: Final = free_words(
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
NOUNS: Final = free_words(
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
MACHINES: Final = free_words(
    _phrases(
        """
        printer; server; robot; drone; telescope; satellite; probe; pump; reactor; turbine; furnace; camera; router; scanner;
        lift; crane; locomotive; generator; antenna; sensor; boiler; drill; oven; press; loom; engine; lathe; freezer; computer;
        radio mast; weather station; buoy; submarine
        """
    )
)
EVENTS: Final = free_words(
    _phrases(
        """
        Festival; Conference; Marathon; Regatta; Fair; Congress; Tournament; Exhibition; Auction; Gala; Parade; Cup; Workshop;
        Symposium; Race; Contest; Expedition; Summit Meeting; Reunion; Carnival; Concert; Biennale; Rally; Derby; Charity Run;
        Lecture; Retreat; Market Day; Trial; Premiere
        """
    )
)


@dataclass(frozen=True)
class Pools:
    """Words to draw names from.

    Attributes:
        invented: how many invented words a world has; None: without end.
    """

    first: tuple[str, ...] = FIRST
    last: tuple[str, ...] = LAST
    words: tuple[str, ...] = WORDS
    buildings: tuple[str, ...] = BUILDINGS
    clubs: tuple[str, ...] = CLUBS
    trades: tuple[str, ...] = TRADES
    adjectives: tuple[str, ...] = ADJECTIVES
    nouns: tuple[str, ...] = NOUNS
    invented: int | None = None


def small_world(rng: Random) -> Pools:
    """Few words, drawn at random, so that names share parts everywhere: many ships called Tiger, many people called Ada.

    A held-out stream of 200,000 tokens is such a world at its largest (25 adjectives for a hundred ships and novels); a shelf is
    shorter, and needs fewer words to be as full of look-alikes.
    """
    share = SMALLEST_SHARE ** rng.random()  # even on a logarithmic scale

    def some(words: tuple[str, ...], count: int) -> tuple[str, ...]:
        return tuple(rng.sample(words, max(4, round(count * share))))

    return Pools(
        first=some(FIRST, 75),
        last=some(LAST, 93),
        words=some(WORDS, 24),
        buildings=some(BUILDINGS, 8),
        clubs=some(CLUBS, 6),
        trades=some(TRADES, 8),
        adjectives=some(ADJECTIVES, 25),
        nouns=some(NOUNS, 27),
        invented=max(4, round(28 * share)),
    )
