"""What people have. Data only.

One paragraph per kind of value: ``kind: noun; noun|another word for it; ...``. A noun means one thing only within its owner.
"""

from __future__ import annotations

from typing import Final

OF_PEOPLE: Final = """
    password: password|login password; secret word|code word; wifi password|wireless password; username|user name; safe word; magic word

    pin: PIN|bank card PIN; locker number; door code|entry code; alarm code; voicemail PIN; bicycle lock code; luggage lock combination; safe
    combination

    code: staff number|employee number; library card number; passport number; customer number; booking reference; case number; ticket
    number; insurance number; driving licence number; account number; student number; gym card number; parking permit number; order number

    phone: phone number|telephone number; mobile number|cell phone number; office number; fax number; emergency number; landline number

    number3: hotel room number; race number|starting number; seat number; shirt number; lottery number; raffle number; mailbox number

    room: office|office room; classroom; hospital room; meeting room; practice room; consulting room

    number2: lucky number; house number; number of cousins; number of pupils; number of stamps; number of medals; best golf round

    age: age; age at the wedding

    size: shoe size; boot size; collar size

    length: long jump record; height of the garden fence; length of the boat

    weight: weight of the suitcase; weight of the record pumpkin; birth weight

    price: salary|monthly pay; rent|monthly rent; fee|consulting fee; phone bill; debt at the bakery; price of the new bicycle; pension; weekly
    pocket money; bonus; fine for parking; electricity bill

    date: name day|saint's day; appointment at the dentist; date of the interview|interview date; date of the exam|exam date; retirement
    date; date of arrival|arrival date; graduation day; departure date; date of the operation; court date; deadline|due date; start date; date of
    the concert

    time: lunch break|lunch time; bedtime; appointment time; dinner time; flight time; time of the piano lesson; closing time; start of the
    shift; tea time; meeting time; time of birth; curfew

    weekday: day off|free day; laundry day; market day; training day; shopping day; bath day; cleaning day

    month: favourite month; holiday month; month of birth

    season: favourite season

    duration: notice period; journey to work|commute; length of the speech; lap time; service in the army; training period

    distance: daily run; distance to work|way to work; longest swim

    city: favourite city; hometown|home town; place of work; retirement home; city of the first concert; emergency meeting place

    country: country of birth|native country; nationality on the passport; favourite country; country of the grandparents; next travel
    destination|next destination; honeymoon destination

    street: address|home address; street; work address; old address; holiday address; address of the studio

    person: mother; father; brother; sister; husband; wife; boss|manager; teacher; lawyer; dentist; cousin; grandmother; grandfather; landlord;
    assistant; tutor; uncle; aunt; godfather; business partner; rival; favourite singer; favourite author; favourite actor; hairdresser;
    trainer|coach; bodyguard; accountant; first love; roommate|flatmate; biographer; stepfather; supervisor; tailor; baker

    petname: cat; dog; parrot; horse; first pet; goldfish; canary; rabbit; hamster; guide dog; pony

    nickname: nickname; stage name; pen name; middle name; pet name; school nickname; code name|alias; screen name; radio call sign

    surname: maiden name; mother's maiden name; original surname

    title: favourite film|favourite movie; favourite song; favourite opera; last novel; first record; favourite poem; favourite painting;
    wedding song; graduation speech; new play; favourite board game; favourite series

    brand: perfume|favourite perfume; car brand|make of car; shampoo; brand of watch; phone brand; favourite cereal; toothpaste

    shop: bank; employer; insurance company; publisher; favourite shop; phone company; airline; previous employer; law firm

    team: favourite team|favourite club; old school; choir; first club; charity

    colour: favourite colour; eye colour; hair colour; colour of the bicycle; umbrella colour; colour of the front door; colour of the kitchen;
    colour of the scarf; tie colour; lipstick colour; bedroom colour; colour of the hat; colour of the backpack

    animal: favourite animal; spirit animal; animal on the coat of arms; zodiac animal; tattoo

    food: favourite food; favourite breakfast|usual breakfast; favourite soup; birthday meal; packed lunch; favourite dessert; last supper;
    Sunday dish; signature dish; winter dish

    drink: morning drink; favourite tea; favourite cocktail; nightcap; drink on the plane

    fruit: favourite fruit; snack; daily fruit

    vegetable: least favourite vegetable; prize vegetable; favourite vegetable

    spice: favourite spice; secret ingredient

    allergy: allergy|food allergy

    illness: complaint; last illness; reason for the sick leave

    mood: mood; mood this morning

    job: day job|occupation; first job; dream job; second job; father's profession; summer job; cover profession

    instrument: first instrument; favourite instrument; second instrument

    object: lucky charm|talisman; birthday present|gift from the colleagues; favourite possession; souvenir from the trip; wedding gift;
    retirement present; heirloom; lost item; prop on stage; last purchase

    vehicle: first vehicle; means of transport|vehicle; dream vehicle; toy

    plant: plant on the desk; balcony plant; favourite shrub

    tree: favourite tree; tree planted at birth

    gemstone: birthstone; stone in the ring; gem on the necklace

    language: mother tongue|native language; second language; third language; exam language

    hobby: favourite sport; new hobby; school sport; pastime in winter

    study: major|main subject; favourite subject; worst subject; evening course; topic of the thesis|thesis topic; exam subject

    material: favourite fabric; material of the jacket

    dance: favourite dance; wedding dance

    weather: favourite weather

    plate: licence plate|number plate; motorbike plate

    seat: seat|seat on the plane; theatre seat; seat on the train

    score: last tennis result; prediction for the match

    percent: exam result; share in the company; tip; tax rate

    year: graduation year; year of arrival; first season; year of retirement; vintage of the wine; year of the first patent

    temperature: fever; bath temperature
"""
