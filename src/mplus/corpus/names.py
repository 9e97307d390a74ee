"""Words that names are made of, one list per split. Knows nothing of relations, facts or models.

The two splits share no word: what is measured on ``held_out`` was never seen in training.
Nobody's given name ends in another one and no surname begins with another one, so no full name
contains another full name; the same holds for the two words of a title.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

Split = Literal["train", "held_out"]


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _phrases(text: str) -> tuple[str, ...]:
    return tuple(" ".join(phrase.split()) for phrase in text.split(";"))


def _joined(starts: str, ends: str) -> tuple[str, ...]:
    """Every start with every end: names nobody bears."""
    return tuple(start + end for start in starts.split() for end in ends.split())


FIRST_NAMES: Final[Mapping[Split, tuple[str, ...]]] = {
    "train": _words(
        """
        Imogen Petra Leila Dimitri Bianca Josefa Ursula Eileen Takeshi Yasmin Magnus Radek Martin Zachary Salma Asha
        Karim Sabine Elliot Kerstin Leonora Soraya Elodie Valentin Denise Nuria Dorothy Kiran Samuel Judith Serena
        Clara Wilfred Julian Hanna Jovana Beatrix Ottilie Alba Matilda Sergei Akira Pascal Cecil Tariq Octavia Alan
        Camille Mikhail Yusuf Bogdan Lucia Bruno Deborah Stella Lewis Celeste Isabel Fabian Yolanda Ludwig Maximilian
        Joris Ayesha Umberto Desmond Gideon Walter Hugo Ximena Saskia Anselm Bernard Adele Javier Zoltan Jerome
        Clement Jonas Ulrich Viola Tristan Nadia Milena Kamala Xavier Omar Marcel Hamid Greta Torsten Keiko Markus
        Nicholas Susanne Ramona Elias Nelson Siegfried Robert Alistair Gunnar Cosima Conrad Bodil Rudolf Vladimir
        Layla Ruth Mariko Olivia Fiona Linus Kenji Ngozi Miriam Theodor Wanda Tobias Jamal Aisha Cormac Horace Quentin
        Simon Olaf Lorenzo Shanti Tamsin Lukas Zelda Winston Osman Ricardo Abena Wendy Dagmar Harriet Kirsten Bettina
        Sylvester Dominic Brigitte Norbert Noor Dalia Evander Roland Fatima Joanna Anders Vikram Flora Aaron Tabitha
        Vanessa Jacob Agnes Teresa Daphne Katya Sunil Kwame Silvia Ebba Andrei Margot Sebastian Efua Gemma Ernest
        Reinhard Helmut Edgar Pablo Gilbert Monica Ivan Carmen Declan Ezra Priya Nikolai Heidi Edith Eugene Felix
        Benedikt Patrick Janek Rebecca Rachel Selma Roxana Ibrahim Manuel Pavel Santiago Emil Irene Anika Tomoko
        Jasmine Oleg Amelie
        """
    ),
    "held_out": _words(
        """
        Amara Yvonne Rupert Abigail Sigrid Farah Gudrun Maurice Duncan Astrid Chidi Kofi Vincent Laszlo Elif Piotr
        Ignatius Zara Naomi Gustav Odette Sandra Vera Henrik Lidia Thaddeus Mehmet Morgan Lars Hassan Ishaan Hiroshi
        Cyril Victor Francis Jiro Antonia Frida Chiara Rashid Svetlana Rajesh Giorgio Malik Oscar Fergus Barbara
        Darius Renata Konrad Erika Gareth Rafael Damian Ingrid Emeka Liam Yannick Yelena Stefan Mohan Amir Arjun Idris
        Adrian Philippa Gerald Esther Arthur Boris Goran Nina Audrey Sofia Indira
        """
    ),
}

SURNAMES: Final[Mapping[Split, tuple[str, ...]]] = {
    "train": _words(
        """
        Giordano Dubois Khalil Vogel Forsyth Uribe Sedlak Rasmussen Bondarenko Dragomir Pickering Becker Adeyemi
        Mendoza Trevino Ionescu Das Tavares Cisneros Babic Oduya Quintero Hidalgo Hakimi Yoshida Eastman Demir Erdogan
        Neumann Morozov Stewart Chavez Stanton Yamada Holloway Uchida Richter Masuda Nguyen Kowalski Rahman Kaur
        Mukherjee Rinaldi Walcott Sakamoto Donoghue Mancini Kipling Ogawa Cheung Tucker Jimenez Gibbons Solberg
        Espinoza Blackwood Zhang Santos Strand Kovacs Krishnan Olsen Ivers Dlamini Bianchi Heller Zimmer Ricci Palmer
        Molina Oliveira Ekwueme Tremblay Wagner Melnyk Gebre Ostrowski Herrera Overton McAllister Quist Ghosh Sheridan
        Ramirez Bachmann Juarez Sterling Saarinen Banerjee Evans Steinberg Vasquez Vance Brightwell Hoffman Farrow
        Ridley Montague Obando Pereira Mishra Brodsky Kendrick Keller Ndiaye Zapata Fitzroy Hussain Mulligan Lundgren
        MacLeod Fontaine Valdez Thackeray Rossi Klein Suzuki Gonzaga Whitlock Bouchard Singh Duarte Tanaka Atkinson
        Czerny Borges Hayashi Sharma Novak Cavendish Chandra Abbott Aoki Byrne Chaudhry Sutherland Salazar Woodward
        Ferreira Sokolov Jablonski Bhatt Dorn Maldonado Nikolaidis Fischer Onyango Gallagher Torres Petrov Mutasa
        Jaworski Benitez Jennings Cabrera Castell Christensen Fujita Ashdown Falk Chopra Alvarez Watanabe Garland
        Nkosi Ueda Eklund Boateng Belmonte Kirchner Kobayashi Rosenthal Kumalo Kruger Svensson Pedersen Asimov
        Pritchard Amsel Moreau Mitchell Iqbal Shapiro Takahashi Karlsson Leclerc Goldberg Harcourt Fashola Iwata Endo
        Matthews Aldridge Bartok Eckhart Danjuma Barrow Bauer Patel Jansen Nowicki Hartmann Villanueva Durrani Boswell
        Rousseau Prescott Fraser Lozano Cardoso Andrade Rutherford Lambert Desai Arslan Lachance Lombardi Nyberg
        Aguilar Dimitrov Newbold Silva Mikkelsen Vargas Skinner Redfern Laurent Verma Grossman Larsson Hansen Ikeda
        Osei Ahlberg Horvath Thorne Corrigan Wilkes Brennan Pasternak Weatherby Brandt Pellegrini Hashimoto Reyes
        Sinclair Ziegler Wakefield Lindqvist Popescu
        """
    ),
    "held_out": _words(
        """
        Marchetti Obrien Bruckner Wolff Ortega Lysenko Inoue Papadakis Sandoval Kurosawa Almeida Fielding Johansson
        Nakamura Carrow Diallo Pires Appleby Baldwin Oyelaran Ibsen Calloway Gomez Zabala Hammond Grieg Dahl Volkov
        Markovic Tiwari Crawford Shevchenko Romanov Feldman Ilic Nagy Achebe Serrano Yilmaz Delgado
        Fairbanks Winslow Navarro Cortez Somerset Gustafsson Hawkins Carlsen Mahmoud Hendricks Hallam
        Akhtar Robles Schubert Szabo Legrand Engstrom Kaminski Mbeki Conti Haddad Abara Ellison Gallo Zamora Wallace
        Kimura Orlov Teixeira Langley Colbert Bergman Jovanovic Schneider Ulvaeus Toivonen Fuentes Underhill Gulati
        Birkett Escobar Ayala Weber Guerrero Meyer Camara Edwards Georgiou Kapoor Suarez Finch Sato Okafor
        """
    ),
}

PLACE_WORDS: Final[Mapping[Split, tuple[str, ...]]] = {
    "train": _words(
        """
        Lotus Willow Anchor Falcon Acorn Wren Saffron Cedar Sycamore Beacon Ridge Mill Harbour Quarry Brook Hawthorn
        Thistle Swallow Kingsway Peacock Sapphire Jasper Eagle Osprey Coral Bramble Olive Granite Foxglove Rowan Dover
        Larch Moss Ember Swan Otter Magnolia Arrow Canyon Cobalt Amber Valley Spruce Heron Pebble Juniper Hazel Ash
        Cypress Flint Ivory Viaduct Birch Raven Linden Meadow Beech Marble Orchard Pilgrim Orchid Fern River Echo
        Forest Poplar Opal Aspen Heather Laurel Topaz Garnet Moon
        """
    ),
    "held_out": _words(
        """
        Northgate Maple Meridian Pine Ruby Alder Clover Robin Summit Velvet Star Chestnut Lion Kestrel Elm Walnut Oak
        Lantern Shepherd Temple Westgate Thunder Hollow Copper
        """
    ),
}

BUILDINGS: Final[Mapping[Split, tuple[str, ...]]] = {
    "train": _words(
        """
        Observatory Theatre Pavilion Lighthouse Gallery College Hospital Lodge Bakery Hotel Monastery Library Pharmacy
        Barn Inn Bridge Station Market Castle Chapel Aquarium Brewery School Cinema
        """
    ),
    "held_out": _words(
        """
        Museum Clinic Garden Tower Arcade Stadium Manor Fountain
        """
    ),
}

CLUBS: Final[Mapping[Split, tuple[str, ...]]] = {
    "train": _phrases(
        """
        Swimming Club; Drama Society; Curling Club; Sailing Club; Rugby Club; Garden Society; Bridge Circle; Rowing
        Club; Cycling Club; Poetry Circle; Cricket Club; Astronomy Society; Hiking Club; Choral Society; Chess Club;
        Archery Club; Film Society; Tennis Club
        """
    ),
    "held_out": _phrases(
        """
        Debating Society; Fencing Club; Photo Society; Running Club; Sewing Circle; Skating Club
        """
    ),
}

TRADES: Final[Mapping[Split, tuple[str, ...]]] = {
    "train": _phrases(
        """
        Leather Goods; Motors; Glassworks; Bakeries; Biscuits; Tools; Paper Mills; Printing; Textiles; Timber;
        Vineyards; Toys; Orchards; Salt Works; Breweries; Publishing; Ceramics; Lamps; Carpets; Instruments; Foundry;
        Furniture; Optics; Airlines
        """
    ),
    "held_out": _phrases(
        """
        Tea Traders; Railways; Dairies; Chemicals; Engineering; Shipping; Clockworks; Insurance
        """
    ),
}

TITLE_ADJECTIVES: Final[Mapping[Split, tuple[str, ...]]] = {
    "train": _words(
        """
        Bright Dancing Winter Faithful Secret Swift Crimson Wooden Silent Polar Restless Fragile Broken Brazen Hollow
        Ancient Sunny Emerald Stolen Shining Midnight Lazy Jade Tender Whispering Noble Humble Silver Gilded Perfect
        Golden Eastern Solemn Royal Forgotten Scarlet Twilight Crooked Distant Arctic Frozen Sacred Narrow Proud Amber
        Stubborn Final Flying Southern Drifting Borrowed Clever Modern Rolling Vivid Wandering Hidden Yellow Autumn
        Jolly Honest Painted Roaming Gentle Spotted Bitter Daring Grateful Patient Sleeping Early Brave Careless Eager
        Laughing Lonely
        """
    ),
    "held_out": _words(
        """
        Quiet Lost Dusty Merry Lucky Little Fearless Western Thirsty Endless Wild Northern Stormy Rusty Salty Rapid
        Burning Electric Curious Velvet Blazing Cold Misty Iron Fallen
        """
    ),
}

TITLE_NOUNS: Final[Mapping[Split, tuple[str, ...]]] = {
    "train": _words(
        """
        Parade Bell Viking Chariot Seagull Ribbon Crane Sparrow Warrior Cathedral Leopard Dragon Magpie Walrus Pony
        Ferryman Wizard Albatross Dolphin Empire Oracle Fiddler Anvil Panther Letter Voyage Fountain Mariner Thimble
        Dagger Postman Candle Duchess Prophet Comet Fable Glacier Turtle Pelican Goblet Rainbow Elephant Feather
        Umbrella Kettle Island Bugle Sultan Window Village Soldier Whale Spider Painter Ballad Mermaid Kingdom Drummer
        Scholar Jaguar Bishop Caravan Lighthouse Nightingale Almanac Trumpet Thunder Harvest Arrow Sailor Heron Cuckoo
        Keyhole Gardener Banner Monarch Crown Badger Swallow Traveller Mountain
        """
    ),
    "held_out": _words(
        """
        Blossom Widow Orphan Pendulum Pilgrim Compass Tunnel River Beetle Horizon Journey Valley Boulder Ladder Lagoon
        Tempest Shadow Planet Signal Envelope Mirror Tiger Violin Pilot Cloud Stranger Puppet
        """
    ),
}

PSEUDO_FIRST_NAMES: Final[Mapping[Split, tuple[str, ...]]] = {
    "train": _joined(
        "Bel Cor Dav Fen Gal Hes Jor Kel Lum Mor Nav Pel Quor Sal Tam Vel Wyn Zan",
        "adro ena ikk isse olin uvar yx",
    ),
    "held_out": _joined("Brim Dros Gwin Krev Plen Shol Trast", "abe eshi ond umel"),
}

PSEUDO_SURNAMES: Final[Mapping[Split, tuple[str, ...]]] = {
    "train": _joined(
        "Bas Chel Dren Fors Gurd Hask Jans Korv Lamb Merk Nor Pask Rist Skel Turv Vand Wend Yarr",
        "amor ellick ibault ogan undry azzi",
    ),
    "held_out": _joined("Brax Clem Fliss Grint Knop Plum Swarn", "ader ettin olmo urgh"),
}
