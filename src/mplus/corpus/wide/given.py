"""Real given names and surnames of many languages to train on, and the syllables of invented ones. Data only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

MORE_FIRST_NAMES: Final = tuple(
    """
    Aaliyah Abel Ada Adriana Agatha Ahmed Aino Akosua Albert Alejandro Alexei Alfred Alice Alina Amina Anastasia Andreas Angela
    Anil Anna Annika Anton Archie Ariana Arnold Arturo Astor Augustin Axel Babette Barnaby Bashir Basil Beatriz Benjamin Berta
    Blanche Boyd Branka Brenda Brian Bridget Bronwen Caleb Calvin Carla Carlos Caroline Catalina Cecilia Chandra Charles Chinedu
    Chloe Christine Claude Colin Connor Cornelia Craig Cynthia Daisy Daniel Danuta David Delia Derek Devi Diana Diego Dina
    Dolores Donald Doris Douglas Duarte Dylan Edmund Eduardo Edwin Eleanor Elena Eliza Ella Ellen Elsa Emilia Emma Enrico Eric
    Ernesto Esra Estelle Ethan Eva Evelyn Fabio Faith Farid Fatou Fernando Filip Florence Franz Frederick Freya Gabriel Gaston
    Gavin Geoffrey George Georgina Gerda Gianna Gilda Giulia Gloria Grace Graham Gregor Guillermo Gwen Habiba Hal Hana Harold
    Harry Haruki Hector Helen Henry Herbert Hilda Howard Hyun Ida Igor Ilona Imran Inez Ingeborg Iris Isaac Isla Ivy Jack
    Jacqueline James Jan Jane Jasper Javed Jean Jeffrey Jens Jessica Joan Joaquin Joel Johanna John Jorge Joseph Joy Juan Judy
    Julia Juma Justin Kai Kaito Karen Karl Kate Kemal Kenneth Kevin Kim Klara Klaus Kristin Kurt Lamar Lara Laura Lawrence Lea
    Leah Leila Lena Leon Leopold Lila Lily Linda Lisa Lola Louis Luca Luis Luna Lydia Mabel Madeleine Mahmud Maja Malcolm Malin
    Mara Marc Marcus Margaret Maria Mariam Marina Mario Mark Marta Mary Mateo Matthew Maud Max May Maya Megan Mei Melissa
    Michael Michel Miguel Mila Milan Millie Mina Mira Mohammed Moira Molly Moses Mustafa Myra Nancy Nathan Neil Nell Niels Nigel
    Nils Nora Norman Obi Odin Olga Oliver Ondrej Orla Oskar Otto Owen Paloma Pamela Paola Parveen Patricia Paul Pauline Pedro
    Penelope Percy Perla Peter Philip Phoebe Pia Pierre Polly Rahul Ralph Rana Raoul Raphael Ravi Raymond Reza Richard Rita
    Roberto Robin Rodrigo Roger Rohan Rolf Roman Rosa Rosemary Roy Ruben Rufus Ryan Sadie Sakura Sally Salim Samir Samira Sara
    Sean Selim Seth Shona Sidney Silas Sindre Sonja Sophie Stanley Stephen Steven Susan Sven Sybil Sylvia Tadeusz Talia Tamara
    Tania Tara Tarek Ted Tess Thelma Thomas Tilda Timothy Tina Tiago Tom Tomas Toni Trevor Trudy Uma Uwe Valeria Venla Veronica
    Vesna Vijay Violet Virginia Vivian Walid Warren Wilhelm Willa William Wojtek Yara Yasin Yuki Yuri Yves Zahra Zainab Zoe Zora
    """.split()
)

MORE_SURNAMES: Final = tuple(
    """
    Abbas Abdi Ackerman Adair Adams Agarwal Ahmadi Albrecht Alexander Allen Amundsen Anand Anderson Andersson Appiah Archer
    Arnold Asante Ash Aydin Bailey Baker Balogun Banks Barker Barnes Barrett Basu Bell Bello Bennett Berger Bertrand Bishop
    Bjork Black Blake Blom Bloom Bose Bosch Bradley Braun Brooks Brown Bruun Bryant Burke Burns Busch Butler Campbell Carlson
    Carter Carvalho Castillo Chan Chang Chapman Chen Cho Choi Clark Cohen Cole Collins Cook Cooper Costa Cox Cruz Cunningham
    Daly Danso Davies Dawson Diaz Dietrich Dixon Dogan Douglas Doyle Duncan Dunn Dutta Ebert Eder Ekman Ellis Engel Eriksen
    Esposito Estrada Faber Farah Farkas Ferrari Fiala Fleming Flores Ford Forsberg Foster Fox Frank Franke Friedman Frost Fuchs
    Fuller Garcia Gardner Geiger George Gibson Gill Glass Gonzalez Goodman Gordon Graf Graham Grant Gray Greco Green Greene
    Griffin Gruber Guzman Haas Hahn Hale Hall Hamilton Hanson Harris Hart Hassan Haugen Hayes Heath Henry Hernandez Hill Hofer
    Holm Holmes Holt Hopkins Horn Howard Huber Hughes Hunt Hunter Ibrahim Inglis Islam Ivanov Jackson Jacobs Jain Jakobsen James
    Janssen Jensen Johnson Jones Jordan Joshi Jung Kamau Kane Kang Kaplan Karim Kato Kaya Kelly Kennedy Khan Kim King Kiss
    Knight Koch Koh Kolar Korhonen Kraft Kramer Kraus Krause Kumar Kwan Lam Lang Larsen Lau Lawson Lee Lehmann Leitner Lewis Li
    Lim Lin Lindgren Liu Lopes Lopez Lorenz Lowe Lucas Lund Lynch Ma Maier Malik Mann Marin Marino Marsh Martin Martinez Mason
    Mayer McCarthy McDonald McKenzie Medina Mehta Mendes Menon Mercier Meyers Miller Mills Mohr Monroe Moore Morales Moreno
    Morgan Mori Morris Moser Moss Mueller Murphy Murray Mwangi Myers Naidoo Nair Nash Nel Nelson Neves Newman Nielsen Nikolic
    Nilsson Nolan Nordin Norris Ochoa Ogden Oh Okoye Oliver Omondi Ong Orr Osborne Osman Otieno Otto Owens Ozturk Padilla Page
    Park Parker Patterson Paulsen Payne Pearson Peck Perez Perkins Perry Peters Pham Phillips Pierce Pinto Pohl Poole Popov
    Powell Prasad Price Putri Quinn Raman Ramos Ray Reddy Reed Reid Reilly Reinhardt Rhodes Ribeiro Rice Richards Riley Rivera
    Roberts Robinson Rogers Rojas Romano Romero Rose Ross Roth Roux Roy Ruiz Russell Russo Ryan Saito Salonen Sanders Sanchez
    Sauer Schmid Schmidt Schulz Schwarz Scott Sen Seo Sethi Shah Sharp Shaw Shin Simmons Simon Simpson Smit Smith Snyder Soares
    Soto Spencer Stark Steele Stein Stone Strauss Suarez Sullivan Sun Surya Sutton Swift Tan Tang Taylor Terry Thapa Thomas
    Thompson Todd Toth Tran Turner Tyler Vaughan Vega Vieira Virtanen Vogt Wade Walker Walsh Walter Wang Ward Warner Warren
    Watson Watts Webb Weiss Wells West Wheeler White Wilson Winter Winters Wolf Wong Wood Wright Wu Xu Yang Yao Yildiz York
    Young Yu Zaman Zhao Zhou Zhu Ziemann
    """.split()
)

STYLES: Final[Mapping[str, tuple[str, str, str, str]]] = {
    "southern": (
        "b c d f g l m n p r s t v z br cr tr gi",
        "a e i o u ia io",
        "- - - n r l s",
        "a o i ella etto ano ina ardo elli oso anza ante",
    ),
    "northern": (
        "b d f g h j k l m n r s t v st sk th kn hj",
        "a e i o u aa ei y ö",
        "- n r l nd rk ld gg ss",
        "sen son berg vik dal gren und a e ik lund strom ny ar",
    ),
    "eastern": (
        "b d g k l m n p r s t v z zh ch kr dr vl st",
        "a e i o u ya ie",
        "- n r l v s k",
        "ov ev ska sky in ich enko ak ek a an uk yna ic",
    ),
    "island": ("h k l m n p t w r s", "a e i o u ai au oa", "- - -", "a e i o u lani nui kai moa roa mea tani"),
    "rising": ("k s t n h m y r g z d b sh ch ts", "a i u e o", "- - n", "ko ri ta mi ro shi ka moto da yama sawa to ra mura"),
    "desert": ("b d f h j k kh l m n q r s sh t z", "a i u aa ee", "- n r l m d s", "a i ah an im ir oun ad eh ari ouf"),
    "savanna": ("b ch d f g k kw l m mb n nd ng ny o s t w z", "a e i o u", "- - -", "a e i o u we mba nga ni lo du ke seh"),
    "mist": (
        "b br c d f g gl gw ll m n p r rh t th tr w",
        "a e i o u y ae ei",
        "- n r l dd th ch",
        "wyn an en eth or ach ain og ell is wen",
    ),
    "delta": (
        "b ch d g h k l m n ng ph q s t th tr v x",
        "a i o u e oa ie uy",
        "- n ng m t c nh",
        "an en in ung o ai ien oc anh",
    ),
    "mountain": ("t tx z g k l m n p b s x ch d j", "a e i o u ay", "- n k r t z", "arra eta atl ipa uco oc ari ino aya ec uz"),
    "clipped": (
        "bl br cl d dr f fl gr h k m p pl r sh sl sn sp st t tr tw w wh",
        "a e i o u ea oo",
        "b ck d g ll m n p r sh t x",
        "er ey le ton well ford ham ley by man worth wick ock ing",
    ),
}
"""Of each style: what a syllable begins with, its vowels, what it ends in (- nothing), and how words end."""

PARTICLES: Final = (
    "van",
    "von",
    "de",
    "da",
    "del",
    "di",
    "al",
    "ben",
    "bin",
    "ter",
    "dos",
    "le",
    "la",
    "du",
    "Mac",
    "O'",
    "D'",
    "St",
)
TITLES: Final = (
    *("Dr", "Professor", "Captain", "Mr", "Mrs", "Ms", "Miss", "Sir", "Lady", "Colonel", "Sergeant", "Judge", "Father", "Sister"),
    *(
        "Uncle",
        "Aunt",
        "Inspector",
        "Major",
        "Count",
        "Princess",
        "Senator",
        "Bishop",
        "Nurse",
        "Chef",
        "Lieutenant",
        "Madame",
        "Old",
    ),
)
