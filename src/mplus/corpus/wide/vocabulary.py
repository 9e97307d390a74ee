"""What may be said of somebody: word values to train on beyond ``corpus.values``. Data only; reserved words are taken out elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final


def _phrases(text: str) -> tuple[str, ...]:
    return tuple(" ".join(phrase.split()) for phrase in text.split(";"))


MORE_WORDS: Final[Mapping[str, tuple[str, ...]]] = {
    "city": _phrases(
        """
        Paris; London; Rome; Madrid; Berlin; Moscow; Amsterdam; Barcelona; Frankfurt; Stuttgart; Hanover; Bremen; Graz;
        Salzburg; Innsbruck; Linz; Lucerne; Bern; Lausanne; Lyon; Nice; Lille; Rennes; Dijon; Reims; Rouen; Limoges; Tours;
        Genoa; Verona; Venice; Padua; Trieste; Pisa; Siena; Catania; Bari; Malaga; Murcia; Zaragoza; Vigo; Salamanca; Coimbra;
        Braga; Faro; Leeds; York; Bath; Oxford; Cambridge; Exeter; Plymouth; Swansea; Dundee; Inverness; Cork; Limerick; Sligo;
        Malmo; Uppsala; Lund; Turku; Tampere; Oulu; Trondheim; Stavanger; Tromso; Odense; Aalborg; Gdansk; Lodz; Poznan;
        Wroclaw; Lublin; Brno; Ostrava; Kosice; Bratislava; Szeged; Pecs; Debrecen; Cluj; Timisoara; Sofia; Plovdiv; Varna;
        Skopje; Tirana; Sarajevo; Split; Dubrovnik; Maribor; Nis; Patras; Corfu; Heraklion; Nicosia; Bursa; Konya; Adana;
        Trabzon; Yerevan; Baku; Batumi; Odesa; Lviv; Kharkiv; Minsk; Kaunas; Tartu; Kazan; Omsk; Perm; Samara; Irkutsk; Yakutsk;
        Tashkent; Samarkand; Almaty; Bishkek; Ashgabat; Kandahar; Peshawar; Multan; Amritsar; Pune; Nagpur; Lucknow; Varanasi;
        Mysore; Madurai; Kochi; Surat; Patna; Sylhet; Kandy; Galle; Mandalay; Yangon; Chiang Mai; Phuket; Hue; Da Nang; Penang;
        Malacca; Bandung; Surabaya; Makassar; Davao; Cebu; Kobe; Nara; Sendai; Hiroshima; Niigata; Kanazawa; Incheon; Daegu;
        Harbin; Xian; Chengdu; Kunming; Wuhan; Suzhou; Lhasa; Ulaanbaatar; Muscat; Doha; Dubai; Sanaa; Aden; Riyadh; Medina;
        Basra; Mosul; Aleppo; Haifa; Luxor; Aswan; Casablanca; Fez; Agadir; Oran; Benghazi; Niamey; Kano; Ibadan; Abuja; Douala;
        Libreville; Kinshasa; Entebbe; Arusha; Dodoma; Maputo; Beira; Bulawayo; Gaborone; Bloemfontein; Port Elizabeth; Maseru;
        Antananarivo; Port Louis; Djibouti; Asmara; Addis Ababa; Freetown; Monrovia; Lome; Abidjan; Banjul; Nouakchott; Tucson;
        Phoenix; Memphis; Nashville; Omaha; Boise; Tampa; Savannah; Buffalo; Cleveland; Milwaukee; Spokane; Oakland; Fresno;
        Santa Fe; Anchorage; Juneau; Halifax; Regina; Saskatoon; Edmonton; Victoria; St John's; Puebla; Oaxaca; Merida; Tijuana;
        Leon; Managua; San Jose; Panama City; Kingston; Nassau; Bridgetown; Cartagena; Cali; Guayaquil; Cuenca; Arequipa;
        Trujillo; La Paz; Sucre; Potosi; Iquique; Concepcion; Mendoza; Salta; Ushuaia; Curitiba; Manaus; Belem; Fortaleza;
        Natal; Darwin; Adelaide; Cairns; Canberra; Dunedin; Christchurch; Suva; Apia; Noumea; Papeete
        """
    ),
    "country": _phrases(
        """
        Albania; Algeria; Angola; Argentina; Australia; Austria; Bangladesh; Belgium; Benin; Bhutan; Bolivia; Botswana; Brazil;
        Bulgaria; Cambodia; Cameroon; Canada; Chad; Chile; China; Colombia; Croatia; Cuba; Cyprus; Denmark; Ecuador; Egypt;
        Estonia; Ethiopia; Fiji; Finland; France; Gabon; Georgia; Germany; Ghana; Greece; Guatemala; Guyana; Haiti; Honduras;
        Hungary; Iceland; India; Iraq; Ireland; Israel; Italy; Jamaica; Japan; Jordan; Kenya; Kuwait; Laos; Latvia; Lebanon;
        Lesotho; Liberia; Libya; Lithuania; Luxembourg; Madagascar; Malawi; Malaysia; Mali; Malta; Mexico; Moldova; Mongolia;
        Morocco; Mozambique; Namibia; Nepal; New Zealand; Nicaragua; Niger; Nigeria; Norway; Oman; Pakistan; Panama; Paraguay;
        Peru; Poland; Portugal; Qatar; Romania; Rwanda; Samoa; Senegal; Serbia; Slovakia; Slovenia; Somalia; South Africa; Spain;
        Sri Lanka; Sudan; Suriname; Sweden; Switzerland; Syria; Tanzania; Thailand; Togo; Tonga; Tunisia; Turkey; Uganda; Ukraine;
        Uruguay; Uzbekistan; Vanuatu; Venezuela; Vietnam; Yemen; Zambia; Zimbabwe
        """
    ),
    "colour": _phrases(
        """
        apricot; aquamarine; ash; azure; brick red; buff; canary yellow; caramel; cerise; chestnut brown; claret; cobalt; cyan;
        denim blue; ebony; eggshell; fawn; flame red; fuchsia pink; gold; graphite; honey; ice blue; jade; jet black; lime;
        mahogany; mauve; moss green; ochre; off-white; oxblood; pale blue; pale green; pale pink; pearl; periwinkle; petrol
        blue; pine green; pistachio; powder blue; raspberry; rose; royal blue; russet; sand; sea green; sepia; sky blue; slate
        grey; snow white; steel blue; straw; sulphur yellow; tangerine; taupe; terracotta; umber; vermilion; wine red; dark
        green; dark blue; dark red; bright orange; bright pink; bright green; light brown; light grey; deep purple; deep blue;
        lemon yellow
        """
    ),
    "animal": _phrases(
        """
        aardvark; albatross; alligator; alpaca; anteater; antelope; armadillo; axolotl; baboon; bat; bear; beagle; boar; bobcat;
        budgerigar; bulldog; bullfrog; bumblebee; butterfly; buzzard; capybara; caribou; carp; cat; caterpillar; catfish;
        chamois; chimpanzee; chinchilla; chipmunk; cicada; civet; cockroach; cod; collie; condor; cormorant; cow; coyote; crane;
        cricket; cuckoo; curlew; dachshund; dalmatian; dingo; dormouse; dove; dragonfly; dromedary; eel; egret; emu; finch;
        firefly; frog; gannet; gazelle; gerbil; gibbon; gnu; goldfinch; goldfish; grasshopper; grouse; guinea pig; gull; hare;
        hen; hermit crab; hippopotamus; hornet; hummingbird; husky; ibex; ibis; impala; jackal; jackdaw; jay; jellyfish;
        kingfisher; kiwi; kookaburra; ladybird; lark; lemming; lion; lizard; locust; lorikeet; mackerel; mallard; manatee;
        mandrill; marmot; marten; mastiff; meerkat; mink; mongoose; moth; mule; muskrat; narwhal; nightingale; nuthatch; ocelot;
        okapi; opossum; orangutan; oriole; oryx; ox; partridge; perch; pig; pike; platypus; plover; polecat; porcupine;
        porpoise; prawn; quail; quetzal; rat; ray; robin; rooster; salmon; sardine; sea lion; seahorse; shrew; silkworm; sloth;
        snipe; sparrow; spider; squid; stick insect; stoat; swallow; swift; swordfish; tapir; tarantula; tench; tern; thrush;
        toucan; trout; tuna; turtle; viper; vole; wallaby; warthog; wasp; whippet; wild boar; wolverine; woodpecker; wren; yak
        """
    ),
    "job": _phrases(
        """
        acrobat; actor; air traffic controller; ambulance driver; anaesthetist; antique dealer; archaeologist; archivist; art
        dealer; athlete; bailiff; bank clerk; bartender; basket weaver; blogger; boat builder; bodyguard; bus driver; butler;
        cabinet maker; cameraman; care worker; cashier; caterer; cheesemaker; chef; chess teacher; choreographer; civil servant;
        cleaner; coach; cobbler; comedian; composer; conductor; confectioner; conservator; copywriter; costume designer;
        courier; crane operator; croupier; customs officer; dance teacher; data analyst; debt collector; decorator; dietitian;
        dishwasher; dispatcher; dramatist; dressmaker; driving instructor; economist; editor; embalmer; estate agent; fashion
        model; film director; fishmonger; flight attendant; forester; furrier; game warden; ghostwriter; grocer; gunsmith;
        handyman; harbour master; herbalist; hotelier; house painter; immunologist; innkeeper; interpreter; investigator;
        ironmonger; janitor; jockey; juggler; knife grinder; laboratory assistant; landscape gardener; lecturer; lifeguard;
        lighthouse keeper; lobbyist; lorry driver; lumberjack; masseur; mayor; meteorologist; monk; mortician; mountain guide;
        music teacher; nanny; naturalist; notary; novelist; nun; nutritionist; oboist; oceanographer; ornithologist; osteopath;
        parachutist; park ranger; pastry cook; pathologist; pawnbroker; perfumer; pianist; piano tuner; pilot; playwright;
        policeman; porter; priest; prison guard; probation officer; programmer; proofreader; psychiatrist; psychologist;
        publisher; quarryman; receptionist; referee; reporter; retailer; rope maker; sailor; sales assistant; scaffolder;
        scientist; script writer; seamstress; secretary; security guard; senator; ship's cook; shop assistant; signwriter; ski
        instructor; sociologist; solicitor; sound engineer; speech therapist; steeplejack; stockbroker; street sweeper;
        stuntman; surfer; swimming coach; tanner; tax inspector; telephonist; tour guide; toymaker; train driver; tutor;
        undertaker; usher; vicar; vintner; watchmaker; web designer; window cleaner; wine merchant; wood carver; zookeeper
        """
    ),
    "instrument": _phrases(
        """
        alto horn; alphorn; autoharp; bass drum; bass guitar; bodhran; bongo; bouzouki; castanets; charango; clavichord; conch;
        cor anglais; cowbell; cymbals; didgeridoo; djembe; electric guitar; erhu; fife; flugelhorn; gong; guzheng; handbells;
        harpsichord; hammered dulcimer; jew's harp; kalimba; kazoo; keyboard; kora; koto; lute; maracas; melodica; musical saw;
        oud; pan pipes; pipe organ; rebec; sackbut; santoor; sarod; shakuhachi; shamisen; shawm; snare drum; sousaphone; spinet;
        steel drum; synthesiser; tenor horn; timpani; tin flute; tubular bells; viol; washboard; wooden flute
        """
    ),
    "object": _phrases(
        """
        abacus; alarm clock; apron; armchair; backpack; banknote; bathtub; beach ball; bedspread; bell; belt; bench; binder;
        blanket; board game; bolt cutter; book; bookmark; boomerang; bottle opener; bowler hat; bracelet; briefcase; broom;
        bucket; button; cake tin; calculator; calendar; camera; camp bed; can opener; canoe; canvas bag; cape; card index;
        carpet beater; carriage; cash box; chalkboard; chandelier; cheese grater; chess clock; chisel; chopping board; coffee
        grinder; coffee pot; coin; comb; cooking pot; cradle; crate; crowbar; crutch; cup; curtain; deck chair; desk; desk lamp;
        diary; dictionary; doll; door handle; doormat; drawer; drill; drum kit; dustpan; easel; egg timer; envelope; extension
        lead; eye patch; fan; filing cabinet; first-aid kit; flag; flashlight; flask; flower pot; flute case; folding table;
        fork; frying pan; funnel; garden gnome; glove; goggles; gramophone; grandfather clock; guitar case; hacksaw; hair dryer;
        hairbrush; hammer; handbag; handkerchief; harness; hat box; headlamp; helmet; hockey stick; hoe; horseshoe; hosepipe;
        inkwell; iron; jacket; jam jar; jigsaw puzzle; jug; juicer; kaleidoscope; kayak; key ring; keyboard; kitchen scale;
        knapsack; lamp shade; lawn mower; lighter; lipstick; locket; lunch box; mailbox; manuscript; map; marble; mask;
        matchbox; measuring tape; medal; megaphone; metal detector; milk churn; mop; mortar; mug; nail file; napkin; necktie;
        needle; notebook; oar; oil can; oven glove; paddle; paint box; paintbrush; pan lid; paperweight; parasol; passport;
        pencil case; penknife; perfume bottle; photograph; pillow; pincers; pitchfork; plate; playing card; pliers; postcard;
        potato peeler; printing press; puppet; purse; raincoat; razor; record player; reading lamp; ring binder; rolling pin;
        rope; rubber stamp; rucksack; ruler; salt cellar; sandal; saucepan; saucer; saw; scarf; school bell; scissors case;
        screwdriver; sewing kit; shaving brush; shoe box; shopping bag; shovel; sickle; sieve; skateboard; skipping rope; slide
        rule; slipper; snow globe; soap dish; sofa; spade; spanner; spinning wheel; spirit level; spoon; stapler; steamer trunk;
        stethoscope; stool; stopwatch; suitcase; sunhat; surfboard; sweater; table lamp; tambour; tape recorder; tapestry;
        teaspoon; tennis racket; thermos; ticket; toaster; toolbox; toothbrush; torch; towel; toy boat; tray; tripod; trophy;
        trumpet case; tuning fork; umbrella stand; unicycle; vase; violin case; waistcoat; wallet; washing machine; watch chain;
        watering can; whisk; whistle; wig; wind chime; wine glass; wooden box; wooden spoon; wreath; wrench; wristwatch; yoyo
        """
    ),
    "drink": _phrases(
        """
        amaretto; apricot nectar; banana milkshake; beef tea; birch juice; bitter lemon; black tea; blackcurrant juice;
        blueberry smoothie; brandy; bourbon; chai; cherry brandy; chicory coffee; cloudberry liqueur; cocoa; cream soda;
        cucumber water; dandelion tea; decaf coffee; earl grey tea; energy drink; fennel tea; flat white; ginger beer; ginger
        tea; gin; grapefruit juice; grappa; herbal tea; hibiscus tea; horchata; iced coffee; kefir; kombucha; kvass; lager;
        latte; lavender lemonade; lime soda; linden tea; liquorice tea; matcha; mate; mineral water; mint tea; mocha; nettle
        tea; oolong tea; orange juice; ouzo; pale ale; passion fruit juice; peach tea; pineapple juice; pomegranate juice;
        porter; pink lemonade; prune juice; raspberry cordial; rooibos tea; rum punch; rye whiskey; sake; sangria; soda water;
        sour cherry juice; soy milk; stout; strawberry milkshake; tamarind water; tap water; tequila; turkish coffee; turmeric
        milk; vermouth; vodka; warm milk; watermelon juice; white tea; white wine; yerba tea; yogurt drink
        """
    ),
    "plant": _phrases(
        """
        agapanthus; aloe; alyssum; amaranth; amaryllis; aspidistra; aubrieta; bamboo; bellflower; bleeding heart; bougainvillea;
        bromeliad; broom; busy lizzie; calendula; camomile; campion; candytuft; canna; catmint; celandine; clematis; coltsfoot;
        columbine; coneflower; coreopsis; cosmos; cowslip; crown imperial; dandelion; day lily; delphinium; dill; echinacea;
        evening primrose; everlasting; forsythia; gentian; gerbera; globe thistle; goldenrod; grape hyacinth; gypsophila;
        harebell; heliotrope; hellebore; hollyhock; hosta; houseleek; hydrangea vine; jonquil; knapweed; lady's mantle;
        larkspur; lily of the valley; lobelia; love-in-a-mist; mallow; mint; monkshood; moonflower; morning glory; mugwort;
        mullein; nettle; nigella; oxeye daisy; oxlip; passion flower; periwinkle; phlox; pimpernel; pink; plumbago; poinsettia;
        primrose; primula; ragwort; ranunculus; red clover; rhododendron; rosemary; rudbeckia; sage; salvia; saxifrage;
        scabious; sea holly; sedum; snapdragon; snowflake; speedwell; spider plant; spurge; stock; strawflower; sweet pea; sweet
        william; tansy; thyme; tiger lily; tobacco plant; trillium; valerian; viola; wallflower; water lily; wild garlic; wood
        sorrel; yarrow; yucca
        """
    ),
    "tree": _phrases(
        """
        ash; aspen; bay tree; black locust; blackthorn; bottle tree; box tree; buckthorn; cacao tree; camphor tree; carob tree;
        cashew tree; catalpa; cork oak; crab apple; date palm; deodar; dogwood; dragon tree; ebony; elder; ficus; field elm;
        fir; gum tree; hemlock; hickory; horse chestnut; ironwood; jacaranda; judas tree; kapok tree; katsura; laburnum; laurel;
        lemon tree; lime tree; lychee tree; mango tree; medlar; mesquite; monkey puzzle; myrtle; nutmeg tree; orange tree;
        pawpaw; peach tree; pecan; persimmon tree; plane tree; pomegranate tree; rubber tree; sandalwood; sassafras; scots pine;
        service tree; silver birch; silver fir; stone pine; sweet gum; tamarind; tamarisk; teak; tulip tree; tupelo; weeping
        willow; whitebeam; wild cherry; witch hazel
        """
    ),
    "language": _phrases(
        """
        Afrikaans; Albanian; Assamese; Aymara; Azeri; Bambara; Belarusian; Bosnian; Breton; Bulgarian; Burmese; Cantonese;
        Cornish; Corsican; English; Esperanto; Faroese; Fijian; Flemish; French; Frisian; Galician; German; Guarani; Gujarati;
        Hausa; Hawaiian; Igbo; Ilocano; Indonesian; Inuktitut; Irish; Javanese; Kannada; Kazakh; Khmer; Kurdish; Kyrgyz; Ladino;
        Lao; Lingala; Luxembourgish; Macedonian; Malagasy; Malayalam; Maltese; Manx; Marathi; Nahuatl; Navajo; Nepali; Occitan;
        Odia; Oromo; Papiamento; Pashto; Punjabi; Romani; Romansh; Sami; Samoan; Sanskrit; Scots; Sesotho; Shona; Sindhi;
        Sinhala; Slovak; Somali; Sundanese; Tagalog; Tahitian; Tajik; Tatar; Telugu; Tongan; Tswana; Turkmen; Twi; Urdu; Uyghur;
        Uzbek; Wolof; Xhosa; Yiddish
        """
    ),
    "hobby": _phrases(
        """
        aerobics; amateur radio; antique hunting; astronomy; backgammon; badminton; baking; ballet; baseball; basket weaving;
        basketball; billiards; board games; bodybuilding; bookbinding; bowling; boxing; brewing beer; bridge; bungee jumping;
        butterfly watching; camping; candle making; card tricks; caving; ceramics; cheese making; choir singing; coin
        collecting; collage making; comic drawing; cooking; crochet; crossword puzzles; dog training; dominoes; drawing;
        dressmaking; drone flying; drumming; falconry; figure skating; flower arranging; folk dancing; football; fossil hunting;
        free diving; furniture restoring; genealogy; glass painting; go-karting; gold panning; handball; hockey; home
        decorating; hula dancing; hunting; ice hockey; improvised theatre; jam making; jewellery making; jigsaw puzzles;
        jogging; kayaking; kickboxing; kung fu; lace making; leather work; line dancing; lion dancing; macrame; magic tricks;
        marathon running; marbles; meditation; metal detecting; model building; model railways; mosaic making; motor racing;
        mountain biking; mushroom picking; netball; oil painting; paper folding; parachuting; paragliding; parkour; pigeon
        racing; pilates; poetry; poker; quilting; quizzes; rally driving; reading; rock climbing; roller skating; rope skipping;
        salsa dancing; scrapbooking; sculpting; sewing; shooting; sketching; sledding; snorkelling; snowboarding; soap making;
        softball; square dancing; storytelling; sudoku; sumo; tango; tapestry; target shooting; taxidermy; tennis; trampolining;
        treasure hunting; triathlon; ventriloquism; video games; water polo; watercolours; weaving; whittling; wind surfing;
        wine tasting; wood turning; writing letters
        """
    ),
    "cargo": _phrases(
        """
        almonds; animal feed; apples; asphalt; barley; bauxite; beef; beeswax; boots; bottled water; car tyres; cars; cashews;
        caustic soda; chalk; charcoal; cheese; chemicals; chilled meat; chrome ore; clothing; coconuts; computers; copper wire;
        cork; corn; crude oil; dates; diesel; dried fruit; dyes; electric motors; fabrics; figs; firewood; fish meal; flax;
        flour; flower bulbs; frozen chicken; frozen shrimp; gas cylinders; ginger; glass; gold bars; granite blocks; gravel;
        grapes; guano; hay; helicopters; hemp; hides; honey; insulation; iron ore; jute; kerosene; lamp oil; lead; lentils;
        lignite; lime; linen; linseed; live cattle; magnets; mangoes; manganese; matches; molasses; mules; nails; newsprint;
        nickel; nutmeg; oats; onions; palm oil; paper; parquet; pearls; pepper; petrol; phosphate; pianos; pig iron; pineapples;
        pipes; plastic toys; plywood; poultry; pumps; rails; raisins; rapeseed; refrigerators; resin; roof tiles; rope; rum;
        rye; sand; sandals; saffron; sawdust; scrap metal; sesame; sheepskins; shoes; silver; soybeans; spare parts; sugar beet;
        sulphur; sunflower oil; tallow; tar; teak; television sets; tents; tin; tomatoes; turbines; uniforms; vanilla; vinegar;
        walnuts; washing powder; wax; wheat; wheelchairs; wine; wire; wood pulp; yarn; zinc
        """
    ),
    "material": _phrases(
        """
        acrylic; alabaster; asbestos; ash wood; balsa; birch wood; brass; breeze blocks; canvas; carbon fibre; cardboard; cedar
        wood; ceramic; cherry wood; chrome; cob; copper; cork; corrugated iron; cotton; crystal; drystone; ebony wood; enamel;
        felt; fibreglass; fieldstone; fired clay; gold leaf; green glass; gypsum; hemp; ivory; jade; lead; leather; lime
        plaster; linen; loam; mahogany; mud brick; nickel; nylon; obsidian; onyx; papier mache; pewter; pig iron; pinewood;
        plaster; plastic; plexiglass; plywood; porcelain; pumice; rammed earth; rattan; rosewood; rubber; rubble; satin; shale;
        silk; soapstone; spruce wood; stained glass; straw bales; suede; thatch; tin; titanium; turf; velvet; walnut wood;
        wattle and daub; white marble; wicker; wool; wrought iron; zinc
        """
    ),
    "study": _phrases(
        """
        aeronautics; algebra; art history; Arabic studies; astrophysics; biochemistry; biology; business studies; calculus;
        ceramics; civil law; classics; climatology; computer science; criminology; crystallography; dance; demography; drama;
        ecology; education; Egyptology; electronics; entomology; epidemiology; ethics; ethnology; film studies; finance; fine
        arts; fluid mechanics; food science; forensics; gastronomy; geometry; geophysics; graphic design; Greek philosophy;
        heraldry; horticulture; hydrology; immunology; industrial design; information theory; land surveying; library science;
        macroeconomics; management; marine biology; marketing; materials science; media studies; medieval history; microbiology;
        mineralogy; mining; musicology; mycology; nanotechnology; neuroscience; number theory; nutrition; optometry;
        ornithology; palaeontology; parasitology; pedagogy; petrology; phonetics; photography; physiology; poetry; political
        science; public health; radiology; robotics; Roman law; seismology; semantics; social work; soil science; surgery;
        textile design; topology; toxicology; tropical medicine; typography; urban planning; veterinary medicine; virology;
        viticulture; zoology of birds
        """
    ),
    "fruit": _phrases(
        """
        apple; apricot; avocado; banana; blackberry; blackcurrant; blueberry; cantaloupe; cherry; clementine; cranberry; damson;
        date; dragon fruit; elderberry; fig; gooseberry; grape; grapefruit; greengage; guava; honeydew melon; kumquat; lemon;
        lime; loganberry; lychee; mandarin; mango; mulberry; nectarine; orange; papaya; passion fruit; pear; persimmon;
        pineapple; pomegranate; pomelo; quince; raspberry; redcurrant; rhubarb; satsuma; sloe; starfruit; strawberry; tangerine;
        watermelon
        """
    ),
    "vegetable": _phrases(
        """
        artichoke; asparagus; aubergine; beetroot; broad bean; broccoli; brussels sprout; cabbage; carrot; cauliflower;
        celeriac; celery; chard; chicory; courgette; cucumber; endive; fennel; garlic; green bean; horseradish; kale; kohlrabi;
        leek; lettuce; lima bean; mangetout; marrow; okra; onion; pak choi; parsnip; pea; pumpkin; radicchio; radish; runner
        bean; salsify; savoy; shallot; sorrel; spinach; spring onion; swede; sweet potato; sweetcorn; turnip; watercress; yam
        """
    ),
    "gemstone": _phrases(
        """
        agate; alexandrite; amethyst; aquamarine; beryl; bloodstone; carnelian; citrine; diamond; emerald; fire opal; garnet;
        haematite; jet; lapis lazuli; malachite; moonstone; obsidian; onyx; pearl; peridot; rose quartz; sapphire; sardonyx;
        spinel; sunstone; tanzanite; tiger's eye; topaz; tourmaline; turquoise; zircon
        """
    ),
    "vehicle": _phrases(
        """
        airship; ambulance; barge; bicycle; bulldozer; bus; cable car; camper van; caravan; cargo bike; catamaran; coupe;
        delivery van; dinghy; dog sled; fire engine; glider; golf cart; handcart; hatchback; hearse; helicopter; horse cart;
        hot-air balloon; houseboat; hovercraft; hydrofoil; ice cream van; jeep; jet ski; limousine; lorry; microlight; milk
        float; minibus; moped; motorboat; motorcycle; narrowboat; paddle steamer; pick-up truck; punt; quad bike; racing bike;
        rickshaw; scooter; seaplane; sidecar; sleigh; snowmobile; sports car; steam engine; submarine; tandem; tanker; tractor;
        tram; tricycle; trolleybus; tugboat; van; yacht
        """
    ),
    "dance": _phrases(
        """
        bolero; bossa nova; cancan; cha-cha; charleston; conga; fandango; flamenco; foxtrot; gavotte; hornpipe; jig; jitterbug;
        jive; lambada; limbo; mambo; mazurka; merengue; minuet; paso doble; polka; polonaise; quickstep; reel; rumba; samba;
        sarabande; tarantella; twist; two-step; waltz
        """
    ),
    "weekday": _phrases("Monday; Tuesday; Wednesday; Thursday; Friday; Saturday; Sunday"),
    "month": _phrases("January; February; March; April; May; June; July; August; September; October; November; December"),
    "season": _phrases(
        "spring; early spring; summer; late summer; autumn; late autumn; winter; midwinter; harvest time; the rainy season"
    ),
    "spice": _phrases(
        """
        allspice; aniseed; basil; bay leaf; black pepper; caraway; cardamom; cayenne; celery salt; chervil; chilli; chives;
        cinnamon; cloves; coriander; cumin; curry powder; dill; fenugreek; garlic salt; ginger; juniper; lemongrass; lovage;
        mace; marjoram; mint; mustard seed; nutmeg; oregano; paprika; parsley; pink pepper; poppy seed; rosemary; saffron; sage;
        sesame; star anise; sumac; tarragon; thyme; turmeric; vanilla; white pepper
        """
    ),
    "illness": _phrases(
        """
        a broken arm; a broken leg; a bad cold; a cough; a fever; a migraine; a sore throat; a sprained ankle; a sprained wrist;
        a stiff neck; a toothache; anaemia; appendicitis; asthma; back pain; bronchitis; chickenpox; concussion; cramps;
        dizziness; earache; eczema; food poisoning; gout; hay fever; heartburn; hiccups; insomnia; jaundice; laryngitis;
        lumbago; malaria; measles; mumps; pneumonia; rheumatism; scarlet fever; sciatica; shingles; sunburn; tonsillitis;
        vertigo; whooping cough
        """
    ),
    "allergy": _phrases(
        """
        almonds; bee stings; birch pollen; buckwheat; cat hair; celery; cow's milk; crab meat; dog hair; dust mites; egg white;
        feathers; gluten; grass pollen; hazelnuts; horse hair; house dust; kiwi fruit; latex; lupin flour; mould; mussels;
        mustard; nickel; oysters; peanuts; penicillin; pine nuts; prawns; ragweed; sesame; shellfish; soya; strawberries;
        walnuts; wasp stings; wool
        """
    ),
    "mood": _phrases(
        """
        amused; angry; anxious; ashamed; bored; calm; cheerful; confident; confused; content; cross; delighted; desperate;
        disappointed; doubtful; embarrassed; enthusiastic; envious; excited; exhausted; frightened; frustrated; furious; gloomy;
        glad; grateful; grumpy; happy; homesick; hopeful; hungry; impatient; indifferent; irritated; jealous; lonely;
        melancholy; miserable; nervous; nostalgic; optimistic; peaceful; pessimistic; playful; pleased; proud; puzzled; relaxed;
        relieved; restless; sad; shy; sleepy; sorry; stubborn; surprised; suspicious; tired; touched; upset; weary; worried
        """
    ),
    "weather": _phrases(
        """
        a blizzard; a clear sky; a drizzle; a dust storm; a gale; a hailstorm; a heavy downpour; a heatwave; a hurricane; a
        light breeze; a rainbow; a sandstorm; a snowstorm; a thunderstorm; a tornado; bitter cold; black ice; blazing sunshine;
        dense fog; freezing rain; hail; heavy snow; high winds; light rain; mist; overcast skies; scattered showers; sleet;
        slush; soft rain; sunshine; warm rain
        """
    ),
}

INGREDIENTS: Final = _phrases(
    """
    almond; anchovy; apple; apricot; artichoke; bacon; banana; barley; basil; beef; beetroot; blackberry; broccoli; butternut;
    cabbage; caramel; cauliflower; celery; cheese; cherry; chestnut; chicken; chickpea; chocolate; cinnamon; coconut; cod;
    coffee; corn; courgette; crab; cranberry; cucumber; duck; egg; fennel; fig; fish; garlic; ginger; goat; gooseberry; ham;
    hazelnut; herring; honey; kale; leek; lemon; lentil; lime; lobster; maple; mango; mint; mushroom; mussel; mustard; nut; oat;
    octopus; olive; onion; orange; oyster; parsnip; pea; peach; peanut; pear; pecan; pepper; pheasant; pineapple; pistachio;
    plum; poppy seed; pork; potato; prawn; prune; pumpkin; quail; quince; rabbit; radish; raisin; raspberry; red bean; rhubarb;
    rice; rye; saffron; sage; salmon; sardine; seaweed; sesame; shrimp; spinach; strawberry; sweet potato; tofu; tomato; trout;
    truffle; tuna; turkey; turnip; vanilla; veal; vegetable; venison; walnut; yogurt
    """
)
DISHES: Final = _phrases(
    """
    soup; stew; pie; cake; bread; curry; salad; soufflé; casserole; dumplings; pancakes; tart; risotto; sandwiches; pudding;
    biscuits; ice cream; jam; omelette; ravioli; noodles; fritters; rolls; muffins; crumble; pâté; broth; gratin; pasties;
    skewers; chowder; crackers; lasagne; pasta; pizza; strudel; waffles; mousse; chutney; meatballs; croquettes; bake; tacos;
    buns; loaf
    """
)
MODIFIERS: Final = _phrases(
    """
    old; new; small; large; broken; rusty; wooden; silver; leather; velvet; antique; folding; painted; golden; blue; green; red;
    striped; plastic; heavy; tiny; carved; second-hand; round; square; copper; cracked; embroidered; hand-made; borrowed; ivory;
    brass; yellow; woollen
    """
)
PASSWORD_WORDS: Final = _phrases(
    """
    acrobat; alpine; amethyst; anchor; apricot; arrow; avalanche; bagpipe; bamboo; banjo; basalt; beehive; biscuit; blizzard;
    bonfire; bramble; buffalo; cabbage; cactus; canyon; caramel; carousel; cashmere; castle; cathedral; chimney; cinnamon;
    cobweb; comet; coral; cricket; crystal; cucumber; daffodil; dolphin; domino; dragon; drumstick; ember; fiddle; firefly;
    flamingo; fossil; galaxy; gargoyle; geyser; ginger; glacier; gondola; goose; granite; hammock; harvest; hazelnut; hedgehog;
    helmet; honeycomb; horizon; iceberg; igloo; jackdaw; jigsaw; juniper; kangaroo; kettle; kingfisher; labyrinth; lagoon;
    lantern; lasagne; lemonade; lighthouse; limerick; magnet; mandolin; marathon; marzipan; meadow; melody; meteor; midnight;
    minaret; mongoose; mosaic; mulberry; mushroom; nebula; nightfall; nutmeg; oasis; obelisk; orchard; origami; otter; paddock;
    paprika; parachute; pebble; pelican; pendulum; peppermint; picnic; pigeon; pinball; plankton; porridge; prairie; pretzel;
    pumpkin; puzzle; pyramid; quicksand; rainbow; raspberry; riddle; rosemary; rowboat; saffron; sandstorm; sapphire; saxophone;
    scarecrow; seahorse; shamrock; snowflake; sparrow; spindle; starfish; sundial; tadpole; tambourine; tangerine; teacup;
    thimble; thunder; toboggan; tornado; treacle; trellis; tulip; tundra; turnip; umbrella; unicorn; vanilla; volcano; waffle;
    walnut; waterfall; whirlpool; windmill; wolfhound; xylophone; zeppelin; zigzag
    """
)
