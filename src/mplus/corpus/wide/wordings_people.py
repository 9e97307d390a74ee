"""More ways to say and to ask what ``corpus.about_people`` knows, to train on only. Data only, in the notation of ``corpus.relation``."""

from __future__ import annotations

from typing import Final

MORE_ABOUT_PEOPLE: Final = """
birthplace
+ {s} comes from {v} originally.
+ {s} is a native of {v}.
+ Born in {v}, {s} still talks about the place.
+ The passport of {s} names {v} as place of birth.
+ {v} saw the birth of {s} many years ago.
? Where does {s} come from originally?
? {s} is a native of which city?
? What place of birth is in the passport of {s}?
? In what town was {s} born?
? Where was {s}'s place of birth?

home
+ {s} has moved to {v} for good.
+ {s} has an apartment in {v} at present.
+ Nowadays {v} is home to {s}.
+ {s} settled in {v}.
? Where has {s} settled?
? Where is {s}'s apartment at present?
? Which city is home to {s} nowadays?
? Where can {s} be found living now?

university_city
+ {s} earned a degree in {v}.
+ {s} studied in {v} when young.
+ The student days of {s} passed in {v}.
+ It was the university of {v} that accepted {s}.
? Where did {s} study?
? In which city did {s} earn a degree?
? The university of which city accepted {s}?
? Where were the student days of {s} spent?

holiday
+ When summer comes, {s} packs a bag for {v}.
+ {s} never spends a summer anywhere but in {v}.
+ A summer without {v} is unthinkable for {s}.
+ The summer house of {s} is in {v}.
? For which city does {s} pack a bag when summer comes?
? Where does {s} go in summer?
? What is {s}'s usual summer destination?
? In which city is the summer house of {s}?

birthday
+ {s} turns a year older on {v}.
+ Do not forget {s}'s birthday, {v}.
+ The calendar marks {v} as {s}'s birthday.
+ Presents for {s} are due on {v}, the birthday.
? When does {s} turn a year older?
? When should one congratulate {s} on the birthday?
? Which day is {s}'s birthday?
? When are presents for {s} due?

wedding
+ {s} married on {v}.
+ {s} celebrates the wedding anniversary on {v}.
+ The church bells rang for {s}'s wedding on {v}.
+ {v} was the day on which {s} wed.
? When did {s} wed?
? When was {s}'s wedding?
? When does {s} celebrate the wedding anniversary?
? On which day did the bells ring for {s}'s wedding?

birth_year
+ {s}, born in {v}, is well known here.
+ {s} (born {v}) is mentioned in the index.
+ The birth certificate of {s} is from {v}.
+ In {v} a child was born who was named {s}.
? What year was {s} born in?
? Which year is on the birth certificate of {s}?
? Since what year has {s} been alive?

prize_year
+ {s} came first in {v}.
+ The winner in {v} was {s}.
+ {s} took home the first prize in {v}.
+ The winners' list for {v} is headed by {s}.
? When did {s} come first?
? In which year was {s} the winner?
? What year did {s} take home the first prize?
? Which year's winners' list is headed by {s}?

locker_code
+ {s} opens the locker with {v}.
+ To get into {s}'s locker you type {v}.
+ {s}'s locker opens when one enters {v}.
+ The combination of {s}'s locker reads {v}.
? What must one type to get into {s}'s locker?
? What is {s}'s locker combination?
? How does {s}'s locker open?
? Which numbers open {s}'s locker?

phone_extension
+ {s} answers the telephone at extension {v}.
+ For {s}, please dial {v}.
+ {s}'s extension is {v}.
+ The operator connects callers to {s} at extension {v}.
? What is {s}'s extension?
? What should one dial for {s}?
? Which extension does {s} answer?
? At which extension does the operator connect {s}?

member_number
+ {s} is member number {v}.
+ The membership of {s} is filed under {v}.
+ {s} joined as member {v}.
+ Member {v} is {s}.
? What member number is {s}?
? Which number was {s} given as a member?
? What is {s}'s member number?
? How is the membership of {s} filed?

dish
+ {s} would eat {v} every day.
+ For a birthday meal {s} always wants {v}.
+ {s} loves {v} more than any other meal.
+ If {s} may choose the meal, there will be {v}.
? What would {s} eat every day?
? What meal does {s} love most?
? What will there be if {s} may choose the meal?
? What is the best-loved dish of {s}?

drink
+ {s} never says no to {v}.
+ {s} always has a glass of {v} at hand.
+ Offer {s} some {v}, the favourite.
+ When thirsty, {s} asks for {v}.
? What does {s} ask for when thirsty?
? What is {s}'s favourite drink?
? What should one offer {s} to drink?
? A glass of what does {s} always have at hand?

pet
+ {s} owns {a} {v}.
+ {s} shares a flat with {a} {v}.
+ There is {a} {v} in {s}'s household.
+ {s} takes {a} {v} to the vet twice a year.
? What animal does {s} own?
? Which animal does {s} take to the vet?
? What kind of animal is in {s}'s household?
? With which animal does {s} share a flat?

feared_animal
+ {s} runs away at the sight of any {v}.
+ Nothing terrifies {s} like {a} {v}.
+ {s} has nightmares about {a} {v}.
+ {s} cannot bear to look at {a} {v}.
? At the sight of which animal does {s} run away?
? Which animal terrifies {s}?
? Which animal does {s} have nightmares about?
? What animal can {s} not bear to look at?

job
+ {s} earns a living as {a} {v}.
+ {s} is employed as {a} {v}.
+ {s}, {a} {v}, has worked here for years.
+ The visiting card of {s} says "{v}".
? As what is {s} employed?
? What is {s}'s job?
? What is {s}'s occupation?
? What profession is on the visiting card of {s}?

childhood_dream
+ At the age of six {s} hoped to be {a} {v} one day.
+ {s} once told everyone at home about becoming {a} {v}.
+ Little {s} played at being {a} {v} all day.
? What did {s} hope to be at the age of six?
? What did {s} play at being as a child?
? What job did {s} want as a child?

instrument
+ {s} practises the {v} every evening.
+ {s} is a fine player of the {v}.
+ {s} has taken lessons on the {v} since last year.
+ If you hear the {v} next door, that is {s}.
? What does {s} practise every evening?
? What musical instrument does {s} play?
? {s} has taken lessons on which instrument?
? Which instrument does one hear when {s} plays?

car
+ {s} owns {a} {v} car.
+ {s} had the car sprayed {v}.
+ The car outside, the {v} one, is {s}'s.
+ {s} bought a car in {v}.
? What colour of car does {s} own?
? Which colour was {s}'s car sprayed?
? In what colour did {s} buy a car?
? Which colour does {s}'s car have?

coat
+ {s} bought {a} {v} coat for the winter.
+ {s}'s coat is {v}.
+ Look for {s}, the one in the {v} coat.
+ {s} put on the {v} winter coat.
? Which colour is {s}'s coat?
? What colour of coat did {s} buy for the winter?
? What colour is {s}'s winter coat?
? In which colour of coat is {s} dressed?

inheritance
+ An aunt bequeathed {a} {v} to {s}.
+ {s} was surprised to inherit {a} {v}.
+ From an aunt's estate {s} received {a} {v}.
? What was {s} surprised to inherit?
? What did {s} receive from an aunt's estate?
? What did an aunt bequeath to {s}?
? What is {s}'s inheritance?

lost_thing
+ {s} got off the train without the {v}.
+ {s} asks whether anyone has found {a} {v} on the train.
+ A {v} on the luggage rack turned out to be {s}'s.
? What did {s} forget on the train?
? Without what did {s} get off the train?
? What is {s} asking about at the lost property office?

language
+ {s} has begun to learn {v}.
+ {s} is buried in a grammar of {v}.
+ {s} hopes to speak {v} by the summer.
+ {s} takes lessons in {v}.
? What language has {s} begun to learn?
? What language is {s} learning?
? Which language does {s} hope to speak by the summer?
? In what language does {s} take lessons?

flower
+ {s} prefers the {v} to every other flower.
+ Give {s} {a} {v}: it is the favourite flower.
+ To {s}, the {v} is the loveliest of flowers.
? Which flower should one give {s}?
? What is the favourite flower of {s}?
? What is to {s} the loveliest of flowers?
? Which flower does {s} prefer?

subject_studied
+ {s} is a graduate in {v}.
+ {s} took {v} as a subject at university.
+ {s} wrote a thesis in {v}.
+ The degree of {s} is in {v}.
? In what is {s} a graduate?
? What subject did {s} take at university?
? In which field did {s} write a thesis?
? What was {s}'s subject at university?

hobby
+ {s} is mad about {v}.
+ In the free time {s} enjoys {v}.
+ {s} took up {v} after leaving school.
+ What {s} likes to do on Sundays is {v}.
? What is {s} mad about?
? What does {s} enjoy in the free time?
? What is {s}'s hobby?
? What did {s} take up after leaving school?

friend
+ {s} and {v} have been best friends since childhood.
+ {s} tells {v}, the best friend, everything.
+ {s} calls {v} the best of friends.
? Who has been best friends with {s} since childhood?
? Who is the best friend of {s}?
? To which friend does {s} tell everything?

doctor
+ {s} is a patient of {v}.
+ {s} trusts {v}, the family doctor.
+ {v} has been {s}'s doctor for years.
? Whose patient is {s}?
? Who is the doctor of {s}?
? Which doctor does {s} trust?
? Whom does {s} see when ill?

neighbour
+ {s} has {v} as a neighbour.
+ The house beside {s}'s belongs to {v}.
+ {s} borrowed sugar from {v}, the neighbour.
? Who lives next door to {s}?
? Who is {s}'s neighbour?
? To whom does the house beside {s}'s belong?
? Which neighbour lent {s} sugar?

favourite_novel
+ {s} calls {v} the best novel ever written.
+ The book on {s}'s bedside table is {v}, the favourite novel.
+ {s} never tires of reading {v}.
? Which novel does {s} call the best ever written?
? What is the favourite novel of {s}?
? What book does {s} never tire of reading?
? Which book is on {s}'s bedside table?

wake_time
+ {s} wakes up at {v} every morning.
+ {s} is out of bed by {v}.
+ {s} sets the alarm for {v}.
+ {v} is when {s} rises.
? When does {s} wake up?
? For what time does {s} set the alarm?
? By what time is {s} out of bed?
? When does {s} rise?

train_time
+ {s} catches the {v} train.
+ {s} must be on the platform by {v}, when the train goes.
+ {s} has a ticket for the train at {v}.
+ {s}'s train departs at {v}.
? When does {s}'s train depart?
? When must {s} be on the platform?
? What is the time of {s}'s train?
? For the train at what time does {s} have a ticket?
"""
