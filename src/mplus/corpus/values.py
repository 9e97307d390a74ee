"""What facts say: the values, one list per kind and split, and the numbers. Knows nothing of facts.

Within a kind and a split no value contains another, so finding a value in an answer is unambiguous.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random
from typing import Final

from mplus.corpus.names import Split

_MONTHS: Final = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)


def _phrases(text: str) -> tuple[str, ...]:
    return tuple(" ".join(phrase.split()) for phrase in text.split(";"))


# Every value of one of these kinds has the same length or form, so that none contains another.
NUMBERS: Final[Mapping[str, Callable[[Random], str]]] = {
    "number3": lambda rng: str(rng.randint(100, 999)),
    "number4": lambda rng: str(rng.randint(1000, 9999)),
    "number5": lambda rng: str(rng.randint(10_000, 99_999)),
    "year": lambda rng: str(rng.randint(1702, 2019)),
    "date": lambda rng: f"{rng.randint(10, 28)} {rng.choice(_MONTHS)}",
    "time": lambda rng: f"{rng.randint(10, 22)}:{rng.randint(0, 59):02d}",
}

WORDS: Final[Mapping[str, Mapping[Split, tuple[str, ...]]]] = {
    "city": {
        "train": _phrases(
            """
            Kigali; Mombasa; Khartoum; Belfast; Basel; Toronto; Turin; Stockholm; Seattle; Tbilisi; Munich; Leiden;
            Palermo; Cusco; Lahore; Colombo; Zagreb; Cordoba; Miami; Auckland; Rosario; Perth; Baltimore; Valparaiso;
            Boston; Izmir; Calgary; Algiers; Santiago; Milan; Brisbane; Dakar; Copenhagen; Leipzig; Geneva; Rotterdam;
            Dhaka; Salvador; Porto; Guadalajara; Liverpool; Brussels; Kolkata; Sheffield; Mumbai; Detroit; Monterrey;
            Melbourne; Ottawa; Montreal; Baghdad; Edinburgh; Tokyo; Accra; Nanjing; Bristol; Durban; Winnipeg; Nantes;
            Dresden; Hanoi; Luanda; Kathmandu; Portland; Medellin; Aberdeen; Dublin; Nairobi; Chicago; Denver; Recife;
            Marseille; Riga; Bucharest; Honolulu; Budapest; Bilbao; Bangkok; Asuncion; Sydney; Amman; Saigon; Bergen;
            Cairo; Singapore; Quito; Beirut; Prague; Osaka; Glasgow; Cologne; Lagos; Atlanta; Marrakesh; Hobart;
            Krakow; Kabul; Ljubljana; Brasilia; Ankara; Ghent; Chennai; Istanbul; Tallinn; Lusaka; Manila; Gothenburg;
            Bamako; Kampala; Zanzibar; Isfahan; Naples; Vilnius; Utrecht; Havana; Oslo; Toledo; Quebec; Nagoya;
            Alexandria; Beijing; Lisbon; Jerusalem; Tripoli; Bogota; Strasbourg; Pittsburgh; Aarhus
            """
        ),
        "held_out": _phrases(
            """
            Busan; Kyoto; Jaipur; Granada; Helsinki; Windhoek; Zurich; Damascus; Belgrade; Vancouver; Taipei;
            Philadelphia; Hamburg; Cardiff; Florence; Jakarta; Toulouse; Lima; Vienna; Antwerp; Montevideo;
            Manchester; Valencia; Pretoria; Tunis; Sapporo; Harare; Warsaw; Athens; Wellington; Bordeaux; Houston;
            Karachi; Dallas; Tehran; Reykjavik; Norwich; Seville; Galway; Seoul; Delhi; Shanghai; Bologna
            """
        ),
    },
    "colour": {
        "train": _phrases(
            """
            emerald; white; amber; mint; ruby; violet; teal; sapphire; lavender; purple; ivory; pink; rust; golden;
            burgundy; copper; yellow; orange; lemon; salmon; magenta; khaki; maroon; bronze; red; olive; blue; navy;
            mustard; tan; crimson; turquoise; beige; indigo
            """
        ),
        "held_out": _phrases(
            """
            plum; grey; charcoal; scarlet; peach; black; coral; brown; green; silver; lilac; cream
            """
        ),
    },
    "animal": {
        "train": _phrases(
            """
            iguana; ostrich; raven; goat; horse; cheetah; donkey; sheep; puma; squirrel; wolf; giraffe; hawk;
            flamingo; vulture; tiger; goose; bison; raccoon; crow; lemur; jaguar; gorilla; ferret; hedgehog; peacock;
            terrier; hamster; crab; camel; leopard; hyena; buffalo; penguin; pheasant; badger; weasel; duck; spaniel;
            seal; newt; elephant; otter; greyhound; turkey; deer; lynx; magpie; cockatoo; crocodile; fox; heron;
            scorpion; panther; salamander; dolphin; rabbit; zebra; starling; tortoise; parrot; elk; pelican; beaver;
            wombat; poodle; chameleon; toad; moose; monkey; owl
            """
        ),
        "held_out": _phrases(
            """
            falcon; shark; pigeon; kangaroo; cobra; whale; skunk; eagle; koala; canary; walrus; mouse; pony; octopus;
            llama; panda; gecko; swan; lobster; stork; python; puffin; snail; mole
            """
        ),
    },
    "food": {
        "train": _phrases(
            """
            raisin buns; black olives; kidney pie; ginger biscuits; potato salad; cherry strudel; spring rolls;
            chocolate mousse; peanut stew; almond croissants; oat pancakes; cabbage rolls; pea soup; aubergine bake;
            fried plantain; beef goulash; saffron rice; grilled trout; salted cod; clam chowder; egg sandwiches;
            cheese fondue; pumpkin stew; mint jelly; roasted chestnuts; walnut bread; pesto pasta; venison pie; onion
            soup; toffee pudding; garlic prawns; buttered asparagus; beetroot soup; liver dumplings; seaweed salad;
            baked beans; bean burritos; spiced couscous; sweet potato mash; rice pudding; banana fritters; chicken
            broth; rye bread; fig jam; oyster pie; corn chowder; egg noodles; blueberry muffins; vegetable lasagne;
            mushroom risotto; blackberry crumble; fish curry; apple pie; poached pears; fennel salad; turkey
            sandwiches; quince jelly; lentil soup; smoked cheese; cucumber sandwiches
            """
        ),
        "held_out": _phrases(
            """
            crab cakes; plum cake; lamb kebab; steamed dumplings; tomato tart; pickled herring; stuffed peppers; hot
            waffles; barley porridge; honey cake; rabbit stew; lemon tart; duck noodles; date pudding; coconut curry;
            carrot cake; spinach quiche; roast duck; lime sorbet; leek tart
            """
        ),
    },
    "job": {
        "train": _phrases(
            """
            engraver; soldier; electrician; diplomat; postman; coroner; welder; historian; roofer; baker; goldsmith;
            singer; journalist; printer; tattooist; philosopher; actuary; puppeteer; glazier; miner; judge;
            astronomer; musician; accountant; poet; shoemaker; butcher; firefighter; fisherman; veterinarian;
            upholsterer; tailor; weaver; physicist; translator; blacksmith; chimney sweep; potter; mathematician;
            zoologist; coach driver; lawyer; violin maker; auctioneer; typesetter; barber; shepherd; radiologist;
            carpenter; photographer; detective; paramedic; magician; pharmacist; sculptor; teacher; botanist; farmer;
            surveyor; biologist; railway guard; glassblower; waiter; thatcher; dentist; optician; cellist; miller;
            gardener; statistician; beekeeper; surgeon; painter; clockmaker; linguist
            """
        ),
        "held_out": _phrases(
            """
            stonemason; saddler; illustrator; midwife; social worker; jeweller; diver; bricklayer; milliner;
            geologist; florist; plasterer; librarian; taxi driver; falconer; bookbinder; ferry pilot; plumber;
            cartographer; locksmith; hairdresser; architect; mechanic; nurse; chemist
            """
        ),
    },
    "instrument": {
        "train": _phrases(
            """
            glockenspiel; French horn; xylophone; theremin; sitar; cornet; clarinet; mandolin; trumpet; zither;
            euphonium; recorder; double bass; piccolo; celesta; harmonium; bassoon; organ; ocarina; balalaika; viola;
            guitar; cello; bagpipes; banjo; tambourine; accordion; triangle; harmonica; dulcimer; piano; oboe;
            hurdy-gurdy; fiddle; ukulele
            """
        ),
        "held_out": _phrases(
            """
            saxophone; tabla; harp; flute; lyre; marimba; kettledrum; tuba; bugle; concertina; trombone; vibraphone
            """
        ),
    },
    "object": {
        "train": _phrases(
            """
            sledge; jewel case; bookcase; tablecloth; porcelain vase; mirror; footstool; picnic hamper; anchor; sword;
            fishing rod; kite; lantern clock; velvet cushion; stamp album; wicker basket; globe; saddle; picture
            frame; walking stick; wool carpet; corkscrew; copper kettle; paper lantern; sundial; silver thimble; gold
            ring; ladder; leather suitcase; rocking chair; hourglass; pocket watch; birdcage; bicycle bell; feather
            quilt; wheelbarrow; gas stove; letter opener; trowel; pearl necklace; tea chest; glass bottle; bread
            knife; telescope; brass compass; rowing boat; weather vane; oak table; coat stand; barometer; fountain
            pen; tin whistle; wardrobe; music box; garden rake; sugar bowl; microscope; fire screen; teapot
            """
        ),
        "held_out": _phrases(
            """
            stone jar; straw hat; tent; cuckoo clock; mousetrap; marble statue; iron lamp; toy train; magnifying
            glass; silk umbrella; shield; amber brooch; hammock; sewing machine; wooden chess set; pepper mill; ice
            bucket; typewriter; candlestick; doorbell
            """
        ),
    },
    "drink": {
        "train": _phrases(
            """
            tonic water; espresso; grape juice; pear nectar; hot chocolate; camomile tea; wheat beer; ginger ale;
            cider; oat milk; coconut water; jasmine tea; port wine; apple juice; elderflower cordial; cranberry juice;
            red wine; iced tea; almond milk; green tea; malted milk; honey mead; cappuccino; dark rum; cherry soda;
            root beer; mulled wine; tomato juice; dry sherry; lemonade; carrot juice; mango lassi; black coffee; egg
            nog; whisky
            """
        ),
        "held_out": _phrases(
            """
            champagne; barley water; beetroot juice; sparkling water; peppermint tea; orange squash; vanilla
            milkshake; rice wine; cold cocoa; plum brandy; rosehip tea; buttermilk
            """
        ),
    },
    "plant": {
        "train": _phrases(
            """
            hyacinth; carnation; anemone; rose; orchid; edelweiss; daffodil; gladiolus; dahlia; hibiscus; camellia;
            hydrangea; lily; lilac; clover; cactus; lotus; heather; chrysanthemum; foxglove; jasmine; peony;
            forget-me-not; narcissus; petunia; cornflower; ivy; magnolia; marigold; verbena; iris; mimosa; wisteria;
            snowdrop; oleander; bluebell; daisy; tulip; cyclamen; geranium; gardenia; pansy; poppy; zinnia
            """
        ),
        "held_out": _phrases(
            """
            begonia; honeysuckle; buttercup; aster; nasturtium; sunflower; lupin; crocus; violet; thistle; fuchsia;
            fern; lavender; freesia; azalea
            """
        ),
    },
    "tree": {
        "train": _phrases(
            """
            hawthorn; olive tree; linden; oak; poplar; birch; apricot tree; baobab; yew; willow; alder; quince tree;
            plum tree; larch; banyan; juniper; cedar; elm; sycamore; pear tree; hornbeam; pine; spruce; beech; ginkgo;
            cherry tree; chestnut; walnut tree; mulberry; cypress
            """
        ),
        "held_out": _phrases(
            """
            maple; eucalyptus; holly; acacia; hazel tree; rowan; palm; redwood; almond tree; fig tree
            """
        ),
    },
    "language": {
        "train": _phrases(
            """
            Korean; Maori; Vietnamese; Mongolian; Japanese; Catalan; Dutch; Mandarin; Romanian; Hindi; Serbian;
            Norwegian; Polish; Danish; Latin; Latvian; Welsh; Quechua; Finnish; Spanish; Portuguese; Hebrew; Turkish;
            Greek; Estonian; Russian; Icelandic; Thai; Swedish; Slovene; Georgian; Armenian; Yoruba; Bengali; Tamil;
            Hungarian; Croatian; Lithuanian
            """
        ),
        "held_out": _phrases(
            """
            Arabic; Persian; Italian; Malay; Zulu; Gaelic; Czech; Ukrainian; Amharic; Swahili; Tibetan; Basque
            """
        ),
    },
    "hobby": {
        "train": _phrases(
            """
            ice skating; ballroom dancing; skiing; kite flying; squash; gymnastics; horse riding; wrestling; table
            tennis; snooker; gardening; chess; swimming; polo; fishing; beekeeping; photography; embroidery; archery;
            climbing; cycling; sailing; surfing; wood carving; weightlifting; stamp collecting; volleyball; knitting;
            rowing; bell ringing; hang gliding; scuba diving; judo; pottery; stargazing; cricket; skateboarding;
            orienteering; karate; croquet
            """
        ),
        "held_out": _phrases(
            """
            canoeing; rugby; juggling; yoga; golf; curling; darts; calligraphy; hiking; tap dancing; birdwatching;
            carpentry; fencing; origami
            """
        ),
    },
    "cargo": {
        "train": _phrases(
            """
            olive oil; grain; coal; rubber; tractors; glass bottles; soap; peanuts; furniture; leather; copper ore;
            bricks; sugar; cotton; steel pipes; fertiliser; silk; wool; coffee beans; machine parts; cocoa; carpets;
            marble; bicycles; paper rolls; medicines; slate; tinned fish; cement; salt
            """
        ),
        "held_out": _phrases(
            """
            spices; bananas; rice; oranges; potatoes; timber; whisky barrels; tea leaves; paint; tobacco
            """
        ),
    },
    "material": {
        "train": _phrases(
            """
            chalk; glass; dolomite; porphyry; aluminium; limestone; adobe; sandstone; steel; bamboo; bronze; coral
            stone; concrete; oak timber; reed; pine logs; slate; gneiss; clay; cobblestone; terracotta; quartzite;
            tuff; brick
            """
        ),
        "held_out": _phrases(
            """
            cast iron; basalt; cedar planks; travertine; granite; flint; copper sheets; marble
            """
        ),
    },
    "study": {
        "train": _phrases(
            """
            theology; mathematics; botany; geology; optics; zoology; medicine; philosophy; sociology; literature;
            logic; oceanography; rhetoric; anthropology; archaeology; genetics; psychology; forestry; metallurgy;
            music theory; meteorology; agriculture; history; astronomy; architecture; navigation; nursing; chemistry;
            pharmacy; linguistics
            """
        ),
        "held_out": _phrases(
            """
            law; engineering; statistics; accounting; economics; journalism; dentistry; acoustics; physics; geography
            """
        ),
    },
}
