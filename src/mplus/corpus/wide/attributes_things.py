"""What places, ships, clubs, projects and other things have. Data only.

One paragraph per kind of value: ``kind: noun; noun|another word for it; ...``. A noun means one thing only within its owner.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

OF_THINGS: Final[Mapping[str, str]] = {
    "place": """
    password: password for guests|guest password; code word for visitors; name of the network

    code: registration number; building code; inventory number; locker key

    phone: phone number|telephone number; reservation number

    number3: number of seats; number of steps; number of windows; number of visitors on Sunday

    price: entrance fee|admission; rent; cost of the repairs; ticket price; price of the tour

    time: closing time; lunch hour; time of the tour; last entry; evening bell

    weekday: closing day|day of rest; cleaning day; busiest day; delivery day

    date: inauguration|opening ceremony; annual inspection; date of the fire; auction date

    year: year of the fire; last renovation; year of the founding charter

    person: owner; caretaker|janitor; manager; night guard; builder; ghost; first owner; cook; gardener; patron; tenant

    colour: colour of the roof; colour of the gate; colour of the carpet; colour of the flag; colour of the shutters

    street: address; side entrance; delivery entrance

    length: height; length of the corridor; depth of the well

    area: size|floor area; area of the grounds

    animal: mascot; statue at the door; weathercock

    food: special of the day|dish of the day; most popular dish

    drink: house drink; welcome drink

    object: prize exhibit|main exhibit; stolen object; oldest piece

    material: roofing|material of the roof; floor|material of the floor

    duration: length of the tour; renovation period

    tree: oldest tree; tree by the gate

    room: control room; lost property office; break room

    petname: cat; watchdog

    team: sponsor; friends' association
    """,
    "ship": """
    code: call sign; registration; hull number; radio code

    year: year of launch|launch year; last refit; year of sinking

    person: owner; cook|ship's cook; first mate; builder; helmsman; doctor on board|ship's doctor; navigator; stowaway; engineer

    speed: top speed; cruising speed

    length: length; draught; height of the mast

    weight: displacement|weight; anchor weight

    number3: crew size|number of sailors; number of cabins; number of passengers

    city: next port|next port of call; port of departure; shipyard town; last port

    colour: colour of the funnel; colour of the sails; colour of the lifeboats

    time: departure time; arrival time; time of high tide

    date: date of return|return date; christening|christening date

    petname: ship's cat|cat on board; ship's dog

    price: value; fare; salvage price

    country: flag|flag state

    animal: animal on the sail; mascot
    """,
    "club": """
    person: president|chair; treasurer; trainer|coach; secretary; oldest member; youngest member; honorary member; conductor; star

    price: membership fee|annual fee; prize money; debt

    weekday: meeting day; training day; day of the concert

    code: registration code; door code; club number

    colour: colour of the cap; colour of the banner; colour of the ties; second colour

    title: anthem|club song; motto; newsletter; next play; best known record

    room: meeting room; changing room; rehearsal room

    street: address; club house

    phone: phone number; hotline

    score: last result; best result

    food: dish at the summer party; traditional meal

    object: trophy; prize in the raffle; stolen cup

    animal: mascot; animal on the badge

    city: home town; city of the next match|next away city

    password: password; secret greeting

    year: last title|year of the last title; year of the split
    """,
    "company": """
    person: owner; chief engineer; lawyer; accountant; chairman; spokesperson|speaker; receptionist; best customer; inventor; heir

    price: share price|price of a share; annual profit; turnover; debt; first loan; starting salary; fine

    phone: phone number|telephone number; hotline|helpline; fax number

    code: tax number; account number; customer code; stock symbol|ticker; patent number

    street: address; warehouse address; billing address

    colour: brand colour; colour of the vans; uniform colour; colour of the packaging

    title: slogan|motto; advertising song; company magazine

    petname: office dog; company cat

    percent: market share; pay rise; growth; discount

    city: largest branch; city of the new factory|new factory; first branch

    country: main market; largest supplier country

    object: best-seller|best-selling product; new product; worst product; giveaway

    year: year of bankruptcy; year of the merger; first year with a profit

    time: closing time; lunch break; start of work

    number4: number of customers; complaints last year; number of machines

    material: main raw material; packaging material

    animal: mascot; animal in the advert
    """,
    "novel": """
    person: translator; illustrator; heroine; villain; narrator; publisher; murderer; victim; editor; detective; first reviewer

    price: price; advance; auction price of the first edition

    number3: number of chapters; page of the first murder; number of copies

    year: year of the film|film year; year of the second edition; year in which it is set

    code: shelf mark; catalogue number; book number

    title: sequel; original title; working title; last chapter; film version

    country: country of publication; country where it was banned

    colour: colour of the cover|cover colour; colour of the spine

    animal: animal on the cover; hero's pet

    object: murder weapon; object on the cover; stolen treasure

    weather: weather in the first scene

    language: original language

    percent: discount; share of the film rights
    """,
    "village": """
    person: mayor; doctor; priest; teacher; blacksmith; oldest inhabitant; founder; baker; postman; midwife

    number4: population|number of inhabitants; postcode|postal code; number of sheep

    plant: emblem flower; flower of the town

    food: local dish|local speciality; dish at the fair

    drink: local drink

    weekday: market day; day of the fish van

    date: village festival|town festival; anniversary

    time: last bus; first train; evening bell; time of sunset

    distance: distance to the sea; distance to the capital

    temperature: highest temperature; average temperature in January

    cargo: main export|main product; former export

    material: stone of the church; material of the houses

    animal: animal on the coat of arms; pest

    year: year of the flood; founding year; year of the great fire

    country: country

    title: hymn; local newspaper; legend

    tree: tree on the square

    language: dialect|local language

    team: football club|local team; brass band

    village: river; mountain; neighbouring village|next village; old name; partner town|twin town; lake
    """,
    "project": """
    person: leader|project leader; sponsor; inventor; chief scientist; contact|contact person; auditor; critic; programmer; owner

    price: budget; cost so far|costs so far; daily rate; overrun

    date: deadline|due date; launch date|launch; review|review date; kick-off

    code: file number; budget code; version|version number; ticket

    password: password; code word; access word

    city: location|site; test site; host city

    room: meeting room|room for meetings; laboratory; war room

    time: daily meeting|stand-up; weekly call

    weekday: meeting day; reporting day

    percent: progress; risk; share of women; failure rate

    colour: status colour; colour of the folder; label colour

    object: prototype; main product; demonstration object

    duration: duration; delay; testing phase

    animal: mascot; logo

    language: working language; language of the reports

    nickname: internal name|code name; nickname; old name
    """,
    "event": """
    person: winner; organiser|host; opening speaker; judge; runner-up; guest of honour; sponsor; last year's winner; photographer

    city: venue|host city; next year's city

    date: date; closing date; registration deadline|deadline for entries

    time: start|starting time; end; opening speech; lunch; doors

    price: ticket price|price of a ticket; first prize; entry fee; loss

    number4: number of visitors|attendance; number of entries

    colour: colour of the badges; colour of the tickets; dress code

    object: main prize|first prize object; consolation prize

    food: lunch menu|lunch dish; dish at the closing dinner

    drink: toast; free drink

    weather: weather; forecast

    title: motto; theme song; opening film

    room: main room; cloakroom; press room

    street: address; meeting point

    score: final score|final result

    distance: length of the course; longest distance

    animal: mascot

    duration: duration|length
    """,
    "machine": """
    code: serial number; model number; firmware version|version; error code; part number; asset tag

    temperature: operating temperature; last reading; maximum temperature

    person: operator; inventor; designer; technician; owner; mechanic

    weight: weight; payload

    length: height; range; cable length

    year: year of manufacture|year it was made; last overhaul

    price: price; repair cost; running costs

    room: location; storage room

    password: password; admin password; network name

    colour: colour; colour of the warning light; colour of the start button

    speed: top speed

    date: next service|next inspection; delivery date; last failure

    time: switch-off time; backup time; daily restart

    material: casing|housing; main material

    percent: battery level|charge; error rate; efficiency

    duration: warranty; battery life; warm-up time

    brand: maker|manufacturer; software; supplier
    """,
    "pet": """
    person: owner; vet; breeder; trainer; best friend; sitter

    age: age

    food: favourite food; forbidden food

    weight: weight

    colour: colour|fur colour; collar colour; colour of the blanket; eye colour

    object: favourite toy|toy; sleeping place; stolen thing

    code: chip number|microchip number; tattoo number; pass number

    date: vaccination|vaccination date; birthday; next bath

    time: feeding time|meal time; walk|time of the walk; pill time

    city: birthplace; city of origin

    price: price; vet bill

    illness: illness; last complaint

    animal: best friend among animals; enemy; prey

    nickname: nickname; kennel name|official name

    allergy: allergy

    fruit: favourite treat; favourite snack
    """,
    "vehicle_line": """
    time: departure|departure time; arrival|arrival time; boarding time; delay notice; last call

    number2: gate; platform; stop number; carriage

    city: destination|final stop; first stop; stopover; place of departure

    person: driver; pilot; conductor; inspector

    price: fare|ticket price; surcharge

    duration: travel time|journey time; delay

    colour: colour|livery; ticket colour

    weekday: rest day; busiest day

    speed: top speed; average speed

    seat: reserved seat

    food: on-board meal
    """,
}
