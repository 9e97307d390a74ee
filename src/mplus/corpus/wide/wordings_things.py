"""More ways to say and to ask what ``corpus.about_things`` knows, to train on only. Data only, in the notation of ``corpus.relation``."""

from __future__ import annotations

from typing import Final

MORE_ABOUT_THINGS: Final = """
keeper
+ {S} is in the care of {v}.
+ {v} holds the keys to {s}.
+ As keeper, {v} locks {s} at night.
? Who is the keeper at {s}?
? In whose care is {s}?
? Who holds the keys to {s}?
? Who locks {s} at night?

architect
+ {v} was the architect behind {s}.
+ {S} is a work of the architect {v}.
+ The drawings for {s} are by {v}, an architect.
? Who was the architect behind {s}?
? Whose work is {s}?
? Who made the drawings for {s}?
? Which architect designed {s}?

built
+ {S} dates from {v}.
+ {S} has stood there since {v}.
+ Construction of {s} ended in {v}.
+ {S}, built in {v}, still stands.
? From what year does {s} date?
? Since when has {s} stood there?
? When did the construction of {s} end?
? How old is {s}, in other words, when was it built?

gate_number
+ Visitors to {s} use gate {v}.
+ The number on the gate of {s} is {v}.
+ {S} is reached through gate number {v}.
? Which gate do visitors to {s} use?
? What number is on the gate of {s}?
? Through which gate number is {s} reached?
? What is {s}'s gate number?

doors
+ {S} has {v} doors.
+ The painters gave {s} {v} doors.
+ All doors of {s} are {v}.
? What colour of doors does {s} have?
? Which colour did the painters give the doors of {s}?
? What is the door colour of {s}?
? In what colour are the doors of {s}?

opening
+ {S} opens its doors at {v}.
+ Opening at {s} is at {v}.
+ Visitors are let into {s} from {v}.
+ Until {v} {s} stays shut.
? What time does {s} open?
? From what time are visitors let into {s}?
? Until when does {s} stay shut?
? When are the doors of {s} opened?

walls
+ {S} has walls of {v}.
+ The masons built {s} from {v}.
+ {v} was the material for the walls of {s}.
? What material are the walls of {s}?
? From what did the masons build {s}?
? What kind of walls does {s} have?
? What was the material for the walls of {s}?

yard_tree
+ {S} has {a} {v} in its yard.
+ Somebody planted {a} {v} in front of {s}.
+ Under the {v} before {s} there is a bench.
? What tree was planted in front of {s}?
? What tree does {s} have in its yard?
? Under which tree before {s} is there a bench?
? What is the tree at {s}?

reopening
+ {S} stays closed until {v}.
+ {S} reopens on {v}.
+ {v} is the day when {s} opens again.
? Until when does {s} stay closed?
? When does {s} reopen?
? What is the reopening date of {s}?
? On which day does {s} reopen?

cafe
+ The menu at {s} lists {v} first.
+ At {s} one eats {v}.
+ The cook at {s} is proud of the {v}.
? What does the menu at {s} list first?
? What does one eat at {s}?
? Of which dish is the cook at {s} proud?
? What is served at {s}?

captain
+ {v} is captain of {s}.
+ The crew of {s} obeys {v}, the captain.
+ {S} is under the command of {v}.
? Who is captain of {s}?
? Under whose command is {s}?
? Whom does the crew of {s} obey?
? What is the name of {s}'s captain?

home_port
+ {S} belongs to the port of {v}.
+ {S}, of {v}, lies at anchor.
+ The name of {v}, the home port, is on the stern of {s}.
? To which port does {s} belong?
? What is {s}'s home port?
? Which port is named on the stern of {s}?
? Where is the home port of {s}?

cargo
+ {S} is loaded with {v}.
+ {S} transports {v}.
+ In port, {s} took {v} on board.
+ There is {v} in the hold of {s}.
? With what is {s} loaded?
? What does {s} transport?
? What did {s} take on board in port?
? What is in the hold of {s}?

hull
+ The sailors painted {s} {v}.
+ {S} has been painted {v}.
+ {S} is the one with the {v} hull.
? What colour did the sailors paint {s}?
? What hull colour does {s} have?
? Which colour has {s} been painted?
? What is the hull colour of {s}?

figurehead
+ {S} has {a} {v} for a figurehead.
+ The figurehead of {s} shows {a} {v}.
+ A carver made {a} {v} for the bow of {s}.
? What does the figurehead of {s} show?
? What does {s} have for a figurehead?
? What did the carver make for the bow of {s}?
? Which animal is the figurehead of {s}?

sailing
+ {S} departs on {v}.
+ {S} will put to sea on {v}.
+ The voyage of {s} begins on {v}.
? When does {s} depart?
? When will {s} put to sea?
? On what date does the voyage of {s} begin?
? What is the sailing date of {s}?

founder
+ {v} set up {s}.
+ {S} owes its existence to {v}, the founder.
+ {v} is honoured as founder of {s}.
? Who set up {s}?
? To whom does {s} owe its existence?
? Who is honoured as founder of {s}?
? What is the name of {s}'s founder?

founded
+ {S} goes back to {v}.
+ {S} was set up in {v}.
+ {S} dates its beginnings to {v}.
+ {S}, founded {v}, is well known.
? To which year does {s} go back?
? When was {s} set up?
? In what year was {s} founded?
? What year did {s} begin?

seat
+ {S} is based in {v}.
+ {S} has its headquarters in {v}.
+ {S} moved its main office to {v}.
? Where is {s} based?
? Where are the headquarters of {s}?
? Where is the main office of {s}?
? In what city is {s} based?

emblem
+ {S} chose {a} {v} as emblem.
+ The sign of {s} is {a} {v}.
+ The letterhead of {s} shows {a} {v}.
? Which animal did {s} choose as emblem?
? What is the emblem of {s}?
? What animal is the sign of {s}?
? Which animal does the letterhead of {s} show?

anniversary
+ {S} has its anniversary on {v}.
+ {v} is the anniversary of {s}.
+ The jubilee of {s} is held on {v}.
? When is the anniversary of {s}?
? When is the jubilee of {s} held?
? On which day does {s} have its anniversary?
? What is the anniversary date of {s}?

shirts
+ {S} has {v} shirts.
+ The shirt of {s} is {v}.
+ One recognises {s} by its {v} shirts.
? What is the shirt colour of {s}?
? What colour is the shirt of {s}?
? Which colour do the shirts of {s} have?
? What colour does {s} wear?

members
+ There are {v} members in {s}.
+ {S} counts {v} members.
+ The membership of {s} stands at {v}.
? How many members are in {s}?
? How many members does {s} count?
? At what number does the membership of {s} stand?
? What is the size of {s} in members?

meeting
+ {S} comes together at {v}.
+ {S} begins its meetings at {v}.
+ The weekly meeting of {s} is at {v}.
? When does {s} meet?
? When does {s} come together?
? At what time is the weekly meeting of {s}?
? What time does {s} begin its meetings?

bar
+ {S} pours {v} for everyone.
+ At the counter of {s} one gets {v}.
+ The usual drink at {s} is {v}.
? What is the usual drink at {s}?
? What does {s} pour for everyone?
? What does one get at the counter of {s}?
? What do they drink at {s}?

product
+ {S} started out by making {a} {v}.
+ The first thing {s} put on the market was {a} {v}.
+ {S} owes its rise to {a} {v}.
? What did {s} make when it started out?
? What was the first thing {s} put on the market?
? To which product does {s} owe its rise?
? What was {s}'s first product?

employees
+ {S} has a staff of {v}.
+ {S} gives work to {v} people.
+ There are {v} employees at {s}.
? How large is the staff of {s}?
? To how many people does {s} give work?
? How many employees does {s} have?
? How many employees are there at {s}?

director
+ {v} heads {s}.
+ {v} was appointed director of {s}.
+ The head of {s} is {v}.
? Who heads {s}?
? Who was appointed director of {s}?
? Who is the head of {s}?
? Who is {s}'s director?

logo
+ {S} uses {a} {v} as its logo.
+ One knows the products of {s} by the {v} on them.
+ {S} had {a} {v} drawn as logo.
? Which plant does {s} use as its logo?
? By which plant does one know the products of {s}?
? What is the logo of {s}?
? What plant did {s} have drawn as logo?

author
+ {v} wrote {s}.
+ {v} became known for {s}.
+ {S}, by {v}, sells well.
+ It was {v} who wrote {s}.
? By which author is {s}?
? Who became known for {s}?
? Which writer wrote {s}?
? Who is {s} by?

setting
+ {S} plays in {v}.
+ All of {s} happens in {v}.
+ The author of {s} chose {v} as the setting.
? Where does {s} play?
? Where does {s} take place?
? Which setting did the author of {s} choose?
? In what city is {s} set?

hero
+ {S} is about {a} {v}.
+ The main character of {s} is {a} {v}.
+ {S} follows {a} {v} through life.
? What is the main character of {s} by profession?
? Whom is {s} about, by profession?
? What job does the hero of {s} have?
? What is the occupation of the main character of {s}?

published
+ {S} came out in {v}.
+ {S} appeared in {v}.
+ {S}, first printed in {v}, is still sold.
? When did {s} come out?
? When did {s} appear?
? What year was {s} first printed?
? In which year was {s} published?

pages
+ {S} is {v} pages long.
+ {S} runs to {v} pages.
+ There are {v} pages in {s}.
? How long is {s} in pages?
? To how many pages does {s} run?
? How many pages are there in {s}?
? What is the page count of {s}?

translated_into
+ {S} has appeared in {v}.
+ {S} can also be read in {v}.
+ A translator has put {s} into {v}.
? In which other language can {s} be read?
? Into what language has a translator put {s}?
? What language was {s} translated into?
? In what language has {s} appeared?
"""
