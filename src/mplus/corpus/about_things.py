"""Relations about buildings, ships, clubs, companies and novels, as wordings. Data only."""

from __future__ import annotations

from typing import Final

from mplus.corpus.relation import Relation, about

ABOUT_THINGS: Final[tuple[Relation, ...]] = (
    *about(
        ("place",),
        """
    keeper: person
    + The keeper of {s} is {v}.
    + {v} looks after {s} as its keeper.
    + {S} has a keeper called {v}.
    + The keys of {s} are kept by {v}.
    ? Who is the keeper of {s}?
    ? Who looks after {s}?
    ? What is the name of the keeper of {s}?
    ? By whom are the keys of {s} kept?

    architect: person
    + The architect of {s} was {v}.
    + {v} designed {s}.
    + {S} was designed by the architect {v}.
    + The plans of {s} were drawn by {v}.
    ? Who was the architect of {s}?
    ? Who designed {s}?
    ? Which architect drew {s}?
    ? By whom were the plans of {s} drawn?

    built: year
    + {S} was built in {v}.
    + Builders finished {s} in {v}.
    + In {v} the building of {s} was completed.
    + The stone over the door gives {v} as the year when {s} was built.
    ? When was {s} built?
    ? In which year was {s} finished?
    ? In what year was the building of {s} completed?
    ? What year of building stands over the door of {s}?

    gate_number: number3
    + The gate number of {s} is {v}.
    + {S} has gate number {v}.
    + Gate number {v} belongs to {s}.
    + To enter {s}, look for gate {v}.
    ? What is the gate number of {s}?
    ? Which gate number does {s} have?
    ? Which gate number belongs to {s}?
    ? What gate leads into {s}?

    doors: colour
    + The doors of {s} are painted {v}.
    + {S} is known for its {v} doors.
    + A coat of {v} paint covers the doors of {s}.
    + For the doors of {s} the council chose {v}.
    ? What colour are the doors of {s}?
    ? Which colour are the doors of {s} painted?
    ? What is the colour of the doors of {s}?
    ? Which colour was chosen for the doors of {s}?

    opening: time
    + {S} opens at {v}.
    + The doors of {s} are unlocked at {v}.
    + At {v} the first visitors enter {s}.
    + Come to {s} no earlier than {v}, when it opens.
    ? When does {s} open?
    ? At what time are the doors of {s} unlocked?
    ? What time do the first visitors enter {s}?
    ? What is the opening time of {s}?

    walls: material
    + The walls of {s} are made of {v}.
    + {S} was built of {v}.
    + Walls of {v} surround {s}.
    + For {s} the builders used {v} and nothing else.
    ? What are the walls of {s} made of?
    ? Of which material was {s} built?
    ? What material surrounds {s}?
    ? Which material did the builders use for {s}?

    yard_tree: tree
    + In front of {s} stands {a} {v}.
    + {A} {v} grows in the yard of {s}.
    + The tree in front of {s} is {a} {v}.
    + The shade in the yard of {s} comes from {a} {v}.
    ? Which tree stands in front of {s}?
    ? What tree grows in the yard of {s}?
    ? What kind of tree is in front of {s}?
    ? Which tree gives shade in the yard of {s}?

    reopening: date
    + {S} will open again on {v}.
    + The reopening of {s} is planned for {v}.
    + On {v} {s} opens again after the repairs.
    + After the repairs, guests may enter {s} from {v} on.
    ? When will {s} open again?
    ? On which date is the reopening of {s}?
    ? On what day does {s} open again after the repairs?
    ? From what date may guests enter {s} again?

    cafe: food
    + The café of {s} is famous for {v}.
    + {S} serves {v} to its guests.
    + A portion of {v} is what the café of {s} sells most.
    + People come to the café of {s} only for the {v}.
    ? What is the café of {s} famous for?
    ? What does {s} serve to its guests?
    ? Which food does the café of {s} sell most?
    ? For which food do people come to the café of {s}?
    """,
    ),
    *about(
        ("ship",),
        """
    captain: person
    + The captain of {s} is {v}.
    + {v} commands {s}.
    + {S} sails under Captain {v}.
    + On the bridge of {s} stands {v}, its captain.
    ? Who is the captain of {s}?
    ? Who commands {s}?
    ? Under which captain does {s} sail?
    ? Who stands on the bridge of {s} as captain?

    home_port: city
    + The home port of {s} is {v}.
    + {S} is registered in {v}.
    + {v} is the home port of {s}.
    + After every voyage {s} returns to {v}, its home port.
    ? What is the home port of {s}?
    ? Where is {s} registered?
    ? Which city is the home port of {s}?
    ? To which port does {s} return after every voyage?

    cargo: cargo
    + {S} carries a cargo of {v}.
    + The cargo of {s} consists of {v}.
    + A load of {v} fills the hold of {s}.
    + Below the deck of {s} there is nothing but {v}.
    ? What cargo does {s} carry?
    ? What does the cargo of {s} consist of?
    ? What fills the hold of {s}?
    ? What is below the deck of {s}?

    hull: colour
    + The hull of {s} is painted {v}.
    + {S} has {a} {v} hull.
    + A hull of {v} makes {s} easy to see.
    + From afar one knows {s} by the {v} of its hull.
    ? What colour is the hull of {s}?
    ? Which colour is the hull of {s} painted?
    ? What is the colour of the hull of {s}?
    ? By which colour of its hull does one know {s}?

    figurehead: animal
    + The figurehead of {s} is {a} {v}.
    + {A} {v} of wood is the figurehead of {s}.
    + {S} bears {a} {v} as its figurehead.
    + Carved at the bow of {s} one sees {a} {v}.
    ? What animal is the figurehead of {s}?
    ? Which animal does {s} bear as its figurehead?
    ? What is the figurehead of {s}?
    ? Which carved animal is at the bow of {s}?

    sailing: date
    + {S} sets sail on {v}.
    + The departure of {s} is fixed for {v}.
    + On {v} {s} leaves the harbour.
    + The crew must be aboard {s} by {v}, when it leaves.
    ? When does {s} set sail?
    ? On which date is the departure of {s}?
    ? On what day does {s} leave the harbour?
    ? By which date must the crew be aboard {s}?
    """,
    ),
    *about(
        ("club", "company"),
        """
    founder: person
    + {S} was founded by {v}.
    + {v} is the founder of {s}.
    + The founder of {s} was called {v}.
    + It was {v} who once started {s}.
    ? Who founded {s}?
    ? Who is the founder of {s}?
    ? What was the founder of {s} called?
    ? Who started {s}?

    founded: year
    + {S} was founded in {v}.
    + The founding year of {s} is {v}.
    + In {v} {s} came into being.
    + Since {v} {s} has existed.
    ? When was {s} founded?
    ? What is the founding year of {s}?
    ? In which year did {s} come into being?
    ? Since which year has {s} existed?

    seat: city
    + {S} has its seat in {v}.
    + The head office of {s} is in {v}.
    + {v} is the seat of {s}.
    + Letters to {s} must be sent to {v}.
    ? Where does {s} have its seat?
    ? In which city is the head office of {s}?
    ? Which city is the seat of {s}?
    ? To which city must letters to {s} be sent?

    emblem: animal
    + The emblem of {s} is {a} {v}.
    + {S} has {a} {v} on its flag.
    + {A} {v} is the emblem of {s}.
    + On the badge of {s} one sees {a} {v}.
    ? What animal is the emblem of {s}?
    ? Which animal is on the flag of {s}?
    ? What does {s} have as its emblem?
    ? Which animal is on the badge of {s}?

    anniversary: date
    + {S} celebrates its anniversary on {v}.
    + The anniversary of {s} is on {v}.
    + On {v} {s} holds its anniversary party.
    + Guests of {s} should keep {v} free for its anniversary.
    ? When does {s} celebrate its anniversary?
    ? On which date is the anniversary of {s}?
    ? On what day is the anniversary party of {s}?
    ? Which date is the anniversary of {s}?
    """,
    ),
    *about(
        ("club",),
        """
    shirts: colour
    + The members of {s} wear {v} shirts.
    + {S} plays in {v} shirts.
    + Shirts in {v} are the mark of {s}.
    + Nobody enters {s} without a shirt in {v}.
    ? What colour are the shirts of {s}?
    ? Which colour do the members of {s} wear?
    ? In what colour of shirt does {s} play?
    ? Which colour of shirt is the mark of {s}?

    members: number3
    + {S} has {v} members.
    + The number of members of {s} is {v}.
    + All {v} members of {s} voted last week.
    + No more than {v} people belong to {s}.
    ? How many members does {s} have?
    ? What is the number of members of {s}?
    ? How many members of {s} voted last week?
    ? How many people belong to {s}?

    meeting: time
    + {S} meets at {v}.
    + The meetings of {s} begin at {v}.
    + At {v} the members of {s} come together.
    + Whoever is late for {v} misses the meeting of {s}.
    ? At what time does {s} meet?
    ? When do the meetings of {s} begin?
    ? What time do the members of {s} come together?
    ? For what time is the meeting of {s} set?

    bar: drink
    + The bar of {s} offers only {v}.
    + {S} serves {v} after every meeting.
    + A tray of {v} is passed round at the end of each meeting of {s}.
    + The members of {s} toast each other with {v}.
    ? What does the bar of {s} offer?
    ? Which drink does {s} serve after every meeting?
    ? What drink is passed round at the end of each meeting of {s}?
    ? With what do the members of {s} toast each other?
    """,
    ),
    *about(
        ("company",),
        """
    product: object
    + {S} became famous with {a} {v}.
    + The first product of {s} was {a} {v}.
    + {A} {v} was the first thing {s} ever made.
    + It all began for {s} with the sale of {a} {v}.
    ? What was the first product of {s}?
    ? With which product did {s} become famous?
    ? What was the first thing {s} ever made?
    ? With the sale of what did it all begin for {s}?

    employees: number4
    + {S} employs {v} people.
    + The number of employees of {s} is {v}.
    + Some {v} people work for {s}.
    + On the payroll of {s} there are {v} names.
    ? How many people does {s} employ?
    ? What is the number of employees of {s}?
    ? How many people work for {s}?
    ? How many names are on the payroll of {s}?

    director: person
    + The director of {s} is {v}.
    + {v} runs {s} as director.
    + {S} has been directed by {v} for years.
    + Every contract of {s} is signed by {v}, the director.
    ? Who is the director of {s}?
    ? Who runs {s}?
    ? By whom is {s} directed?
    ? Which director signs the contracts of {s}?

    logo: plant
    + The logo of {s} shows {a} {v}.
    + {A} {v} is the logo of {s}.
    + {S} prints {a} {v} as logo on every parcel.
    + Every parcel from {s} is marked with {a} {v}.
    ? Which flower does the logo of {s} show?
    ? What plant is the logo of {s}?
    ? What does {s} print as logo on every parcel?
    ? With which plant is every parcel from {s} marked?
    """,
    ),
    *about(
        ("novel",),
        """
    author: person
    + {S} was written by {v}.
    + {v} is the author of {s}.
    + The author of {s} is {v}.
    + The name on the cover of {s} is that of {v}.
    ? Who wrote {s}?
    ? Who is the author of {s}?
    ? By whom was {s} written?
    ? Whose name is on the cover of {s}?

    setting: city
    + {S} is set in {v}.
    + The story of {s} takes place in {v}.
    + {v} is the city where {s} takes place.
    + The streets of {v} are the scene of {s}.
    ? Where is {s} set?
    ? In which city does the story of {s} take place?
    ? What city is the setting of {s}?
    ? The streets of which city are the scene of {s}?

    hero: job
    + The hero of {s} is {a} {v}.
    + {S} tells the story of {a} {v}.
    + {A} {v} is the hero of {s}.
    + In the middle of {s} stands the life of {a} {v}.
    ? What is the profession of the hero of {s}?
    ? What does the hero of {s} work as?
    ? Of which trade is the hero of {s}?
    ? The life of a person of which profession does {s} tell?

    published: year
    + {S} was published in {v}.
    + In {v} {s} first appeared in print.
    + The first edition of {s} is dated {v}.
    + Not until {v} could one buy {s}.
    ? When was {s} published?
    ? In which year did {s} first appear in print?
    ? What is the date of the first edition of {s}?
    ? From what year could one buy {s}?

    pages: number3
    + {S} has {v} pages.
    + The number of pages of {s} is {v}.
    + It takes {v} pages for {s} to come to its end.
    + After {v} pages the reader reaches the end of {s}.
    ? How many pages does {s} have?
    ? What is the number of pages of {s}?
    ? How many pages does it take for {s} to come to its end?
    ? After how many pages does {s} end?

    translated_into: language
    + {S} was translated into {v}.
    + The only translation of {s} is in {v}.
    + Readers of {v} can enjoy {s} in translation.
    + There is one translation of {s}, made into {v} long ago.
    ? Into which language was {s} translated?
    ? In what language is the only translation of {s}?
    ? Which language has a translation of {s}?
    ? What is the language of the one translation of {s}?
    """,
    ),
)
