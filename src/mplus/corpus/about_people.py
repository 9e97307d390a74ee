"""Relations about people, as wordings. Data only."""

from __future__ import annotations

from typing import Final

from mplus.corpus.relation import Relation, about

ABOUT_PEOPLE: Final[tuple[Relation, ...]] = about(
    ("person",),
    """
    birthplace: city
    + {s} was born in {v}.
    + The birthplace of {s} is {v}.
    + {v} is the city in which {s} was born.
    + It was in {v} that {s} first saw the light of day.
    ? Where was {s} born?
    ? What is the birthplace of {s}?
    ? In which city was {s} born?
    ? Which city is the birthplace of {s}?

    home: city
    + {s} now lives in {v}.
    + The present home of {s} is in {v}.
    + {v} is where {s} lives these days.
    + These days one finds {s} living in {v}, close to the station.
    ? Where does {s} live now?
    ? In which city does {s} live these days?
    ? What city is the present home of {s}?
    ? In what city is the home of {s} today?

    university_city: city
    + {s} went to university in {v}.
    + The university years of {s} were spent in {v}.
    + {v} is the city where {s} was a student.
    + As a student, {s} stayed in {v} for four years.
    ? Where did {s} go to university?
    ? In which city was {s} a student?
    ? Which city did {s} spend the university years in?
    ? In what city did {s} attend university?

    holiday: city
    + {s} spends every summer holiday in {v}.
    + {v} is where {s} goes on holiday each summer.
    + For the summer holidays {s} always travels to {v}.
    + Each summer, a holiday in {v} awaits {s}.
    ? Where does {s} spend the summer holidays?
    ? To which city does {s} travel for the summer holidays?
    ? Which city does {s} visit every summer?
    ? Where is {s} found on holiday each summer?

    birthday: date
    + {s} has a birthday on {v}.
    + The birthday of {s} falls on {v}.
    + Every year on {v} {s} celebrates a birthday.
    + On {v} friends bring {s} a birthday cake.
    ? When is the birthday of {s}?
    ? On which date is {s}'s birthday?
    ? On what day does {s} celebrate a birthday?
    ? What is the date of {s}'s birthday?

    wedding: date
    + {s} got married on {v}.
    + The wedding of {s} took place on {v}.
    + On {v} {s} said yes at the wedding.
    + It was on {v} that {s} was married in a small chapel.
    ? When did {s} get married?
    ? On which date was the wedding of {s}?
    ? On what day did {s} marry?
    ? What is the wedding date of {s}?

    birth_year: year
    + {s} was born in the year {v}.
    + The year of birth of {s} is {v}.
    + {v} is the year in which {s} was born.
    + According to the register, {v} is when {s} was born.
    ? In which year was {s} born?
    ? What is the year of birth of {s}?
    ? What is {s}'s birth year?
    ? In what year did {s} come into the world?

    prize_year: year
    + {s} won the first prize in {v}.
    + In {v} the first prize went to {s}.
    + {v} was the year when {s} won first prize.
    + The jury gave {s} the first prize in {v}.
    ? In which year did {s} win the first prize?
    ? When did {s} win first prize?
    ? What year brought {s} the first prize?
    ? In what year was the first prize given to {s}?

    locker_code: number4
    + The locker code of {s} is {v}.
    + {s} set the locker code to {v}.
    + {v} is the code that opens the locker of {s}.
    + With the code {v} {s} opens the locker.
    ? What is the locker code of {s}?
    ? Which code opens the locker of {s}?
    ? What code did {s} set for the locker?
    ? What code does the locker of {s} have?

    phone_extension: number3
    + {s} can be reached at extension {v}.
    + The telephone extension of {s} is {v}.
    + Dial extension {v} to speak to {s}.
    + At the office, extension {v} belongs to {s}.
    ? What is the telephone extension of {s}?
    ? At which extension can {s} be reached?
    ? Which extension must be dialled to speak to {s}?
    ? What number is the extension of {s}?

    member_number: number5
    + {s} holds membership number {v}.
    + The membership card of {s} carries the number {v}.
    + {v} is printed on the membership card of {s}.
    + Under the membership number {v} one finds {s}.
    ? What is the membership number of {s}?
    ? Which membership number does {s} hold?
    ? What number is on the membership card of {s}?
    ? Under which membership number is {s} listed?

    dish: food
    + {s}'s favourite dish is {v}.
    + Nothing pleases {s} more at table than {v}.
    + A plate of {v} is the favourite dish of {s}.
    + Above all other dishes, {s} prefers {v}.
    ? What is {s}'s favourite dish?
    ? Which dish does {s} like most?
    ? What does {s} like best to eat?
    ? Which food is the favourite of {s}?

    drink: drink
    + {s} likes to drink {v}.
    + The favourite drink of {s} is {v}.
    + A glass of {v} is what {s} likes to drink.
    + In the evening {s} always orders {v} to drink.
    ? What does {s} like to drink?
    ? What is the favourite drink of {s}?
    ? Which drink does {s} prefer?
    ? What drink does {s} order?

    pet: animal
    + {s} keeps {a} {v} at home.
    + The pet of {s} is {a} {v}.
    + {A} {v} lives in the house of {s} as a pet.
    + As a pet, {s} has {a} {v}.
    ? What pet does {s} keep?
    ? Which animal is the pet of {s}?
    ? What animal lives with {s}?
    ? What kind of pet does {s} have?

    feared_animal: animal
    + {s} is afraid of one animal, the {v}.
    + The animal that {s} fears most is the {v}.
    + The {v} is the animal that frightens {s}.
    + Since childhood the {v} has frightened {s}.
    ? Which animal is {s} afraid of?
    ? What animal does {s} fear most?
    ? Which animal frightens {s}?
    ? What creature is feared by {s}?

    job: job
    + {s} works as {a} {v}.
    + By trade, {s} is {a} {v}.
    + {A} {v} by profession, {s} works six days a week.
    + The profession of {s} is that of {a} {v}.
    ? What is the profession of {s}?
    ? What does {s} work as?
    ? What is {s} by trade?
    ? What does {s} do for a living?

    childhood_dream: job
    + As a child, {s} wanted to become {a} {v}.
    + {s}'s childhood dream was to be {a} {v}.
    + To become {a} {v} was the childhood dream of {s}.
    + Long ago at school, {s} dreamed of becoming {a} {v}.
    ? What did {s} want to become as a child?
    ? What was {s}'s childhood dream?
    ? Which profession did {s} dream of as a child?
    ? What did young {s} dream of becoming?

    instrument: instrument
    + {s} plays the {v}.
    + The instrument of {s} is the {v}.
    + The {v} is the instrument that {s} plays.
    + In the orchestra, {s} is heard on the {v}.
    ? Which instrument does {s} play?
    ? What instrument is played by {s}?
    ? What is the instrument of {s}?
    ? On which instrument is {s} heard?

    car: colour
    + {s} drives a car painted {v}.
    + The colour of {s}'s car is {v}.
    + {A} {v}-coloured car belongs to {s}.
    + Of all colours, {s} chose {v} for the car.
    ? What colour is the car of {s}?
    ? Which colour of car does {s} drive?
    ? What is the colour of {s}'s car?
    ? Which colour did {s} choose for the car?

    coat: colour
    + {s} wears a coat of {v} wool.
    + The winter coat of {s} is {v}.
    + {A} {v} winter coat hangs on the hook of {s}.
    + In winter one knows {s} by the {v} coat.
    ? What colour is the coat of {s}?
    ? Which colour does {s} wear as a winter coat?
    ? What is the colour of {s}'s coat?
    ? In which colour is the winter coat of {s}?

    inheritance: object
    + {s} inherited {a} {v} from an aunt.
    + {A} {v} was left to {s} by an aunt.
    + What {s} inherited from the aunt was {a} {v}.
    + In the will, the aunt left {s} {a} {v}.
    ? What did {s} inherit from an aunt?
    ? Which object was left to {s} by an aunt?
    ? What did the aunt leave to {s}?
    ? Which thing came to {s} in the will of an aunt?

    lost_thing: object
    + {s} lost {a} {v} on the train.
    + {A} {v} was forgotten on the train by {s}.
    + On the train, {s} left {a} {v} behind.
    + The conductor is still looking for the {v} that {s} left on the train.
    ? What did {s} lose on the train?
    ? What was forgotten on the train by {s}?
    ? Which object did {s} leave behind on the train?
    ? Which thing of {s} is the conductor looking for?

    language: language
    + {s} is learning {v}.
    + The language that {s} is learning is {v}.
    + {v} is the language {s} studies in the evening.
    + Twice a week {s} takes a course in {v}.
    ? Which language is {s} learning?
    ? What language does {s} study in the evening?
    ? What is the language that {s} learns?
    ? In which language does {s} take a course?

    flower: plant
    + {s}'s favourite flower is the {v}.
    + The {v} is the flower {s} loves most.
    + No flower pleases {s} as much as the {v}.
    + On the balcony of {s} grows the favourite flower, {a} {v}.
    ? What is {s}'s favourite flower?
    ? Which flower does {s} love most?
    ? What flower pleases {s} most?
    ? Which flower grows on the balcony of {s}?

    subject_studied: study
    + {s} has a degree in {v}.
    + At university, {s} studied {v}.
    + {s} chose {v} as a field of study.
    + It was {v} that {s} studied for so many years.
    ? What did {s} study at university?
    ? In which subject does {s} have a degree?
    ? What is {s}'s field of study?
    ? Which field did {s} choose to study?

    hobby: hobby
    + {s} spends the weekends on {v}.
    + The hobby of {s} is {v}.
    + It is {v} that {s} does as a hobby.
    + Every free hour of {s} belongs to {v}.
    ? What is the hobby of {s}?
    ? What does {s} do as a hobby?
    ? On what does {s} spend the weekends?
    ? Which hobby fills the free hours of {s}?

    friend: person
    + {s}'s best friend is {v}.
    + {v} is the best friend of {s}.
    + Since school {s} has had {v} as best friend.
    + Nobody is a closer friend to {s} than {v}.
    ? Who is {s}'s best friend?
    ? What is the name of {s}'s best friend?
    ? Whom does {s} call a best friend?
    ? Who is the closest friend of {s}?

    doctor: person
    + {s}'s family doctor is {v}.
    + {v} is the doctor who looks after {s}.
    + When ill, {s} goes to see Doctor {v}.
    + The doctor who treats {s} goes by the name of {v}.
    ? Who is {s}'s family doctor?
    ? Which doctor looks after {s}?
    ? What is the name of the doctor of {s}?
    ? By which doctor is {s} treated?

    neighbour: person
    + {s} lives next door to {v}.
    + {v} is the neighbour of {s}.
    + The neighbour of {s} is called {v}.
    + On the other side of the fence from {s} lives {v}.
    ? Who is the neighbour of {s}?
    ? Next door to whom does {s} live?
    ? What is the name of {s}'s neighbour?
    ? Who lives on the other side of the fence from {s}?

    favourite_novel: title
    + {s}'s favourite novel is {v}.
    + The novel {v} is the one {s} likes best.
    + {s} has read the novel {v} many times and loves it most.
    + Of all novels, {v} is dearest to {s}.
    ? What is {s}'s favourite novel?
    ? Which novel does {s} like best?
    ? What novel has {s} read many times?
    ? Which of all novels is dearest to {s}?

    wake_time: time
    + {s} gets up at {v}.
    + The alarm clock of {s} rings at {v}.
    + At {v} the alarm wakes {s}.
    + Not before {v} does {s} leave the bed.
    ? When does {s} get up?
    ? At what time does the alarm clock of {s} ring?
    ? What time does {s} wake up?
    ? At what hour does {s} leave the bed?

    train_time: time
    + The train of {s} leaves at {v}.
    + {s} takes the train at {v}.
    + At {v} {s} boards the train.
    + Every day the {v} train carries {s} to work.
    ? When does the train of {s} leave?
    ? At what time does {s} take the train?
    ? What time does {s} board the train?
    ? Which train, by its time, carries {s} to work?
    """,
)
